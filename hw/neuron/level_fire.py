"""Firing lane of the neuron core: an accumulator in, a spike level out."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import LEVEL_PLANES


__all__ = ["LevelFire", "LEVELS"]


LEVELS = 4
"""Thresholds of a neuron, and its highest level."""


class LevelFire(wiring.Component):
    """Fire one channel: count the thresholds that the accumulator reaches.

    The level is the number of ``thresholds`` with ``acc >= t``; with ``invert`` set, with
    ``acc <= t`` (channels whose scale is negative). Thresholds are one bit wider than the
    accumulator, so that "always" and "never" can be written; they need not be ordered.

    Latency 2, throughput one accumulator per cycle; free running, without handshake. The inputs
    of one firing come in the same cycle and should be registers: the comparison (one carry chain
    of ``acc_bits + 2`` bits) starts from them.

    Parameters
    ----------
    acc_bits : int
        Width of the two's complement accumulator; at least 1.

    Members
    -------
    acc : ``In(signed(acc_bits))``
    thresholds : ``In(ArrayLayout(signed(acc_bits + 1), 4))``
    invert : ``In(1)``
    level : ``Out(3)``
    """

    LATENCY = 2

    def __init__(self, *, acc_bits):
        if acc_bits < 1:
            raise ValueError(f"Accumulator width must be at least 1, not {acc_bits!r}")
        self._acc_bits = acc_bits
        super().__init__({
            "acc": In(signed(acc_bits)),
            "thresholds": In(data.ArrayLayout(signed(acc_bits + 1), LEVELS)),
            "invert": In(1),
            "level": Out(LEVEL_PLANES),
        })

    @property
    def acc_bits(self):
        return self._acc_bits

    def elaborate(self, platform):
        m = Module()

        # The bit below the units turns acc >= t into acc > t for inverted channels, and
        # acc <= t is not (acc > t): one comparator serves both.
        acc = Cat(Const(0, 1), self.acc).as_signed()
        reached = Signal(LEVELS)
        for k in range(LEVELS):
            limit = Cat(self.invert, self.thresholds[k]).as_signed()
            m.d.sync += reached[k].eq((acc >= limit) ^ self.invert)

        pairs = [reached[a] & reached[b] for a in range(LEVELS) for b in range(a)]
        m.d.sync += self.level.eq(Cat(reached.xor(), Cat(pairs).any() & ~reached.all(),
                                      reached.all()))

        return m
