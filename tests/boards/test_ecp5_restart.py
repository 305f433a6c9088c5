import random

from amaranth import DomainRenamer
import pytest

from boards import ecp5_restart
from boards.ecp5_restart import CHIP_CYCLES, LOCK_CYCLES, RestartController, STOP_CYCLES
from hw.register import Restart
from sim.drive.ports import simulate


@pytest.fixture
def dut(monkeypatch):
    monkeypatch.setattr(ecp5_restart, "ASK_BITS", 11)           # more than LOCK_CYCLES
    return RestartController()


def run(dut, testbench):
    simulate(DomainRenamer({"board": "sync"})(dut), testbench, cycles=200_000)


async def until_running(ctx, dut, value=1):
    """Cycles until the clocks run, and those of a reset before."""
    cycles = resets = 0
    while ctx.get(dut.run) != value:
        await ctx.tick()
        cycles += 1
        resets += ctx.get(dut.reset)
    return cycles, resets


def state(ctx, dut):
    return ctx.get(dut.state.lock_lost), ctx.get(dut.state.cause), ctx.get(dut.state.restarts)


def test_configuration(dut):
    """The clocks start once the lock has lasted; a lock that comes late is not one that is lost."""
    async def testbench(ctx):
        await ctx.tick().repeat(2000)
        assert not ctx.get(dut.run)
        ctx.set(dut.locked, 1)
        await ctx.tick().repeat(LOCK_CYCLES - 5)
        ctx.set(dut.locked, 0)
        await ctx.tick().repeat(5)
        ctx.set(dut.locked, 1)
        cycles, resets = await until_running(ctx, dut)
        assert LOCK_CYCLES <= cycles <= LOCK_CYCLES + 4 and resets == 0
        assert state(ctx, dut) == (0, Restart.CONFIGURATION, 0)
        assert not ctx.get(dut.run_chip)
        await ctx.tick()
        assert not ctx.get(dut.run_chip)
        await ctx.tick()
        assert ctx.get(dut.run_chip)

    run(dut, testbench)


def test_every_cause(dut):
    """Stopped clocks, then a reset, then the clocks again; requests and buttons wait a while."""
    rng = random.Random(0)

    async def testbench(ctx):
        ctx.set(dut.locked, 1)
        await until_running(ctx, dut)
        await ctx.tick().repeat(2)
        lost = 0
        for number in range(1, 40):
            cause = rng.choice([*Restart][1:])
            if cause == Restart.LOCK:
                ctx.set(dut.locked, 0)
                lost = 1
            elif cause == Restart.BUTTON:
                ctx.set(dut.button, 1)
            else:
                ctx.set(dut.request, cause)
            cycles = 0
            while ctx.get(dut.run_chip):
                await ctx.tick()
                cycles += 1
            assert cycles <= 4 if cause == Restart.LOCK else 2046 <= cycles <= 2052
            # The clocks of the chip's pins go on for a while.
            cycles, resets = await until_running(ctx, dut, 0)
            assert resets == 0 and cycles == CHIP_CYCLES + 1
            resets, cycles = 0, 0
            while not ctx.get(dut.reset):
                await ctx.tick()
                cycles += 1
            assert cycles >= STOP_CYCLES - CHIP_CYCLES
            ctx.set(dut.request, 0)                 # the reset does this
            if cause != Restart.BUTTON:
                ctx.set(dut.locked, 1)
            else:
                await ctx.tick().repeat(5000)       # held
                assert not ctx.get(dut.run) and not ctx.get(dut.reset)
                ctx.set(dut.button, 0)
            cycles, resets = await until_running(ctx, dut)
            await ctx.tick().repeat(2)
            assert ctx.get(dut.run_chip)
            assert cycles >= LOCK_CYCLES and resets == (cause != Restart.BUTTON) * (STOP_CYCLES - 1)
            assert state(ctx, dut) == (lost, cause, number % 256)

    run(dut, testbench)


def test_a_button_that_bounces_does_nothing(dut):
    async def testbench(ctx):
        ctx.set(dut.locked, 1)
        await until_running(ctx, dut)
        for _ in range(5):
            ctx.set(dut.button, 1)
            await ctx.tick().repeat(2000)
            ctx.set(dut.button, 0)
            await ctx.tick().repeat(10)
            assert ctx.get(dut.run)
        assert state(ctx, dut) == (0, Restart.CONFIGURATION, 0)

    run(dut, testbench)
