# amaranth: UnusedElaboratable=no
import random

import pytest

from hw.run_sequence import RunSequence
from sim.drive.ports import simulate


ADDRESSES = {"image": 0x100, "image_stride": 7, "result": 0xfffff0, "result_stride": 5}


@pytest.mark.parametrize("count, images, results", [
    (1, 0, 0), (5, 0, 0), (7, 3, 0), (9, 4, 2), (6, 1, 6), (3, 8, 65535), (40, 7, 9)])
def test_runs(count, images, results):
    """The addresses of every run, its record, and the runs after it; twice, as nothing is left."""
    dut = RunSequence()
    rng = random.Random(count)

    async def one(ctx, number):
        """A run: what its addresses are while it lasts, and its record."""
        image = number % (images or 1 << 16)
        result = number % (results or 1 << 16)
        for cycle in range(rng.randrange(4, 12)):
            assert ctx.get(dut.begin) == (cycle == 0) and ctx.get(dut.busy)
            assert not ctx.get(dut.record.valid) and not ctx.get(dut.finished)
            assert ctx.get(dut.image_address) == 0x100 + 7 * image
            assert ctx.get(dut.result_address) == (0xfffff0 + 5 * result) % (1 << 24)
            # What `drained` tells of the run before is not looked at.
            ctx.set(dut.drained, cycle < 2 and rng.random() < 0.5)
            ctx.set(dut.time, time := rng.getrandbits(32))
            await ctx.tick()
        ctx.set(dut.drained, 1)
        if results:
            await ctx.tick()
            ctx.set(dut.errors, errors := rng.randrange(4))
            for waiting in reversed(range(rng.randrange(1, 5))):
                assert ctx.get(dut.record.valid) and ctx.get(dut.busy)
                record = dut.record.payload
                assert (ctx.get(record.left), ctx.get(record.errors), ctx.get(record.end),
                        ctx.get(record.slot)) == (count - number, errors, time, results - result)
                ctx.set(dut.time, rng.getrandbits(32))
                ctx.set(dut.record.ready, not waiting)
                assert not ctx.get(dut.finished)
                await ctx.tick()
                ctx.set(dut.drained, 0)
            ctx.set(dut.record.ready, 0)
            for _ in range(rng.randrange(3)):
                await ctx.tick()
            assert not ctx.get(dut.finished)
            ctx.set(dut.drained, 1)
        assert ctx.get(dut.finished)
        await ctx.tick()
        ctx.set(dut.drained, 0)

    async def bench(ctx):
        for name, value in ADDRESSES.items():
            ctx.set(getattr(dut, name), value)
        for _ in range(2):
            ctx.set(dut.count, count)
            ctx.set(dut.ring, {"images": images, "results": results})
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            for number in range(count):
                await one(ctx, number)
            for _ in range(rng.randrange(1, 3)):
                assert not ctx.get(dut.busy) and not ctx.get(dut.begin)
                await ctx.tick()

    simulate(dut, bench, cycles=5_000)
