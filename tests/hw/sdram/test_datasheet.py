# amaranth: UnusedElaboratable=no
"""Commands at the chip's pins against the nanoseconds of the parts' data sheets.

The controller and the chip model share the conversion of nanoseconds to cycles, in
``hw.sdram_config``. Neither it nor the board's table has a part in this verdict: the figures stand
here once more, and times are measured as exact fractions.
"""
from fractions import Fraction
from math import floor
import random

import pytest

from hw.sdram_config import SdramConfig
from tests.hw.sdram.test_scheduler import Bench, PART, random_bursts, run, SMALL


# Nanoseconds by part.
FIGURES = {
    "MT48LC16M16A2TG-6A": dict(trcd=18, trp=18, tras=42, trc=60, trfc=60, twr=12, trrd=12,
                               tmrd=12),
    "IS42S16160G-7TL": dict(trcd=20, trp=20, tras=45, trc=66, trfc=70, twr=15, trrd=15, tmrd=14),
    "M12L2561616A-6TG2T": dict(trcd=18, trp=18, tras=42, trc=60, trfc=60, twr=12, trrd=12,
                               tmrd=12),
    "AS4C32M16SB-7TCN": dict(trcd=21, trp=21, tras=42, trc=63, trfc=63, twr=14, trrd=14, tmrd=14),
}
REFRESH = Fraction(64_000_000, 8192)        # 64 ms for 8192 rows
OWED = 8                                    # refreshes that may be postponed
POWER_UP = 400                              # a part that is ready sooner than a real one


class Monitor:
    """Names of the times that were too short, of commands at their clock edges."""

    def __init__(self, times, clock_hz):
        self.times, self.period = times, Fraction(10**9, clock_hz)
        self.broken, self.commands = set(), 0
        self._last, self._open, self._refreshes, self._ready = {}, set(), 0, None
        self._woken = None

    def _least(self, name, event, now):
        since = self._last.get(event)
        if since is not None and now - since < self.times[name]:
            self.broken.add(name)

    def clock_enable(self, edge, cke):
        """Low for the time of the power-up, then high for as long before the first command."""
        if cke and self._woken is None:
            self._woken = edge * self.period
            if self._woken < POWER_UP:
                self.broken.add("power_up")

    def command(self, edge, ras, cas, we, bank, address):
        now, last = edge * self.period, self._last
        if self.commands == 0 and (self._woken is None or now - self._woken < POWER_UP):
            self.broken.add("power_up")
        self.commands += 1
        self._least("trfc", "refresh", now)
        self._least("tmrd", "mode", now)
        banks = range(4) if address >> 10 & 1 else [bank]
        if (ras, cas, we) == (1, 0, 0):
            self._least("trp", ("precharge", bank), now)
            self._least("trc", ("activate", bank), now)
            self._least("trrd", "activate", now)
            last["activate"] = last["activate", bank] = now
            self._open.add(bank)
        elif (ras, cas) == (0, 1):
            self._least("trcd", ("activate", bank), now)
            if we:
                last["write", bank] = now + 3 * self.period         # of four data
        elif (ras, cas, we) == (1, 0, 1):
            for one in banks:
                if one in self._open:
                    self._least("tras", ("activate", one), now)
                    self._least("twr", ("write", one), now)
                last["precharge", one] = now
                self._open.discard(one)
        else:
            for one in range(4):
                self._least("trp", ("precharge", one), now)
            last["mode" if we else "refresh"] = now
            self._count_refresh(now, mode=we)

    def _count_refresh(self, now, *, mode):
        if mode:
            self._ready = self._ready or now
        elif self._ready:
            self._refreshes += 1
            if (now - self._ready) / REFRESH - self._refreshes > OWED:
                self.broken.add("refresh")

    def watch(self, pins):
        async def process(ctx):
            edge = 0
            while True:
                _, _, cke, *values = await ctx.tick().sample(
                    pins.cke, pins.ras, pins.cas, pins.we, pins.bank, pins.address)
                edge += 1
                self.clock_enable(edge, cke)
                if any(values[:3]):
                    self.command(edge, *values)
        return process


def broken_times(clock_hz, part):
    """What a controller of the slowest times breaks on a part, in traffic that meets all limits."""
    config = SdramConfig(clock_hz=clock_hz, **PART.times, **(SMALL | {
        "refresh_ns": 7812.5, "power_up_ns": POWER_UP}))
    dut = Bench(config)
    monitor = Monitor(FIGURES[part], clock_hz)
    rows = [(write, config.row_words * place, 1) for place in (0, 1, 2, 3, 8, 4, 12, 16)
            for write in (1, 0)]
    rng = random.Random(part)
    chip_says, same, _ = run(dut, [*rows, *random_bursts(config.words, 10, rng), (0, 0, 100)],
                             rng=rng, background=[monitor.watch(dut.chip.pins)])
    assert same and monitor.commands > 200
    return monitor.broken, chip_says


def test_figures_are_those_of_the_board():
    assert {part.name: {f"{name}_ns": ns for name, ns in FIGURES[part.name].items()}
            for part in PART.parts} == {part.name: dict(part.times) for part in PART.parts}


@pytest.mark.parametrize("clock_hz, part", [
    (60_000_000, "AS4C32M16SB-7TCN"), (100_000_000, "MT48LC16M16A2TG-6A"),
    (125_000_000, "IS42S16160G-7TL"), (125_000_000, "AS4C32M16SB-7TCN"),
    (140_000_000, "M12L2561616A-6TG2T")])
def test_nanoseconds(clock_hz, part):
    assert broken_times(clock_hz, part) == (set(), [])


def test_rounding_down_is_caught(monkeypatch):
    """A wrong conversion misleads the controller and its chip model alike; not this monitor."""
    monkeypatch.setattr(SdramConfig, "cycles",
                        lambda self, ns: max(1, floor(ns * self.clock_hz / 1e9)))
    broken, chip_says = broken_times(125_000_000, "AS4C32M16SB-7TCN")
    assert "trp" in broken and chip_says == []


@pytest.mark.parametrize("woken, first, broken", [
    (40, 80, set()), (39, 80, {"power_up"}), (40, 79, {"power_up"}), (None, 80, {"power_up"})])
def test_early_commands_are_caught(woken, first, broken):
    """At 100 MHz, POWER_UP is 40 cycles; then PRECHARGE of all banks."""
    monitor = Monitor(FIGURES["MT48LC16M16A2TG-6A"], 100_000_000)
    for edge in range(1, first + 1):
        monitor.clock_enable(edge, woken is not None and edge >= woken)
    monitor.command(first, 1, 0, 1, 0, 1 << 10)
    assert monitor.broken == broken
