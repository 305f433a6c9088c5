# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from hw.lib.stream_buffer import StreamBuffer
from sim.drive.ports import simulate, take_stream


@pytest.mark.parametrize("depth", [4, 16])
@pytest.mark.parametrize(("source", "sink"), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.6, 0.4)])
def test_every_word_in_order(source, sink, depth):
    """Everything given while ``level`` has room comes out in order, one word per cycle at best."""
    rng = np.random.default_rng(1)
    dut = StreamBuffer(width=12, depth=depth)
    items = [0, 4095, *rng.integers(0, 1 << 12, size=300).tolist()]
    testbench, received = take_stream(dut.o, len(items), rng=rng, stall=sink)
    levels = []

    async def give(ctx):
        left, given = list(items), False
        while left:
            level = ctx.get(dut.level) + given      # what was given last is not in it yet
            levels.append(level)
            given = level < depth and rng.random() >= source
            ctx.set(dut.w_en, given)
            if given:
                ctx.set(dut.w_data, left.pop(0))
            await ctx.tick()
        ctx.set(dut.w_en, 0)

    simulate(dut, testbench, background=[give],
             cycles=len(items) + 4 if source == sink == 0 and depth > 4 else 3000)
    assert received == items
    assert max(levels) == depth or sink <= source


def test_level_and_latency():
    """``level`` of words that wait, but for two in the output stages; the first comes 3 cycles
    after it was given."""
    dut = StreamBuffer(width=8, depth=8)
    levels, first = [], []

    async def testbench(ctx):
        for cycle in range(20):
            ctx.set(dut.w_en, cycle < 10)
            ctx.set(dut.w_data, 100 + cycle)
            levels.append(ctx.get(dut.level))
            if ctx.get(dut.o.valid):
                first.append(cycle)
            await ctx.tick()
        assert ctx.get(dut.level) == 8              # ten were given, two lie in the stages
        ctx.set(dut.o.ready, 1)
        for word in range(10):
            _, _, valid, payload = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            assert (valid, payload) == (1, 100 + word)
        await ctx.tick().repeat(2)
        assert ctx.get(dut.level) == 0 and not ctx.get(dut.o.valid)

    simulate(dut, testbench, cycles=40)
    assert first[0] == 3
    assert max(levels) == 8


def test_stages_fill_behind_a_word_that_waits():
    """A word given while one waits on ``o`` follows it without a gap."""
    dut = StreamBuffer(width=8, depth=8)

    async def testbench(ctx):
        for word in (11, 12):
            ctx.set(dut.w_en, 1)
            ctx.set(dut.w_data, word)
            await ctx.tick()
            ctx.set(dut.w_en, 0)
            await ctx.tick().repeat(5)
        assert ctx.get(dut.level) == 0
        ctx.set(dut.o.ready, 1)
        for word in (11, 12):
            _, _, valid, payload = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            assert (valid, payload) == (1, word)
        assert not ctx.get(dut.o.valid)

    simulate(dut, testbench, cycles=30)
