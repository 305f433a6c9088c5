"""An SD card in SPI mode, as far as one reads it.

SD Specifications, Part 1, Physical Layer Simplified Specification, chapter 7 (SPI mode), and 4.9
(OCR).
"""

__all__ = ["SdCardTwin"]


BLOCK_BYTES = 512

IDLE, ILLEGAL, CRC_ERROR, PARAMETER = 0x01, 0x04, 0x08, 0x40
"""Bits of R1."""

POWER_UP_CLOCKS = 74

COMMAND_DELAY = 1
"""Bytes of 0xFF before an answer; the specification allows up to 8."""


def crc7(data):
    """CRC-7 of a command, with its end bit."""
    value = 0
    for byte in data:
        for place in range(7, -1, -1):
            value <<= 1
            if (byte >> place & 1) ^ (value >> 7 & 1):
                value ^= 0x09
            value &= 0x7F
    return value << 1 | 1


def crc16(data):
    """CRC-16 of a block."""
    value = 0
    for byte in data:
        value ^= byte << 8
        for _ in range(8):
            value = (value << 1 ^ (0x1021 if value & 0x8000 else 0)) & 0xFFFF
    return value


class SdCardTwin:
    """A card for :class:`sim.twin.spi_lines.SpiLines`.

    Parameters
    ----------
    content : bytes
        From address 0 on; zeros behind it.
    kind : str
        "sdhc" (addresses are blocks), "sdsc" (bytes), or "v1", which is that and does not know
        CMD8.
    busy : int
        Times that ACMD41 says that the initialisation is not over.
    access : int
        Bytes of 0xFF before each block.
    slow : int
        Fewest steps in half a bit until the initialisation is over.

    ``present`` and ``stuck`` may be changed at any time: pulled out, a card is as at power-up when
    it comes again; ``stuck``, it answers commands but sends no more blocks. ``damaged`` are
    addresses of bytes that change on their way.
    """

    def __init__(self, content=b"", *, kind="sdhc", busy=2, access=3, slow=0):
        if kind not in ("sdhc", "sdsc", "v1"):
            raise ValueError(f"Kind must be sdhc, sdsc or v1, not {kind!r}")
        self.content, self.kind, self.busy, self.access, self.slow = (
            bytes(content), kind, busy, access, slow)
        self.present, self.stuck, self.damaged = True, False, frozenset()
        self.violations = []
        self.commands = []
        """(number, argument) of each command; 41 is the application's."""
        self.blocks = 0
        """Blocks sent."""
        self.half = 0
        self._power_up()

    def _power_up(self):
        self._clocks, self._left = 0, self.busy
        self._state = "native"              # native, idle, ready
        self._application = False
        self._command = bytearray()
        self._answer, self._address = bytearray(), None

    def clocks(self, count):
        self._clocks += count

    def select(self):
        return self._next() if self.present else None

    def deselect(self, whole):
        if not whole:
            self.violations.append("select ends within a byte")
        self._command.clear()

    def exchange(self, byte):
        """The next byte to send; None if there is no card."""
        if not self.present:
            self._power_up()
            return None
        if self._state != "ready" and self.half < self.slow:
            self.violations.append("the clock is too fast before the end of the initialisation")
        if self._command or byte != 0xFF:
            if not self._command and byte >> 6 != 1:
                self.violations.append(f"a command does not begin with {byte:02x}")
            else:
                self._command.append(byte)
        if len(self._command) == 6:
            command = bytes(self._command)
            self._command.clear()
            self._obey(command)
        return self._next()

    def _next(self):
        if not self._answer and self._address is not None and not self.stuck:
            self._begin_block()
        return self._answer.pop(0) if self._answer else 0xFF

    def _begin_block(self):
        start = self._address
        data = self.content[start:start + BLOCK_BYTES].ljust(BLOCK_BYTES, b"\0")
        check = crc16(data).to_bytes(2, "big")
        sent = bytes(byte ^ (0x10 if place in self.damaged else 0)
                     for place, byte in enumerate(data, start))
        self._answer += b"\xff" * self.access + b"\xfe" + sent + check
        self._address += BLOCK_BYTES
        self.blocks += 1

    def _obey(self, command):
        number, argument = command[0] & 0x3F, int.from_bytes(command[1:5], "big")
        application, self._application = self._application, False
        if self._state == "native":
            if number != 0:
                self.violations.append(f"CMD{number} before the reset")
                return
            if self._clocks < POWER_UP_CLOCKS:
                self.violations.append(f"{self._clocks} clocks before the reset, not 74")
        if number in (0, 8) and command[5] != crc7(command[:5]):
            self.violations.append(f"CMD{number} with a wrong CRC")
            self._answer += b"\xff" * COMMAND_DELAY + bytes([IDLE | CRC_ERROR])
            return
        self.commands.append((number, argument))
        self._answer.clear()
        self._answer += b"\xff" * COMMAND_DELAY
        if number == 12:
            self._answer += b"\xff"         # a byte without meaning comes first
        self._answer += self._carry_out(number, argument, application)

    def _carry_out(self, number, argument, application):
        """Bytes of the answer."""
        idle = IDLE if self._state != "ready" else 0
        if number == 0:
            self._state, self._left, self._address = "idle", self.busy, None
            return bytes([IDLE])
        if number == 8 and self.kind != "v1":
            return bytes([idle]) + argument.to_bytes(4, "big")
        if number == 8:
            return bytes([idle | ILLEGAL])
        if number == 55:
            self._application = True
            return bytes([idle])
        if number == 41 and application:
            if self._left == 0 and not (self.kind == "sdhc" and not argument >> 30 & 1):
                self._state = "ready"
                return bytes([0])
            self._left = max(0, self._left - 1)
            return bytes([IDLE])
        if number == 58:
            capacity = 0xC0 if self.kind == "sdhc" and not idle else 0x80
            return bytes([idle, capacity, 0xFF, 0x80, 0])
        if number == 12 and self._state == "ready":
            self._address = None
            return bytes([0])
        if number == 18 and self._state == "ready":
            address = argument * (BLOCK_BYTES if self.kind == "sdhc" else 1)
            if address % BLOCK_BYTES:
                return bytes([PARAMETER])
            self._address = address
            return bytes([0])
        self.violations.append(f"CMD{number} is not known here")
        return bytes([idle | ILLEGAL])
