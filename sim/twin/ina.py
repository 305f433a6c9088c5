"""Power monitors INA226 and INA228 as their I2C bus sees them.

The bus: UM10204, section 3.1. The registers: www.ti.com/lit/gpn/ina226 and …/ina228.
"""

__all__ = ["InaTwin"]


class InaTwin:
    """A device on an I2C bus: :meth:`step` is called again and again with the state of the lines.

    A register is sent with its highest byte first; a write has two bytes. The pointer stays from
    one access to the next.

    Parameters
    ----------
    address : int
        7 bits, 0x40..0x4F.
    registers : dict
        {pointer: value, or a function that gives it when it is read}.
    widths : dict
        {pointer: bytes}; 2 where it is not named. Those of the INA228 have 2, 3 or 5.
    stretch : callable
        Steps for which the device holds SCL low after it has fallen.
    refuses : callable
        Whether it leaves a byte without acknowledgement.
    """

    def __init__(self, *, address=0x40, registers=None, widths=None, stretch=lambda: 0,
                 refuses=lambda: False):
        self.address, self.registers = address, dict(registers or {})
        self.widths, self.stretch, self.refuses = widths or {}, stretch, refuses
        self.pointer = 0
        self.starts = self.stops = self.reads = self.writes = self.stretched = 0
        """Conditions seen; registers read to their last byte, and written; steps of stretching."""
        self.violations = []
        """What the master did against the bus's rules."""
        self.held = False
        """Holds SCL low for ever."""
        self._before = 1, 1
        self._state = "idle"        # idle, receive, acknowledge, send, listen
        self._bits, self._count, self._got = 0, 0, []
        self._left = 0              # of a stretch
        self._sda_low = False
        self._word = b""

    def step(self, scl, sda):
        """(SCL low, SDA low): what the device pulls down from now on."""
        (old_scl, old_sda), self._before = self._before, (scl, sda)
        if old_scl and scl and old_sda != sda:
            self._condition(start=not sda)
        elif scl and not old_scl:
            self._rise(sda)
        elif old_scl and not scl:
            self._fall()
            self._left = self.stretch()
        if self._left and not scl:
            self._left -= 1
            self.stretched += 1
        return bool(self.held or (self._left and not scl)), self._sda_low

    def _condition(self, start):
        self._sda_low = False
        self._bits = self._count = 0
        if start:
            self.starts += 1
            self._state, self._got = "receive", []
        else:
            self.stops += 1
            if self._state == "send" and self._count:
                self.violations.append("a stop within a byte")
            if len(self._got) == 4:
                self.writes += 1
                self.registers[self._got[1]] = int.from_bytes(self._got[2:], "big")
            self._state = "idle"

    def _rise(self, sda):
        """The line's bit is valid."""
        if self._state == "receive":
            self._bits, self._count = self._bits << 1 | sda, self._count + 1
        elif self._state == "listen":
            self._state = "idle" if sda else "send"
            if sda:
                self.reads += not self._word
            elif not self._word:
                self.violations.append("a byte too many was asked for")

    def _fall(self):
        """The line may change."""
        if self._state == "acknowledge":
            self._sda_low = False
            self._state = self._following
            self._bits = self._count = 0
            if self._state == "send":
                self._begin_byte()
        elif self._state == "receive" and self._count == 8:
            self._receive(self._bits)
        elif self._state == "send":
            if self._count == 0:
                self._begin_byte()
            elif self._count == 8:
                self._sda_low, self._state, self._count = False, "listen", 0
            else:
                self._send_bit()

    def _receive(self, byte):
        self._got.append(byte)
        self._state, self._following = "acknowledge", "receive"
        if len(self._got) == 1:
            if byte >> 1 != self.address or self.refuses():
                self._state = "idle"
                return
            if byte & 1:
                value = self.registers.get(self.pointer, 0)
                value = value() if callable(value) else value
                self._word = value.to_bytes(self.widths.get(self.pointer, 2), "big")
                self._following = "send"
        elif self.refuses():
            self._got.pop()
            self._state = "idle"
            return
        elif len(self._got) == 2:
            self.pointer = byte
        self._sda_low = True

    def _begin_byte(self):
        self._byte, self._word = (self._word or b"\xff")[0], self._word[1:]
        self._send_bit()

    def _send_bit(self):
        self._sda_low = not self._byte >> (7 - self._count) & 1
        self._count += 1
