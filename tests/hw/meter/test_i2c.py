# amaranth: UnusedElaboratable=no
"""The master against a device that stretches the clock and does not acknowledge."""

import random

import pytest

from hw.meter.i2c import I2cMaster
from sim.drive.i2c import serve_i2c
from sim.drive.ports import simulate
from sim.twin.ina import InaTwin


QUARTER = 8


def read_of(pointer, address=0x40):
    """Command for a read."""
    return (address << 1 | 1) << 24 | pointer << 16 | (address << 1 | 1) << 8


def write_of(pointer, value, address=0x40):
    return address << 25 | pointer << 16 | value


async def access(ctx, dut, command, *, wide=0, abort_after=None):
    """(failed, data, cycles) of one access."""
    ctx.set(dut.command, command)
    ctx.set(dut.wide, wide)
    ctx.set(dut.start, 1)
    await ctx.tick()
    ctx.set(dut.start, 0)
    cycles = 1
    while True:
        ctx.set(dut.abort, abort_after is not None and cycles % abort_after == 0)
        _, _, done, failed, data, active = await ctx.tick().sample(
            dut.done, dut.failed, dut.data, dut.active)
        cycles += 1
        assert active
        if done:
            ctx.set(dut.abort, 0)
            assert not ctx.get(dut.active)
            return failed, data, cycles


@pytest.mark.parametrize("stretch", [0, 60])
def test_reads_and_writes(stretch):
    rng = random.Random(stretch)
    twin = InaTwin(address=0x45, widths={8: 3, 5: 3},
                   stretch=lambda: rng.choice([0, 0, 0, stretch]))
    dut = I2cMaster(quarter=QUARTER)

    async def bench(ctx):
        for number in range(4):
            value = rng.choice([0, 0xFFFF, rng.getrandbits(16)])
            failed, _, cycles = await access(ctx, dut, write_of(number, value, 0x45))
            assert not failed and twin.registers[number] == value
            if not stretch:
                assert 38 * 4 * QUARTER <= cycles <= 39 * 4 * QUARTER
        for _ in range(6):
            pointer = rng.choice([0, 3, 5, 8])
            wide = pointer in twin.widths
            twin.registers[pointer] = value = rng.choice(
                [0, (1 << 16 + 8 * wide) - 1, rng.getrandbits(16 + 8 * wide)])
            failed, data, cycles = await access(ctx, dut, read_of(pointer, 0x45), wide=wide)
            assert not failed and data % (1 << 16 + 8 * wide) == value
            assert twin.pointer == pointer
            if not stretch and not wide:
                assert 48 * 4 * QUARTER <= cycles <= 50 * 4 * QUARTER
        assert twin.starts == 4 + 2 * 6 and twin.stops == 4 + 6
        assert twin.writes == 4 and twin.reads == 6
        assert bool(twin.stretched) == bool(stretch) and not twin.violations
        # Nothing but the line's rest follows.
        assert not ctx.get(dut.pins.scl_low) and not ctx.get(dut.pins.sda_low)

    simulate(dut, bench, background=[serve_i2c(dut.pins, twin)], cycles=40_000)


def test_not_acknowledged():
    """Of every byte: a stop, ``failed``, nothing written; the next access is right."""
    refused = []
    twin = InaTwin(registers={3: 0x1234}, refuses=lambda: refused.pop(0) if refused else False)
    dut = I2cMaster(quarter=QUARTER)

    async def bench(ctx):
        for byte in range(4):
            refused[:] = [False] * byte + [True]
            stops = twin.stops
            failed, _, cycles = await access(ctx, dut, write_of(3, 0x5678))
            assert failed and twin.stops == stops + 1 and twin.registers[3] == 0x1234
            assert cycles <= (2 + 9 * (byte + 1) + 1) * 4 * QUARTER
        for byte in range(3):
            refused[:] = [False] * byte + [True]
            failed, _, _ = await access(ctx, dut, read_of(3))
            assert failed
        assert (await access(ctx, dut, read_of(3, 0x41)))[0]        # nobody there
        failed, data, _ = await access(ctx, dut, read_of(3))
        assert not failed and data & 0xFFFF == 0x1234 and not twin.violations

    simulate(dut, bench, background=[serve_i2c(dut.pins, twin)], cycles=40_000)


def test_clock_held():
    """A device that never lets go of SCL: abort ends it, twice where the stop fails, too."""
    twin = InaTwin(registers={3: 0x1234})
    dut = I2cMaster(quarter=QUARTER)

    async def bench(ctx):
        twin.held = True
        failed, _, cycles = await access(ctx, dut, read_of(3), abort_after=500)
        assert failed and cycles <= 1010
        twin.held = False
        await ctx.tick().repeat(50)
        failed, data, _ = await access(ctx, dut, read_of(3))
        assert not failed and data & 0xFFFF == 0x1234
        for after in range(20, 1400, 197):        # aborted in any bit
            failed, _, _ = await access(ctx, dut, read_of(3), abort_after=after)
            assert failed
            for _ in range(2):                  # the first may have to free the line
                failed, data, _ = await access(ctx, dut, read_of(3))
            assert not failed and data & 0xFFFF == 0x1234, after

    simulate(dut, bench, background=[serve_i2c(dut.pins, twin)], cycles=40_000)


def test_quarter():
    with pytest.raises(ValueError, match="^Quarter of a bit must be at least 8 cycles, not 7$"):
        I2cMaster(quarter=7)
