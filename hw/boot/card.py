"""An SD card in SPI mode as a source of bytes."""

from amaranth import *
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

from hw.boot.spi import SpiBytes
from hw.boot_layout import BootFault, CARD_OFFSET, HEADER_BYTES
from hw.port import BootSource, SpiPins


__all__ = ["BLOCK_BYTES", "CardSource", "COMMANDS", "command_bytes"]


BLOCK_BYTES = HEADER_BYTES

CLOCK_BYTES = 16
"""Bytes of clock without select at power-up; a card wants 74 bits."""

COMMAND_BYTES = 6

ANSWER_BYTES = 16
"""Bytes in which a card answers, or never; the specification has 8."""

COMMANDS = (
    (0, 0),                             # reset, and SPI mode with select low
    (8, 0x1AA),                         # 3.3 V; cards of version 1 do not know it
    (55, 0),
    (41, 1 << 30),                      # initialise; blocks as addresses are understood
    (58, 0),                            # OCR: has it blocks as addresses?
    (18, CARD_OFFSET // BLOCK_BYTES),   # read from there on
    (12, 0),                            # stop
)
"""Number and argument of each command, in their order; the argument of 18 is in bytes for a card
whose addresses are."""

RESET, _, APPLICATION, INITIALISE, CAPACITY, READ, STOP = range(len(COMMANDS))

LONG_BYTES = 4
"""Bytes that may follow the first one of an answer; they are awaited behind each."""

START_TOKEN = 0xFE
"""Before a block; any other byte but 0xFF is an error."""


def command_bytes(number, argument):
    """The six bytes of a command with its CRC-7."""
    data = bytes([0x40 | number]) + argument.to_bytes(4, "big")
    crc = 0
    for bit in (byte >> place & 1 for byte in data for place in range(7, -1, -1)):
        crc = crc << 1 ^ (0x89 if (crc >> 6 ^ bit) & 1 else 0)
        crc &= 0x7F
    return data + bytes([crc << 1 | 1])


class _State(enum.Enum):
    IDLE = 0
    FAILED = 1
    CLOCKS = 2
    COMMAND = 4
    ANSWER = 5
    REST = 6
    TOKEN = 8
    DATA = 9
    CRC = 10


class CardSource(wiring.Component):
    """Read a card from :data:`hw.boot_layout.CARD_OFFSET` on, for as long as it is asked to.

    Reset, initialisation with up to 400 kHz, and one command that reads block after block (SD
    Specifications, Part 1, Physical Layer Simplified Specification, chapter 7). A card that does
    not answer the reset is asked again and again. ``late`` then says that there is none
    (``NO_CARD``); later it means that the card is reset once more, and whether it answers tells
    ``TIMEOUT`` from ``NO_CARD``. Likewise a block whose CRC-16 is wrong is ``DATA`` or, from a
    card that is gone, ``NO_CARD``. The bytes of a block come before its CRC is known.

    When ``go`` falls, the card is told to stop. A byte takes 16 halves and 2 cycles. 236 COMB
    (yosys, ECP5).

    Parameters
    ----------
    half, slow : int
        Cycles in half a bit, at least 2; in that of the initialisation.

    Members
    -------
    source : ``In(BootSource())``
    pins : ``Out(SpiPins())``
    """

    name = "sd"

    def __init__(self, *, half, slow):
        self._spi = SpiBytes(half=half, slow=slow)
        super().__init__({"source": In(BootSource()), "pins": Out(SpiPins())})

    def elaborate(self, platform):
        m = Module()
        m.submodules.spi = spi = self._spi
        source, received = self.source, spi.received
        state, following = Signal(_State), Signal(_State)
        step = Signal(range(len(COMMANDS)))     # of COMMANDS
        index = Signal(range(BLOCK_BYTES))      # of the byte, in the state
        lost, wrong = Signal(), Signal()        # why the card is reset: time-out, or data
        blocks = Signal()                       # addresses are blocks
        arrived = Signal()                      # `received` is new
        in_data = state == _State.DATA
        taken = arrived & (~in_data | source.bytes.ready | ~source.go)
        selected = state[2:].any()
        m.d.comb += [
            self.pins.clk.eq(spi.clk), self.pins.copi.eq(spi.copi), spi.cipo.eq(self.pins.cipo),
            source.bytes.payload.eq(received), source.bytes.valid.eq(arrived & in_data),
            spi.start.eq(~arrived & (state > 1)), spi.slowly.eq(~state[3]),
            following.eq(state),
        ]
        m.d.sync += [arrived.eq(spi.done | (arrived & ~taken)), self.pins.select.eq(selected),
                     state.eq(following)]
        with m.If(taken):
            m.d.sync += index.eq(index + 1)
        with m.If(following != state):
            m.d.sync += index.eq(0)

        crc = Signal(16)                        # CRC-16/XMODEM: 0 behind a block and its CRC
        feedback = crc[15] ^ self.pins.cipo
        with m.If(spi.bit):
            m.d.sync += crc.eq(Cat(feedback, crc) ^ (feedback << 5 | feedback << 12))
        with m.If(state == _State.TOKEN):
            m.d.sync += crc.eq(0)

        with m.Switch(state):
            with m.Case(_State.IDLE):
                m.d.sync += [step.eq(RESET), source.fault.eq(0), lost.eq(0), wrong.eq(0)]
                with m.If(source.go):
                    m.d.comb += following.eq(_State.CLOCKS)
            with m.Case(_State.FAILED):
                with m.If(~source.go):
                    m.d.comb += following.eq(_State.IDLE)
            with m.Case(_State.CLOCKS):
                with m.If(taken & (index[:4] == CLOCK_BYTES - 1)):
                    m.d.comb += following.eq(_State.COMMAND)
            with m.Case(_State.COMMAND):
                with m.If(taken & (index[:3] == COMMAND_BYTES - 1)):
                    m.d.comb += following.eq(_State.ANSWER)
            with m.Case(_State.ANSWER), m.If(taken):
                self._answer(m, following, step, index, lost, wrong)
            with m.Case(_State.REST), m.If(taken):
                with m.If(index[:3] == 0):
                    m.d.sync += blocks.eq(received[6])      # in the end of CAPACITY
                with m.If(index[:3] == LONG_BYTES):
                    m.d.sync += step.eq(step + 1)
                    m.d.comb += following.eq(_State.COMMAND)
            with m.Case(_State.TOKEN), m.If(taken & (received != 0xFF)):
                m.d.comb += following.eq(_State.DATA)
                with m.If(received != START_TOKEN):
                    m.d.sync += wrong.eq(1)
            with m.Case(_State.DATA), m.If(taken & index.all()):
                m.d.comb += following.eq(_State.CRC)
            with m.Case(_State.CRC), m.If(taken & index[0]):
                m.d.comb += following.eq(_State.TOKEN)
                with m.If(crc != 0):
                    m.d.sync += wrong.eq(1)

        with m.If(source.late):
            m.d.sync += lost.eq(1)
            with m.If(step == RESET):
                m.d.sync += source.fault.eq(BootFault.NO_CARD)
        with m.If(taken):                       # all of these behind a whole byte
            with m.If((lost | wrong) & (step != RESET)):
                m.d.sync += step.eq(RESET)
                m.d.comb += following.eq(_State.CLOCKS)
            with m.If(~source.go & (step != STOP)):
                m.d.sync += step.eq(STOP)
                m.d.comb += following.eq(_State.COMMAND)
            with m.If(source.fault != 0):
                m.d.comb += following.eq(_State.FAILED)
        self._choose_byte(m, state, step, index, blocks)
        return m

    def _choose_byte(self, m, state, step, index, blocks):
        """Which byte of a command is sent."""
        table = [command_bytes(*command) for command in COMMANDS]
        in_bytes = command_bytes(COMMANDS[READ][0], CARD_OFFSET)
        sent = Signal(8)
        with m.Switch(Cat(index[:3], step)):
            for number, data in enumerate(table):
                for place, byte in enumerate(data):
                    if place == COMMAND_BYTES - 1 and number > 1:
                        byte = table[0][place]  # only the CRC of the first two is looked at
                    with m.Case(number << 3 | place):
                        m.d.comb += sent.eq(byte)
                        if number == READ:
                            m.d.comb += sent.eq(Mux(blocks, byte, in_bytes[place]))
        m.d.comb += self._spi.sent.eq(0xFF)
        with m.If(state == _State.COMMAND):
            m.d.comb += self._spi.sent.eq(sent)

    def _answer(self, m, following, step, index, lost, wrong):
        """Wait for the answer to a command, and judge it."""
        received = self._spi.received
        with m.If(~received[7] & (step != STOP)):
            m.d.comb += following.eq(_State.REST)
            with m.If(step == RESET):
                with m.If(lost | wrong):
                    m.d.sync += self.source.fault.eq(
                        Mux(lost, BootFault.TIMEOUT, BootFault.DATA))
            with m.If((step == INITIALISE) & received[0]):
                m.d.sync += step.eq(APPLICATION - 1)
            with m.If(step == READ):
                m.d.comb += following.eq(_State.TOKEN)
                with m.If(received != 0):
                    m.d.sync += lost.eq(1)
        with m.Elif(index[:4] == ANSWER_BYTES - 1):
            m.d.sync += step.eq(RESET)
            m.d.comb += following.eq(_State.CLOCKS)
            with m.If(step == STOP):
                m.d.comb += following.eq(_State.IDLE)
