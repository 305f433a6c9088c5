# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from hw.config import CoreConfig
from hw.lib.pool_write import PoolWriteQueue
from sim.drive.ports import serve_write, simulate
from sim.reference.write_hash import write_hash


@pytest.mark.parametrize("stall", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("late", [0, 4])
def test_order_and_hash(stall, late):
    """Words are given until ``late`` + 2 cycles after ``ready`` fell; none gets lost."""
    rng = np.random.default_rng(late)
    dut = PoolWriteQueue(config=CoreConfig(rows=32))
    given, taken = [], []

    async def testbench(ctx):
        for _ in range(2):
            given.clear()
            taken.clear()
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            ready = [0] * (late + 1)
            while len(given) < 200:
                ready = [ctx.get(dut.ready), *ready[:-1]]
                valid = ready[-1] and rng.random() < 0.9
                ctx.set(dut.valid, valid)
                if valid:
                    word = int(rng.integers(1 << 16)), int(rng.integers(1 << 32))
                    ctx.set(dut.address, word[0])
                    ctx.set(dut.data, word[1])
                    given.append(word)
                await ctx.tick()
            ctx.set(dut.valid, 0)
            await ctx.tick()
            while ctx.get(dut.busy):
                await ctx.tick()
            await ctx.tick()                    # serve_write may see the last word after us
            assert taken == given
            words = [word for _, word in given]
            assert ctx.get(dut.sig) == write_hash(words, rows=32)

    simulate(dut, testbench, cycles=20_000, background=(
        serve_write(dut.write, lambda a, d: taken.append((a, d)), rng=rng, stall=stall),))


def test_one_word_per_cycle():
    dut = PoolWriteQueue(config=CoreConfig(rows=16))
    taken = []

    async def testbench(ctx):
        await ctx.tick()
        ctx.set(dut.valid, 1)
        for _ in range(100):
            assert ctx.get(dut.ready)
            await ctx.tick()
        ctx.set(dut.valid, 0)
        await ctx.tick().repeat(2)
        assert not ctx.get(dut.busy)
        await ctx.tick()                        # serve_write may see the last word after us
        assert len(taken) == 100

    simulate(dut, testbench, cycles=200, background=(
        serve_write(dut.write, lambda a, d: taken.append(d), rng=np.random.default_rng(0),
                    stall=0.0),))
