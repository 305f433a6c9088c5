"""The lines of a device on SPI, mode 0, step by step; the device itself knows whole bytes."""

__all__ = ["SpiLines"]


class SpiLines:
    """Turns levels into bytes: :meth:`step` is called again and again with those of the master.

    Parameters
    ----------
    device : object
        ``select()``, ``exchange(byte)``: the byte that the device sends next, None where it lets
        its line float; ``deselect(whole)``, whether it ends behind a whole byte; ``clocks(count)``
        without select; ``violations``, a list; ``half``, which is set to the fewest steps between
        two edges of the clock since the last byte.
    """

    FLOATING = 1
    """Level of the device's line that nothing drives: it has a pull-up."""

    def __init__(self, device):
        self.device = device
        self._clk = self._select = 0
        self._out = None                    # byte that is being sent
        self._got, self._bits = 0, 0
        self._since, self._shortest = 1 << 30, 1 << 30
        self._level = self.FLOATING

    def step(self, clk, select, copi):
        """The device's level from now on."""
        self._since += 1
        if select != self._select:
            if clk or self._clk:
                self.device.violations.append("select changes while the clock is high")
            if select:
                self._out, self._got, self._bits = self.device.select(), 0, 0
                self._drive()
            else:
                self.device.deselect(self._bits == 0)
                self._level = self.FLOATING
        if clk != self._clk:
            self._shortest = min(self._shortest, self._since)
            self._since = 0
            if clk and select:
                self._got, self._bits = self._got << 1 | copi, self._bits + 1
            elif clk:
                self.device.clocks(1)
            elif select:
                if self._bits == 8:
                    self.device.half, self._shortest = self._shortest, 1 << 30
                    self._out = self.device.exchange(self._got)
                    self._got = self._bits = 0
                self._drive()
        self._clk, self._select = clk, select
        return self._level

    def _drive(self):
        self._level = (self.FLOATING if self._out is None
                       else self._out >> (7 - self._bits) & 1)
