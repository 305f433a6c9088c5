"""Calibration of an SDRAM: read delay and clock phase by patterns, then its size."""

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

    def elaborate(self, platform):
        m = Module()
        config, phases = self._config, self._phases
        engine, memory, status = self.engine, self.memory, self.status

        # The engine's port, and beside it ours.
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
        seed = Signal(32)
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

        initialised = Signal()
        m.submodules.initialised = FFSynchronizer(self.initialised, initialised)
        phase = Signal(range(max(2, phases)))
        wanted_phase = Signal.like(phase)
        timer = Signal(range(max(2 * STEP_CYCLES, 32)))
        left = Signal(range(TEST_WORDS + 1))
        failed = Signal()
        scanning, sizing = Signal(init=1), Signal()
        tests = Signal(range(FINAL_TESTS + 1))
        run = Signal(8)
        best = Signal(8)
        best_delay, best_phase = Signal.like(self.delay), Signal.like(phase)
        back = Signal(8)
        second_round = Signal()
        bits = config.words_bits + config.optional_column
        bit = Signal(range(bits + 1))
        one_hot = Signal(bits + 1)
        m.d.comb += [
            command.address.eq(one_hot[1:]), command.length.eq(Mux(sizing, 1, TEST_WORDS)),
            status.delay.eq(self.delay), status.phase.eq(phase),
        ]
        last_phase = phase == phases - 1

        with m.If(differs):
            m.d.sync += failed.eq(1)

        with m.FSM():
            # The clock moves while the chip rests; then the chip is initialised.
            with m.State("RESTART"):
                m.d.sync += [self.restart.eq(1), timer.eq(0), failed.eq(0)]
                with m.If(self.restart & ~initialised):
                    m.next = "MOVE"
            with m.State("MOVE"):
                with m.If(phase == wanted_phase):
                    m.d.sync += self.restart.eq(0)
                    m.next = "INITIALISE"
                with m.Else():
                    m.d.sync += [timer.eq(timer + 1), self.phase_step.eq(timer < STEP_CYCLES)]
                    with m.If(timer == 2 * STEP_CYCLES - 1):
                        m.d.sync += [timer.eq(0), phase.eq(Mux(last_phase, 0, phase + 1))]
            with m.State("INITIALISE"):
                m.d.sync += one_hot.eq(1)
                with m.If(initialised):
                    m.next = "BEGIN_WRITE"

            # A test: TEST_WORDS words at address 0, or one word at each of the addresses.
            with m.State("BEGIN_WRITE"):
                m.d.sync += [seed.eq(pattern), command.write.eq(1)]
                with m.If(sizing):
                    m.d.sync += [one_hot.eq(1 << bits), bit.eq(bits)]
                m.next = "COMMAND"
            with m.State("COMMAND"):
                m.d.comb += command_valid.eq(1)
                m.d.sync += left.eq(command.length)
                with m.If(memory.commands.ready):
                    m.next = "READ"
                    with m.If(command.write):
                        m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += writing.eq(1)
                with m.If(memory.w_data.ready):
                    m.d.sync += left.eq(left - 1)
                    with m.If(left == 1):
                        m.next = "BEGIN_READ"
                        with m.If(sizing & ~one_hot[0]):
                            m.d.sync += [one_hot.eq(one_hot >> 1), bit.eq(bit - 1)]
                            m.next = "COMMAND"
            with m.State("BEGIN_READ"):
                m.d.sync += [pattern.eq(seed), command.write.eq(0)]
                with m.If(sizing):
                    m.d.sync += [one_hot.eq(1 << bits), bit.eq(bits)]
                m.next = "COMMAND"
            with m.State("READ"):
                m.d.comb += reading.eq(1)
                with m.If(memory.r_data.valid):
                    m.d.sync += left.eq(left - 1)
                    with m.If(left == 1):
                        m.next = "COMPARE"
            with m.State("COMPARE"):
                m.next = "JUDGE"
            with m.State("JUDGE"):
                with m.If(scanning):
                    m.d.sync += run.eq(Mux(failed, 0, run + (run != phases)))
                    m.next = "NOTE"
                with m.Elif(~sizing):
                    m.d.sync += tests.eq(tests - 1)
                    m.next = "BEGIN_WRITE"
                    with m.If(failed):
                        m.d.sync += status.fault.eq(MemoryFault.CALIBRATION)
                        m.next = "FAULT"
                    with m.Elif(tests == 1):
                        m.d.sync += sizing.eq(1)
                with m.Else():
                    m.next = "SIZE"

            with m.State("NOTE"):
                with m.If(run > best):
                    m.d.sync += [best.eq(run), best_delay.eq(self.delay), best_phase.eq(phase)]
                m.d.sync += wanted_phase.eq(Mux(last_phase, 0, phase + 1))
                m.next = "RESTART"
                with m.If(last_phase):
                    m.d.sync += second_round.eq(~second_round)
                    with m.If(second_round):
                        m.d.sync += [run.eq(0), self.delay.eq(self.delay - 1)]
                        with m.If(self.delay == 0):
                            m.d.sync += scanning.eq(0)
                            m.next = "CHOOSE"
            with m.State("CHOOSE"):
                m.d.sync += [
                    status.window.eq(best), back.eq((best - 1) >> 1), tests.eq(FINAL_TESTS),
                    self.delay.eq(best_delay), wanted_phase.eq(best_phase),
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
                    m.d.sync += wanted_phase.eq(
                        Mux(wanted_phase == 0, phases - 1, wanted_phase - 1))

            # The highest address bit may be missing where it is optional.
            with m.State("SIZE"):
                m.d.sync += [failed.eq(0), one_hot.eq(one_hot >> 1), bit.eq(bit - 1)]
                m.next = "COMMAND"
                if config.optional_column:
                    with m.If(one_hot[bits]):
                        m.d.sync += status.size_bits.eq(Mux(failed, bits - 1, bits))
                else:
                    m.d.sync += status.size_bits.eq(bits)
                optional = one_hot[bits] if config.optional_column else C(0)
                with m.If(failed & ~optional):
                    # Downwards: the last one noted is the lowest. One more below bit 0 is the
                    # word at address 0.
                    m.d.sync += [
                        status.fault.eq(MemoryFault.GEOMETRY),
                        status.address_bit.eq(Mux(bit == 0, 0, bit - 1)),
                    ]
                with m.If(one_hot[0]):
                    m.next = "READY"
            with m.State("READY"):
                with m.If(status.fault != MemoryFault.NONE):
                    m.next = "FAULT"
                with m.Else():
                    m.d.sync += status.ready.eq(1)
            with m.State("FAULT"):
                pass

        return m
