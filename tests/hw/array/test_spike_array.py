# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from hw.array.spike_array import ENTRY_OFFSET, SpikeArray
from sim.drive.ports import simulate


ROWS = 8


def group_sum(weights, bits):
    return int(sum(w for k, w in enumerate(weights) if bits >> k & 1))


async def load(ctx, dut, weights):
    """Write all tables of a SpikeArray for ``weights[column, row]``."""
    for which in range(dut.sets):
        columns = weights[:, which * dut.load_rows:][:, :dut.load_rows].reshape(dut.rows, -1, 4)
        for address in range(16):
            ctx.set(dut.entry_address, address)
            ctx.set(dut.entry_write, 1 << which)
            await ctx.tick()
            ctx.set(dut.entry_write, 0)
            await ctx.tick().repeat(dut.WRITE_LEAD - 1)
            ctx.set(dut.entries, [ENTRY_OFFSET + group_sum(group, address)
                                  for column in columns for group in column])
            await ctx.tick()


@pytest.mark.parametrize("load_rows", [4, 8])
@pytest.mark.parametrize("extreme", [None, -8, 7])
def test_sums(load_rows, extreme):
    rng = np.random.default_rng(0)
    weights = rng.integers(-8, 8, size=(ROWS, ROWS))
    if extreme is not None:
        weights[:] = extreme
    dut = SpikeArray(rows=ROWS, load_rows=load_rows, acc_bits=12)
    # (word, plane, last, negate) per cycle: positions of 1 to 5 planes, with bubbles.
    cycles, expected = [], []
    for _ in range(40):
        planes = int(rng.integers(1, 6))
        sign = int(rng.integers(2))
        acc = 0
        for plane in range(planes):
            bits = rng.integers(0, 2, size=ROWS)
            if extreme is not None:
                bits[:] = 1
            total = weights @ bits
            acc = -total if sign and plane == 0 else 2 * acc + total
            while rng.random() < 0.3:
                cycles.append((int(rng.integers(1 << ROWS)), 0, int(rng.integers(2)), 1))
            word = int(bits @ (1 << np.arange(ROWS)))
            cycles.append((word, 1, plane == planes - 1, sign and plane == 0))
        expected.append((acc + 2048) % 4096 - 2048)
    cycles += [(0, 0, 0, 0)] * dut.latency
    received = []

    async def testbench(ctx):
        await load(ctx, dut, weights)
        arriving = [False] * dut.latency
        for word, plane, last, negate in cycles:
            for signal, value in [(dut.word, word), (dut.plane, plane), (dut.last, last),
                                  (dut.negate, negate)]:
                ctx.set(signal, value)
            if arriving.pop(0):
                received.append([ctx.get(dut.sums[k]) for k in range(ROWS)])
            arriving.append(plane and last)
            await ctx.tick()
        if arriving.pop(0):
            received.append([ctx.get(dut.sums[k]) for k in range(ROWS)])

    simulate(dut, testbench)

    np.testing.assert_array_equal(received, expected)


def test_lookup_before_write():
    """An entry written ``LOOKUP`` cycles after a word was given does not change its sums."""
    dut = SpikeArray(rows=8, load_rows=8, acc_bits=12)
    weights = np.full((8, 8), 3)
    sums = []

    async def testbench(ctx):
        await load(ctx, dut, weights)
        for cycle in range(dut.latency + 2):
            ctx.set(dut.word, 1)
            ctx.set(dut.plane, cycle < 2)
            ctx.set(dut.last, 1)
            ctx.set(dut.entries, [ENTRY_OFFSET + 5] * 16)
            ctx.set(dut.entry_address, 1)
            ctx.set(dut.entry_write, cycle == dut.LOOKUP - dut.WRITE_LEAD)
            if cycle >= dut.latency:
                sums.append(ctx.get(dut.sums[0]))
            await ctx.tick()

    simulate(dut, testbench)

    assert sums == [3, 5]


@pytest.mark.parametrize("parameters, message", [
    ({"rows": 12, "load_rows": 4, "acc_bits": 24},
     "^Rows must be a power of two and at least 8, not 12$"),
    ({"rows": 16, "load_rows": 3, "acc_bits": 24},
     "^Load rows must be a multiple of 4 that divides 16 rows, not 3$"),
    ({"rows": 16, "load_rows": 4, "acc_bits": 9},
     "^Accumulator width must be at least 10 bits, not 9$"),
])
def test_parameters_wrong(parameters, message):
    with pytest.raises(ValueError, match=message):
        SpikeArray(**parameters)
