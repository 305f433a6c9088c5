"""Bit-exact integer operators: what the hardware must compute. NumPy only.

Every function takes integer arrays of any width and returns int64. Maps are (N, C, H, W); a level
is a neuron's output 0..D; a channel scale may be negative or 0. Shifts are arithmetic (floor).
Neurons round half up, or with `half_even` half to even: 1/2 to 0, 3/2 and 5/2 to 2, 7/2 to 4.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


Ints = NDArray[np.int64]

MAX_LEVEL = 4
"""Highest level D that a neuron fires, as published; functions take others as `levels`."""

ATTENTION_THRESHOLDS = (32, 96, 160, 224)
"""Least Q (K^T V) of each level 1..4 in the published QSD-Transformer."""

ATTENTION_CAP = ATTENTION_THRESHOLDS[-1]
"""Both attention products may saturate here, in 8 bits, without changing any level of 0..4.

Every term is >= 0, a partial sum at the last threshold is the highest level already, and so is what
an entry of K^T V there makes of a q >= 1. The same holds for other thresholds and their last.
"""

_EXACT_FLOAT32, _EXACT_FLOAT64 = 2**24, 2**53


def _per_channel(values: ArrayLike, *, axis: int, ndim: int) -> NDArray:
    """Give (C,) `values` the shape that broadcasts along `axis` of an `ndim`-dimensional array."""
    shape = [1] * ndim
    shape[axis] = -1
    return np.asarray(values).reshape(shape)


def level_fire(
    acc: ArrayLike, thresholds: ArrayLike, *, invert: ArrayLike = False, axis: int = 1
) -> Ints:
    """Fire levels by exact per-channel thresholds on accumulators.

    Args:
        acc: Accumulators, any shape with C channels along `axis`.
        thresholds: (C, levels); a threshold may need one bit more than `acc`, so that "always"
            and "never" exist.
        invert: (C,) or one bool. Where set, count the thresholds that `acc` does not exceed
            (``acc <= t``, negative scale) instead of those it reaches (``acc >= t``).

    Returns:
        Levels 0..levels, shape of `acc`. A tie fires either way.
    """
    values = np.asarray(acc)
    thresholds = np.asarray(thresholds, dtype=np.int64)
    # acc <= t is -acc >= -t, so a sign on both sides leaves one comparison for both cases.
    sign = np.where(np.broadcast_to(invert, thresholds.shape[:1]), -1, 1)
    if (sign < 0).any():
        values = values * _per_channel(sign, axis=axis, ndim=values.ndim)
    level = np.zeros(values.shape, dtype=np.uint8)
    for column in (thresholds * sign[:, None]).T:
        level += values >= _per_channel(column, axis=axis, ndim=values.ndim)
    return level.astype(np.int64)


def scale_shift(
    acc: ArrayLike, multiplier: ArrayLike, bias: ArrayLike, shift: ArrayLike, *, axis: int = 1
) -> Ints:
    """Fixed-point affine map per channel, rounded half up, not saturated.

    (multiplier * acc + bias + 2^(shift-1)) >> shift, without the third term where shift is 0.

    Args:
        acc: Accumulators, any shape with C channels along `axis`.
        multiplier, bias, shift: (C,); shift >= 0. The exact sum must fit 63 bits and a sign.
    """
    acc = np.asarray(acc, dtype=np.int64)
    shift = np.asarray(shift, dtype=np.int64)
    bias = np.asarray(bias, dtype=np.int64) + ((np.int64(1) << shift) >> 1)
    scaled = acc * _per_channel(multiplier, axis=axis, ndim=acc.ndim)
    scaled += _per_channel(bias, axis=axis, ndim=acc.ndim)
    scaled >>= _per_channel(shift, axis=axis, ndim=acc.ndim)
    return scaled


def saturate(x: ArrayLike, bits: int) -> Ints:
    """Clip to the signed range of `bits` bits, -2^(bits-1) .. 2^(bits-1)-1."""
    limit = 1 << (bits - 1)
    return np.clip(np.asarray(x, dtype=np.int64), -limit, limit - 1)


def fire_membrane(
    u: ArrayLike, *, u_frac: int, levels: int = MAX_LEVEL, half_even: bool = False
) -> Ints:
    """Levels of membranes with `u_frac` >= 3 fraction bits: D*u rounded and clipped to 0..D.

    clamp((2D*u + 2^u_frac) >> (u_frac+1), 0, D) for D = `levels`, which for D = 4 is
    clamp((u + 2^(u_frac-3)) >> (u_frac-2), 0, 4); any shape. With `half_even` one is added to the
    sum before the shift, or taken away, so that a tie goes to the even level: clamp((2D*u +
    2^u_frac - 1 + b) >> (u_frac+1), 0, D) with b the last bit of 2D*u >> (u_frac+1).
    """
    doubled = 2 * levels * np.asarray(u, dtype=np.int64)
    half = (1 << u_frac) - 1 + ((doubled >> (u_frac + 1)) & 1) if half_even else 1 << u_frac
    return np.clip((doubled + half) >> (u_frac + 1), 0, levels)


def fire_whole(u: ArrayLike, *, u_frac: int, levels: int = MAX_LEVEL) -> Ints:
    """Levels of membranes without the factor D: u rounded, half to even, and clipped to 0..D.

    clamp((u + 2^(u_frac-1) - 1 + b) >> u_frac, 0, D) with b the last bit of u >> u_frac; any shape.
    """
    u = np.asarray(u, dtype=np.int64)
    half = (1 << (u_frac - 1)) - 1 + ((u >> u_frac) & 1)
    return np.clip((u + half) >> u_frac, 0, levels)


def _float_for(bound: int, what: str) -> type:
    """Smallest float type in which every partial sum up to `bound` is an exact integer."""
    if bound < _EXACT_FLOAT32:
        return np.float32
    if bound < _EXACT_FLOAT64:
        return np.float64
    raise ValueError(f"{what} may reach {bound}, more than a sum can hold exactly (2^53)")


def _largest(x: NDArray) -> int:
    """Largest magnitude in `x`, 0 if empty (int8 -128 gives 128)."""
    return max(-int(x.min()), int(x.max()), 0) if x.size else 0


def _bound(x: NDArray, q: NDArray) -> int:
    """Worst magnitude of any partial sum of products of `x` with one output's weights."""
    per_output = np.abs(q.astype(np.int64)).reshape(len(q), -1).sum(axis=1)
    return int(per_output.max(initial=0)) * _largest(x)


def convolve(x: ArrayLike, q: ArrayLike, *, stride: int = 1, padding: int = 0) -> Ints:
    """Exact accumulators of a convolution with zero padding.

    Computed by a floating-point matrix product, in a type where no sum can round.

    Args:
        x: (N, C, H, W) integers.
        q: (O, C, kh, kw) integer weights.

    Returns:
        (N, O, H', W') with H' = (H + 2*padding - kh) // stride + 1.

    Raises:
        ValueError: If sum|q| * max|x| reaches 2^53.
    """
    x, q = np.asarray(x), np.asarray(q)
    dtype = _float_for(_bound(x, q), "convolution")
    (n, c, h, w), (o, _, kh, kw) = x.shape, q.shape
    rows, cols = (h + 2 * padding - kh) // stride + 1, (w + 2 * padding - kw) // stride + 1
    if (kh, kw, stride, padding) == (1, 1, 1, 0):
        patches: NDArray = x.reshape(n, c, h * w).astype(dtype)
    else:
        padded = np.zeros((n, c, h + 2 * padding, w + 2 * padding), dtype=dtype)
        padded[:, :, padding : padding + h, padding : padding + w] = x
        taps = np.empty((n, c, kh, kw, rows, cols), dtype=dtype)
        for i in range(kh):
            for j in range(kw):
                taps[:, :, i, j] = padded[
                    *(slice(None), slice(None)),
                    slice(i, i + stride * rows, stride),
                    slice(j, j + stride * cols, stride),
                ]
        patches = taps.reshape(n, c * kh * kw, rows * cols)
    acc = np.matmul(q.reshape(o, -1).astype(dtype), patches)
    return acc.reshape(n, o, rows, cols).astype(np.int64)


def depthwise(x: ArrayLike, q: ArrayLike, *, padding: int) -> Ints:
    """Exact accumulators of a depthwise convolution, stride 1, zero padding.

    Args:
        x: (N, C, H, W) integers.
        q: (C, k, k) integer weights, one kernel per channel.

    Returns:
        (N, C, H + 2*padding - k + 1, W + 2*padding - k + 1).

    Raises:
        ValueError: If sum|q| * max|x| reaches 2^53.
    """
    x, q = np.asarray(x), np.asarray(q)
    dtype = _float_for(_bound(x, q), "depthwise convolution")
    (n, c, h, w), kernel = x.shape, q.shape[-1]
    pitch = w + 2 * padding
    rows, cols = h + 2 * padding - kernel + 1, pitch - kernel + 1
    # On rows joined end to end a tap is one offset: long contiguous runs instead of short rows.
    # The pitch - cols wrong results at the end of each row are cut off at the end.
    padded = np.zeros((n, c, (h + 2 * padding) * pitch + kernel), dtype=dtype)
    view = padded[:, :, : (h + 2 * padding) * pitch].reshape(n, c, h + 2 * padding, pitch)
    view[:, :, padding : padding + h, padding : padding + w] = x
    acc = np.zeros((n, c, rows * pitch), dtype=dtype)
    weights: NDArray = q.reshape(c, kernel, kernel, 1).astype(dtype)
    product = np.empty(acc.shape[1:], dtype=dtype)
    for image, total in zip(padded, acc, strict=True):
        for i in range(kernel):
            for j in range(kernel):
                start = i * pitch + j
                run = image[:, start : start + rows * pitch]
                np.multiply(run, weights[:, i, j], out=product)
                total += product
    return acc.reshape(n, c, rows, pitch)[..., :cols].astype(np.int64)


def attention(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    *,
    heads: int,
    thresholds: Sequence[int] = ATTENTION_THRESHOLDS,
    cap: int | None = None,
) -> tuple[Ints, Ints, Ints]:
    """Spike-driven self-attention on levels: Q (K^T V), no softmax.

    Head h owns channels h*d .. h*d+d-1 of q and k, and h*e .. h*e+e-1 of v and the result.

    Args:
        q, k: Levels (N, heads * d, H, W); tokens are the H*W positions.
        v: Levels (N, heads * e, H, W).
        thresholds: Least Q (K^T V) of each level 1..D, rising.
        cap: Both products saturate here; None leaves them exact. No level depends on it as
            long as it is at least the last threshold, because every term is >= 0.

    Returns:
        ktv: (N, heads, d, e), [i, j] = sum over tokens of k[h*d+i] * v[h*e+j].
        qktv: (N, heads * e, H, W), channel h*e+j = sum over i of q[h*d+i] * ktv[h, i, j].
        level: (N, heads * e, H, W), the number of thresholds that qktv reaches.
    """
    n, c, h, w = np.shape(q)
    shape = np.shape(v)
    q, k, v = (np.asarray(x).reshape(n, heads, -1, h * w) for x in (q, k, v))
    bound = h * w * _largest(k) * _largest(v)
    dtype = _float_for(bound, "K^T V")
    ktv = np.matmul(k.astype(dtype), v.astype(dtype).swapaxes(2, 3))
    if cap is not None:
        np.minimum(ktv, cap, out=ktv)
    dtype = _float_for(c // heads * _largest(q) * _largest(ktv), "Q (K^T V)")
    qktv = np.matmul(ktv.astype(dtype).swapaxes(2, 3), q.astype(dtype))
    if cap is not None:
        np.minimum(qktv, cap, out=qktv)
    qktv = qktv.reshape(shape).astype(np.int64)
    level = np.asarray(np.searchsorted(np.asarray(thresholds), qktv, side="right"), np.int64)
    return ktv.astype(np.int64), qktv, level


def upsample(u: ArrayLike, factor: int) -> NDArray:
    """Nearest neighbour: (N, C, H, W) -> (N, C, factor*H, factor*W) in the type of `u`."""
    u = np.asarray(u)
    return u if factor == 1 else u.repeat(factor, axis=2).repeat(factor, axis=3)


def pool_fire(
    u: ArrayLike, *, u_frac: int, levels: int = MAX_LEVEL, half_even: bool = False
) -> Ints:
    """Levels of the exact spatial mean of membranes with `u_frac` fraction bits, no division.

    Level = number of k in 1..D with 2D * S >= N * (2k-1) * 2^u_frac, where S is the sum over the
    N = H*W positions; with `half_even` > for odd k. (B, C, H, W) -> (B, C, 1, 1); 2D*S must fit 64
    bits.
    """
    u = np.asarray(u, dtype=np.int64)
    total = 2 * levels * u.sum(axis=(2, 3), keepdims=True)
    unit = (u.shape[2] * u.shape[3]) << u_frac
    return sum((total >= (2 * k - 1) * unit + (half_even and k % 2)).astype(np.int64)
               for k in range(1, levels + 1))
