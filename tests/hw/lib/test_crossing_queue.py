# amaranth: UnusedElaboratable=no
import random

from amaranth import ClockDomain, Module
import pytest

from hw.lib.crossing_queue import CrossingQueue
from sim.drive.ports import simulate


DEPTH = 8


@pytest.mark.parametrize("period", [0.4, 0.64, 1.0, 1.7])
@pytest.mark.parametrize("taken", [0.2, 1.0])
def test_every_word_once(period, taken):
    """Words come in order and none is lost, up to the last place that the level leaves."""
    rng = random.Random(0)
    words = [rng.getrandbits(16) for _ in range(300)]
    queue = CrossingQueue(width=16, depth=DEPTH, w_domain="writer", r_domain="sync")
    top = Module()
    top.domains.writer = ClockDomain(reset_less=True)
    top.submodules.queue = queue
    received, levels = [], set()

    async def writer(ctx):
        for word in words:
            while True:
                level = ctx.get(queue.w_level)
                levels.add(level)
                if level < DEPTH and rng.random() < 0.8:
                    break
                await ctx.tick("writer")
            ctx.set(queue.w_data, word)
            ctx.set(queue.w_en, 1)
            await ctx.tick("writer")
            ctx.set(queue.w_en, 0)

    async def reader(ctx):
        while len(received) < len(words):
            ctx.set(queue.o.ready, rng.random() < taken)
            _, _, valid, ready, payload = await ctx.tick().sample(
                queue.o.valid, queue.o.ready, queue.o.payload)
            if valid and ready:
                received.append(payload)
        ctx.set(queue.o.ready, 0)

    simulate(top, writer, reader, cycles=5000, clocks={"writer": period})
    assert received == words
    assert max(levels) == DEPTH or taken == 1.0
