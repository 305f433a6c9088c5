"""The best of scores that come byte by byte, and its number in decimal."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


__all__ = ["BestScore", "DIGITS"]


DIGITS = 3
"""Decimal digits of a class."""


class BestScore(wiring.Component):
    """Find the highest of the scores since ``clear``; of equal ones the first.

    The classes are counted in decimal, so that showing them takes no division. 64 COMB (yosys,
    ECP5).

    Members
    -------
    score : ``In(signed(16))``, valid : ``In(1)``
        Of the next class.
    clear : ``In(1)``
        The next one is of class 0.
    digits : ``Out(12)``
        Decimal digits of the best class, the ones lowest.
    """

    def __init__(self):
        super().__init__({"score": In(signed(16)), "valid": In(1), "clear": In(1),
                          "digits": Out(4 * DIGITS)})

    def elaborate(self, platform):
        m = Module()
        best, fresh = Signal(signed(16)), Signal(init=1)
        count = Signal(4 * DIGITS)
        with m.If(self.valid):
            m.d.sync += fresh.eq(0)
            with m.If(fresh | (self.score > best)):
                m.d.sync += [best.eq(self.score), self.digits.eq(count)]
            carry = C(1)
            for digit in (count.word_select(index, 4) for index in range(DIGITS)):
                with m.If(carry):
                    m.d.sync += digit.eq(digit + 1)
                carry = carry & (digit == 9)
                with m.If(carry):
                    m.d.sync += digit.eq(0)
        with m.If(self.clear):
            m.d.sync += [count.eq(0), fresh.eq(1)]
        return m
