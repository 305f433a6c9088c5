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

from model.families import parts
from model.families.base import code_range, NetworkSpec
from model.families.dense import source_of
from model.families.layout import state_shapes
from model.families.qsdt import QsdtSpec
from model.integer import golden
from model.integer.epilogue import IntegerParams


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


def natural_images(rng: np.random.Generator, count: int, spec: NetworkSpec) -> NDArray[np.int8]:
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
    spec: NetworkSpec, seed: int = 0, params: IntegerParams | None = None
) -> dict[str, NDArray]:
    """Make the stored state (int8 "<layer>.weight.q", see `model.integer.qsd_file`) number `seed`.

    Args:
        params: Widths of z and its fraction, which the second convolution after a z sees.

    Raises:
        ValueError: If the network has no integer form, other levels than 0..4, or MPRF.
    """
    spec.check_integer_form()
    mprf = isinstance(spec, QsdtSpec) and spec.mprf != "none"
    if spec.levels != golden.MAX_LEVEL or mprf:
        raise ValueError(f"{spec.name}: synthetic weights are made for levels 0..4 without mprf; "
                         "train it and name the file with --weights")
    maker = _Maker(spec, np.random.default_rng((seed, 2)), params or IntegerParams())
    maker.propagate()
    return dict(sorted(maker.state.items()))


class _Maker:
    """Draws the weights of one layer after the other and carries real-valued maps through."""

    def __init__(self, spec: NetworkSpec, rng: np.random.Generator, params: IntegerParams) -> None:
        self.spec, self.rng, self.params = spec, rng, params
        self.shapes = state_shapes(spec)
        self.bits = {layer.key: spec.bits_of(layer) for layer in spec.layers}
        self.state: dict[str, NDArray] = {}
        self.fracs: dict[str, int] = {}    # fraction bits of z, by the layer that makes it

    def propagate(self) -> None:
        spec = self.spec
        tokens = (spec.image_size // spec.reduction) ** 2
        images = natural_images(self.rng, -(-_POSITIONS // tokens), spec)
        u: NDArray = images
        wanted = {layer.source for layer in spec.dense_layers}
        fired: dict[str, NDArray] = {}
        for step in spec.steps:
            maps = {step.entry: images if step.entry == "image" else self.levels(u)}
            fired.update({name: x for name, x in maps.items() if name in wanted})
            made = self.run(step, maps)
            u = made if step.replaces else u + made
            tap = source_of(spec, spec.stages[step.stage])
            if tap in wanted and tap.startswith("neck."):
                fired[tap] = self.levels(u, head=True)    # of the stage's last step in the end
        if spec.dense_heads is not None:
            self.heads(fired)
            return
        self.weight("head")
        self.bias("head")

    def heads(self, maps: dict[str, NDArray]) -> None:
        """Draw the layers of heads for dense prediction; `maps` are the levels of their taps."""
        membranes: dict[str, NDArray] = {}
        heads = self.spec.dense_heads
        largest = self.spec.highest
        if heads is not None and heads.whole(self.spec):
            largest = float(self.spec.levels)
        for layer in self.spec.dense_layers:
            acc = None if layer.zero else self.convolve(layer, maps[layer.source])
            if layer.output:
                self.bias(layer.key)
                continue
            made: NDArray[np.float64] = np.zeros(1)
            if acc is not None:
                made = self.normalise(layer.norms[0], acc, self.scale(layer.key) * layer.unit,
                                      *(_ADD if layer.added else _FIRE), highest=largest,
                                      bias=self.bias(layer.key) if layer.bias else 0.0)
            if layer.added:
                height, width = maps[layer.source].shape[2:]
                made = made + golden.upsample(
                    membranes[layer.added], layer.upsample)[..., :height, :width]
            if layer.membrane:
                membranes[layer.membrane] = made
            if layer.neuron:
                maps[layer.neuron] = self.levels(made, head=True)

    def run(self, step: parts.Step, maps: dict[str, NDArray]) -> NDArray[np.float64]:
        """Draw the layers of a step; what it adds to the membrane. `maps` has its entry."""
        operands: dict[str, tuple[str, NDArray[np.float64]]] = {}
        for part in step.parts:
            if isinstance(part, parts.Attention):
                maps[part.name] = self.attention(part, operands)
                continue
            layer = part.layers[-1]
            bias: NDArray[np.float64] | float
            if isinstance(part, parts.RepConv):
                acc, scale, bias = self.rep_conv(part, maps[part.source])
            elif layer.multi_bit:
                maps[layer.name] = self.depthwise(layer, maps[layer.source])
                continue
            else:
                acc = self.convolve(layer, maps[layer.source])
                scale = self.scale(layer.name) * layer.unit
                if layer.source in self.fracs:
                    scale = np.ldexp(scale, -self.fracs[layer.source])
                bias = self.bias(layer.name) if layer.bias else 0.0
            attended = step.kind == "attention" and layer.neuron
            gamma, beta = (
                (_FIRE[0], 0.0) if attended else _FIRE if layer.neuron or step.replaces else
                (1.0, 0.0) if layer.scale else _ADD if step.stage < 3 else (_LAYER_SCALE, 0.0))
            y = self.normalise(layer.norms[-1], acc, scale, gamma, beta, bias=bias)
            if attended:
                operands[layer.neuron] = layer.norms[-1], y
            elif layer.neuron:
                maps[layer.neuron] = self.levels(y)
        return self.layer_scale(layer.scale, y) if layer.scale else y

    # -- constants --------------------------------------------------------------------------

    def weight(self, layer: str) -> NDArray[np.int8]:
        """Draw weights and LSQ steps, if they are not there. As trained: a fifth of the weights 0,
        hardly any clipped."""
        if f"{layer}.weight.q" in self.state:
            return self.state[f"{layer}.weight.q"]
        shape, bits = self.shapes[f"{layer}.weight"], self.bits[layer]
        # The number of ones among 2^bits random bits: nearly normal, and exact everywhere.
        drawn = min(bits, 4)
        fair = self.rng.integers(0, 1 << (1 << drawn), shape, dtype=np.uint16)
        half = 1 << (drawn - 1)
        q = np.minimum(np.bitwise_count(fair).astype(np.int8) - half, half - 1).astype(np.int8)
        if bits > drawn:    # the upper four of 8 bits, and any lower ones
            lower = self.rng.integers(0, 16, shape)
            q = np.minimum(16 * q.astype(np.int64) + lower, code_range(bits)[1]).astype(np.int8)
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
        if f"{layer}.bias" not in self.state:
            values = self.rng.uniform(-0.1, 0.1, self.shapes[f"{layer}.bias"]).astype(np.float32)
            self.state[f"{layer}.bias"] = values
        values = self.state[f"{layer}.bias"]
        return values.astype(np.float64)

    def norm(self, name: str, mean: NDArray, var: NDArray, gamma: float, beta: float,
             size: float = 1.0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Store a batch norm of these statistics; returns its gain and shift.

        gamma and beta are in units of `size`.
        """
        count = len(mean)
        # A channel that hardly moves on these images is not blown up for others.
        var = np.maximum(var, fsum(var.tolist()) / count / 16 + 1e-5)
        values = {"running_mean": mean.astype(np.float32), "running_var": var.astype(np.float32),
                  "weight": self.spread(count, gamma * size, signed=True),
                  "bias": (size * (beta + self.rng.uniform(-0.2, 0.2, count))).astype(np.float32)}
        self.state |= {f"{name}.{part}": value for part, value in values.items()}
        mean, var, weight, bias = (values[part].astype(np.float64) for part in (
            "running_mean", "running_var", "weight", "bias"))
        gain = weight / np.sqrt(var + 1e-5)
        return gain, bias - mean * gain

    # -- layers -----------------------------------------------------------------------------

    def convolve(self, layer: parts.Layer, x: NDArray) -> NDArray[np.int64]:
        """Exact accumulators of a layer drawn now; maps are (N, C, H, W)."""
        q = self.weight(layer.key)
        if layer.depthwise:
            return golden.depthwise(x, q[:, 0], padding=q.shape[-1] // 2)
        return golden.convolve(x, q, stride=layer.stride, padding=q.shape[-1] // 2)

    def normalise(self, norm: str, acc: NDArray[np.int64], scale: NDArray, gamma: float,
                  beta: float, *, bias: NDArray | float = 0.0, highest: float | None = None,
                  ) -> NDArray[np.float64]:
        """Batch norm of scale * acc + bias by its own statistics; gamma and beta are in units of
        the membrane that is worth the highest level, the backbone's if `highest` is not given."""
        mean, square = _moments(acc)
        var = np.maximum(square - mean * mean, 0) * scale * scale
        gain, shift = self.norm(norm, mean * scale + bias, var, gamma, beta,
                                highest or self.spec.highest)
        return _affine(acc, scale * gain, bias * gain + shift)

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

    def depthwise(self, layer: parts.Layer, x: NDArray) -> NDArray[np.int64]:
        """z of a depthwise convolution of levels."""
        acc = self.convolve(layer, x)
        z, self.fracs[layer.name] = self.requantise(
            layer.name, layer.name, acc, np.full(acc.shape[1], layer.unit))
        return z

    def rep_conv(
        self, made: parts.RepConv, x: NDArray
    ) -> tuple[NDArray, NDArray, NDArray]:
        """Everything but the last batch norm: exact accumulators, and their real scale."""
        first, middle, last = made.layers
        point, depth, end = (layer.name for layer in made.layers)
        acc = self.convolve(first, x)
        scale = self.scale(point) * first.unit
        mean, square = _moments(acc)
        var = np.maximum(square - mean * mean, 0) * scale * scale
        gain, shift = self.norm(first.norms[0], mean * scale, var, 1.0, 0.0)
        acc = self.convolve(middle, acc)
        z, frac = self.requantise(depth, made.name, acc, gain * scale)
        acc = self.convolve(last, z)
        # The inner shift reaches the end as a constant of each channel (model.integer.export.fold).
        q = self.state[f"{depth}.weight.q"][:, 0]
        constant = self.scale(depth) * shift * q.astype(np.int64).sum(axis=(1, 2))
        matrix = self.state[f"{end}.weight.q"][:, :, 0, 0].astype(np.float64)
        reached = self.scale(end) * np.array([fsum(row) for row in (matrix * constant).tolist()])
        scale = np.ldexp(self.scale(end), -frac)
        mean, square = _moments(acc)
        var = np.maximum(square - mean * mean, 0) * scale * scale
        gain, shift = self.norm(last.norms[0], mean * scale + reached, var, 1.0, 0.0)
        return acc, scale * gain, reached * gain + shift

    def attention(
        self, made: parts.Attention, operands: dict[str, tuple[str, NDArray[np.float64]]]
    ) -> NDArray[np.int64]:
        """Its levels, after choosing one beta for the batch norms of q, k and v."""
        maps = [operands[name] for name in (made.query, made.key, made.value)]
        attend = partial(golden.attention, heads=made.heads, thresholds=made.thresholds)
        low, high, highest = -2.0, 1.0, self.spec.highest  # of the beta that q, k and v get
        for _ in range(8):
            beta = (low + high) / 2
            level = attend(*(self.levels(y + beta * highest) for _, y in maps))[2]
            low, high = (beta, high) if level.sum() < _ATTENTION_MEAN * level.size else (low, beta)
        chosen = np.float32((low + high) / 2 * highest)
        for norm, _ in maps:
            self.state[f"{norm}.bias"] += chosen
        return attend(*(self.levels(y + float(chosen)) for _, y in maps))[2]

    def levels(self, u: NDArray[np.float64], *, head: bool = False) -> NDArray[np.uint8]:
        """What a neuron of the backbone fires, or of the heads for dense prediction."""
        spec = self.spec
        if head and spec.dense_heads is not None and spec.dense_heads.published:
            return np.rint(np.clip(u, 0, spec.levels)).astype(np.uint8)
        clipped = np.clip(spec.gain * u, 0, spec.levels)
        return (np.rint(clipped) if spec.half_even else np.floor(clipped + 0.5)).astype(np.uint8)

    def layer_scale(self, key: str, x: NDArray) -> NDArray[np.float64]:
        self.state[key] = self.spread(x.shape[1], _LAYER_SCALE, signed=True)
        return x * self.state[key].astype(np.float64)[:, None, None]


def _affine(x: NDArray, scale: NDArray, offset: NDArray | float) -> NDArray[np.float64]:
    offset = np.broadcast_to(offset, scale.shape)
    return x * scale[:, None, None] + offset[:, None, None]


def _moments(acc: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and mean square of every channel, of exact sums (at most 2^63: 24 bits, 2^16 x)."""
    count = acc.size // acc.shape[1]
    total, square = acc.sum(axis=(0, 2, 3)), (acc * acc).sum(axis=(0, 2, 3))
    return total / count, square / count

