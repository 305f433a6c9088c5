# amaranth: UnusedElaboratable=no
"""The scheduler against the chip model: every part and clock, stalls, and each timing broken."""
from dataclasses import replace
import random

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
import pytest

from boards import find_board
from hw.port import Memory
from hw.sdram.scheduler import SdramScheduler
from hw.sdram_config import SdramConfig
from sim.drive.ports import feed_stream, simulate
from sim.twin.sdram_chip import broken_rules, SdramChip, SdramRule
from sim.twin.sdram_phy import SdramPhyTwin


R_DEPTH = 16

PART = find_board("ulx3s").sdram

# Geometry that random bursts fill; a tenth of the power-up and refresh times, so that they fall
# into every kind of traffic.
SMALL = dict(row_bits=3, column_bits=6, power_up_ns=300, refresh_ns=1200)


class Bench(wiring.Component):
    """Scheduler, pins and chip in one clock domain; the read queue is the test's."""

    def __init__(self, config, *, chip=None, delay=0, **pins):
        self.config = config
        self.scheduler = SdramScheduler(config, r_depth=R_DEPTH)
        self.pins = SdramPhyTwin(**pins)
        self.chip = SdramChip(chip or config)
        self.delay = delay
        super().__init__({
            "memory": In(Memory()),
            "restart": In(1),
            "initialised": Out(1),
            "violations": Out(len(SdramRule)),
            "refreshes": Out(32),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.scheduler = scheduler = self.scheduler
        m.submodules.pins = pins = self.pins
        m.submodules.chip = chip = self.chip
        wiring.connect(m, wiring.flipped(self.memory.commands), scheduler.commands)
        wiring.connect(m, wiring.flipped(self.memory.w_data), scheduler.w_data)
        wiring.connect(m, scheduler.pins, pins.controller)
        wiring.connect(m, pins.chip, chip.pins)
        # A queue whose level is seen two cycles late, as through a FIFO between clocks.
        level = Signal(range(R_DEPTH + 1))
        seen = Signal.like(level)
        taken = self.memory.r_data.valid & self.memory.r_data.ready
        queue = [Signal(64, name=f"place_{k}") for k in range(R_DEPTH)]
        m.d.sync += [level.eq(level + scheduler.r_valid - taken), seen.eq(level),
                     scheduler.r_level.eq(seen)]
        with m.If(taken):
            m.d.sync += [a.eq(b) for a, b in zip(queue, queue[1:], strict=False)]
        with m.If(scheduler.r_valid):
            with m.Switch(level - taken):
                for k in range(R_DEPTH):
                    with m.Case(k):
                        m.d.sync += queue[k].eq(scheduler.r_data)
        m.d.comb += [
            self.memory.r_data.valid.eq(level != 0), self.memory.r_data.payload.eq(queue[0]),
            scheduler.delay.eq(self.delay), scheduler.restart.eq(self.restart),
            self.initialised.eq(scheduler.initialised), self.violations.eq(chip.violations),
            self.refreshes.eq(chip.refreshes),
        ]
        return m


def random_bursts(words, count, rng):
    """Bursts that jump, go on, and turn round, after one write of everything."""
    bursts = [(1, start, min(255, words - start)) for start in range(0, words, 255)]
    address = 0
    for _ in range(count):
        length = rng.choice([1, 1, 2, 5, 16, 30])
        if rng.random() < 0.6 or address + length > words:
            address = rng.randrange(words - length + 1)
        bursts.append((rng.randrange(2), address, length))
        address += length
    return bursts


def run(dut, bursts, *, rng, stall=0.0, cycles=60_000, background=()):
    """Run bursts from power-up on; returns the broken rules, and the cycles from the first read
    word to the last."""
    model = {}
    commands, written, expected = [], [], []
    for write, address, length in bursts:
        commands.append({"address": address, "length": length, "write": write})
        for place in range(address, address + length):
            if write:
                model[place] = rng.getrandbits(64)
                written.append(model[place])
            else:
                expected.append(model.get(place, 0))
    received, arrived, now, violations = [], [], [0], []
    port = dut.memory

    async def clock(ctx):
        while True:
            await ctx.tick()
            now[0] += 1

    async def write_data(ctx):
        for word in written:
            if rng.random() < stall / 20:
                # A refresh must find its way into the middle of a burst.
                await ctx.tick().repeat(700)
            ctx.set(port.w_data.payload, word)
            ctx.set(port.w_data.valid, 1)
            await ctx.tick().until(port.w_data.ready)
            ctx.set(port.w_data.valid, 0)

    async def read(ctx):
        while len(received) < len(expected):
            if rng.random() < stall / 20:
                await ctx.tick().repeat(100)
            ctx.set(port.r_data.ready, 1)
            word, = await ctx.tick().sample(port.r_data.payload).until(port.r_data.valid)
            ctx.set(port.r_data.ready, 0)
            received.append(word)
            arrived.append(now[0])
        await ctx.tick().repeat(20)
        violations.append(ctx.get(dut.violations))

    simulate(dut, feed_stream(port.commands, commands, rng=rng, stall=stall), write_data, read,
             background=[clock, *background], cycles=cycles)
    return broken_rules(violations[0]), received == expected, arrived[-1] - arrived[0]


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("part", PART.parts, ids=lambda part: part.name)
def test_parts(part, stall):
    """The controller of the slowest times on each part, one clock for each."""
    clock_hz = {"MT": 100, "IS": 143, "M1": 133, "AS": 50}[part.name[:2]] * 1_000_000
    config = SdramConfig(clock_hz=clock_hz, **PART.times, **SMALL)
    chip = replace(config, **part.times)
    rng = random.Random(part.name)
    bursts = random_bursts(config.words, 40, rng) + [(0, 0, 100)]
    broken, same, _ = run(Bench(config, chip=chip), bursts, rng=rng, stall=stall)
    assert broken == []
    assert same


PLAIN = SdramConfig(clock_hz=133_000_000, **PART.times, **SMALL)

# Times so long that no other wait of the controller hides them.
LONG = {"trcd_ns": 60, "trp_ns": 60, "tras_ns": 250, "trc_ns": 300, "trfc_ns": 200, "twr_ns": 150,
        "trrd_ns": 120, "tmrd_ns": 80, "power_up_ns": 900, "refresh_ns": 400}


def short_traffic():
    """Accesses that meet every limit: each bank in turn, then one row after the other."""
    rng = random.Random(1)
    config = PLAIN
    rows = [(write, config.row_words * place, 1) for place in (0, 1, 2, 3, 8, 4, 12, 16)
            for write in (1, 0)]
    return rng, rows * 2 + [(0, 0, 255), (0, 0, 255)]


@pytest.mark.parametrize("name", LONG)
def test_broken_timing_is_caught(name):
    """On a part with one longer time, the controller that knows and the one that does not."""
    chip = replace(PLAIN, **{name: LONG[name]})
    rng, bursts = short_traffic()
    assert run(Bench(chip), bursts, rng=rng)[0] == []
    assert run(Bench(PLAIN, chip=chip), bursts, rng=rng)[0] == [name.removesuffix("_ns").upper()]


def test_wrong_latency_is_caught():
    rng, bursts = short_traffic()
    broken, same, _ = run(Bench(replace(PLAIN, clock_hz=100_000_000), chip=PLAIN), bursts, rng=rng)
    assert "MODE" in broken


def test_few_initial_refreshes_are_caught(monkeypatch):
    monkeypatch.setattr("hw.sdram.scheduler.INIT_REFRESHES", 7)
    rng, bursts = short_traffic()
    config = replace(PLAIN, refresh_ns=7812.5)          # or the eighth may soon be due
    assert "INIT_ORDER" in run(Bench(config), bursts, rng=rng)[0]


def test_short_turnaround_is_caught(monkeypatch):
    """Without the idle cycle between data read and data written."""
    monkeypatch.setattr("hw.sdram.scheduler.TURNAROUND", 0)
    rng, bursts = short_traffic()
    assert "CONTENTION" in run(Bench(PLAIN), bursts, rng=rng)[0]


@pytest.mark.parametrize("clock_hz", [100_000_000, 133_000_000, 143_000_000])
def test_streaming(clock_hz):
    """Reads of a linear stream with the real refresh interval: 98 % of the bus."""
    config = SdramConfig(clock_hz=clock_hz, **PART.times, **(SMALL | {"refresh_ns": 7812.5}))
    rng = random.Random(0)
    _, same, cycles = run(Bench(config), [(0, 128 * k % config.words, 128) for k in range(20)],
                          rng=rng)
    assert same
    used = 4 * (20 * 128 - 1) / cycles
    print(f"{clock_hz / 1e6:g} MHz: {100 * used:.1f} % of the bus")
    assert used > 0.98
