"""Hash of the words that a unit writes: a multiple-input signature register (MISR)."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import FEEDBACK, FOLD, WRITE_HASH_BITS


__all__ = ["WriteHash"]


class WriteHash(wiring.Component):
    """Hash a sequence of words (golden: :func:`sim.reference.write_hash.write_hash`).

    The state, all ones at first, is a polynomial over GF(2): every word multiplies it by x, modulo
    :data:`hw.config.FEEDBACK`, and is added to it. Sequences that differ have the same hash with a
    chance of 2**-32 (for certain if all that differs is a bit and, in the word after, the bit
    above it). A CRC-32 of the same words takes eight times the LUTs.

    Cost: a LUT and a flip-flop for each bit of the state.

    Parameters
    ----------
    width : int
        Bits of a word, up to 64. The state has 32 bits, or 64 for words wider than 32.

    Members
    -------
    start : ``In(1)``
        Begin anew; a word of the same cycle is not hashed.
    data, valid : ``In(width)``, ``In(1)``
    o : ``Out(32)``
        Of the words before this cycle. Of a state of 64 bits the sum of its halves and of the
        upper one rotated by :data:`hw.config.FOLD`, so that no two bits of a word cancel.
    """

    def __init__(self, width):
        if not 1 <= width <= 64:
            raise ValueError(f"Width of a hashed word must be 1..64 bits, not {width!r}")
        self._width = width
        super().__init__({
            "start": In(1),
            "data": In(width),
            "valid": In(1),
            "o": Out(WRITE_HASH_BITS),
        })

    @property
    def width(self):
        return self._width

    def elaborate(self, platform):
        m = Module()

        bits = 32 if self._width <= 32 else 64
        state = Signal(bits, init=-1, reset_less=True)
        feedback = Const(FEEDBACK[bits], bits) & state[-1].replicate(bits)
        with m.If(self.valid):
            m.d.sync += state.eq(Cat(Const(0, 1), state[:-1]) ^ feedback ^ self.data)
        with m.If(self.start):
            m.d.sync += state.eq(-1)
        m.d.comb += self.o.eq(state if bits == 32 else
                              state[:32] ^ state[32:] ^ state[32:].rotate_left(FOLD))

        return m
