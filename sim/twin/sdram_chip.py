"""SDRAM chip model that checks every command against the data sheet."""

from enum import IntEnum

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import MEMORY_BITS
from hw.port import SdramPins
from hw.sdram_config import BEATS, DATA_BITS
from sim.twin.storage import Storage


__all__ = ["SdramChip", "SdramRule", "broken_rules", "MOST_POSTPONED"]


MOST_POSTPONED = 8
"""Refreshes that may be owed at most (JESD79's limit; the makers ask for the mean only)."""

INIT_REFRESHES = 8

MOST_OPEN_NS = 100_000
"""Longest time that a row may stay open (tRAS maximum: 100 us, or 120 us for some makers)."""


class SdramRule(IntEnum):
    """Rules of the data sheet, and of what this model stands for (the last three)."""
    POWER_UP = 0
    """Command (or CKE low) too early or with CKE low, or DQM low, before the first PRECHARGE."""
    INIT_ORDER = 1
    """Not: PRECHARGE all, then 8 REFRESH and a mode register, then anything else."""
    TRCD = 2
    TRP = 3
    TRAS = 4
    TRAS_MAX = 5
    TRC = 6
    TRFC = 7
    TWR = 8
    TRRD = 9
    TMRD = 10
    REFRESH = 11
    """More than 8 refreshes owed."""
    BANK_STATE = 12
    """ACTIVATE of an open bank, access to a closed one, REFRESH or mode with an open one."""
    MODE = 13
    """Mode register without burst length 4, sequential, burst writes and the CAS latency."""
    CONTENTION = 14
    """Data driven while, or in the cycle after, the chip drives them."""
    UNDRIVEN = 15
    """A datum to be written that nobody drives."""
    CUT_SHORT = 16
    """A burst ended early by another access or PRECHARGE: its data would be lost."""
    MASKED = 17
    """DQM high for a datum: this model has no byte writes."""
    UNALIGNED = 18
    """Burst from the middle of four columns: this model has no wrapping bursts."""
    UNKNOWN = 19
    """Command that this model does not have (burst stop, auto precharge)."""


def broken_rules(violations):
    """Names of the rules in a ``violations`` value."""
    return [rule.name for rule in SdramRule if violations >> rule & 1]


class SdramChip(wiring.Component):
    """One 16-bit SDRAM: samples its pins at each edge of its clock domain, and drives data.

    Every rule that a command breaks sets its bit of ``violations`` and stays set until ``clear``.
    Times in nanoseconds count as the clock cycles that they fill.

    Parameters
    ----------
    config : :class:`hw.sdram_config.SdramConfig`
        The part: its own times and size; with ``optional_column``, it has that bit. A datum is
        read by the edge ``cas_latency`` after its command. In the storage, words lie at the
        addresses that a controller of the same configuration gives them.
    init_refreshes : int
        REFRESH commands that the part wants before its first use.
    verilog : bool
        See :class:`sim.twin.storage.Storage`.

    Members
    -------
    pins : ``In(SdramPins())``
        ``dq_i`` is 0 while the chip does not drive it.
    clear : ``In(1)``
        Forget the violations.
    violations : ``Out(len(SdramRule))``
        See :func:`broken_rules`.
    reads, writes, refreshes : ``Out(32)``
        Commands seen.
    """

    def __init__(self, config, *, init_refreshes=INIT_REFRESHES, verilog=False):
        self._config = config
        self._init_refreshes = init_refreshes
        self._storage = Storage(words=config.words << config.optional_column, verilog=verilog)
        super().__init__({
            "pins": In(SdramPins()),
            "clear": In(1),
            "violations": Out(len(SdramRule)),
            "reads": Out(32),
            "writes": Out(32),
            "refreshes": Out(32),
        })

    @property
    def config(self):
        return self._config

    def elaborate(self, platform):
        m = Module()
        config, pins = self._config, self.pins
        banks = 1 << config.bank_bits
        broken = {rule: Signal(name=f"broken_{rule.name.lower()}") for rule in SdramRule}
        m.d.sync += self.violations.eq(
            Mux(self.clear, 0, self.violations) | Cat(broken.values()))

        def check(rule, condition):
            with m.If(condition):
                m.d.comb += broken[rule].eq(1)

        def age(name, most, event, init=None):
            """Cycles since ``event``, no more than ``most``; that at the start."""
            counter = Signal(range(most + 1), name=f"since_{name}",
                             init=most if init is None else init)
            m.d.sync += counter.eq(Mux(event, 1, counter + (counter != most)))
            return counter

        # Decode. CKE must have been high at the edge before, too.
        cke_before = Signal()
        m.d.sync += cke_before.eq(pins.cke)
        code = Signal(3)
        m.d.comb += code.eq(Cat(pins.we, pins.cas, pins.ras))
        names = {0b001: "stop", 0b010: "read", 0b011: "write", 0b100: "activate",
                 0b101: "precharge", 0b110: "refresh", 0b111: "mode"}
        seen = {name: Signal(name=f"is_{name}") for name in names.values()}
        for value, name in names.items():
            m.d.comb += seen[name].eq(code == value)
        command = code != 0
        access = seen["read"] | seen["write"]
        every = pins.address[10]
        bank = pins.bank[:config.bank_bits]
        check(SdramRule.UNKNOWN, seen["stop"] | (access & pins.address[10]))

        # Power up and initialisation.
        started = Signal(range(config.power_up + 1))
        m.d.sync += started.eq(started + (started != config.power_up))
        precharged, moded = Signal(), Signal()
        refreshed = Signal(range(self._init_refreshes + 1))
        done = Signal()
        m.d.comb += done.eq(precharged & moded & (refreshed == self._init_refreshes))
        check(SdramRule.POWER_UP, command & ((started != config.power_up) | ~cke_before))
        check(SdramRule.POWER_UP, ~precharged & ~pins.dqm.all())
        check(SdramRule.POWER_UP, cke_before & ~pins.cke)
        check(SdramRule.INIT_ORDER, command & ~precharged & ~(seen["precharge"] & every))
        check(SdramRule.INIT_ORDER, ~done & (seen["activate"] | access))
        with m.If(seen["precharge"] & every):
            m.d.sync += precharged.eq(1)
        with m.If(precharged & seen["mode"]):
            m.d.sync += moded.eq(1)
        with m.If(precharged & seen["refresh"] & (refreshed != self._init_refreshes)):
            m.d.sync += refreshed.eq(refreshed + 1)

        # Banks: state, and times since the last command to each.
        is_open = Signal(banks)
        rows = Array(Signal(config.row_bits, name=f"row_{b}") for b in range(banks))
        burst = Signal(range(BEATS + 1))                # beats still to come, ours or the chip's
        burst_bank = Signal(config.bank_bits)
        writing = Signal()
        beat = Signal(range(BEATS))
        for b in range(banks):
            here = bank == b
            activates = seen["activate"] & here
            precharges = seen["precharge"] & (every | here)
            writes = ((writing & (beat != 0) & (burst_bank == b))
                      | (seen["write"] & here))
            since_activate = age(f"activate_{b}", max(config.trcd, config.tras, config.trc),
                                 activates)
            since_precharge = age(f"precharge_{b}", config.trp, precharges)
            since_write = age(f"write_{b}", config.twr, writes)
            open_for = age(f"open_{b}", config.cycles(MOST_OPEN_NS), activates, init=0)
            now_open = is_open[b]
            check(SdramRule.TRCD, access & here & (since_activate < config.trcd))
            check(SdramRule.TRP, (activates | seen["refresh"] | seen["mode"])
                  & (since_precharge < config.trp))
            check(SdramRule.TRAS, precharges & now_open & (since_activate < config.tras))
            check(SdramRule.TRAS_MAX, now_open & (open_for == config.cycles(MOST_OPEN_NS)))
            check(SdramRule.TRC, (activates | seen["refresh"]) & (since_activate < config.trc))
            check(SdramRule.TWR, precharges & now_open & (since_write < config.twr))
            check(SdramRule.BANK_STATE, activates & now_open)
            check(SdramRule.BANK_STATE, access & here & ~now_open)
            check(SdramRule.BANK_STATE, (seen["refresh"] | seen["mode"]) & now_open)
            check(SdramRule.CUT_SHORT, precharges & (burst > 1) & (burst_bank == b))
            with m.If(activates):
                m.d.sync += [is_open[b].eq(1), rows[b].eq(pins.address)]
            with m.Elif(precharges):
                m.d.sync += is_open[b].eq(0)
        check(SdramRule.TRRD, seen["activate"]
              & (age("activate", config.trrd, seen["activate"]) < config.trrd))
        check(SdramRule.TRFC, command
              & (age("refresh", config.trfc, seen["refresh"]) < config.trfc))
        check(SdramRule.TMRD, command & (age("mode", config.tmrd, seen["mode"]) < config.tmrd))
        mode = Signal(13)
        with m.If(seen["mode"]):
            m.d.sync += mode.eq(pins.address)
        check(SdramRule.MODE, seen["mode"] & ((pins.address != 2 | config.cas_latency << 4)
                                              | (pins.bank != 0)))

        # Refreshes owed, from the end of the initialisation.
        interval = Signal(range(config.refresh))
        owed = Signal(range(MOST_POSTPONED + 2))
        tick = Signal()
        m.d.comb += tick.eq(done & (interval == config.refresh - 1))
        with m.If(done):
            m.d.sync += interval.eq(Mux(tick, 0, interval + 1))
        with m.If(tick & ~seen["refresh"] & (owed <= MOST_POSTPONED)):
            m.d.sync += owed.eq(owed + 1)
        with m.If(~tick & seen["refresh"] & (owed != 0)):
            m.d.sync += owed.eq(owed - 1)
        check(SdramRule.REFRESH, owed > MOST_POSTPONED)

        # Accesses.
        m.submodules.storage = storage = self._storage
        extra = pins.address[config.column_bits:config.column_bits + config.optional_column]
        place = Cat(pins.address[2:config.column_bits], bank, rows[bank], extra)
        write_place = Signal.like(place)
        written = Signal(MEMORY_BITS - DATA_BITS)
        check(SdramRule.UNALIGNED, access & (pins.address[:2] != 0))
        check(SdramRule.CUT_SHORT, access & (burst > 1))
        m.d.sync += burst.eq(burst - (burst != 0))
        with m.If(access):
            m.d.sync += [
                burst.eq(BEATS), burst_bank.eq(bank), writing.eq(seen["write"]), beat.eq(1),
                write_place.eq(place),
            ]
        with m.Elif(writing & (beat != 0)):
            m.d.sync += beat.eq(beat + 1)
        datum = seen["write"] | (writing & (beat != 0) & ~access)
        m.d.sync += written.eq(Mux(datum, Cat(written[DATA_BITS:], pins.dq_o), written))
        m.d.comb += [
            storage.r_address.eq(place),
            storage.w_address.eq(write_place),
            storage.w_data.eq(Cat(written, pins.dq_o)),
            storage.w_en.eq(writing & (beat == BEATS - 1) & ~access),
        ]
        check(SdramRule.UNDRIVEN, datum & ~pins.dq_oe)
        check(SdramRule.MASKED, datum & pins.dqm.any())

        # The first datum leaves one cycle before the edge that reads it.
        stages = config.cas_latency - 1
        words = [Signal(MEMORY_BITS, name=f"word_{k}") for k in range(stages)]
        valid = Signal(stages)
        m.d.sync += [valid.eq(Cat(seen["read"], valid)), words[0].eq(storage.r_data)]
        for before, after in zip(words, words[1:], strict=False):
            m.d.sync += after.eq(before)
        output = Signal(MEMORY_BITS)
        driving = Signal(BEATS)
        drove = Signal()
        dqm_before = Signal(2)
        m.d.sync += [
            output.eq(Mux(valid[-1], words[-1], output >> DATA_BITS)),
            driving.eq(Mux(valid[-1], (1 << BEATS) - 1, driving >> 1)),
            drove.eq(driving[0]), dqm_before.eq(pins.dqm),
        ]
        m.d.comb += pins.dq_i.eq(Mux(driving[0], output[:DATA_BITS], 0))
        check(SdramRule.CONTENTION, pins.dq_oe & (driving[0] | drove))
        masked = Signal()
        m.d.sync += masked.eq(dqm_before.any())
        check(SdramRule.MASKED, driving[0] & masked)

        m.d.sync += [
            self.reads.eq(self.reads + seen["read"]), self.writes.eq(self.writes + seen["write"]),
            self.refreshes.eq(self.refreshes + seen["refresh"]),
        ]
        return m
