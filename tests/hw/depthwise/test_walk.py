# amaranth: UnusedElaboratable=no
import random

import pytest

from hw.depthwise.walk import ADDRESS_BITS, InputRows, Walk
from sim.drive.ports import simulate


@pytest.mark.parametrize("seed", range(3))
def test_input_rows(seed):
    """Number and address of the rows of some passes, in a ring and without one."""
    rng = random.Random(seed)
    dut = InputRows()

    async def testbench(ctx):
        for case in range(40):
            first = rng.choice([-512, -3, -1, 0, 5, 511, rng.randint(-512, 511)])
            source_row = rng.choice([0, 511, rng.randrange(512)])
            source, pitch, ring = (rng.choice([0, 1, 0xFFFF, rng.randrange(1 << 16)])
                                   for _ in range(3))
            for name, value in (("first", first), ("source_row", source_row), ("source", source),
                                ("pitch", pitch), ("ring", ring), ("place", 1)):
                ctx.set(getattr(dut, name), value)

            def place_of(row, source_row=source_row, source=source, pitch=pitch, ring=ring):
                address = source + (row - source_row) * pitch + ring * (row < 0)
                return row, address % (1 << 16)

            await ctx.tick()
            ctx.set(dut.place, 0)
            ctx.set(dut.first, rng.randint(-512, 511))      # it is looked at with `place` only
            cycles = 1
            while not ctx.get(dut.ready):
                await ctx.tick()
                cycles += 1
            assert cycles == ADDRESS_BITS + 4, case
            for _ in range(rng.randint(1, 7)):
                ctx.set(dut.rewind, 1)
                await ctx.tick()
                ctx.set(dut.rewind, 0)
                row = first
                for _ in range(rng.randint(0, 8)):
                    assert (ctx.get(dut.row), ctx.get(dut.address)) == place_of(row)
                    assert ctx.get(dut.ready)
                    step = rng.randrange(2)
                    ctx.set(dut.step, step)
                    row += step
                    await ctx.tick()
                    ctx.set(dut.step, 0)
                assert (ctx.get(dut.row), ctx.get(dut.address)) == place_of(row)
                advance = rng.randrange(2)
                ctx.set(dut.advance, advance)
                first += advance
                await ctx.tick()
                ctx.set(dut.advance, 0)
                assert (ctx.get(dut.row), ctx.get(dut.address)) == place_of(row)

    simulate(dut, testbench)


@pytest.mark.parametrize(("rows", "width"), [(1, 1), (1, 7), (4, 1), (3, 5), (2, 512), (511, 1)])
def test_walk(rows, width):
    """Every position once, with its place in the row, in a row, and among all."""
    rng = random.Random(rows)
    dut = Walk()

    async def testbench(ctx):
        for _ in range(2):
            assert not ctx.get(dut.active)
            ctx.set(dut.rows, rows)
            ctx.set(dut.width_last, width - 1)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            ctx.set(dut.rows, rng.randrange(512))           # it is looked at with `start` only
            for y in range(rows):
                for x in range(width):
                    while True:
                        assert ctx.get(dut.active)
                        assert ctx.get(dut.x_left) == width - 1 - x
                        assert ctx.get(dut.row_end) == (x == width - 1)
                        assert ctx.get(dut.end) == ((y, x) == (rows - 1, width - 1))
                        assert ctx.get(dut.first_row) == (y == 0)
                        step = rng.random() < 0.7
                        ctx.set(dut.step, step)
                        await ctx.tick()
                        if step:
                            break
            ctx.set(dut.step, 0)

    simulate(dut, testbench)
