"""SDRAM chip model that checks every command against the data sheet."""

from enum import IntEnum
from typing import NamedTuple

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


class _Rules:
    """The rules in a module, and the times that they look at."""

    def __init__(self, m):
        self._m = m
        self.broken = {rule: Signal(name=f"broken_{rule.name.lower()}") for rule in SdramRule}

    def check(self, rule, condition):
        """``rule`` is broken in each cycle in which ``condition`` holds."""
        with self._m.If(condition):
            self._m.d.comb += self.broken[rule].eq(1)

    def age(self, name, most, event, init=None):
        """Cycles since ``event``, no more than ``most``; that at the start."""
        counter = Signal(range(most + 1), name=f"since_{name}",
                         init=most if init is None else init)
        self._m.d.sync += counter.eq(Mux(event, 1, counter + (counter != most)))
        return counter


class _Command(NamedTuple):
    """What the pins say."""
    seen: dict          # by name
    any: Value
    access: Value       # read or write
    every: Value        # all banks
    bank: Value


class _Burst:
    """Data on their way."""

    def __init__(self, config):
        self.left = Signal(range(BEATS + 1), name="burst")  # beats to come, ours or the chip's
        self.bank = Signal(config.bank_bits, name="burst_bank")
        self.writing = Signal()
        self.beat = Signal(range(BEATS))


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
    stuck : (int, int), optional
        Word and bit of a cell that always reads 1.

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

    def __init__(self, config, *, init_refreshes=INIT_REFRESHES, verilog=False, stuck=None):
        self._config = config
        self._stuck = stuck
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
        rules = _Rules(m)
        m.d.sync += self.violations.eq(
            Mux(self.clear, 0, self.violations) | Cat(rules.broken.values()))

        cke_before = Signal()
        m.d.sync += cke_before.eq(self.pins.cke)
        command = self._decode(m, rules)
        burst = _Burst(self._config)
        done = self._initialisation(m, rules, command, cke_before)
        rows = self._banks(m, rules, command, burst)
        self._times(m, rules, command)
        self._refreshes(m, rules, command.seen["refresh"], done)
        self._accesses(m, rules, command, burst, rows)
        self._output(m, rules, command)

        seen = command.seen
        m.d.sync += [
            self.reads.eq(self.reads + seen["read"]), self.writes.eq(self.writes + seen["write"]),
            self.refreshes.eq(self.refreshes + seen["refresh"]),
        ]
        return m

    def _decode(self, m, rules):
        """The command on the pins."""
        pins = self.pins
        code = Signal(3)
        m.d.comb += code.eq(Cat(pins.we, pins.cas, pins.ras))
        names = {0b001: "stop", 0b010: "read", 0b011: "write", 0b100: "activate",
                 0b101: "precharge", 0b110: "refresh", 0b111: "mode"}
        seen = {name: Signal(name=f"is_{name}") for name in names.values()}
        for value, name in names.items():
            m.d.comb += seen[name].eq(code == value)
        access = seen["read"] | seen["write"]
        rules.check(SdramRule.UNKNOWN, seen["stop"] | (access & pins.address[10]))
        return _Command(seen, code != 0, access, every=pins.address[10],
                        bank=pins.bank[:self._config.bank_bits])

    def _initialisation(self, m, rules, command, cke_before):
        """Power up and initialisation; returns whether that is done.

        CKE must have been high at the edge before a command, too.
        """
        config, pins = self._config, self.pins
        seen, every = command.seen, command.every
        started = Signal(range(config.power_up + 1))
        m.d.sync += started.eq(started + (started != config.power_up))
        precharged, moded = Signal(), Signal()
        refreshed = Signal(range(self._init_refreshes + 1))
        done = Signal()
        m.d.comb += done.eq(precharged & moded & (refreshed == self._init_refreshes))
        rules.check(SdramRule.POWER_UP, command.any & ((started != config.power_up) | ~cke_before))
        rules.check(SdramRule.POWER_UP, ~precharged & ~pins.dqm.all())
        rules.check(SdramRule.POWER_UP, cke_before & ~pins.cke)
        rules.check(SdramRule.INIT_ORDER, command.any & ~precharged & ~(seen["precharge"] & every))
        rules.check(SdramRule.INIT_ORDER, ~done & (seen["activate"] | command.access))
        with m.If(seen["precharge"] & every):
            m.d.sync += precharged.eq(1)
        with m.If(precharged & seen["mode"]):
            m.d.sync += moded.eq(1)
        with m.If(precharged & seen["refresh"] & (refreshed != self._init_refreshes)):
            m.d.sync += refreshed.eq(refreshed + 1)
        return done

    def _banks(self, m, rules, command, burst):
        """State of the banks, and times since the last command to each; returns their rows."""
        config, pins = self._config, self.pins
        seen, access = command.seen, command.access
        banks = 1 << config.bank_bits
        is_open = Signal(banks)
        rows = Array(Signal(config.row_bits, name=f"row_{b}") for b in range(banks))
        for b in range(banks):
            here = command.bank == b
            activates = seen["activate"] & here
            precharges = seen["precharge"] & (command.every | here)
            writes = ((burst.writing & (burst.beat != 0) & (burst.bank == b))
                      | (seen["write"] & here))
            since_activate = rules.age(
                f"activate_{b}", max(config.trcd, config.tras, config.trc), activates)
            since_precharge = rules.age(f"precharge_{b}", config.trp, precharges)
            since_write = rules.age(f"write_{b}", config.twr, writes)
            open_for = rules.age(f"open_{b}", config.cycles(MOST_OPEN_NS), activates, init=0)
            now_open = is_open[b]
            rules.check(SdramRule.TRCD, access & here & (since_activate < config.trcd))
            rules.check(SdramRule.TRP, (activates | seen["refresh"] | seen["mode"])
                        & (since_precharge < config.trp))
            rules.check(SdramRule.TRAS, precharges & now_open & (since_activate < config.tras))
            rules.check(SdramRule.TRAS_MAX, now_open & (open_for == config.cycles(MOST_OPEN_NS)))
            rules.check(SdramRule.TRC, (activates | seen["refresh"])
                        & (since_activate < config.trc))
            rules.check(SdramRule.TWR, precharges & now_open & (since_write < config.twr))
            rules.check(SdramRule.BANK_STATE, activates & now_open)
            rules.check(SdramRule.BANK_STATE, access & here & ~now_open)
            rules.check(SdramRule.BANK_STATE, (seen["refresh"] | seen["mode"]) & now_open)
            rules.check(SdramRule.CUT_SHORT, precharges & (burst.left > 1) & (burst.bank == b))
            with m.If(activates):
                m.d.sync += [is_open[b].eq(1), rows[b].eq(pins.address)]
            with m.Elif(precharges):
                m.d.sync += is_open[b].eq(0)
        return rows

    def _times(self, m, rules, command):
        """Times since the last command of a kind, whatever its bank; the mode."""
        config, pins, seen = self._config, self.pins, command.seen
        since_activate = rules.age("activate", config.trrd, seen["activate"])
        rules.check(SdramRule.TRRD, seen["activate"] & (since_activate < config.trrd))
        since_refresh = rules.age("refresh", config.trfc, seen["refresh"])
        rules.check(SdramRule.TRFC, command.any & (since_refresh < config.trfc))
        since_mode = rules.age("mode", config.tmrd, seen["mode"])
        rules.check(SdramRule.TMRD, command.any & (since_mode < config.tmrd))
        mode = Signal(13)
        with m.If(seen["mode"]):
            m.d.sync += mode.eq(pins.address)
        rules.check(SdramRule.MODE, seen["mode"] & (
            (pins.address != 2 | config.cas_latency << 4) | (pins.bank != 0)))

    def _refreshes(self, m, rules, refresh, done):
        """Refreshes owed, from the end of the initialisation."""
        config = self._config
        interval = Signal(range(config.refresh))
        owed = Signal(range(MOST_POSTPONED + 2))
        tick = Signal()
        m.d.comb += tick.eq(done & (interval == config.refresh - 1))
        with m.If(done):
            m.d.sync += interval.eq(Mux(tick, 0, interval + 1))
        with m.If(tick & ~refresh & (owed <= MOST_POSTPONED)):
            m.d.sync += owed.eq(owed + 1)
        with m.If(~tick & refresh & (owed != 0)):
            m.d.sync += owed.eq(owed - 1)
        rules.check(SdramRule.REFRESH, owed > MOST_POSTPONED)

    def _accesses(self, m, rules, command, burst, rows):
        """Words between the storage and the data pins."""
        config, pins = self._config, self.pins
        access, bank, write = command.access, command.bank, command.seen["write"]
        m.submodules.storage = storage = self._storage
        extra = pins.address[config.column_bits:config.column_bits + config.optional_column]
        place = Cat(pins.address[2:config.column_bits], bank, rows[bank], extra)
        write_place = Signal.like(place)
        written = Signal(MEMORY_BITS - DATA_BITS)
        rules.check(SdramRule.UNALIGNED, access & (pins.address[:2] != 0))
        rules.check(SdramRule.CUT_SHORT, access & (burst.left > 1))
        m.d.sync += burst.left.eq(burst.left - (burst.left != 0))
        with m.If(access):
            m.d.sync += [
                burst.left.eq(BEATS), burst.bank.eq(bank),
                burst.writing.eq(write), burst.beat.eq(1), write_place.eq(place),
            ]
        with m.Elif(burst.writing & (burst.beat != 0)):
            m.d.sync += burst.beat.eq(burst.beat + 1)
        datum = write | (burst.writing & (burst.beat != 0) & ~access)
        m.d.sync += written.eq(Mux(datum, Cat(written[DATA_BITS:], pins.dq_o), written))
        m.d.comb += [
            storage.r_address.eq(place),
            storage.w_address.eq(write_place),
            storage.w_data.eq(Cat(written, pins.dq_o)),
            storage.w_en.eq(burst.writing & (burst.beat == BEATS - 1) & ~access),
        ]
        rules.check(SdramRule.UNDRIVEN, datum & ~pins.dq_oe)
        rules.check(SdramRule.MASKED, datum & pins.dqm.any())

    def _output(self, m, rules, command):
        """Data read: the first datum leaves one cycle before the edge that reads it."""
        config, pins, storage = self._config, self.pins, self._storage
        stages = config.cas_latency - 1
        words = [Signal(MEMORY_BITS, name=f"word_{k}") for k in range(stages)]
        valid = Signal(stages)
        m.d.sync += [valid.eq(Cat(command.seen["read"], valid)), words[0].eq(storage.r_data)]
        if self._stuck is not None:
            word, bit = self._stuck
            with m.If(storage.r_address == word):
                m.d.sync += words[0][bit].eq(1)
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
        rules.check(SdramRule.CONTENTION, pins.dq_oe & (driving[0] | drove))
        masked = Signal()
        m.d.sync += masked.eq(dqm_before.any())
        rules.check(SdramRule.MASKED, driving[0] & masked)
