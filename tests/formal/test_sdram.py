# amaranth: UnusedElaboratable=no
"""Commands of the SDRAM scheduler, checked for 100 cycles after power-up, whatever it is asked.

The rules are those of JESD79 in cycles, written down here; ages come from a record of the pins.
"""

from dataclasses import replace
from pathlib import Path
from types import ModuleType

from amaranth import Cat, Module, Signal
from amaranth.hdl import Assert, Assume
import pytest

from hw.sdram import banks, scheduler
from hw.sdram_config import SdramConfig
from tests.formal.proof import check, Opened, refuted


pytestmark = pytest.mark.formal

POWER_UP, AFTER = 2, 100
"""Cycles before the first command (it is waited twice), and those looked at behind them."""

TRCD, TRP, TRFC, TWR, TRRD, TMRD = 4, 3, 3, 2, 2, 2
CAS, BEATS, REFRESH, POSTPONED, INITIAL = 2, 4, 7, 8, 8

CONFIG = SdramConfig(
    clock_hz=100_000_000, trcd_ns=40, trp_ns=30, tras_ns=60, trc_ns=90, trfc_ns=30, twr_ns=20,
    trrd_ns=20, tmrd_ns=20, refresh_ns=70, power_up_ns=20, bank_bits=1, row_bits=1, column_bits=4)

LONG_ROWS = replace(CONFIG, tras_ns=120, trc_ns=140)
"""Rows that must stay open for longer than it takes to open one, use a word and close it: else tRAS
comes about by itself."""

ROW_TIMES = {CONFIG: (6, 9), LONG_ROWS: (12, 14)}
"""tRAS and tRC."""

BANKS = 2


class Record:
    """The commands on the pins of late."""

    def __init__(self, m, now):
        self.past = {}
        for name, value in now.items():
            past = Signal(13, name=f"past_{name}")
            m.d.sync += past.eq(Cat(value, past))
            self.past[name] = Cat(value, past)

    def within(self, name, cycles):
        """It came in the last ``cycles - 1`` cycles: too early for what must wait ``cycles``."""
        return self.past[name][1:cycles].any()

    def between(self, name, first, last):
        """It came ``first`` to ``last`` cycles ago; 0 is now."""
        return self.past[name][first:last + 1].any()


def _rules(m, pins, tras, trc):
    """Assertions about what is on the pins."""
    kinds = {"read": 0b010, "write": 0b011, "activate": 0b100, "precharge": 0b101,
             "refresh": 0b110, "mode": 0b111}
    code = Cat(pins.we, pins.cas, pins.ras)
    seen = {name: code == value for name, value in kinds.items()}
    every = pins.address[10]
    now = dict(seen)
    for b in range(BANKS):
        here = pins.bank == b
        now |= {f"{name}_{b}": seen[name] & here for name in ("read", "write", "activate")}
        now[f"precharge_{b}"] = seen["precharge"] & (every | here)
    record = Record(m, now)
    within, between = record.within, record.between

    def never(condition):
        m.d.comb += Assert(~condition)

    access = seen["read"] | seen["write"]
    any_ = code != 0
    opened = Signal(BANKS)
    for b in range(BANKS):
        activate, precharge = now[f"activate_{b}"], now[f"precharge_{b}"]
        reached = now[f"read_{b}"] | now[f"write_{b}"]
        never(reached & (within(f"activate_{b}", TRCD) | ~opened[b]))
        never(activate & (opened[b] | within(f"precharge_{b}", TRP)
                          | within(f"activate_{b}", trc)))
        never(activate & within(f"activate_{1 - b}", TRRD))
        never((seen["refresh"] | seen["mode"]) & (opened[b] | within(f"precharge_{b}", TRP)))
        never(seen["refresh"] & within(f"activate_{b}", trc))
        never(precharge & opened[b] & within(f"activate_{b}", tras))
        # The last datum of a write comes 3 cycles behind its command.
        never(precharge & opened[b] & within(f"write_{b}", BEATS - 1 + TWR))
        never(precharge & opened[b] & within(f"read_{b}", BEATS))
        with m.If(activate):
            m.d.sync += opened[b].eq(1)
        with m.Elif(precharge):
            m.d.sync += opened[b].eq(0)
    never(any_ & (within("refresh", TRFC) | within("mode", TMRD)))
    never(access & (within("read", BEATS) | within("write", BEATS)))
    never(access & pins.address[10])
    never(access & pins.dqm.any())
    never(code == 0b001)

    # Data: ours with the write and 3 cycles behind it, the chip's the CAS latency behind a read;
    # a cycle of nobody between them.
    m.d.comb += Assert(pins.dq_oe == between("write", 0, BEATS - 1))
    never(pins.dq_oe & between("read", CAS, CAS + BEATS))

    # Power-up: quiet, all closed, refreshes, the mode; then anything.
    quiet, cke = Signal(range(2 * POWER_UP + 1)), Signal()
    closed, moded = Signal(), Signal()
    refreshed, owed = Signal(range(INITIAL + 1)), Signal(5)
    clock = Signal(range(REFRESH))
    m.d.sync += [quiet.eq(quiet + (quiet != 2 * POWER_UP)), cke.eq(pins.cke)]
    never(any_ & ((quiet != 2 * POWER_UP) | ~cke | ~pins.cke))
    never(cke & ~pins.cke)
    never(~closed & any_ & ~(seen["precharge"] & every))
    never(~closed & ~pins.dqm.all())
    never(seen["mode"] & (moded | (refreshed != INITIAL)
                          | (pins.address != (2 | CAS << 4)) | (pins.bank != 0)))
    never((seen["activate"] | access) & ~moded)
    with m.If(seen["precharge"] & every):
        m.d.sync += closed.eq(1)
    with m.If(seen["refresh"] & (refreshed != INITIAL)):
        m.d.sync += refreshed.eq(refreshed + 1)
    with m.If(seen["mode"]):
        m.d.sync += moded.eq(1)
    with m.If(moded):
        tick = clock == REFRESH - 1
        m.d.sync += clock.eq(clock + 1)
        with m.If(tick):
            m.d.sync += clock.eq(0)
        with m.If(tick & ~seen["refresh"]):
            m.d.sync += owed.eq(owed + 1)
        with m.Elif(seen["refresh"] & ~tick & (owed != 0)):
            m.d.sync += owed.eq(owed - 1)
    never(owed > POSTPONED)


def _design(module=scheduler, config=CONFIG):
    m = Module()
    dut = module.SdramScheduler(config, r_depth=4)
    opened = Opened(dut)
    m.submodules.dut = opened.fragment
    command = dut.commands
    offered, was = Signal(), Signal.like(command.payload.as_value())
    m.d.sync += [offered.eq(command.valid & ~command.ready), was.eq(command.payload.as_value())]
    m.d.comb += [
        Assume(~offered | (command.valid & (command.payload.as_value() == was))),
        Assume((command.p.length != 0) & (command.p.length <= 5)),
        Assume(command.p.address[config.words_bits:] == 0),
        # What comes back is taken at once.
        dut.r_level.eq(0),
    ]
    _rules(m, dut.pins, *ROW_TIMES[config])
    return m, [command.payload.as_value(), command.valid, dut.w_data.valid]


@pytest.mark.slow
def test_commands(tmp_path):
    check(*_design(), tmp_path, depth=2 * POWER_UP + AFTER)


@pytest.mark.slow
def test_rows_that_stay_open(tmp_path):
    check(*_design(config=LONG_ROWS), tmp_path, depth=LONG_DEPTH)


LONG_DEPTH = 70
"""Cycles with :data:`LONG_ROWS`."""

FAULTS = {
    "tRAS": (banks, "max(config.tras, config.trc - config.trp)", "config.trc - config.trp",
             LONG_DEPTH),
    "tRCD": (scheduler, "then=max(config.trcd, config.trrd)", "then=1", 60),
    "tRP": (scheduler, "then=config.trp)\n                m.d.sync += pins.bank",
            "then=1)\n                m.d.sync += pins.bank", 70),
    "tRFC": (scheduler, "then=config.trfc", "then=config.trfc - 1", 20),
    "tWR": (banks, "max(BEATS - 1 + config.twr, left)", "max(BEATS, left)", 70),
    "refreshes of the start": (scheduler, "INIT_REFRESHES = 8", "INIT_REFRESHES = 7", 50),
    "turn of the data pins": (scheduler, "BEATS + self._config.cas_latency + TURNAROUND",
                              "BEATS + self._config.cas_latency", 70),
    "closed behind a word": (scheduler, "banks.closable.all() & ~banks.went",
                             "banks.closable.all()", 80),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found(tmp_path, fault):
    """Each of these changes of the source breaks a rule within so many cycles."""
    source, old, new, depth = FAULTS[fault]
    text = Path(source.__file__).read_text()
    assert text.count(old) == 1
    module = ModuleType("faulty")
    exec(text.replace(old, new), module.__dict__)   # noqa: S102
    if source is banks:
        faulty, module = module, ModuleType("user")
        exec(Path(scheduler.__file__).read_text(), module.__dict__)     # noqa: S102
        module.count_banks = faulty.count_banks
    config = LONG_ROWS if fault == "tRAS" else CONFIG
    refuted(*_design(module, config), tmp_path, depth=depth)
