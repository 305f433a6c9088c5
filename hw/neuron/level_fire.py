"""Firing lane of the neuron core: an accumulator in, a spike level out."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import level_planes, LEVELS_MAX


__all__ = ["LevelFire"]


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
    levels : int
        Thresholds, and the highest level; 1..4.

    Members
    -------
    acc : ``In(signed(acc_bits))``
    thresholds : ``In(ArrayLayout(signed(acc_bits + 1), levels))``
    invert : ``In(1)``
    level : ``Out(level_planes(levels))``
    """

    LATENCY = 2

    def __init__(self, *, acc_bits, levels=LEVELS_MAX):
        if acc_bits < 1:
            raise ValueError(f"Accumulator width must be at least 1, not {acc_bits!r}")
        if levels not in range(1, LEVELS_MAX + 1):
            raise ValueError(f"Levels must be 1..{LEVELS_MAX}, not {levels!r}")
        self._acc_bits = acc_bits
        self._levels = levels
        super().__init__({
            "acc": In(signed(acc_bits)),
            "thresholds": In(data.ArrayLayout(signed(acc_bits + 1), levels)),
            "invert": In(1),
            "level": Out(level_planes(levels)),
        })

    @property
    def acc_bits(self):
        return self._acc_bits

    @property
    def levels(self):
        return self._levels

    def elaborate(self, platform):
        m = Module()

        # The bit below the units turns acc >= t into acc > t for inverted channels, and
        # acc <= t is not (acc > t): one comparator serves both.
        acc = Cat(Const(0, 1), self.acc).as_signed()
        reached = Signal(self._levels)
        for k in range(self._levels):
            limit = Cat(self.invert, self.thresholds[k]).as_signed()
            m.d.sync += reached[k].eq((acc >= limit) ^ self.invert)

        pairs = [reached[a] & reached[b] for a in range(self._levels) for b in range(a)]
        if self._levels == 4:
            m.d.sync += self.level.eq(Cat(reached.xor(), Cat(pairs).any() & ~reached.all(),
                                          reached.all()))
        else:
            m.d.sync += self.level.eq(Cat(reached.xor(), Cat(pairs).any()))

        return m
