# amaranth: UnusedElaboratable=no
import random

import pytest

from hw.attention.fetch import AttentionFetch
from hw.config import CoreConfig
from sim.drive.ports import simulate, take_stream


def addresses_of(job, planes):
    """The order of the docstring, token by token."""
    def words(base, token):
        return [base + token * job["position_stride"] + w * planes + plane
                for plane in reversed(range(planes)) for w in range(job["words"])]

    found = []
    for token in range(0 if job["keep"] else job["tokens"]):
        found += [job["value"] + token * job["value_stride"] + plane
                  for plane in range(planes)]
        found += words(job["key"], token)
    for token in range(job["queries"]):
        found += words(job["query"], token)
    return [address % (1 << 16) for address in found]


@pytest.mark.parametrize("levels", [4, 3])
@pytest.mark.parametrize("stall", [0.0, 0.6])
def test_order(stall, levels):
    """One address per cycle, the first one two cycles after ``start``; nothing behind the last."""
    rng = random.Random(0)
    config = CoreConfig(levels=levels)
    dut = AttentionFetch(config=config)

    async def testbench(ctx):
        for tokens, queries, words, keep in (
                (1, 1, 1, 0), (1, 3, 4, 0), (5, 5, 1, 0), (1, 5, 1, 1), (2, 1, 3, 0), (9, 9, 2, 0),
                (0, 1, 2, 1), (1, 1, 8, 0), (300, 200, 1, 0)):
            job = {"tokens": tokens, "queries": queries, "words": words, "keep": keep,
                   **{name: rng.choice([0, 0xFFFE, rng.randrange(1 << 16)])
                      for name in ("query", "key", "value")},
                   **{name: rng.choice([0, 0xFFF, rng.randrange(1 << 12)])
                      for name in ("position_stride", "value_stride")}}
            expected = addresses_of(job, config.level_planes)
            for name, value in job.items():
                ctx.set(getattr(dut.job, name), value)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            take, found = take_stream(dut.addresses, len(expected), rng=rng, stall=stall)
            if not stall:
                await ctx.tick()
                assert ctx.get(dut.addresses.valid)
            await take(ctx)
            assert found == expected
            for _ in range(6):
                ctx.set(dut.addresses.ready, rng.randrange(2))
                assert not ctx.get(dut.addresses.valid)
                await ctx.tick()

    simulate(dut, testbench, cycles=20_000)


@pytest.mark.parametrize("levels, planes", [(4, 3), (3, 2)])
def test_one_address_per_cycle(levels, planes):
    dut = AttentionFetch(config=CoreConfig(levels=levels))

    async def testbench(ctx):
        for name, value in (("tokens", 7), ("queries", 7), ("words", 4),
                            ("position_stride", 12)):
            ctx.set(getattr(dut.job, name), value)
        ctx.set(dut.addresses.ready, 1)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        await ctx.tick()
        for _ in range(7 * (planes + 2 * 4 * planes)):
            assert ctx.get(dut.addresses.valid)
            await ctx.tick()
        assert not ctx.get(dut.addresses.valid)

    simulate(dut, testbench)
