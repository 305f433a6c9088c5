import numpy as np
import pytest

from hw.config import FEEDBACK
from hw.lib.write_hash import WriteHash
from sim.drive.ports import simulate
from sim.reference.write_hash import write_hash


@pytest.mark.parametrize("rows", [16, 32, 64])
def test_equals_reference(rows):
    """Any number of words, with pauses, and again after ``start``."""
    rng = np.random.default_rng(rows)
    dut = WriteHash(rows)

    async def testbench(ctx):
        for count in (0, 1, 2, 3, 63, 64, 65, 300):
            words = rng.integers(0, 1 << rows, count, dtype=np.uint64)
            for word in words.tolist():
                while rng.random() < 0.3:
                    ctx.set(dut.valid, 0)
                    await ctx.tick()
                ctx.set(dut.data, word)
                ctx.set(dut.valid, 1)
                await ctx.tick()
            ctx.set(dut.valid, 0)
            assert ctx.get(dut.o) == write_hash(words, rows=rows)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)

    simulate(dut, testbench)


@pytest.mark.parametrize("rows", [16, 32, 64])
def test_differs(rows):
    """Changed, swapped, missing and added words change the hash; so do zeros in front."""
    rng = np.random.default_rng(rows)
    words = rng.integers(1, 1 << rows, 40, dtype=np.uint64)
    seen = {write_hash(words, rows=rows)}
    for bit in range(rows):
        changed = words.copy()
        changed[20] ^= np.uint64(1 << bit)
        seen.add(write_hash(changed, rows=rows))
    for k in range(40):
        seen.add(write_hash(np.delete(words, k), rows=rows))
        seen.add(write_hash(np.insert(words, k, np.zeros(k + 1, np.uint64)), rows=rows))
    for k in range(39):
        seen.add(write_hash(words[[*range(k), k + 1, k, *range(k + 2, 40)]], rows=rows))
    assert len(seen) == 1 + rows + 2 * 40 + 39


@pytest.mark.parametrize(("bits", "primes"), [
    (32, (3, 5, 17, 257, 65537)), (64, (3, 5, 17, 257, 641, 65537, 6700417))])
def test_polynomials_are_primitive(bits, primes):
    """x has the order 2**bits - 1, whose prime factors are ``primes``."""
    def times(a, b):
        product = 0
        for bit in reversed(range(bits)):
            product <<= 1
            if product >> bits:
                product = product & (1 << bits) - 1 ^ FEEDBACK[bits]
            product ^= a if b >> bit & 1 else 0
        return product

    def power(exponent):
        result, square = 1, 2
        for bit in range(bits):
            result = times(result, square) if exponent >> bit & 1 else result
            square = times(square, square)
        return result

    order = (1 << bits) - 1
    assert power(order) == 1
    assert all(order % prime == 0 and power(order // prime) != 1 for prime in primes)
