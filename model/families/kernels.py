"""Loops over maps in bfloat16 as machine code (numba), for one thread of a CPU.

Arrays are given by their addresses (``Tensor.data_ptr``), which costs a tenth of what arrays of
NumPy cost, and their sizes; `model.families.fused` answers for both. A map is (pixels, channels)
of bfloat16: a channels-last tensor as it lies in memory. Arithmetic is float32, sums over pixels
float64; results are rounded to even. Not finite values stay so.

What fires is one of `HALF_UP` and `HALF_EVEN`, pairs of functions: of the value that a membrane
hands on, and of the gradient that passes. Each gets its own machine code, without a choice inside.
"""

from numba import carray, njit, types
from numba.extending import intrinsic
import numpy as np


__all__ = ["HALF_EVEN", "HALF_UP", "depthwise_taps", "fire", "fire_back", "fire_back_float",
           "fire_float", "norm_backward", "norm_forward", "quantise", "quantise_back"]

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
def _clipped(ratio, bottom, top):
    if ratio < bottom:     # not by min and max, which could lose NaN
        ratio = bottom
    if ratio > top:
        ratio = top
    return ratio


@_inlined
def _half_up(membrane, levels, value):
    return np.floor(_clipped(membrane * levels, _ZERO, levels) + _HALF) * value


@_inlined
def _pass_to_1(grad, membrane, levels):
    return grad if membrane > _ZERO and membrane < 1 else _ZERO


@_inlined
def _half_even(membrane, levels, value):
    return np.rint(_clipped(membrane, _ZERO, levels)) * value


@_inlined
def _pass_to_highest(grad, membrane, levels):
    return grad / levels if membrane >= _ZERO and membrane <= levels else _ZERO


HALF_UP = _half_up, _pass_to_1
"""As of `model.families.neuron.IeLif`: a membrane of 1 is the highest level."""

HALF_EVEN = _half_even, _pass_to_highest
"""As of `model.families.neuron.Sfa`: membranes are in levels."""


@_compiled
def norm_forward(pixels, channels, x, weight, bias, running_mean, running_var, momentum, eps,
                 levels, fired, saved, y):
    """Batch norm of map x by the moments of its pixels, which move the running ones too.

    With levels above 0, y is level/levels of the level that `fired` gives the result. saved
    (4, channels) float32 gets what the backward pass needs: gain, offset, mean, deviation.
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
                y[p, c] = _bits(fired(_real(x[p, c]) * gain[c] + offset[c], top, value))
    else:
        for p in range(pixels):
            for c in range(channels):
                y[p, c] = _bits(_real(x[p, c]) * gain[c] + offset[c])


@_compiled
def norm_backward(pixels, channels, x, grad, saved, levels, passed, grad_x, grad_affine):
    """Gradients of :func:`norm_forward`, with levels above 0 by what is `passed`.

    grad_affine (2, channels) float32 gets those of weight and bias.
    """
    x, grad = _bf16(x, (pixels, channels)), _bf16(grad, (pixels, channels))
    grad_x, saved = _bf16(grad_x, (pixels, channels)), _float32(saved, (4, channels))
    grad_affine = _float32(grad_affine, (2, channels))
    gain, offset, mean = saved[0].copy(), saved[1].copy(), saved[2].copy()
    fires, top = levels > 0, np.float32(levels)
    total, product = np.zeros(channels), np.zeros(channels)
    one, two = np.zeros(channels, np.float32), np.zeros(channels, np.float32)
    for start in range(0, pixels, _ROWS):
        one[:] = 0
        two[:] = 0
        for p in range(start, min(start + _ROWS, pixels)):
            for c in range(channels):
                v, g = _real(x[p, c]), _real(grad[p, c])
                if fires:
                    g = passed(g, v * gain[c] + offset[c], top)
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
                g = passed(g, v * gain[c] + offset[c], top)
            grad_x[p, c] = _bits(gain[c] * g + slope[c] * v + constant[c])


@_compiled
def fire(size, x, levels, gain, fired, y):
    """y = gain*level/levels of membranes x, bfloat16, both (size,)."""
    x, y = _bf16(x, size), _bf16(y, size)
    top = np.float32(levels)
    value = np.float32(gain / levels)
    for i in range(size):
        y[i] = _bits(fired(_real(x[i]), top, value))


@_compiled
def fire_float(size, x, levels, gain, fired, y):
    """The same of membranes in float32."""
    x, y = _float32(x, size), _bf16(y, size)
    top = np.float32(levels)
    value = np.float32(gain / levels)
    for i in range(size):
        y[i] = _bits(fired(x[i], top, value))


@_compiled
def fire_back(size, x, grad, levels, gain, passed, grad_x):
    """grad_x = gain times what is `passed` of grad, all bfloat16, (size,)."""
    x, grad, grad_x = _bf16(x, size), _bf16(grad, size), _bf16(grad_x, size)
    factor, top = np.float32(gain), np.float32(levels)
    for i in range(size):
        grad_x[i] = _bits(passed(factor * _real(grad[i]), _real(x[i]), top))


@_compiled
def fire_back_float(size, x, grad, levels, gain, passed, grad_x):
    """The same with x and grad_x in float32."""
    x, grad, grad_x = _float32(x, size), _bf16(grad, size), _float32(grad_x, size)
    factor, top = np.float32(gain), np.float32(levels)
    for i in range(size):
        grad_x[i] = passed(factor * _real(grad[i]), x[i], top)


@_compiled
def quantise(rows, size, weight, step, low, high, y):
    """y = step*round(clip(weight/step)) in bfloat16; weight (rows, size) and step in float32."""
    weight, step, y = _float32(weight, (rows, size)), _float32(step, rows), _bf16(y, (rows, size))
    bottom, top = np.float32(low), np.float32(high)
    for r in range(rows):
        s = step[r]
        for i in range(size):
            y[r, i] = _bits(np.rint(_clipped(weight[r, i] / s, bottom, top)) * s)


@_compiled
def quantise_back(rows, size, weight, step, low, high, grad, scale, grad_weight, grad_step):
    """Gradients of :func:`quantise` by LSQ, the steps' times `scale`; grad is bfloat16."""
    weight, step, grad = _float32(weight, (rows, size)), _float32(step, rows), _bf16(
        grad, (rows, size))
    grad_weight, grad_step = _float32(grad_weight, (rows, size)), _float32(grad_step, rows)
    bottom, top = np.float32(low), np.float32(high)
    for r in range(rows):
        s, total = step[r], 0.0
        for i in range(size):
            ratio, g = weight[r, i] / s, _real(grad[r, i])
            inside = ratio >= bottom and ratio <= top
            slope = np.rint(_clipped(ratio, bottom, top))
            if inside:
                slope -= ratio
            grad_weight[r, i] = g if inside else _ZERO
            total += g * slope
        grad_step[r] = total * scale


@_compiled
def depthwise_taps(batch, height, width, channels, kernel, x, grad, grad_weight):
    """Gradient (kernel*kernel, channels), float32, of the weights of a "same" convolution.

    x and grad are maps of (batch, height, width, channels). A row of the map times a row of grad is
    added up for each tap; pixels beside the map are 0.
    """
    size, edge = width * channels, kernel // 2
    x, grad = _bf16(x, (batch, height, size)), _bf16(grad, (batch, height, size))
    grad_weight = _float32(grad_weight, (kernel * kernel, channels))
    # One row more, of zeros: rows go in pairs.
    framed = np.zeros((height + 2 * edge + 1, (width + 2 * edge) * channels), np.float32)
    slopes = np.zeros((height + 1, size), np.float32)
    sums = np.zeros((kernel * kernel, size), np.float32)
    for b in range(batch):
        for row in range(height):
            bits, to = x[b, row], framed[row + edge, edge * channels : edge * channels + size]
            bits_grad, to_grad = grad[b, row], slopes[row]
            for i in range(size):
                to[i] = _real(bits[i])
                to_grad[i] = _real(bits_grad[i])
        for down in range(kernel):
            for right in range(kernel):
                total = sums[down * kernel + right]
                start = right * channels
                for row in range(0, height, 2):
                    a, b0 = slopes[row], framed[row + down, start : start + size]
                    c, d0 = slopes[row + 1], framed[row + down + 1, start : start + size]
                    for i in range(size):
                        total[i] += a[i] * b0[i] + c[i] * d0[i]
    for tap in range(kernel * kernel):
        for c in range(channels):
            whole = 0.0
            for column in range(width):
                whole += sums[tap, column * channels + c]
            grad_weight[tap, c] = whole
