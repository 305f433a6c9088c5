"""Calibration of an SDRAM: read delay and clock phase by patterns, then its size."""

from typing import NamedTuple

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.memory import Memory as Table
from amaranth.lib.wiring import In, Out

from hw.port import Memory, MemoryStatus, MemoryTests, RETAINED
from hw.register import MAP_ROW_BIT, MemoryFault
from hw.sdram.pattern import connect_ports
from hw.sdram.scheduler import DELAYS


__all__ = ["SdramCalibration", "STEP_CYCLES"]


TEST_WORDS = 4
"""Words written at each of the places of a test, and read back."""

PLACES = 4
"""Bursts of a test, far from each other."""

FINAL_TESTS = 16
"""Tests in a row that the chosen setting must pass, half of them of each kind."""

STEP_CYCLES = 16
"""Cycles of each half of a pulse on ``phase_step``."""


class _Result(NamedTuple):
    """Registers that a restart of the board leaves as they are."""
    delay: Signal       # what is tried, in the end what was chosen
    phase: Signal
    window: Signal
    size_bits: Signal
    valid: Signal       # this is the outcome of a calibration


class _Now(NamedTuple):
    """What is tried now, and how that goes: registers, but for ``last_phase``."""
    wanted_phase: Signal
    last_phase: Value
    failed: Signal
    scanning: Signal    # all settings are tried
    sizing: Signal      # the size is; else the chosen setting, several times
    tests: Signal       # that are left of those
    switching: Signal   # the test is the second of two
    place: Signal       # number of the burst
    bit: Signal         # the address bit that is tried; 0 for address 0, too
    row: Signal         # of the map: the settings of this phase that passed
    store: Signal       # it goes into the map
    looking: Signal     # the map is read at the wanted phase
    passed: Value       # a row that is read


class SdramCalibration(wiring.Component):
    """Find settings at which the memory works, and its size; then connect the engine to it.

    Every setting of phase and read delay is tried, on a chip that was initialised anew, because a
    wrong phase garbles commands too, with ``PLACES`` bursts of ``TEST_WORDS`` words that lie in
    rows and banks far apart: once with pseudo-random transfers of which each second is the
    complement of the one before, once with all bits switching between 0 and 1 at each transfer.
    What passed is kept in a table in LUTs, a row for each phase, a bit for each read delay:
    ``tests.map``. In it, the phases of each delay are looked at round twice, because a window of
    good ones may lie across zero. The middle of the longest window is chosen, and tested
    ``FINAL_TESTS`` times. It must be :attr:`least_window` wide.

    Then distinct words are written to addresses 2**k, the highest k first, and to 0, and read
    back. If the optional column bit is missing, the first comes back as another; any other
    difference is a fault.

    The outcome is retained. After a restart of the board with ``warm`` the chip is initialised,
    which leaves its content as it is, and used as before; without, it is calibrated again.

    Until ``status.ready``, and during a test of the memory
    (:class:`hw.sdram.memory_test.SdramMemoryTest`), the engine's port takes and gives nothing. A
    fault stays until reset; the map can be read then, too.

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
    tests : ``In(MemoryTests())``
    warm : ``In(1)``
        The board was restarted and the memory keeps its content.
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
            "tests": In(MemoryTests()),
            "warm": In(1),
            "delay": Out(range(DELAYS)),
            "restart": Out(1),
            "initialised": In(1),
            "phase_step": Out(1),
        })

    @property
    def phases(self):
        return self._phases

    @property
    def least_window(self):
        """Phases in a row that must pass: a quarter of a period, rounded up."""
        return -(-self._phases // 4)

    @property
    def _address_bits(self):
        """Of the largest part."""
        return self._config.words_bits + self._config.optional_column

    def elaborate(self, platform):
        m = Module()
        status = self.status
        initialised = Signal()
        m.submodules.initialised = FFSynchronizer(self.initialised, initialised)
        result = _Result(
            Signal(range(DELAYS), name="delay", reset_less=True, attrs=RETAINED),
            Signal(range(max(2, self._phases)), name="phase", reset_less=True, attrs=RETAINED),
            Signal(8, name="window", reset_less=True, attrs=RETAINED),
            Signal(5, name="size_bits", reset_less=True, attrs=RETAINED),
            Signal(name="valid", reset_less=True, attrs=RETAINED))
        phase = result.phase
        wanted_phase = Signal(range(max(2, self._phases)))
        failed = Signal()
        scanning, sizing, switching = Signal(init=1), Signal(), Signal()
        tests = Signal(range(FINAL_TESTS + 1))
        bit = Signal(range(self._address_bits))
        m.submodules.map = table = Table(shape=DELAYS, depth=max(2, self._phases), init=[])
        write, read = table.write_port(), table.read_port(domain="comb")
        row, store, looking = Signal(DELAYS), Signal(), Signal()
        place = Signal(range(PLACES))
        # Words of two tests in a row are never the same: those of the first could still be there.
        port = connect_ports(m, self, self._config, Cat(result.delay, phase, tests),
                             test_words=TEST_WORDS)
        m.d.comb += [port.single.eq(sizing), port.switching.eq(switching),
                     self.delay.eq(result.delay), status.delay.eq(result.delay),
                     status.phase.eq(phase), status.window.eq(result.window),
                     status.size_bits.eq(result.size_bits)]
        now = _Now(wanted_phase, phase == self._phases - 1, failed, scanning, sizing,
                   tests, switching, place, bit, row, store, looking, read.data)

        # Once the map is complete, it is the host's to read.
        with m.If(looking):
            m.d.comb += read.addr.eq(wanted_phase)
        with m.Else():
            m.d.comb += read.addr.eq(self.tests.phase)
        m.d.comb += [write.addr.eq(phase), write.data.eq(row), write.en.eq(store)]
        m.d.sync += self.tests.map.eq(Cat(read.data, C(0, MAP_ROW_BIT - DELAYS),
                                          self.tests.phase < self._phases))

        with m.If(port.differs):
            m.d.sync += failed.eq(1)

        with m.FSM():
            with m.State("BEGIN"):
                with m.If(~(self.warm & result.valid)):
                    m.d.sync += [result.valid.eq(0), result.delay.eq(DELAYS - 1)]
                    m.next = "RESTART"
                with m.Elif(initialised):
                    m.next = "READY"
            self._restart(m, now, result, initialised)
            self._test(m, now, port)
            self._judge(m, now)
            self._scan(m, now, result)
            self._choose(m, now, result)
            self._size(m, now, port, result)
            with m.State("READY"):
                with m.If(status.fault != MemoryFault.NONE):
                    m.next = "FAULT"
                with m.Else():
                    m.d.sync += [status.ready.eq(1), result.valid.eq(1)]
            with m.State("FAULT"):
                pass

        return m

    def _restart(self, m, now, result, initialised):
        """The clock moves while the chip rests; then the chip is initialised."""
        timer = Signal(range(max(2 * STEP_CYCLES, 32)))
        with m.State("RESTART"):
            m.d.sync += [self.restart.eq(1), timer.eq(0), now.failed.eq(0)]
            with m.If(self.restart & ~initialised):
                m.next = "MOVE"
        with m.State("MOVE"):
            with m.If(result.phase == now.wanted_phase):
                m.d.sync += self.restart.eq(0)
                m.next = "INITIALISE"
            with m.Else():
                m.d.sync += [timer.eq(timer + 1), self.phase_step.eq(timer < STEP_CYCLES)]
                with m.If(timer == 2 * STEP_CYCLES - 1):
                    m.d.sync += [timer.eq(0),
                                 result.phase.eq(Mux(now.last_phase, 0, result.phase + 1))]
        with m.State("INITIALISE"):
            with m.If(initialised):
                m.next = "BEGIN_WRITE"

    def _test(self, m, now, port):
        """A test: TEST_WORDS words at each of the places, or one at each of the addresses."""
        left = Signal(range(TEST_WORDS + 1))
        place, one_hot = now.place, port.one_hot
        last = Mux(now.sizing, one_hot[0], place.all())

        def begin(*, write):
            m.d.comb += [port.first.eq(1), port.load.eq(1)]
            m.d.sync += [port.write.eq(write), place.eq(0)]
            with m.If(now.sizing):
                m.d.sync += [one_hot[-1].eq(1), now.bit.eq(self._address_bits - 1)]
            m.next = "COMMAND"

        with m.State("BEGIN_WRITE"):
            begin(write=1)
        with m.State("COMMAND"):
            m.d.comb += port.command_valid.eq(1)
            m.d.sync += left.eq(Mux(now.sizing, 1, TEST_WORDS))
            with m.If(self.memory.commands.ready):
                m.next = "READ"
                with m.If(port.write):
                    m.next = "WRITE"
        with m.State("WRITE"):
            m.d.comb += port.writing.eq(1)
            with m.If(self.memory.w_data.ready):
                m.d.sync += left.eq(left - 1)
                with m.If(left == 1):
                    self._next_address(m, now, port)
                    m.next = "COMMAND"
                    with m.If(last):
                        m.next = "BEGIN_READ"
        with m.State("BEGIN_READ"):
            begin(write=0)
        with m.State("READ"):
            m.d.comb += port.reading.eq(1)
            with m.If(self.memory.r_data.valid):
                m.d.sync += left.eq(left - 1)
                with m.If(left == 1):
                    m.next = "COMMAND"
                    with m.If(now.sizing):
                        m.next = "COMPARE"
                    with m.Else():
                        self._next_address(m, now, port)
                        with m.If(last):
                            m.next = "COMPARE"
        with m.State("COMPARE"):
            m.next = "JUDGE"

    @staticmethod
    def _next_address(m, now, port):
        with m.If(now.sizing):
            m.d.sync += [port.one_hot.eq(port.one_hot >> 1), now.bit.eq(now.bit - (now.bit != 0))]
        with m.Else():
            m.d.comb += port.following.eq(1)
            m.d.sync += now.place.eq(now.place + 1)

    def _judge(self, m, now):
        """What comes after a test."""
        status = self.status
        with m.State("JUDGE"):
            with m.If(now.sizing):
                m.next = "SIZE"
            with m.Else():
                m.d.sync += [now.switching.eq(~now.switching & ~now.failed),
                             now.tests.eq(now.tests - 1)]
                m.next = "BEGIN_WRITE"
                with m.If(now.scanning):
                    with m.If(now.switching | now.failed):
                        m.next = "NOTE"
                with m.Elif(now.failed):
                    m.d.sync += status.fault.eq(MemoryFault.CALIBRATION)
                    m.next = "FAULT"
                with m.Elif(now.tests == 1):
                    m.d.sync += now.sizing.eq(1)

    def _scan(self, m, now, result):
        """Note what passes; after the last setting, look for the longest window."""
        with m.State("NOTE"):
            m.d.sync += [now.row.eq(Cat(~now.failed, now.row)),
                         result.delay.eq(result.delay - 1)]
            m.next = "RESTART"
            with m.If(result.delay == 0):
                m.next = "STORE"
        with m.State("STORE"):
            m.d.comb += now.store.eq(1)
            m.d.sync += now.wanted_phase.eq(Mux(now.last_phase, 0, result.phase + 1))
            m.next = "RESTART"
            with m.If(now.last_phase):
                m.d.sync += now.scanning.eq(0)
                m.next = "LOOK"

    def _choose(self, m, now, result):
        """Look for the longest window in the map; go to its middle."""
        status, phases = self.status, self._phases
        run, best = Signal(8), Signal(8)        # phases in a row; then those to go back
        best_delay, best_phase = Signal(range(DELAYS)), Signal.like(now.wanted_phase)
        second_round = Signal()
        last = now.wanted_phase == phases - 1
        with m.State("LOOK"):
            m.d.comb += now.looking.eq(1)
            m.d.sync += run.eq(Mux(now.passed.bit_select(result.delay, 1),
                                   run + (run != phases), 0))
            m.next = "MEASURE"
        with m.State("MEASURE"):
            with m.If(run > best):
                m.d.sync += [best.eq(run), best_delay.eq(result.delay),
                             best_phase.eq(now.wanted_phase)]
            m.d.sync += now.wanted_phase.eq(Mux(last, 0, now.wanted_phase + 1))
            m.next = "LOOK"
            with m.If(last):
                m.d.sync += second_round.eq(~second_round)
                with m.If(second_round):
                    m.d.sync += [run.eq(0), result.delay.eq(result.delay - 1)]
                    with m.If(result.delay == 0):
                        m.next = "CHOOSE"
        with m.State("CHOOSE"):
            m.d.sync += [
                result.window.eq(best), run.eq(best >> 1), now.tests.eq(FINAL_TESTS),
                result.delay.eq(best_delay), now.wanted_phase.eq(best_phase),
            ]
            m.next = "GO_BACK"
            with m.If(best < self.least_window):
                m.d.sync += status.fault.eq(MemoryFault.CALIBRATION)
                m.next = "FAULT"
        with m.State("GO_BACK"):
            m.d.sync += run.eq(run - 1)
            with m.If(run == 0):
                m.next = "RESTART"
            with m.Else():
                m.d.sync += now.wanted_phase.eq(
                    Mux(now.wanted_phase == 0, phases - 1, now.wanted_phase - 1))

    def _size(self, m, now, port, result):
        """The highest address bit may be missing where it is optional."""
        config, status, bits = self._config, self.status, self._address_bits
        with m.State("SIZE"):
            m.d.sync += now.failed.eq(0)
            self._next_address(m, now, port)
            m.next = "COMMAND"
            if config.optional_column:
                with m.If(port.one_hot[bits]):
                    m.d.sync += result.size_bits.eq(Mux(now.failed, bits - 1, bits))
            else:
                m.d.sync += result.size_bits.eq(bits)
            optional = port.one_hot[bits] if config.optional_column else C(0)
            with m.If(now.failed & ~optional):
                # Downwards: the last one noted is the lowest. After bit 0 comes address 0.
                m.d.sync += [
                    status.fault.eq(MemoryFault.GEOMETRY),
                    status.address_bit.eq(now.bit),
                ]
            with m.If(port.one_hot[0]):
                m.next = "READY"
