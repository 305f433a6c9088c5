import random

from amaranth import Cat, ClockDomain, Module, Signal
import pytest

from hw.lib.packed_add import CHAIN_BITS, guard_bit, packed_add
from sim.drive.ports import simulate


WIDTHS = [(1, 1), (3, 7), (7, 3), (1, 24), (24, 24), (18, 5), (CHAIN_BITS - 1, 12), (2, 2),
          (40, 39), (39, 40), (1, 1), (CHAIN_BITS + 30, 4), (8, 8)]


def operands(rng, width):
    return rng.choice([0, 1, (1 << width) - 1, 1 << width - 1, rng.getrandbits(width)])


@pytest.mark.parametrize("limit", [1, 40, CHAIN_BITS, 1000])
def test_sums(limit):
    """Each sum is that of its pair: with a bit for the carry, none disturbs its neighbour."""
    rng = random.Random(limit)
    m = Module()
    busy = Signal()
    guard = guard_bit(m, "guard", busy)
    a = [Signal(width, name=f"a_{k}") for k, (width, _) in enumerate(WIDTHS)]
    b = [Signal(width, name=f"b_{k}") for k, (_, width) in enumerate(WIDTHS)]
    pairs = []
    for k, (left, right) in enumerate(zip(a, b, strict=True)):
        wider, other = (left, right) if len(left) >= len(right) else (right, left)
        pair = Cat(wider, guard), other
        pairs.append(pair if k % 2 else pair[::-1])
    sums = packed_add(m, "total", pairs, limit=limit)

    async def testbench(ctx):
        for _ in range(200):
            ctx.set(busy, rng.randrange(2))
            values = [[operands(rng, len(signal)) for signal in side] for side in (a, b)]
            for side, numbers in zip((a, b), values, strict=True):
                for signal, number in zip(side, numbers, strict=True):
                    ctx.set(signal, number)
            assert [ctx.get(total) for total in sums] == list(map(sum, zip(*values, strict=True)))
            await ctx.tick()

    simulate(m, testbench)
    assert [len(total) for total in sums] == [max(widths) + 1 for widths in WIDTHS]


def test_sums_that_fit_need_no_more_bits():
    """A sum is as wide as the wider operand, which is enough where it cannot carry out."""
    rng = random.Random(0)
    m = Module()
    m.domains.sync = ClockDomain()
    a, b = Signal(8), Signal(5)
    sums = packed_add(m, "total", [(a, b), (b, a), (b, b[:2])])

    async def testbench(ctx):
        for _ in range(100):
            left, right = rng.randrange(256 - 31), rng.randrange(32 - 3)
            ctx.set(a, left)
            ctx.set(b, right)
            assert [ctx.get(total) for total in sums] == [left + right] * 2 + [right + right % 4]
            await ctx.tick()

    simulate(m, testbench)
    assert [len(total) for total in sums] == [8, 8, 5]


@pytest.mark.parametrize("limit", [1, 40, CHAIN_BITS])
def test_chains(limit):
    """A chain holds whole pairs, in order, as many as fit; a pair over the limit has its own."""
    sums = packed_add(Module(), "total", [(Signal(a), Signal(b)) for a, b in WIDTHS], limit=limit)
    chains = []
    for total in sums:
        if not chains or chains[-1][0].value is not total.value:
            chains.append([])
        chains[-1].append(total)
    for chain in chains:
        assert [total.start for total in chain] == [sum(map(len, chain[:k]))
                                                    for k in range(len(chain))]
        assert chain[-1].stop == len(chain[0].value)
        assert len(chain[0].value) <= limit or len(chain) == 1
    for chain, following in zip(chains, chains[1:], strict=False):
        assert len(chain[0].value) + len(following[0]) > limit
    assert len({id(chain[0].value) for chain in chains}) == len(chains)


def test_guard_bit_stays_zero():
    m = Module()
    noise = Signal()
    guard = guard_bit(m, "guard", noise)

    async def testbench(ctx):
        for cycle in range(20):
            ctx.set(noise, cycle % 3 != 0)
            assert ctx.get(guard) == 0
            await ctx.tick()

    simulate(m, testbench)
