"""Registers of the shell: control of the core, its counters, identification."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.link.command import RegisterBus
from hw.port import MemoryStatus
from hw.register import (
    CONTROL_BITS,
    Counter,
    COUNTER_BASE,
    MAGIC,
    Register,
    REGISTER_BITS,
    VERSION,
)


__all__ = ["RegisterFile"]


class RegisterFile(wiring.Component):
    """Registers of :mod:`hw.register`.

    Writes take effect in the next cycle. Reads take 2 cycles, through two registered levels of
    8-to-1 and 16-to-1 multiplexers: these, 0.8 LUT for every counter bit, are most of the cost
    (1,067 COMB and 420 FF).

    Parameters
    ----------
    config_digest : int
        Value of ``Register.CONFIG``, 32 bits (:func:`hw.register.config_digest`).
    memory_words : int
        Value of ``Register.MEMORY_WORDS``.

    Members
    -------
    bus : ``In(RegisterBus())``
        Accesses.
    start : ``Out(1)``
        High for one cycle to start the core.
    core_busy : ``In(1)``
        The core runs.
    link_error : ``In(1)``
        A frame was dropped; counted.
    link_errors : ``Out(16)``
        Count of dropped frames, modulo 2**16.
    counters : ``In(ArrayLayout(32, len(Counter)))``
        Counters of the core.
    memory_status : ``In(MemoryStatus)``
        Of the memory backend.
    count, program, log, image, image_stride, result, result_stride : ``Out(...)``
        Control registers, widths in :data:`hw.register.CONTROL_BITS`.
    """

    def __init__(self, *, config_digest, memory_words):
        for name, value in (("Digest", config_digest), ("Memory words", memory_words)):
            if not 0 <= value < 1 << 32:
                raise ValueError(f"{name} must fit in 32 bits, not {value!r}")
        self._config_digest = config_digest
        self._memory_words = memory_words
        super().__init__({
            "bus": In(RegisterBus()),
            "start": Out(1),
            "core_busy": In(1),
            "link_error": In(1),
            "link_errors": Out(16),
            "memory_status": In(MemoryStatus),
            "counters": In(data.ArrayLayout(32, len(Counter))),
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

        run = Signal(8)
        m.d.sync += self.start.eq(0)
        dropped = Signal(2)                # the counter lies far from the receiver
        m.d.sync += [dropped.eq(Cat(self.link_error, dropped)),
                     self.link_errors.eq(self.link_errors + dropped[1])]
        with m.If(self.bus.write):
            with m.Switch(self.bus.address):
                for register in CONTROL_BITS:
                    with m.Case(register):
                        m.d.sync += getattr(self, register.name.lower()).eq(self.bus.write_data)
                with m.Case(Register.START):
                    with m.If(~self.core_busy & (self.bus.write_data[:8] != run)):
                        m.d.sync += run.eq(self.bus.write_data)
                        m.d.sync += self.start.eq(1)

        values = [C(0, 32)] * (1 << REGISTER_BITS)
        values[Register.MAGIC] = C(MAGIC, 32)
        values[Register.VERSION] = C(VERSION, 32)
        values[Register.CONFIG] = C(self._config_digest, 32)
        values[Register.MEMORY_WORDS] = C(self._memory_words, 32)
        values[Register.STATE] = self.core_busy
        values[Register.LINK_ERRORS] = self.link_errors
        values[Register.MEMORY_STATUS] = self.memory_status.as_value()
        values[Register.START] = run
        for register in CONTROL_BITS:
            values[register] = getattr(self, register.name.lower())
        for counter in Counter:
            values[COUNTER_BASE + counter] = self.counters[counter]

        groups = Array(Signal(32, name=f"group_{index}") for index in range(len(values) // 8))
        for index, group in enumerate(groups):
            m.d.sync += group.eq(Array(values[8 * index:8 * index + 8])[self.bus.address[:3]])
        m.d.sync += self.bus.read_data.eq(groups[self.bus.address[3:]])

        return m
