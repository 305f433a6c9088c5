"""Bytes over SPI, mode 0."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


__all__ = ["SpiBytes", "check_half"]


def check_half(**halves):
    """Raise :exc:`ValueError` unless each is a number of cycles that half a bit can have."""
    for name, half in halves.items():
        if not isinstance(half, int) or half < 2 or half & (half - 1):
            raise ValueError(f"{name.capitalize()} must be a power of two of at least 2 cycles, "
                             f"not {half!r}")


class SpiBytes(wiring.Component):
    """Send a byte and receive one at the same time, the highest bit first.

    ``cipo`` is taken as the clock falls: the device has had a whole bit for it, less what the
    pins take. Bytes that follow each other without a pause take 16 halves and a cycle. 38 COMB and
    20 FF (yosys, ECP5).

    Parameters
    ----------
    half : int
        Cycles in half a bit, a power of two of at least 2.
    slow : int or None
        The same while ``slowly`` is high; None: there is no other.

    Members
    -------
    clk, copi : ``Out(1)``, cipo : ``In(1)``
        As in :class:`hw.port.SpiPins`.
    start : ``In(1)``, sent : ``In(8)``, slowly : ``In(1)``
        Taken while ``active`` is low.
    active : ``Out(1)``
    bit : ``Out(1)``
        High for the cycle in which a bit is taken.
    done : ``Out(1)``
        High for the last cycle of a byte.
    received : ``Out(8)``
        From the cycle behind ``done`` to the next ``start``.
    """

    def __init__(self, *, half, slow=None):
        slow = half if slow is None else slow
        check_half(half=half, slow=slow)
        self._half, self._slow = half, slow
        super().__init__({
            "clk": Out(1), "copi": Out(1), "cipo": In(1, init=1),
            "start": In(1), "sent": In(8), "slowly": In(1), "active": Out(1), "bit": Out(1),
            "done": Out(1), "received": Out(8),
        })

    def elaborate(self, platform):
        m = Module()
        timer = Signal(range(max(self._half, self._slow)))
        left = Signal(3)
        half = Signal()                         # the last cycle of half a bit
        m.d.comb += [
            self.copi.eq(self.received[7]),
            half.eq((timer | ~Mux(self.slowly, C(self._slow - 1, len(timer)),
                                  C(self._half - 1, len(timer)))).all()),
            self.bit.eq(half & self.clk),
            self.done.eq(self.bit & (left == 0)),
        ]
        m.d.sync += timer.eq(timer + 1)
        with m.If(~self.active):
            m.d.sync += [self.active.eq(self.start), left.eq(7), timer.eq(0)]
            with m.If(self.start):
                m.d.sync += self.received.eq(self.sent)
        with m.Elif(half):
            m.d.sync += self.clk.eq(~self.clk)
            with m.If(self.clk):
                m.d.sync += [self.received.eq(Cat(self.cipo, self.received)),
                             left.eq(left - 1), self.active.eq(~self.done)]
        return m
