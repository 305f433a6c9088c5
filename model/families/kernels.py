"""Loops over maps in bfloat16 as machine code (numba), for one thread of a CPU.

Arrays are given by their addresses (``Tensor.data_ptr``), which costs a tenth of what arrays of
NumPy cost, and their sizes; `model.families.fused` answers for both. A map is (pixels, channels)
of bfloat16: a channels-last tensor as it lies in memory. Arithmetic is float32, sums over pixels
float64; results are rounded to even. Not finite values stay so.
"""

from numba import carray, njit, types
from numba.extending import intrinsic
import numpy as np


__all__ = ["fire", "fire_back", "fire_back_float", "fire_float", "norm_backward", "norm_forward"]

_compiled = njit(nogil=True, fastmath={"contract"}, error_model="numpy")
_inlined = njit(inline="always")

_ROWS = 256
"""Pixels that are added up in float32 before float64 takes over."""

_ZERO, _HALF = np.float32(0), np.float32(0.5)


@intrinsic
def _pointer(context, address):
    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), generate


@_inlined
def _bf16(address, shape):
    return carray(_pointer(address), shape, np.uint16)


@_inlined
def _float32(address, shape):
    return carray(_pointer(address), shape, np.float32)


@_inlined
def _real(bits):
    return np.uint32(np.uint32(bits) << np.uint32(16)).view(np.float32)


@_inlined
def _bits(real):
    whole = np.float32(real).view(np.uint32)
    tie = np.uint32(np.uint32(whole >> np.uint32(16)) & np.uint32(1))
    return np.uint16(np.uint32(whole + np.uint32(0x7FFF) + tie) >> np.uint32(16))


@_inlined
def _fired(membrane, levels, value):
    scaled = membrane * levels
    if scaled < _ZERO:     # not by min and max, which could lose NaN
        scaled = _ZERO
    if scaled > levels:
        scaled = levels
    return np.floor(scaled + _HALF) * value


@_inlined
def _passed(grad, membrane):
    return grad if membrane > _ZERO and membrane < 1 else _ZERO


@_compiled
def norm_forward(pixels, channels, x, weight, bias, running_mean, running_var, momentum, eps,
                 levels, saved, y):
    """Batch norm of map x by the moments of its pixels, which move the running ones too.

    With levels above 0, y is level/levels of the level that the result fires. saved (4, channels)
    float32 gets what the backward pass needs: gain, offset, mean, deviation.
    """
    x, y, saved = _bf16(x, (pixels, channels)), _bf16(y, (pixels, channels)), _float32(
        saved, (4, channels))
    weight, bias = _float32(weight, channels), _float32(bias, channels)
    running_mean, running_var = _float32(running_mean, channels), _float32(running_var, channels)
    shift = np.empty(channels, np.float32)    # moments about a pixel: nothing cancels
    for c in range(channels):
        shift[c] = _real(x[0, c])
    total, square = np.zeros(channels), np.zeros(channels)
    one, two = np.zeros(channels, np.float32), np.zeros(channels, np.float32)
    for start in range(0, pixels, _ROWS):
        one[:] = 0
        two[:] = 0
        for p in range(start, min(start + _ROWS, pixels)):
            for c in range(channels):
                v = _real(x[p, c]) - shift[c]
                one[c] += v
                two[c] += v * v
        for c in range(channels):
            total[c] += one[c]
            square[c] += two[c]
    gain, offset = np.empty(channels, np.float32), np.empty(channels, np.float32)
    for c in range(channels):
        away = total[c] / pixels
        mean = shift[c] + away
        variance = square[c] / pixels - away * away
        variance = 0.0 if variance < 0 else variance
        running_mean[c] += momentum * (mean - running_mean[c])
        unbiased = variance * pixels / (pixels - 1)
        running_var[c] += momentum * (unbiased - running_var[c])
        deviation = 1 / np.sqrt(variance + eps)
        gain[c] = weight[c] * deviation
        offset[c] = bias[c] - gain[c] * mean
        saved[0, c], saved[1, c], saved[2, c], saved[3, c] = gain[c], offset[c], mean, deviation
    if levels > 0:
        top = np.float32(levels)
        value = np.float32(1 / levels)
        for p in range(pixels):
            for c in range(channels):
                y[p, c] = _bits(_fired(_real(x[p, c]) * gain[c] + offset[c], top, value))
    else:
        for p in range(pixels):
            for c in range(channels):
                y[p, c] = _bits(_real(x[p, c]) * gain[c] + offset[c])


@_compiled
def norm_backward(pixels, channels, x, grad, saved, fires, grad_x, grad_affine):
    """Gradients of :func:`norm_forward`; `fires` says whether it fired.

    grad_affine (2, channels) float32 gets those of weight and bias.
    """
    x, grad = _bf16(x, (pixels, channels)), _bf16(grad, (pixels, channels))
    grad_x, saved = _bf16(grad_x, (pixels, channels)), _float32(saved, (4, channels))
    grad_affine = _float32(grad_affine, (2, channels))
    gain, offset, mean = saved[0].copy(), saved[1].copy(), saved[2].copy()
    total, product = np.zeros(channels), np.zeros(channels)
    one, two = np.zeros(channels, np.float32), np.zeros(channels, np.float32)
    for start in range(0, pixels, _ROWS):
        one[:] = 0
        two[:] = 0
        for p in range(start, min(start + _ROWS, pixels)):
            for c in range(channels):
                v, g = _real(x[p, c]), _real(grad[p, c])
                if fires:
                    g = _passed(g, v * gain[c] + offset[c])
                one[c] += g
                two[c] += g * (v - mean[c])
        for c in range(channels):
            total[c] += one[c]
            product[c] += two[c]
    slope, constant = np.empty(channels, np.float32), np.empty(channels, np.float32)
    for c in range(channels):
        deviation = np.float64(saved[3, c])
        grad_affine[0, c] = product[c] * deviation
        grad_affine[1, c] = total[c]
        bent = gain[c] * product[c] * deviation * deviation / pixels
        slope[c] = -bent
        constant[c] = bent * mean[c] - gain[c] * total[c] / pixels
    for p in range(pixels):
        for c in range(channels):
            v, g = _real(x[p, c]), _real(grad[p, c])
            if fires:
                g = _passed(g, v * gain[c] + offset[c])
            grad_x[p, c] = _bits(gain[c] * g + slope[c] * v + constant[c])


@_compiled
def fire(size, x, levels, gain, y):
    """y = gain*level/levels of membranes x, bfloat16, both (size,)."""
    x, y = _bf16(x, size), _bf16(y, size)
    top = np.float32(levels)
    value = np.float32(gain / levels)
    for i in range(size):
        y[i] = _bits(_fired(_real(x[i]), top, value))


@_compiled
def fire_float(size, x, levels, gain, y):
    """The same of membranes in float32."""
    x, y = _float32(x, size), _bf16(y, size)
    top = np.float32(levels)
    value = np.float32(gain / levels)
    for i in range(size):
        y[i] = _bits(_fired(x[i], top, value))


@_compiled
def fire_back(size, x, grad, gain, grad_x):
    """grad_x = gain*grad where 0 < x < 1, all bfloat16, (size,)."""
    x, grad, grad_x = _bf16(x, size), _bf16(grad, size), _bf16(grad_x, size)
    factor = np.float32(gain)
    for i in range(size):
        grad_x[i] = _bits(_passed(factor * _real(grad[i]), _real(x[i])))


@_compiled
def fire_back_float(size, x, grad, gain, grad_x):
    """The same with x and grad_x in float32."""
    x, grad, grad_x = _float32(x, size), _bf16(grad, size), _float32(grad_x, size)
    factor = np.float32(gain)
    for i in range(size):
        grad_x[i] = _passed(factor * _real(grad[i]), x[i])
