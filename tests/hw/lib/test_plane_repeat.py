# amaranth: UnusedElaboratable=no
import random

import pytest

from hw.config import PLANES_MIN
from hw.lib.plane_repeat import RepeatCounter, RepeatMemory
from sim.drive.ports import simulate


def positions_of(rng, rows, count):
    """Address of the least plane, and the planes of each position: of values of few bits, too."""
    found = []
    for _ in range(count):
        planes = rng.randint(PLANES_MIN, 16)
        bits = rng.choice([1, 2, planes - 1, planes, rng.randint(1, planes)])
        values = [rng.randrange(-(1 << bits - 1), 1 << bits - 1) for _ in range(rows)]
        if rng.random() < 0.2:
            values = [0] * rows
        if rng.random() < 0.2:          # a single lane has all the bits
            values = [rng.choice([0, -1]) for _ in range(rows)]
            values[rng.randrange(rows)] = rng.choice([1, -1]) * (1 << planes - 2)
        found.append((rng.randrange((1 << 16) - 16),
                      [sum((value >> plane & 1) << lane for lane, value in enumerate(values))
                       for plane in range(planes)]))
    return found


def repeats(planes):
    """How many of the most significant planes equal the sign plane below them; two are kept."""
    count = 0
    while count < len(planes) - 2 and planes[-count - 1] == planes[-count - 2]:
        count += 1
    return count


@pytest.mark.parametrize("rows", [16, 64])
@pytest.mark.parametrize("gaps", [0.0, 0.4])
def test_counter(rows, gaps):
    """The count of each position, at the address of its last plane, three cycles after that."""
    rng = random.Random(rows)
    dut = RepeatCounter(rows)
    positions = positions_of(rng, rows, 60)
    expected, received, cycle = [], [], 0

    def put(ctx, **values):
        for name, value in values.items():
            ctx.set(getattr(dut, name), value)

    async def step(ctx):
        nonlocal cycle
        if ctx.get(dut.write.valid):
            received.append((cycle, ctx.get(dut.write.address), ctx.get(dut.write.count)))
        await ctx.tick()
        cycle += 1

    async def testbench(ctx):
        for address, planes in positions:
            for number, plane in enumerate(planes):
                while rng.random() < gaps:
                    put(ctx, valid=0, first=rng.randrange(2), last=rng.randrange(2),
                        plane=rng.getrandbits(rows), above=rng.getrandbits(rows))
                    await step(ctx)
                last = number == len(planes) - 1
                put(ctx, valid=1, first=number == 0, last=last, address=address + number,
                    plane=plane, above=rng.getrandbits(rows) if last else planes[number + 1])
                if last:
                    expected.append((cycle + 3, address + number, repeats(planes)))
                await step(ctx)
        put(ctx, valid=0)
        for _ in range(5):
            await step(ctx)

    simulate(dut, testbench)
    assert received == expected
    assert {count for *_, count in received} >= {0, 14}


def test_memory():
    """A count is found by its address a cycle after it was asked for, and stays on the port."""
    rng = random.Random(1)
    words = 512
    dut = RepeatMemory(words)
    # Positions of 8 planes or more have no entry in common.
    addresses, known, shown = range(PLANES_MIN - 1, words, PLANES_MIN), {}, None

    async def testbench(ctx):
        nonlocal shown
        for _ in range(1500):
            write = rng.choice(addresses) if rng.random() < 0.3 else None
            count = rng.randrange(15)
            ctx.set(dut.write.valid, write is not None)
            ctx.set(dut.write.address, rng.randrange(words) if write is None else write)
            ctx.set(dut.write.count, count)
            # What is written in the same cycle is not read: that would be undefined.
            choice = sorted(known.keys() - {write})
            read = rng.choice(choice) if choice and rng.random() < 0.5 else None
            ctx.set(dut.read.enable, read is not None)
            ctx.set(dut.read.address, rng.randrange(words) if read is None else read)
            if read is not None:
                shown = known[read]
            if write is not None:
                known[write] = count
            await ctx.tick()
            if shown is not None:
                assert ctx.get(dut.read.count) == shown

    simulate(dut, testbench)
    assert len(known) == words // PLANES_MIN
