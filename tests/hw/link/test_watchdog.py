import random

import pytest

from hw.link import watchdog
from hw.link.watchdog import Watchdog
from sim.drive.ports import simulate


UNIT = 16


@pytest.fixture
def dut(monkeypatch):
    monkeypatch.setattr(watchdog, "WATCHDOG_UNIT_BITS", UNIT.bit_length() - 1)
    return Watchdog()


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_expires(dut, limit):
    """After ``limit`` units of work on one image, and until the core ends."""
    rng = random.Random(limit)

    async def testbench(ctx):
        ctx.set(dut.limit, limit)
        for image in range(12):
            ctx.set(dut.core_busy, 1)
            ctx.set(dut.image, image % 2)
            took = 0
            while not ctx.get(dut.expired):
                await ctx.tick()
                took += 1
            assert UNIT * limit <= took <= UNIT * limit + 4
            await ctx.tick().repeat(rng.randrange(1, 100))
            assert ctx.get(dut.expired)
            if rng.randrange(2):
                ctx.set(dut.core_busy, 0)
            else:
                ctx.set(dut.image, ~image % 2)
            await ctx.tick().repeat(3)
            assert not ctx.get(dut.expired)
            ctx.set(dut.core_busy, 0)
            await ctx.tick().repeat(rng.randrange(3, 40))
            assert not ctx.get(dut.expired)

    simulate(dut, testbench)


def test_fast_images_never_expire(dut):
    """Any number of images, each within the limit; and a core that waits."""
    async def testbench(ctx):
        ctx.set(dut.limit, 3)
        ctx.set(dut.core_busy, 1)
        for image in range(40):
            ctx.set(dut.image, image % 2)
            for _ in range(3 * UNIT):
                await ctx.tick()
                assert not ctx.get(dut.expired)
        ctx.set(dut.core_busy, 0)
        await ctx.tick().repeat(2)
        for _ in range(10 * UNIT):
            await ctx.tick()
            assert not ctx.get(dut.expired)

    simulate(dut, testbench)


def test_limit_set_later(dut):
    """No limit is no limit; one that comes during a run counts from then on."""
    async def testbench(ctx):
        ctx.set(dut.core_busy, 1)
        for limit, cycles in ((0, 20 * UNIT), (3, 3 * UNIT), (0, 20 * UNIT)):
            ctx.set(dut.limit, limit)
            for _ in range(cycles):
                await ctx.tick()
                assert not ctx.get(dut.expired)

    simulate(dut, testbench)
