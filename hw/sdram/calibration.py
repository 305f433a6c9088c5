"""Calibration of an SDRAM: read delay and clock phase by patterns, then its size."""

from typing import NamedTuple

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from hw.port import Memory, MemoryCommand, MemoryStatus
from hw.register import MemoryFault
from hw.sdram.scheduler import DELAYS


__all__ = ["SdramCalibration", "STEP_CYCLES"]


TEST_WORDS = 16
"""Words written and read back at each setting."""

FINAL_TESTS = 16
"""Tests in a row that the chosen setting must pass."""

STEP_CYCLES = 16
"""Cycles of each half of a pulse on ``phase_step``."""


class _Port(NamedTuple):
    """Commands and data of the tests."""
    command: Signal
    command_valid: Signal
    writing: Signal
    reading: Signal
    pattern: Signal     # register: what is written, and expected
    differs: Signal     # a word read a cycle ago does


class _Now(NamedTuple):
    """What is tried now, and how that goes: registers, but for ``last_phase``."""
    phase: Signal
    wanted_phase: Signal
    last_phase: Value
    failed: Signal
    scanning: Signal    # all settings are tried
    sizing: Signal      # the size is; else the chosen setting, several times
    tests: Signal       # that are left of those
    run: Signal         # phases that passed, up to this one
    bit: Signal         # number of the address bit that is tried, plus 1; 0: address 0
    one_hot: Signal     # 1 << bit, thus twice the address


class SdramCalibration(wiring.Component):
    """Find settings at which the memory works, and its size; then connect the engine to it.

    For each read delay the phase of the chip's clock goes round twice, because a window of good
    phases may lie across its zero. Each setting is tried with ``TEST_WORDS`` words of which
    neighbouring transfers are complements of each other, on a chip that was initialised anew,
    because a wrong phase garbles commands too. The middle of the longest window is chosen, and
    tested ``FINAL_TESTS`` times.

    Then distinct words are written to addresses 2**k, the highest k first, and to 0, and read
    back. If the optional column bit is missing, the first comes back as another; any other
    difference is a fault.

    Until ``status.ready`` the engine's port takes and gives nothing. A fault stays until reset.

    Parameters
    ----------
    config : :class:`hw.sdram_config.SdramConfig`
    phases : int
        Steps of the clock phase in a period; 1 where it cannot be moved; at most 128.

    Members
    -------
    engine : ``In(Memory())``
    memory : ``Out(Memory())``
        Towards the scheduler.
    status : ``Out(MemoryStatus)``
    delay : ``Out(range(DELAYS))``
    restart : ``Out(1)``
    initialised : ``In(1)``
        Of the scheduler; may change at any time.
    phase_step : ``Out(1)``
        See :class:`hw.port.SdramPins`.
    """

    def __init__(self, config, *, phases):
        if not isinstance(phases, int) or not 1 <= phases <= 128:
            raise ValueError(f"Phases must be an integer in 1..128, not {phases!r}")
        self._config = config
        self._phases = phases
        super().__init__({
            "engine": In(Memory()),
            "memory": Out(Memory()),
            "status": Out(MemoryStatus),
            "delay": Out(range(DELAYS), init=DELAYS - 1),
            "restart": Out(1),
            "initialised": In(1),
            "phase_step": Out(1),
        })

    @property
    def phases(self):
        return self._phases

    @property
    def least_window(self):
        """Phases in a row that must pass: an eighth of a period."""
        return max(1, self._phases // 8)

    @property
    def _address_bits(self):
        """Of the largest part."""
        return self._config.words_bits + self._config.optional_column

    def elaborate(self, platform):
        m = Module()
        status = self.status
        port = self._engine_or_tests(m)

        initialised = Signal()
        m.submodules.initialised = FFSynchronizer(self.initialised, initialised)
        phase = Signal(range(max(2, self._phases)))
        wanted_phase = Signal.like(phase)
        failed = Signal()
        scanning, sizing = Signal(init=1), Signal()
        tests = Signal(range(FINAL_TESTS + 1))
        run = Signal(8)
        bit = Signal(range(self._address_bits + 1))
        one_hot = Signal(self._address_bits + 1)
        m.d.comb += [
            port.command.address.eq(one_hot[1:]),
            port.command.length.eq(Mux(sizing, 1, TEST_WORDS)),
            status.delay.eq(self.delay), status.phase.eq(phase),
        ]
        now = _Now(phase, wanted_phase, phase == self._phases - 1, failed, scanning, sizing,
                   tests, run, bit, one_hot)

        with m.If(port.differs):
            m.d.sync += failed.eq(1)

        with m.FSM():
            self._restart(m, now, initialised)
            self._test(m, now, port)
            self._judge(m, now)
            self._scan(m, now)
            self._size(m, now)
            with m.State("READY"):
                with m.If(status.fault != MemoryFault.NONE):
                    m.next = "FAULT"
                with m.Else():
                    m.d.sync += status.ready.eq(1)
            with m.State("FAULT"):
                pass

        return m

    def _engine_or_tests(self, m):
        """The engine's port, and beside it ours, with its pattern."""
        engine, memory, status = self.engine, self.memory, self.status
        command = Signal(MemoryCommand)
        command_valid = Signal()
        writing, reading = Signal(), Signal()
        pattern = Signal(32, init=1)
        word = Cat(pattern[:16], ~pattern[:16], pattern[16:], ~pattern[16:])
        with m.If(status.ready):
            m.d.comb += [
                memory.commands.valid.eq(engine.commands.valid),
                engine.commands.ready.eq(memory.commands.ready),
                memory.w_data.valid.eq(engine.w_data.valid),
                engine.w_data.ready.eq(memory.w_data.ready),
                engine.r_data.valid.eq(memory.r_data.valid),
                memory.r_data.ready.eq(engine.r_data.ready),
            ]
        with m.Else():
            m.d.comb += [
                memory.commands.valid.eq(command_valid), memory.w_data.valid.eq(writing),
                memory.r_data.ready.eq(reading),
            ]
        m.d.comb += [
            memory.commands.payload.eq(Mux(status.ready, engine.commands.payload, command)),
            memory.w_data.payload.eq(Mux(status.ready, engine.w_data.payload, word)),
            engine.r_data.payload.eq(memory.r_data.payload),
        ]

        # Pattern generator (x^32 + x^22 + x^2 + x + 1), and the comparison one cycle later.
        step, compare, differs = Signal(), Signal(), Signal()
        half_differs = Signal(4)
        m.d.comb += step.eq((memory.w_data.ready & writing)
                            | (memory.r_data.valid & reading))
        with m.If(step):
            m.d.sync += pattern.eq(Cat(pattern[31], pattern[:31])
                                   ^ (pattern[31].replicate(32) & 0x00400006))
        m.d.sync += compare.eq(step & reading)
        for part in range(4):
            m.d.sync += half_differs[part].eq(
                memory.r_data.payload[16 * part:16 * part + 16] != word[16 * part:16 * part + 16])
        m.d.comb += differs.eq(compare & half_differs.any())
        return _Port(command, command_valid, writing, reading, pattern, differs)

    def _restart(self, m, now, initialised):
        """The clock moves while the chip rests; then the chip is initialised."""
        timer = Signal(range(max(2 * STEP_CYCLES, 32)))
        with m.State("RESTART"):
            m.d.sync += [self.restart.eq(1), timer.eq(0), now.failed.eq(0)]
            with m.If(self.restart & ~initialised):
                m.next = "MOVE"
        with m.State("MOVE"):
            with m.If(now.phase == now.wanted_phase):
                m.d.sync += self.restart.eq(0)
                m.next = "INITIALISE"
            with m.Else():
                m.d.sync += [timer.eq(timer + 1), self.phase_step.eq(timer < STEP_CYCLES)]
                with m.If(timer == 2 * STEP_CYCLES - 1):
                    m.d.sync += [timer.eq(0), now.phase.eq(Mux(now.last_phase, 0, now.phase + 1))]
        with m.State("INITIALISE"):
            m.d.sync += now.one_hot.eq(1)
            with m.If(initialised):
                m.next = "BEGIN_WRITE"

    def _test(self, m, now, port):
        """A test: TEST_WORDS words at address 0, or one word at each of the addresses."""
        bits = self._address_bits
        seed = Signal(32)
        left = Signal(range(TEST_WORDS + 1))
        with m.State("BEGIN_WRITE"):
            m.d.sync += [seed.eq(port.pattern), port.command.write.eq(1)]
            with m.If(now.sizing):
                m.d.sync += [now.one_hot.eq(1 << bits), now.bit.eq(bits)]
            m.next = "COMMAND"
        with m.State("COMMAND"):
            m.d.comb += port.command_valid.eq(1)
            m.d.sync += left.eq(port.command.length)
            with m.If(self.memory.commands.ready):
                m.next = "READ"
                with m.If(port.command.write):
                    m.next = "WRITE"
        with m.State("WRITE"):
            m.d.comb += port.writing.eq(1)
            with m.If(self.memory.w_data.ready):
                m.d.sync += left.eq(left - 1)
                with m.If(left == 1):
                    m.next = "BEGIN_READ"
                    with m.If(now.sizing & ~now.one_hot[0]):
                        m.d.sync += [now.one_hot.eq(now.one_hot >> 1), now.bit.eq(now.bit - 1)]
                        m.next = "COMMAND"
        with m.State("BEGIN_READ"):
            m.d.sync += [port.pattern.eq(seed), port.command.write.eq(0)]
            with m.If(now.sizing):
                m.d.sync += [now.one_hot.eq(1 << bits), now.bit.eq(bits)]
            m.next = "COMMAND"
        with m.State("READ"):
            m.d.comb += port.reading.eq(1)
            with m.If(self.memory.r_data.valid):
                m.d.sync += left.eq(left - 1)
                with m.If(left == 1):
                    m.next = "COMPARE"

    def _judge(self, m, now):
        """What comes after a test."""
        status, phases = self.status, self._phases
        with m.State("COMPARE"):
            m.next = "JUDGE"
        with m.State("JUDGE"):
            with m.If(now.scanning):
                m.d.sync += now.run.eq(Mux(now.failed, 0, now.run + (now.run != phases)))
                m.next = "NOTE"
            with m.Elif(~now.sizing):
                m.d.sync += now.tests.eq(now.tests - 1)
                m.next = "BEGIN_WRITE"
                with m.If(now.failed):
                    m.d.sync += status.fault.eq(MemoryFault.CALIBRATION)
                    m.next = "FAULT"
                with m.Elif(now.tests == 1):
                    m.d.sync += now.sizing.eq(1)
            with m.Else():
                m.next = "SIZE"

    def _scan(self, m, now):
        """Note the longest window; after the last setting, go to the middle of that."""
        status, phases = self.status, self._phases
        best = Signal(8)
        best_delay, best_phase = Signal.like(self.delay), Signal.like(now.phase)
        back = Signal(8)
        second_round = Signal()
        with m.State("NOTE"):
            with m.If(now.run > best):
                m.d.sync += [best.eq(now.run), best_delay.eq(self.delay), best_phase.eq(now.phase)]
            m.d.sync += now.wanted_phase.eq(Mux(now.last_phase, 0, now.phase + 1))
            m.next = "RESTART"
            with m.If(now.last_phase):
                m.d.sync += second_round.eq(~second_round)
                with m.If(second_round):
                    m.d.sync += [now.run.eq(0), self.delay.eq(self.delay - 1)]
                    with m.If(self.delay == 0):
                        m.d.sync += now.scanning.eq(0)
                        m.next = "CHOOSE"
        with m.State("CHOOSE"):
            m.d.sync += [
                status.window.eq(best), back.eq((best - 1) >> 1), now.tests.eq(FINAL_TESTS),
                self.delay.eq(best_delay), now.wanted_phase.eq(best_phase),
            ]
            m.next = "GO_BACK"
            with m.If(best < self.least_window):
                m.d.sync += status.fault.eq(MemoryFault.CALIBRATION)
                m.next = "FAULT"
        with m.State("GO_BACK"):
            m.d.sync += back.eq(back - 1)
            with m.If(back == 0):
                m.next = "RESTART"
            with m.Else():
                m.d.sync += now.wanted_phase.eq(
                    Mux(now.wanted_phase == 0, phases - 1, now.wanted_phase - 1))

    def _size(self, m, now):
        """The highest address bit may be missing where it is optional."""
        config, status, bits = self._config, self.status, self._address_bits
        with m.State("SIZE"):
            m.d.sync += [
                now.failed.eq(0), now.one_hot.eq(now.one_hot >> 1), now.bit.eq(now.bit - 1),
            ]
            m.next = "COMMAND"
            if config.optional_column:
                with m.If(now.one_hot[bits]):
                    m.d.sync += status.size_bits.eq(Mux(now.failed, bits - 1, bits))
            else:
                m.d.sync += status.size_bits.eq(bits)
            optional = now.one_hot[bits] if config.optional_column else C(0)
            with m.If(now.failed & ~optional):
                # Downwards: the last one noted is the lowest. One more below bit 0 is the
                # word at address 0.
                m.d.sync += [
                    status.fault.eq(MemoryFault.GEOMETRY),
                    status.address_bit.eq(Mux(now.bit == 0, 0, now.bit - 1)),
                ]
            with m.If(now.one_hot[0]):
                m.next = "READY"
