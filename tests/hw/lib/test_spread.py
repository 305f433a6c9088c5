import random

from amaranth import Module, Signal, signed
import pytest

from hw.lib.spread import spread
from sim.drive.ports import simulate


@pytest.mark.parametrize(("steps", "most", "copies"), [
    (1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 4, 4), (3, 4, 4), (3, 8, 8), (3, 6, 2),
    (2, 3, 1), (4, 12, 4)])
@pytest.mark.parametrize("shape", [1, signed(5)])
def test_copies(steps, most, copies, shape):
    """Every copy is the source of ``steps`` cycles ago; how many there are."""
    rng = random.Random(steps)
    m = Module()
    source = Signal(shape)
    found = spread(m, "copy", source, steps=steps, most=most)
    assert len(found) == copies
    given = []

    async def testbench(ctx):
        for cycle in range(60):
            bits = len(source)
            given.append(rng.getrandbits(bits))
            ctx.set(source, given[-1])
            if cycle >= steps:
                for copy in found:
                    assert ctx.get(copy) & (1 << bits) - 1 == given[cycle - steps]
            await ctx.tick()

    simulate(m, testbench)


@pytest.mark.parametrize("shape", [1, 7])
@pytest.mark.parametrize(("steps", "most"), [(1, 2), (3, 8), (3, 4), (4, 12)])
def test_no_two_registers_are_the_same(steps, most, shape):
    """Every two copies differ in one of the first cycles, in each bit, so that synthesis can merge
    none of the registers; a reset does not make them equal."""
    m = Module()
    source = Signal(shape)
    copies = spread(m, "copy", source, steps=steps, most=most)
    shown = []

    async def testbench(ctx):
        for _ in range(steps):
            shown.append([ctx.get(copy) for copy in copies])
            await ctx.tick()

    simulate(m, testbench)
    for bit in range(len(source)):
        assert len({tuple(values[k] >> bit & 1 for values in shown)
                    for k in range(len(copies))}) == len(copies)
    assert all(copy.reset_less for copy in copies)
