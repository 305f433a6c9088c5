"""Rescaling lane of the neuron core: accumulator to membrane, requantised value and level."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import BIAS_BITS, level_planes, LEVELS_MAX, MEMBRANE_BITS, SHIFT_MAX


__all__ = ["Rescale"]


_LOW_BITS = 17
"""Accumulator bits of the lower product: unsigned, so one less than a multiplier input."""

_CLAMP_BITS = MEMBRANE_BITS + 2
"""Width to which the shifted sum is clamped. Two bits more than a membrane: no addend of
MEMBRANE_BITS can bring a clamped value back into range, so clamping changes no result."""

_FINE = 3
"""Bits of the shift done by the second shifter step."""


class Rescale(wiring.Component):
    """Rescale one channel: ``saturate(((M*acc + B + half) >> S) + addend)``, and its level.

    ``half`` is ``1 << (S - 1)``, or 0 for ``S = 0``; all of it is exact for every operand. The
    value is saturated to the width that ``limit`` tells; the level is that of a membrane with
    ``membrane_frac`` fraction bits, ``clamp((2*D*value + 2**F) >> (F+1), 0, D)``, for D = 4
    ``clamp((value + 2**(F-3)) >> (F-2), 0, 4)``; with ``half_even`` a tie goes to the even level
    (``model.integer.golden.fire_membrane``). With ``whole_levels`` and ``whole`` set, it is
    ``clamp((value + 2**(F-1)) >> F, 0, 4)``, and a tie goes to the even level.

    Free running, without handshake, one accumulator per cycle. With ``acc`` and ``multiplier``
    in cycle 0, the other operands of the same accumulator are taken in later cycles (so that
    their memories need no delay lines) and the results come at fixed latencies.

    Cost per lane: two MULT18X18D.

    Parameters
    ----------
    acc_bits : int
        Width of the accumulator; 18..35.
    multiplier_bits : int
        Width of M; 2..18.
    membrane_frac : int
        Fraction bits F of a membrane; 4..14.
    levels : int
        The highest level D; 1..4.
    half_even : bool
        Round levels half to even, not half up.
    whole_levels : bool
        Have ``whole``; for D = 4.

    Members
    -------
    acc : ``In(signed(acc_bits))``, multiplier : ``In(signed(multiplier_bits))``
        In cycle 0.
    bias : ``In(signed(44))``
        In cycle ``BIAS_DELAY``.
    shift : ``In(5)``
        0..26, in cycle ``SHIFT_DELAY``.
    addend : ``In(signed(16))``
        In cycle ``ADDEND_DELAY``.
    limit : ``In(16)``
        Bits of the value that must equal its sign: for a width of P, all from bit P - 1. Stable
        while data is in flight.
    whole : ``In(1)``
        With ``whole_levels`` only; stable while data is in flight.
    value : ``Out(signed(16))``, clipped : ``Out(1)``
        Saturated value and whether saturation changed it, in cycle ``VALUE_LATENCY``. Bits from
        P on are meaningless.
    level : ``Out(level_planes(levels))``
        In cycle ``LEVEL_LATENCY``.
    """

    BIAS_DELAY = 2
    SHIFT_DELAY = 3
    ADDEND_DELAY = 6
    VALUE_LATENCY = 8
    LEVEL_LATENCY = 10

    def __init__(self, *, acc_bits, multiplier_bits, membrane_frac, levels=LEVELS_MAX,
                 half_even=False, whole_levels=False):
        if not 18 <= acc_bits <= 35:
            raise ValueError(f"Accumulator width must be 18..35 bits, not {acc_bits!r}")
        if not 2 <= multiplier_bits <= 18:
            raise ValueError(f"Multiplier width must be 2..18 bits, not {multiplier_bits!r}")
        if not 4 <= membrane_frac <= 14:
            raise ValueError(f"Membrane fraction must be 4..14 bits, not {membrane_frac!r}")
        self._acc_bits = acc_bits
        self._multiplier_bits = multiplier_bits
        self._membrane_frac = membrane_frac
        if levels not in range(1, LEVELS_MAX + 1):
            raise ValueError(f"Levels must be 1..{LEVELS_MAX}, not {levels!r}")
        self._levels = levels
        self._half_even = half_even
        if whole_levels and levels != LEVELS_MAX:
            raise ValueError(f"Whole levels need levels of {LEVELS_MAX}, not {levels!r}")
        self._whole_levels = whole_levels
        super().__init__({
            "acc": In(signed(acc_bits)),
            "multiplier": In(signed(multiplier_bits)),
            "bias": In(signed(BIAS_BITS)),
            "shift": In(range(SHIFT_MAX + 1)),
            "addend": In(signed(MEMBRANE_BITS)),
            "limit": In(MEMBRANE_BITS),
            **({"whole": In(1)} if whole_levels else {}),
            "value": Out(signed(MEMBRANE_BITS)),
            "clipped": Out(1),
            "level": Out(level_planes(levels)),
        })

    @property
    def acc_bits(self):
        return self._acc_bits

    @property
    def multiplier_bits(self):
        return self._multiplier_bits

    @property
    def membrane_frac(self):
        return self._membrane_frac

    @property
    def levels(self):
        return self._levels

    def elaborate(self, platform):
        m = Module()

        # Cycle 0: two products, each of one multiplier.
        low = Signal(signed(self._multiplier_bits + _LOW_BITS + 1))
        high = Signal(signed(self._multiplier_bits + self._acc_bits - _LOW_BITS))
        acc_low = Cat(self.acc[:_LOW_BITS], Const(0, 1)).as_signed()
        m.d.sync += [
            low.eq(self.multiplier * acc_low),
            high.eq(self.multiplier * self.acc[_LOW_BITS:].as_signed()),
        ]

        # Cycle 1: their sum; cycle 2: plus the bias.
        product = Signal(signed(self._multiplier_bits + self._acc_bits))
        m.d.sync += product.eq(Cat(low[:_LOW_BITS],
                                   (low[_LOW_BITS:].as_signed() + high)[:len(high)]).as_signed())
        largest = (1 << (self._multiplier_bits + self._acc_bits - 2)) + (1 << (BIAS_BITS - 1))
        total = Signal(signed(largest.bit_length() + 1))
        m.d.sync += total.eq(product + self.bias)

        # Cycles 3 and 4: shift by multiples of 8, then by 0..7. The bit below the units becomes
        # the bit shifted out last, which is what rounding half up adds.
        fine = Signal(_FINE)
        coarse = Signal(signed(len(total) + 1))
        m.d.sync += [
            coarse.eq(Cat(Const(0, 1), total).as_signed() >> (self.shift[_FINE:] << _FINE)),
            fine.eq(self.shift[:_FINE]),
        ]
        kept = 1 + _CLAMP_BITS + (1 << _FINE) - 1
        above = Signal()
        sign = coarse[-1]
        shifted = Signal(signed(kept + 1))
        m.d.sync += [
            shifted.eq(Cat(coarse[:kept], sign).as_signed() >> fine),
            above.eq(Cat(bit ^ sign for bit in coarse[kept:-1]).any()),
        ]

        # Cycle 5: clamp; the sign is right in every case.
        half = Signal()
        clamped = Signal(signed(_CLAMP_BITS))
        sign = shifted[-1]
        over = above | Cat(bit ^ sign for bit in shifted[_CLAMP_BITS:-1]).any()
        m.d.sync += [
            half.eq(shifted[0]),
            clamped.eq(Mux(over, Cat((~sign).replicate(_CLAMP_BITS - 1), sign),
                           shifted[1:_CLAMP_BITS + 1])),
        ]

        # Cycle 6: the rounding bit enters as the carry below the units.
        moved = Signal(signed(_CLAMP_BITS + 1))
        m.d.sync += moved.eq((Cat(Const(1, 1), clamped).as_signed()
                              + Cat(half, self.addend).as_signed()) >> 1)

        # Cycle 7: saturate to the width of the limit.
        sign = moved[-1]
        limits = Cat(self.limit, Const(-1, len(moved) - MEMBRANE_BITS))
        over = Cat((bit ^ sign) & limit for bit, limit in zip(moved, limits, strict=True)).any()
        m.d.sync += self.clipped.eq(over)
        for index in range(MEMBRANE_BITS):
            m.d.sync += self.value[index].eq(Mux(over, sign ^ ~self.limit[index], moved[index]))

        # Cycles 8 and 9: the level.
        if self._levels == 4:
            self._shifted_level(m)
        else:
            self._multiplied_level(m)

        return m

    def _shifted_level(self, m):
        """Level of 0..4: four membranes are the membrane, shifted; with `whole` it is not."""
        def of_kind(make):
            shifted = make(self._membrane_frac - 2)
            if not self._whole_levels:
                return shifted
            return Mux(self.whole, make(self._membrane_frac), shifted)

        rounded = Signal(signed(MEMBRANE_BITS + 1))
        m.d.sync += rounded.eq(self.value + of_kind(lambda bits: 1 << bits - 1))
        positive = ~rounded[-1]
        four = positive & of_kind(lambda bits: rounded[bits + 2:-1].any())
        low = of_kind(lambda bits: rounded[bits:bits + 2])
        if self._half_even or self._whole_levels:
            # A tie was rounded up to an odd level: the even one is one less. (5 is 4 anyway.)
            tie = Signal()
            to_even = 1 if self._half_even else self.whole
            m.d.sync += tie.eq(of_kind(lambda bits: self.value[:bits] == 1 << bits - 1) & to_even)
            low = Cat(low[0] & ~tie, low[1])
        m.d.sync += self.level.eq(Cat(low & (positive & ~four).replicate(2), four))

    def _multiplied_level(self, m):
        """Level of 0..D, D < 4: the whole part of D membranes, and one more from a half on."""
        frac, levels = self._membrane_frac, self._levels
        product = Signal(signed(MEMBRANE_BITS + 2))
        m.d.sync += product.eq({1: self.value, 2: self.value << 1,
                                3: self.value + (self.value << 1)}[levels])
        whole, half, positive = product[frac:-1], product[frac - 1], ~product[-1]
        if self._half_even and levels != 3:
            # Of three membranes, the only half below 3 is 3/2, which goes to 2 anyway.
            bits = frac - (levels == 2)
            tie = Signal()
            m.d.sync += tie.eq(self.value[:bits] == 1 << bits - 1)
            half = half & ~(tie & ~whole[0])
        m.d.sync += self.level.eq(Mux(whole >= levels, levels, (whole[:2] + half)[:2])
                                  & positive.replicate(2))
