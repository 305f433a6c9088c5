# amaranth: UnusedElaboratable=no
"""Sums of samples, against a device that stretches the clock, refuses, and hangs."""

import random

from hw.meter.power_meter import PowerMeter
from hw.register import METER_VALUES, MeterMode
from sim.drive.i2c import serve_i2c
from sim.drive.ports import simulate
from sim.twin.ina import InaTwin


QUARTER = 8

ACCESS = 49 * 4
"""Quarters that a read takes without stretching."""


def read_of(pointer, address=0x40):
    return (address << 1 | 1) << 24 | pointer << 16 | (address << 1 | 1) << 8


class Bench:
    """The registers, as the host uses them."""

    def __init__(self, ctx, dut):
        self.ctx, self.dut = ctx, dut

    def control(self, mode, period=ACCESS + 120, wide=0):
        self.ctx.set(self.dut.bus.control, {"period": period, "mode": mode, "wide": wide})

    async def command(self, command):
        self.ctx.set(self.dut.bus.command, command)
        self.ctx.set(self.dut.bus.write, 1)
        await self.ctx.tick()
        self.ctx.set(self.dut.bus.write, 0)
        await self.rest()

    async def rest(self):
        """Until nothing is active; for as long as nothing begins."""
        while self.ctx.get(self.dut.bus.status.active):
            await self.ctx.tick()

    def values(self):
        found = {}
        for place, name in enumerate(METER_VALUES):
            self.ctx.set(self.dut.bus.place, place)
            found[name] = self.ctx.get(self.dut.bus.value)
        found["sum"] |= found.pop("sum_high") << 32
        return found

    async def run(self, cycles):
        """The core runs for so many; the values have grown by."""
        before = self.values()
        self.ctx.set(self.dut.running, 1)
        await self.ctx.tick().repeat(cycles)
        self.ctx.set(self.dut.running, 0)
        await self.ctx.tick().repeat(2)
        await self.rest()
        return {name: value - before[name] for name, value in self.values().items()}


def test_samples_while_running():
    """What was read while the core ran, to its end, is in the sum, and nothing else."""
    sent = []
    rng = random.Random(0)

    def power():
        sent.append(rng.choice([0xFFFF, rng.getrandbits(16)]))
        return sent[-1]

    twin = InaTwin(registers={3: power}, stretch=lambda: rng.choice([0] * 30 + [100]))
    dut = PowerMeter(quarter=QUARTER)

    async def bench(ctx):
        host = Bench(ctx, dut)
        host.control(MeterMode.OFF)
        await host.command(0x40 << 25 | 5 << 16 | 0x1234)       # calibration, say
        assert twin.registers[5] == 0x1234 and not ctx.get(dut.bus.status.failed)
        await host.command(read_of(3))
        assert ctx.get(dut.bus.data) & 0xFFFF == sent[-1]
        assert await host.run(3000) == {"samples": 0, "errors": 0, "sum": 0}
        host.control(MeterMode.RUNNING)
        sent.clear()
        await ctx.tick().repeat(3000)
        assert not sent
        found = await host.run(18_000)
        # The last one ended behind the run.
        assert len(sent) >= 6 and found["errors"] == 0
        assert found["samples"] in (len(sent), len(sent) - 1)
        assert found["sum"] == sum(sent[:found["samples"]])
        host.control(MeterMode.ALWAYS)
        sent.clear()
        before = host.values()
        await ctx.tick().repeat(7000)
        host.control(MeterMode.OFF)
        await ctx.tick().repeat(2)
        await host.rest()
        after = host.values()
        assert len(sent) >= 2 and after["sum"] - before["sum"] in (sum(sent), sum(sent[:-1]))
        assert twin.stretched and not twin.violations

    simulate(dut, bench, background=[serve_i2c(dut.pins, twin)], cycles=45_000)


def test_errors_are_counted():
    """A refused byte, a device that holds the clock, one that is gone: errors, never a sample; and
    the samples after them are right."""
    refused = []
    sent = []
    twin = InaTwin(registers={8: lambda: sent.append(0xABCDEF) or 0xABCDEF}, widths={8: 3},
                   refuses=lambda: refused.pop() if refused else False)
    dut = PowerMeter(quarter=QUARTER)
    period = ACCESS + 60

    async def bench(ctx):
        host = Bench(ctx, dut)
        host.control(MeterMode.OFF, period, wide=1)
        await host.command(read_of(8))
        assert ctx.get(dut.bus.data) & 0xFFFFFF == 0xABCDEF
        host.control(MeterMode.RUNNING, period, wide=1)
        refused[:] = [True]
        found = await host.run(4 * period * QUARTER)
        assert found["errors"] == 1 and found["samples"] >= 2
        assert found["sum"] == found["samples"] * 0xABCDEF
        assert not ctx.get(dut.bus.status.failed)
        twin.held = True
        found = await host.run(5 * period * QUARTER)
        assert found["errors"] >= 2 and found["samples"] == found["sum"] == 0
        assert ctx.get(dut.bus.status.failed)
        twin.held = False
        found = await host.run(4 * period * QUARTER)
        assert found["samples"] >= 2 and found["sum"] == found["samples"] * 0xABCDEF
        twin.address = 0x41
        found = await host.run(3 * period * QUARTER)
        assert found["errors"] >= 2 and found["samples"] == 0

    simulate(dut, bench, background=[serve_i2c(dut.pins, twin)], cycles=60_000)


def test_sum_is_wide():
    """The carry out of the lower word; the master is not in the way."""
    twin = InaTwin(registers={8: 0xFFFFFF}, widths={8: 3})
    dut = PowerMeter(quarter=QUARTER)

    async def bench(ctx):
        host = Bench(ctx, dut)
        host.control(MeterMode.OFF, wide=1, period=ACCESS + 60)
        await host.command(read_of(8))
        host.control(MeterMode.RUNNING, wide=1, period=ACCESS + 60)
        for value in (0xFFFFFFFF, 0xFF000000, 0xFF000001, 0xFF000002):
            ctx.set(dut.sums[METER_VALUES.index("sum")], value)
            ctx.set(dut.sums[METER_VALUES.index("sum_high")], 5)
            found = await host.run((ACCESS + 60) * QUARTER * 2)
            assert found["samples"] >= 1 and found["sum"] == found["samples"] * 0xFFFFFF
            assert host.values()["sum"] == (5 << 32) + value + found["sum"]

    simulate(dut, bench, background=[serve_i2c(dut.pins, twin)], cycles=30_000)
