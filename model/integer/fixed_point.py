"""From real per-channel constants to integer ones: thresholds, multipliers, shifts. NumPy only.

A channel's exact result is x = scale * acc + offset in real units; `scale` may be negative or 0.
"""

from fractions import Fraction
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from model.integer.epilogue import IntegerParams, RealScale, Scale, threshold_limits, Thresholds
from model.integer.golden import MAX_LEVEL


def thresholds(
    scale: NDArray[np.float64],
    offset: NDArray[np.float64],
    *,
    acc_bits: int,
    levels: int = MAX_LEVEL,
    gain: int | None = None,
    half_even: bool = False,
) -> Thresholds:
    """Integer rule for level = #{k in 1..D: x >= (2k-1)/2G}, D = `levels`, G = `gain`.

    t_k = ceil(((2k-1)/2G - offset) / scale) for a positive scale, floor(...) for a negative one,
    in exact rational arithmetic: equal to the rule on reals for every accumulator, ties included.
    Thresholds outside the range of `acc_bits` bits become "always" or "never".

    Args:
        scale, offset: (O,), finite.
        gain: Levels that 1 of x is worth; D if not given.
        half_even: x must exceed (2k-1)/2G for odd k, so that G*x is rounded half to even.
    """
    gain = gain or levels
    rows = []
    for a, b in zip(scale.tolist(), offset.tolist(), strict=True):
        row = []
        for k in range(1, levels + 1):
            point = Fraction(2 * k - 1, 2 * gain) - Fraction(b)
            above = half_even and k % 2 == 1
            if a == 0:
                row.append(-(1 << 62) if point < 0 or (point == 0 and not above) else 1 << 62)
            elif a > 0:
                edge = point / Fraction(a)
                row.append(_to_int64(floor(edge) + 1 if above else ceil(edge)))
            else:
                edge = point / Fraction(a)
                row.append(_to_int64(ceil(edge) - 1 if above else floor(edge)))
        rows.append(row)
    invert = scale < 0
    low, high = threshold_limits(acc_bits, invert=invert[:, None])
    exact = np.array(rows, dtype=np.int64).reshape(len(scale), levels)
    return Thresholds(np.clip(exact, low, high), invert, scale == 0)


def _to_int64(value: int) -> int:
    return min(max(value, -(1 << 62)), 1 << 62)


def fixed_scale(
    scale: NDArray[np.float64],
    offset: NDArray[np.float64],
    *,
    frac: int,
    params: IntegerParams,
) -> Scale:
    """Fixed-point form of x in units of 2^-frac.

    The shift is the largest in 0..max_shift at which the rounded multiplier still fits mult_bits;
    at shift 0 it saturates. The bias saturates to bias_bits. Rounding is to nearest, half to even.
    """
    limit = (1 << (params.mult_bits - 1)) - 1
    multiplier = np.clip(np.rint(np.ldexp(scale, frac)), -limit, limit)
    shift = np.zeros(len(scale), dtype=np.int64)
    for candidate in range(1, params.max_shift + 1):
        rounded = np.rint(np.ldexp(scale, frac + candidate))
        fits = np.abs(rounded) <= limit
        multiplier, shift = np.where(fits, rounded, multiplier), np.where(fits, candidate, shift)
    bias_limit = 1 << (params.bias_bits - 1)
    bias = np.clip(np.rint(np.ldexp(offset, frac + shift)), -bias_limit, bias_limit - 1)
    return Scale(multiplier.astype(np.int64), bias.astype(np.int64), shift.astype(np.int64))


def real_scale(scale: NDArray[np.float64], offset: NDArray[np.float64], *, frac: int) -> RealScale:
    """x in units of 2^-frac, constants exact."""
    return RealScale(np.ldexp(scale, frac), np.ldexp(offset, frac))
