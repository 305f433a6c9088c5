"""Seeded weights for networks whose trained ones are not at hand. NumPy only, no torch.

The integers of such a network are as wide, its levels as busy and its membranes as large as those
of a trained one, so whatever it is timed with is timed rightly; its classes mean nothing. Every
constant that normalises is set from what reaches it (data-dependent initialisation): images are
propagated layer by layer and each batch norm gets the statistics that it sees.

Statistics are taken of exact integer sums, and all else is arithmetic that IEEE 754 defines
exactly, so one seed gives the same bytes on every machine.
"""

from functools import partial
from math import fsum

import numpy as np
from numpy.typing import NDArray

from model.families.layout import state_shapes, steps
from model.families.spec import QsdtSpec
from model.integer import golden
from model.integer.epilogue import IntegerParams
from model.integer.export import ATTENTION_UNIT, LEVEL_UNIT


__all__ = ["NOTICE", "natural_images", "synthetic_state"]


NOTICE = "synthetic: timing is real, classes are not"
"""What every log, report and file says of weights made here."""

# Targets from a small network of this kind trained on Fashion-MNIST: nearly half of all levels
# are nonzero and a fifth are 4, of q, k and v half as many; membranes stay below 10, z below 12.
_FIRE = (1.06, 0.02)  # gamma and beta of what fires: P(level > 0) 0.46, P(level = 4) 0.21
_ADD = (0.4, 0.0)  # of what a convolution block adds to the membrane
_LAYER_SCALE = 0.3
_Z_RMS = 1.5
_ATTENTION_MEAN = 1.0
"""Mean level behind attention. q, k and v share one beta that reaches it: as in a trained network,
neither all 0 nor all 4, whatever the number of tokens."""

_NEGATIVE = 0.05
"""Share of LSQ steps and of batch norm gains below 0, which training leaves unconstrained."""

_POSITIONS = 196
"""Positions of the smallest map that statistics are taken of, at least; more images if fewer."""


def natural_images(rng: np.random.Generator, count: int, spec: QsdtSpec) -> NDArray[np.int8]:
    """Random int8 images (count, C, H, W), units of 1/48, as smooth as photographs are.

    Random blocks of 1, 2, 4, ... pixels, summed: equal variance in every octave.
    """
    size, shape = spec.image_size, (count, spec.in_channels)
    total = np.zeros((*shape, size, size), np.int64)
    block = 1
    while block < size:
        side = -(-size // block)
        coarse = rng.integers(-48, 49, (*shape, side, side))
        total += np.repeat(np.repeat(coarse, block, 2), block, 3)[:, :, :size, :size]
        block *= 2
    return np.clip(total, -102, 127).astype(np.int8)  # the range of normalised photographs


def synthetic_state(
    spec: QsdtSpec, seed: int = 0, params: IntegerParams | None = None
) -> dict[str, NDArray]:
    """Make the stored state (int8 "<layer>.weight.q", see `model.integer.qsd_file`) number `seed`.

    Args:
        params: Widths of z and its fraction, which the second convolution after a z sees.

    Raises:
        ValueError: If the network has no integer form, other levels than 0..4, or MPRF.
    """
    spec.check_integer_form()
    if spec.levels != golden.MAX_LEVEL or spec.mprf != "none":
        raise ValueError(f"{spec.name}: synthetic weights are made for levels 0..4 without mprf; "
                         "train it and name the file with --weights")
    maker = _Maker(spec, np.random.default_rng((seed, 2)), params or IntegerParams())
    maker.propagate()
    return dict(sorted(maker.state.items()))


class _Maker:
    """Draws the weights of one layer after the other and carries real-valued maps through."""

    def __init__(self, spec: QsdtSpec, rng: np.random.Generator, params: IntegerParams) -> None:
        self.spec, self.rng, self.params = spec, rng, params
        self.shapes = state_shapes(spec)
        self.state: dict[str, NDArray] = {}

    def propagate(self) -> None:
        spec = self.spec
        tokens = (spec.image_size // spec.reduction) ** 2
        images = natural_images(self.rng, -(-_POSITIONS // tokens), spec)
        u: NDArray = images
        for name, kind, stage in steps(spec):
            if kind == "downsample":
                x, unit = (u, 1 / spec.image_scale) if stage == 0 else (_levels(u), LEVEL_UNIT)
                layer = f"{name}.encode_conv"
                acc = self.convolve(layer, x, stride=spec.strides[stage])
                u = self.normalise(f"{name}.encode_bn", acc, self.scale(layer) * unit, *_FIRE,
                                   bias=self.bias(layer))
            elif kind == "sepconv":
                u = u + self.sep_conv(name, _levels(u))
            elif kind == "convs":
                fired = self.fire(f"{name}.conv1", f"{name}.bn1", _levels(u))
                acc = self.convolve(f"{name}.conv2", fired)
                scale = self.scale(f"{name}.conv2") * LEVEL_UNIT
                u = u + self.normalise(f"{name}.bn2", acc, scale, *_ADD)
            elif kind == "attention":
                added = self.attention(name, _levels(u))
                u = u + self.layer_scale(f"{name.removesuffix('.attn')}.layer_scale1", added)
            else:
                layer = f"{name}.fc1_conv"
                fired = self.fire(layer, f"{name}.fc1_bn", _levels(u), bias=True)
                layer = f"{name}.fc2_conv"
                acc = self.convolve(layer, fired)
                added = self.normalise(f"{name}.fc2_bn", acc, self.scale(layer) * LEVEL_UNIT,
                                       1.0, 0.0, bias=self.bias(layer))
                u = u + self.layer_scale(f"{name.removesuffix('.mlp')}.layer_scale2", added)
        self.weight("head")
        self.bias("head")

    # -- constants --------------------------------------------------------------------------

    def weight(self, layer: str) -> NDArray[np.int8]:
        """Draw weights and LSQ steps. As trained: a fifth of the weights 0, hardly any clipped."""
        shape, bits = self.shapes[f"{layer}.weight"], self.spec.weight_bits
        # The number of ones among 2^bits random bits: nearly normal, and exact everywhere.
        fair = self.rng.integers(0, 1 << (1 << bits), shape, dtype=np.uint16)
        half = 1 << (bits - 1)
        q = np.minimum(np.bitwise_count(fair).astype(np.int8) - half, half - 1).astype(np.int8)
        fan_in = int(np.prod(shape[1:]))
        alpha = self.spread(shape[0], 1 / np.sqrt(fan_in * 2.0 ** (bits - 2)), signed=True)
        self.state |= {f"{layer}.weight.q": q, f"{layer}.alpha": alpha}
        return q.reshape(*shape, *[1] * (4 - len(shape)))

    def spread(self, count: int, middle: float, *, signed: bool = False) -> NDArray[np.float32]:
        """Values around `middle`, +-40 %, a few of them negative if `signed`."""
        values = middle * self.rng.uniform(0.6, 1.4, count)
        if signed:
            values = np.where(self.rng.random(count) < _NEGATIVE, -values, values)
        return values.astype(np.float32)

    def scale(self, layer: str) -> NDArray[np.float64]:
        return self.state[f"{layer}.alpha"].astype(np.float64)

    def bias(self, layer: str) -> NDArray[np.float64]:
        values = self.rng.uniform(-0.1, 0.1, self.shapes[f"{layer}.bias"]).astype(np.float32)
        self.state[f"{layer}.bias"] = values
        return values.astype(np.float64)

    def norm(self, name: str, mean: NDArray, var: NDArray, gamma: float, beta: float
             ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Store a batch norm of these statistics; returns its gain and shift."""
        count = len(mean)
        # A channel that hardly moves on these images is not blown up for others.
        var = np.maximum(var, fsum(var.tolist()) / count / 16 + 1e-5)
        values = {"running_mean": mean.astype(np.float32), "running_var": var.astype(np.float32),
                  "weight": self.spread(count, gamma, signed=True),
                  "bias": (beta + self.rng.uniform(-0.2, 0.2, count)).astype(np.float32)}
        self.state |= {f"{name}.{part}": value for part, value in values.items()}
        mean, var, weight, bias = (values[part].astype(np.float64) for part in (
            "running_mean", "running_var", "weight", "bias"))
        gain = weight / np.sqrt(var + 1e-5)
        return gain, bias - mean * gain

    # -- layers -----------------------------------------------------------------------------

    def convolve(self, layer: str, x: NDArray, *, stride: int = 1) -> NDArray[np.int64]:
        """Exact accumulators of a layer drawn now; maps are (N, C, H, W)."""
        q = self.weight(layer)
        return golden.convolve(x, q, stride=stride, padding=q.shape[-1] // 2)

    def normalise(self, norm: str, acc: NDArray[np.int64], scale: NDArray, gamma: float,
                  beta: float, *, bias: NDArray | float = 0.0) -> NDArray[np.float64]:
        """Batch norm of scale * acc + bias by its own statistics."""
        mean, square = _moments(acc)
        var = np.maximum(square - mean * mean, 0) * scale * scale
        gain, shift = self.norm(norm, mean * scale + bias, var, gamma, beta)
        return _affine(acc, scale * gain, bias * gain + shift)

    def fire(self, layer: str, norm: str, x: NDArray, *, bias: bool = False) -> NDArray[np.uint8]:
        """Convolution, batch norm, levels."""
        acc = self.convolve(layer, x)
        return _levels(self.normalise(norm, acc, self.scale(layer) * LEVEL_UNIT, *_FIRE,
                                      bias=self.bias(layer) if bias else 0.0))

    def requantise(self, layer: str, name: str, acc: NDArray, gain: NDArray
                   ) -> tuple[NDArray[np.int64], int]:
        """z of gain * alpha * acc, after scaling the layer's alpha to the usual size of z.

        Returns z and its fraction bits.
        """
        _, square = _moments(acc)
        scale = self.scale(layer) * gain
        power = fsum((square * scale * scale).tolist()) / len(scale)
        grown = self.scale(layer) * (_Z_RMS / np.sqrt(power + 1e-12))
        self.state[f"{layer}.alpha"] = grown.astype(np.float32)
        frac = self.params.z_frac_for(name)
        z = np.floor(np.ldexp(_affine(acc, self.scale(layer) * gain, 0.0), frac) + 0.5)
        return golden.saturate(z, self.params.z_bits_for(name)), frac

    def sep_conv(self, name: str, x: NDArray) -> NDArray[np.float64]:
        fired = self.fire(f"{name}.pwconv1", f"{name}.bn1", x)
        layer = f"{name}.dwconv"
        q = self.weight(layer)[:, 0]
        acc = golden.depthwise(fired, q, padding=q.shape[-1] // 2)
        z, frac = self.requantise(layer, layer, acc, np.full(len(q), LEVEL_UNIT))
        layer = f"{name}.pwconv2"
        acc = self.convolve(layer, z)
        return self.normalise(f"{name}.bn2", acc, np.ldexp(self.scale(layer), -frac), *_ADD)

    def rep_conv(
        self, name: str, x: NDArray, unit: float
    ) -> tuple[NDArray, NDArray, NDArray]:
        """Everything but the last batch norm: exact accumulators, and their real scale."""
        point, depth, end = (f"{name}.0.body.{part}" for part in ("0", "2.0", "2.1"))
        acc = self.convolve(point, x)
        scale = self.scale(point) * unit
        mean, square = _moments(acc)
        var = np.maximum(square - mean * mean, 0) * scale * scale
        gain, shift = self.norm(f"{name}.0.body.1.bn", mean * scale, var, 1.0, 0.0)
        q = self.weight(depth)[:, 0]
        acc = golden.depthwise(acc, q, padding=1)
        z, frac = self.requantise(depth, name, acc, gain * scale)
        acc = self.convolve(end, z)
        # The inner shift reaches the end as a constant of each channel (model.integer.export.fold).
        constant = self.scale(depth) * shift * q.astype(np.int64).sum(axis=(1, 2))
        matrix = self.state[f"{end}.weight.q"][:, :, 0, 0].astype(np.float64)
        reached = self.scale(end) * np.array([fsum(row) for row in (matrix * constant).tolist()])
        scale = np.ldexp(self.scale(end), -frac)
        mean, square = _moments(acc)
        var = np.maximum(square - mean * mean, 0) * scale * scale
        gain, shift = self.norm(f"{name}.0.body.2.2", mean * scale + reached, var, 1.0, 0.0)
        return acc, scale * gain, reached * gain + shift

    def attention(self, name: str, x: NDArray) -> NDArray[np.float64]:
        maps = []
        for branch in "qkv":
            acc, scale, bias = self.rep_conv(f"{name}.{branch}_conv", x, LEVEL_UNIT)
            norm = f"{name}.{branch}_conv.1"
            maps.append((norm, self.normalise(norm, acc, scale, _FIRE[0], 0.0, bias=bias)))
        attend = partial(golden.attention, heads=self.spec.heads)
        low, high = -2.0, 1.0  # of the beta that q, k and v get
        for _ in range(8):
            beta = (low + high) / 2
            query, key, value = (_levels(y + beta) for _, y in maps)
            level = attend(query, key, value)[2]
            low, high = (beta, high) if level.sum() < _ATTENTION_MEAN * level.size else (low, beta)
        chosen = np.float32((low + high) / 2)
        for norm, _ in maps:
            self.state[f"{norm}.bias"] += chosen
        query, key, value = (_levels(y + float(chosen)) for _, y in maps)
        level = attend(query, key, value)[2]
        acc, scale, bias = self.rep_conv(f"{name}.proj_conv", level, ATTENTION_UNIT)
        return self.normalise(f"{name}.proj_conv.1", acc, scale, 1.0, 0.0, bias=bias)

    def layer_scale(self, key: str, x: NDArray) -> NDArray[np.float64]:
        self.state[key] = self.spread(x.shape[1], _LAYER_SCALE, signed=True)
        return x * self.state[key].astype(np.float64)[:, None, None]


def _levels(u: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.floor(np.clip(4 * u, 0, golden.MAX_LEVEL) + 0.5).astype(np.uint8)


def _affine(x: NDArray, scale: NDArray, offset: NDArray | float) -> NDArray[np.float64]:
    offset = np.broadcast_to(offset, scale.shape)
    return x * scale[:, None, None] + offset[:, None, None]


def _moments(acc: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and mean square of every channel, of exact sums (at most 2^63: 24 bits, 2^16 x)."""
    count = acc.size // acc.shape[1]
    total, square = acc.sum(axis=(0, 2, 3)), (acc * acc).sum(axis=(0, 2, 3))
    return total / count, square / count

