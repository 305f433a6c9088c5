# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from hw.lib.skid_buffer import SkidBuffer
from sim.drive.ports import feed_stream, simulate, take_stream


@pytest.mark.parametrize(("source", "sink"), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.4, 0.6)])
def test_every_item_in_order(source, sink):
    """All items in order; one per cycle, a cycle late, where neither side waits."""
    rng = np.random.default_rng(1)
    dut = SkidBuffer(12)
    items = [0, 4095, *rng.integers(0, 1 << 12, size=300).tolist()]
    testbench, received = take_stream(dut.o, len(items), rng=rng, stall=sink)
    simulate(dut, testbench, background=[feed_stream(dut.i, items, rng=rng, stall=source)],
             cycles=len(items) + 2 if source == sink == 0 else 3000)
    assert received == items


def test_two_places():
    """Without a taker two items are taken; in no cycle does an input reach an output at once."""
    dut = SkidBuffer(4)
    taken = []

    def outputs(ctx):
        return ctx.get(dut.i.ready), ctx.get(dut.o.valid), ctx.get(dut.o.payload)

    async def testbench(ctx):
        for item in range(1, 6):
            before = outputs(ctx)
            for valid, ready in ((0, 0), (1, 0), (0, 1), (1, 1)):
                ctx.set(dut.i.valid, valid)
                ctx.set(dut.o.ready, ready)
                ctx.set(dut.i.payload, 15 * ready)
                assert outputs(ctx) == before
            ctx.set(dut.i.valid, 1)
            ctx.set(dut.i.payload, item)
            ctx.set(dut.o.ready, 0)
            if ctx.get(dut.i.ready):
                taken.append(item)
            await ctx.tick()
        assert outputs(ctx) == (0, 1, 1)

    simulate(dut, testbench, cycles=10)
    assert taken == [1, 2]
