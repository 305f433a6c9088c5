"""The small bitstream in software, and a core behind the same line; each can be broken."""

from gen.bench.step import Bench
from gen.device.frame import decode_frame
from hw.bringup.block_rams import WIDTHS
from hw.bringup_shell import BringupConfig, ROUNDS
from hw.register import (
    config_digest,
    Counter,
    MAP_ROW_BIT,
    MemoryTest,
    Register,
    Restart,
)
from tests.gen.device.software_device import memory_status, SoftwareDevice, SoftwareTransport


PHASES = 40

ROUND_CYCLES = 16 * max(WIDTHS.values())

IDENTITY = 0x5678


def rows(first, count, delay=1):
    """A map whose window of ``count`` phases begins at ``first``."""
    row = [0] * PHASES
    for phase in range(first, first + count):
        row[phase % PHASES] |= 1 << delay
    return row


class SmallBoard(SoftwareDevice):
    """As :class:`hw.bringup_shell.BringupShell` answers.

    Parameters
    ----------
    window : int
        Phases in a row that pass.
    rams : mapping
        Result of the block RAMs of a width (:func:`hw.bringup.block_rams.results`).
    stuck : (int, int) or None
        Word and data pin that a test of the SDRAM finds.
    """

    def __init__(self, *, window=18, rams=None, stuck=None, complete=True):
        self._rams, self._complete = rams or {}, complete
        super().__init__(words=1 << 10, core=self._rounds, digest=config_digest(BringupConfig()))
        self.constant[Register.IDENTITY] = IDENTITY
        self.rows, self.stuck, self._phase = rows(30, window), stuck, 0
        least = -(-PHASES // 4)
        self.status(ready=window >= least, fault=window < least, delay=1,
                    phase=(30 + (window - 1) // 2) % PHASES, window=window, size_bits=10)

    def status(self, **fields):
        self.constant[Register.MEMORY_STATUS] = memory_status(**fields)

    def _begin(self):
        super()._begin()
        self.test = MemoryTest.NONE
        self._result(ROUNDS)

    def _frame(self, frame):
        if frame and decode_frame(frame) is None:
            self.constant[Register.LINK_ERRORS] = self.constant.get(Register.LINK_ERRORS, 0) + 1
        return super()._frame(frame)

    def _result(self, count):
        self.counters = [0] * len(Counter)
        self.counters[Counter.IMAGES] = count
        self.counters[Counter.CYCLES] = count * ROUND_CYCLES
        bad = 0
        for number, width in enumerate(WIDTHS):
            self.counters[Counter.BUSY_LOAD + number] = self._rams.get(width, 0)
            bad |= (width in self._rams) << number
        self.counters[Counter.BUSY_LOAD + len(WIDTHS)] = bad | self._complete << 8
        self.counters[Counter.ERRORS] = bad

    @staticmethod
    def _rounds(board):
        yield ROUND_CYCLES
        board._result(board.registers[Register.COUNT])

    def _read(self, address):
        if address == Register.MEMORY_MAP:
            there = self._phase < PHASES
            return self.rows[self._phase] | 1 << MAP_ROW_BIT if there else 0
        if address == Register.MEMORY_TEST:
            return self.test << 1 | 1 << 4
        if Register.MEMORY_TEST < address <= Register.MEMORY_TEST_PINS and self.test:
            word, pin = self.stuck or (0, None)
            return {Register.MEMORY_TEST_ERRORS: 3 * (pin is not None),
                    Register.MEMORY_TEST_ADDRESS: word,
                    Register.MEMORY_TEST_PINS: 0 if pin is None else 1 << pin}[address]
        return super()._read(address)

    def _write(self, address, value):
        if address == Register.MEMORY_MAP:
            self._phase = value
        elif address == Register.MEMORY_TEST:
            self.test = MemoryTest(value)
        return super()._write(address, value)


def bench_of(board, folder, *, rate=0.0, said=None, **options):
    """A :class:`Bench` on a board in software, whose line has so many errors a byte."""
    lines = [] if said is None else said
    options = {"timeout": 0.02, "echoes": 20, "rounds": 4, "identity": IDENTITY,
               "press": lambda: board.restart(Restart.BUTTON), **options}

    def connect():
        transport = SoftwareTransport(board, rate=rate)
        transport.port = "/dev/ttyUSB0"
        return transport

    return Bench(connect=connect, say=lines.append, folder=folder, **options)
