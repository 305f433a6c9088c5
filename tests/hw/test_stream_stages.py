import numpy as np
import pytest

from hw.lib.skid_buffer import SkidBuffer
from hw.lib.stream_buffer import StreamBuffer
from sim.drive.ports import feed_stream, simulate


def collect(stream, count, *, rng, stall):
    """Testbench that takes ``count`` payloads; and the list they come in."""
    received = []

    async def testbench(ctx):
        while len(received) < count:
            ready = rng.random() >= stall
            ctx.set(stream.ready, ready)
            _, _, valid, payload = await ctx.tick().sample(stream.valid, stream.payload)
            if valid and ready:
                received.append(payload)
    return testbench, received


@pytest.mark.parametrize(("source", "sink"), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.4, 0.6)])
def test_skid_buffer(source, sink):
    """All items in order; one per cycle where neither side waits."""
    rng = np.random.default_rng(1)
    dut = SkidBuffer(12)
    items = rng.integers(0, 1 << 12, size=300).tolist()
    testbench, received = collect(dut.o, len(items), rng=rng, stall=sink)
    simulate(dut, testbench, background=[feed_stream(dut.i, items, rng=rng, stall=source)],
             cycles=303 if source == sink == 0 else 3000)
    assert received == items


@pytest.mark.parametrize(("source", "sink"), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.6, 0.4)])
def test_stream_buffer(source, sink):
    """Everything given while ``level`` has room comes out in order, one word per cycle at best."""
    rng = np.random.default_rng(1)
    dut = StreamBuffer(width=12, depth=16)
    items = rng.integers(0, 1 << 12, size=300).tolist()
    testbench, received = collect(dut.o, len(items), rng=rng, stall=sink)
    levels = []

    async def give(ctx):
        left, given = list(items), False
        while left:
            level = ctx.get(dut.level) + given      # what was given last is not in it yet
            levels.append(level)
            given = level < 16 and rng.random() >= source
            ctx.set(dut.w_en, given)
            if given:
                ctx.set(dut.w_data, left.pop(0))
            await ctx.tick()
        ctx.set(dut.w_en, 0)

    simulate(dut, testbench, background=[give], cycles=304 if source == sink == 0 else 3000)
    assert received == items
    assert (max(levels) == 16) == (sink > source)
