"""Registers of the shell: control of the core, its counters, identification."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.link.command import RegisterBus
from hw.port import BoardState, MemoryStatus, MemoryTests, MeterBus, Ring
from hw.register import (
    CAPABILITY_BITS,
    CONTROL_BITS,
    Counter,
    COUNTER_BASE,
    MAGIC,
    METER_VALUES,
    Refusal,
    Register,
    REGISTER_BITS,
    Restart,
    RUN_BITS,
    SESSION_BITS,
    VERSION,
    WATCHDOG_BITS,
)


__all__ = ["RegisterFile"]


class RegisterFile(wiring.Component):
    """Registers of :mod:`hw.register`.

    Writes take effect in the next cycle. Reads take 2 cycles, through two registered levels of
    8-to-1 and 16-to-1 multiplexers: these, 0.8 LUT for every counter bit, are most of the cost
    (1,315 COMB and 521 FF).

    START is refused while the core runs (BUSY), and while the memory is not ready or tests itself
    (NOT_READY), unless it repeats the last value; MEMORY_TEST likewise, unless it repeats the one
    that is running. RESTART takes HOST and ABORT; other values do nothing.

    Parameters
    ----------
    config_digest : int
        Value of ``Register.CONFIG``, 32 bits (:func:`hw.register.config_digest`).
    memory_words : int
        Value of ``Register.MEMORY_WORDS``.
    capabilities : iterable of str
        Those fields of ``Register.CAPABILITIES`` are 1.

    Members
    -------
    bus : ``In(RegisterBus())``
        Accesses.
    session : ``Out(24)``, run : ``Out(8)``
        ``Register.SESSION`` and ``Register.START``.
    start : ``Out(1)``
        High for one cycle to start the core.
    restart : ``Out(Restart)``
        For one cycle what the host asks for, else 0.
    watchdog : ``Out(16)``
        ``Register.WATCHDOG``.
    core_busy : ``In(1)``
        The core runs.
    link_error : ``In(1)``
        A frame was dropped; counted.
    link_errors : ``Out(16)``
        Count of dropped frames, modulo 2**16.
    counters : ``In(ArrayLayout(32, len(Counter)))``
        Counters of the core.
    state : ``In(...)``
        Fields of ``Register.STATE`` above ``busy``: :data:`hw.register.STATE_BITS`.
    identity : ``In(32)``
        ``Register.IDENTITY``.
    memory_status : ``In(MemoryStatus)``
        Of the memory backend.
    tests : ``Out(MemoryTests())``
        To the memory backend.
    count, program, log, image, image_stride, result, result_stride : ``Out(...)``
        Control registers, widths in :data:`hw.register.CONTROL_BITS`.
    ring : ``Out(Ring)``
        ``Register.RING``.
    meter : ``Out(MeterBus())``
        Registers ``METER…``, with the capability "meter".
    """

    def __init__(self, *, config_digest, memory_words, capabilities=()):
        for name, value in (("Digest", config_digest), ("Memory words", memory_words)):
            if not 0 <= value < 1 << 32:
                raise ValueError(f"{name} must fit in 32 bits, not {value!r}")
        self._config_digest = config_digest
        self._memory_words = memory_words
        self._meter = "meter" in capabilities
        self._capabilities = sum((name in capabilities) << bit
                                 for bit, name in enumerate(CAPABILITY_BITS))
        super().__init__({
            "bus": In(RegisterBus()),
            "session": Out(SESSION_BITS),
            "run": Out(RUN_BITS),
            "start": Out(1),
            "restart": Out(Restart),
            "watchdog": Out(WATCHDOG_BITS),
            "core_busy": In(1),
            "link_error": In(1),
            "link_errors": Out(16),
            "state": In(BoardState),
            "identity": In(32),
            "memory_status": In(MemoryStatus),
            "tests": Out(MemoryTests()),
            "counters": In(data.ArrayLayout(32, len(Counter))),
            "ring": Out(Ring),
            "meter": Out(MeterBus()),
            **{register.name.lower(): Out(bits) for register, bits in CONTROL_BITS.items()},
        })

    @property
    def config_digest(self):
        return self._config_digest

    @property
    def memory_words(self):
        return self._memory_words

    def elaborate(self, platform):
        m = Module()

        m.d.sync += [self.start.eq(0), self.restart.eq(0), self.tests.start.eq(0),
                     self.bus.refusal.eq(0)]
        dropped = Signal(2)                # the counter lies far from the receiver
        m.d.sync += [dropped.eq(Cat(self.link_error, dropped)),
                     self.link_errors.eq(self.link_errors + dropped[1])]
        testing = self.tests.status.running
        refusal = Signal(Refusal)
        m.d.comb += refusal.eq(Mux(self.core_busy, Refusal.BUSY, Mux(
            ~self.memory_status.ready | testing, Refusal.NOT_READY, 0)))
        written = self.bus.write_data
        simple = {Register.SESSION: self.session, Register.WATCHDOG: self.watchdog,
                  Register.MEMORY_MAP: self.tests.phase, Register.RING: self.ring.as_value(),
                  **{register: getattr(self, register.name.lower()) for register in CONTROL_BITS}}
        if self._meter:
            simple[Register.METER_CONTROL] = self.meter.control.as_value()
            m.d.comb += [self.meter.command.eq(written), self.meter.place.eq(self.bus.address)]
        with m.If(self.bus.write):
            with m.Switch(self.bus.address):
                for register, value in simple.items():
                    with m.Case(register):
                        m.d.sync += value.eq(written)
                with m.Case(Register.START):
                    with m.If(written[:RUN_BITS] != self.run):
                        m.d.sync += self.bus.refusal.eq(refusal)
                        with m.If(refusal == 0):
                            m.d.sync += [self.run.eq(written), self.start.eq(1)]
                with m.Case(Register.RESTART):
                    for cause in (Restart.HOST, Restart.ABORT):
                        with m.If(written == cause):
                            m.d.sync += self.restart.eq(cause)
                if self._meter:
                    with m.Case(Register.METER_COMMAND):
                        m.d.comb += self.meter.write.eq(1)
                with m.Case(Register.MEMORY_TEST):
                    with m.If(~testing | (written[:3] != self.tests.test)):
                        m.d.sync += self.bus.refusal.eq(refusal)
                        with m.If(refusal == 0):
                            m.d.sync += [self.tests.test.eq(written), self.tests.start.eq(1)]

        values = [C(0, 32)] * (1 << REGISTER_BITS)
        values[Register.MAGIC] = C(MAGIC, 32)
        values[Register.VERSION] = C(VERSION, 32)
        values[Register.CONFIG] = C(self._config_digest, 32)
        values[Register.MEMORY_WORDS] = C(self._memory_words, 32)
        values[Register.STATE] = Cat(self.core_busy, self.state)
        values[Register.LINK_ERRORS] = self.link_errors
        values[Register.MEMORY_STATUS] = self.memory_status.as_value()
        values[Register.START] = self.run
        values[Register.MEMORY_TEST] = self.tests.status.as_value()
        values[Register.MEMORY_TEST_ERRORS] = self.tests.errors
        values[Register.MEMORY_TEST_ADDRESS] = self.tests.address
        values[Register.MEMORY_TEST_PINS] = self.tests.pins
        values[Register.IDENTITY] = self.identity
        values[Register.CAPABILITIES] = C(self._capabilities, 32)
        for register, value in simple.items():
            values[register] = value
        values[Register.MEMORY_MAP] = self.tests.map
        values[Register.RING] = C(0, 32)
        if self._meter:
            values[Register.METER_COMMAND] = self.meter.data
            values[Register.METER_CONTROL] = self.meter.status.as_value()
            for place in range(len(METER_VALUES)):
                values[Register.METER_SAMPLES + place] = self.meter.value
        for counter in Counter:
            values[COUNTER_BASE + counter] = self.counters[counter]

        groups = Array(Signal(32, name=f"group_{index}") for index in range(len(values) // 8))
        for index, group in enumerate(groups):
            m.d.sync += group.eq(Array(values[8 * index:8 * index + 8])[self.bus.address[:3]])
        m.d.sync += self.bus.read_data.eq(groups[self.bus.address[3:]])

        return m
