"""From a state dict with the published names to an `IntegerNetwork`. NumPy only, no torch.

Two steps: `fold` turns weights, LSQ steps, biases, batch norms and layer scales into integer
weights and one real affine map a channel; `build` chooses the integer constants and makes the
graph. Everything is computed in float64 by operations that IEEE 754 defines exactly, so that two
machines get the same integers.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum, prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from model.data.dataset import DataInfo
from model.families import parts
from model.families.base import code_range, FLOAT_BITS, NetworkSpec
from model.families.dense import source_of
from model.integer import fixed_point
from model.integer.epilogue import (
    Fire,
    IntegerParams,
    Integrate,
    matches,
    Raw,
    Requantise,
    WIDE,
    z_name,
)
from model.integer.graph import Attention, Conv, Depthwise, Mean, Op, Pool, RepConv
from model.integer.network import IntegerNetwork


State = Mapping[str, NDArray]
Form = Literal["integer", "wide"]

_EPSILON = 1e-5  # of every published batch norm

_REAL_BITS, _REAL_HEAD_BITS = 36, 20
"""Bits of the codes that stand for real weights in the wide form, where sums must stay below 2^53;
those of a head that reads a mean leave bits to the mean."""

_MEAN_WHOLE_BITS = 9
"""Bits of a mean membrane in front of the point, in the wide form."""


@dataclass(frozen=True, eq=False)
class Layer:
    """One quantised layer: result = scale * (sum of weight * input) + offset, in real units.

    weight int8, of real weights int64, shape as published; scale, offset float64 (O,). The input's
    unit (such as 1/4, the value of a level) is part of `scale`, except for an input z, whose unit
    is chosen later.
    """

    weight: NDArray[Any]
    scale: NDArray[np.float64]
    offset: NDArray[np.float64]


def integer_weight(weight: NDArray, alpha: NDArray, bits: int) -> NDArray[np.int8]:
    """q = round_half_even(clamp(weight/alpha)) to the `code_range` of `bits`, as published.

    Computed in float32 whatever the inputs' type, because that is what the network was trained
    with; alpha (O,) goes with the first axis and may be negative.
    """
    step = alpha.astype(np.float32).reshape(-1, *[1] * (weight.ndim - 1))
    low, high = code_range(bits)
    return np.rint(np.clip(weight.astype(np.float32) / step, low, high)).astype(np.int8)


def codes(state: State, name: str, bits: int) -> NDArray[np.int8]:
    """Integer weights of layer `name`: stored ones ("<name>.weight.q") or its weights rounded."""
    if f"{name}.weight.q" in state:
        return state[f"{name}.weight.q"].astype(np.int8)
    return integer_weight(state[f"{name}.weight"], state[f"{name}.alpha"], bits)


def _real_codes(weight: NDArray, bits: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Codes for real weights (O, ...), and a step (O,), a power of two."""
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    _, exponent = np.frexp(np.abs(rows).max(axis=1))
    shift = bits - 1 - exponent
    q = np.rint(np.ldexp(rows, shift[:, None])).astype(np.int64)
    return q.reshape(weight.shape), np.ldexp(1.0, -shift)


def fold(state: State, spec: NetworkSpec, *, form: Form = "integer") -> dict[str, Layer]:
    """Fold every layer of `state`, by published layer name.

    A state dict holds "<layer>.weight" or, exported before, the int8 "<layer>.weight.q". For the
    wide form layers may have real weights, without a step ("<layer>.alpha"): they become codes of
    so many bits that levels do not tell.

    Raises ValueError if the network has no integer form, and naming the layer if a constant is not
    finite.
    """
    wide = form == "wide"
    (with_bits(spec, 4) if wide else spec).check_integer_form()
    layers: dict[str, Layer] = {}

    def put(name: str, layer: Layer) -> None:
        if not (np.isfinite(layer.scale).all() and np.isfinite(layer.offset).all()):
            raise ValueError(f"{name}: folded constants must be finite")
        layers[name] = layer

    def alone(made: parts.Layer) -> Layer:
        """The layer without its batch norms: scale alpha * unit, offset its bias or 0."""
        weight: NDArray[Any]
        if wide and f"{made.key}.alpha" not in state:
            bits = _REAL_HEAD_BITS if made.source == "mean" else _REAL_BITS
            weight, alpha = _real_codes(state[f"{made.key}.weight"], bits)
        else:
            weight = codes(state, made.key, spec.bits_of(made))
            alpha = _real(state, f"{made.key}.alpha")
        bias = f"{made.key}.bias"
        offset = _real(state, bias) if made.bias else np.zeros_like(alpha)
        return Layer(weight, alpha * made.unit, offset)

    def behind(folded: Layer, made: parts.Layer) -> Layer:
        """The layer with its batch norms and scale."""
        for norm in made.norms:
            folded = _normalised(folded, _batch_norm(state, norm))
        return folded if not made.scale else _scaled(folded, _real(state, made.scale))

    def rep_conv(made: parts.RepConv) -> None:
        """body.0 keeps the 1x1; body.2.0 maps its 3x3's sums to z; body.2.1 maps z to the end."""
        point, depthwise, end = made.layers
        first, depth, second = (alone(x) for x in made.layers)
        gain, shift = _batch_norm(state, point.norms[0])
        put(point.name, first)
        z_scale = depth.scale * (gain * first.scale)
        put(depthwise.name, Layer(depth.weight, z_scale, np.zeros_like(z_scale)))
        # The inner batch norm's shift is the border value of its map too, so what it adds to z
        # is the same everywhere; the second 1x1 carries it into its offset.
        constant = depth.scale * shift * depth.weight.astype(np.int64).sum(axis=(1, 2, 3))
        matrix = second.weight[:, :, 0, 0].astype(np.float64)
        reached = np.array([fsum(row) for row in (matrix * constant).tolist()])
        put(end.name, behind(Layer(second.weight, second.scale, second.scale * reached), end))

    for step in spec.steps:
        for part in step.parts:
            if isinstance(part, parts.RepConv):
                rep_conv(part)
            elif isinstance(part, parts.Layer):
                put(part.name, behind(alone(part), part))
    heads = spec.dense_heads
    encoders = [] if heads is None else heads.encoders(spec).values()
    for head in (*encoders, *spec.dense_layers):
        if head.zero:
            nothing = np.zeros(head.shape[0])
            put(head.name, Layer(np.zeros(head.shape, np.int8), nothing, nothing))
        else:
            put(head.name, behind(alone(head), head))
    if heads is None:
        put("head", alone(spec.head))
    return layers


def with_bits(spec: NetworkSpec, bits: int) -> NetworkSpec:
    """The spec with weights of `bits` bits in the place of real ones."""
    heads = spec.dense_heads
    if heads is not None and heads.weight_bits == FLOAT_BITS:
        spec = spec.changed(dense_heads=replace(heads, weight_bits=bits))
    return spec.changed(weight_bits=bits) if spec.weight_bits == FLOAT_BITS else spec


def _real(state: State, key: str) -> NDArray[np.float64]:
    return state[key].astype(np.float64)


def _batch_norm(state: State, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gain and shift of a batch norm in evaluation mode."""
    gain = _real(state, f"{name}.weight") / np.sqrt(_real(state, f"{name}.running_var") + _EPSILON)
    return gain, _real(state, f"{name}.bias") - _real(state, f"{name}.running_mean") * gain


def _normalised(layer: Layer, norm: tuple[NDArray, NDArray]) -> Layer:
    gain, shift = norm
    return Layer(layer.weight, layer.scale * gain, layer.offset * gain + shift)


def _scaled(layer: Layer, factor: NDArray[np.float64]) -> Layer:
    return Layer(layer.weight, layer.scale * factor, layer.offset * factor)


class _Builder:
    """Makes operators with the constants of one form; `ops` grows in execution order."""

    def __init__(self, layers: Mapping[str, Layer], spec: NetworkSpec, params: IntegerParams,
                 form: Form, sizes: Sequence[tuple[int, int]]) -> None:
        self.layers, self.spec, self.params, self.form = layers, spec, params, form
        self.sizes = sizes    # height and width of the membrane of each stage
        self.ops: list[Op] = []
        self._makers: dict[str, str] = {}    # of a multi-bit map's layer: the operator

    def _scale(self, layer: Layer, *, frac: int) -> Any:
        if self.form == "wide":
            return fixed_point.real_scale(layer.scale, layer.offset, frac=frac)
        return fixed_point.fixed_scale(layer.scale, layer.offset, frac=frac, params=self.params)

    def fire(self, layer: Layer, level: str, *, whole: bool = False) -> Fire:
        spec = self.spec
        rule = fixed_point.thresholds(
            layer.scale, layer.offset, acc_bits=self.params.acc_bits, levels=spec.levels,
            gain=1 if whole else spec.gain, half_even=whole or spec.half_even,
        )
        return Fire(rule, level)

    def integrate(self, layer: Layer, u_out: str, u_in: str | None, level: str | None,
                  upsample: int = 1, *, whole: bool = False) -> Integrate:
        """U in units of the membrane that is worth level D, so that D*U is the level; with `whole`
        in the backbone's units, and U is the level."""
        spec = self.spec
        layer = Layer(layer.weight, layer.scale / spec.highest, layer.offset / spec.highest)
        scale = self._scale(layer, frac=self.params.u_frac)
        return Integrate(scale, u_out, u_in, level, spec.levels, whole or spec.half_even, upsample,
                         whole)

    def requantise(self, name: str, layer: Layer) -> Requantise:
        return Requantise(self._scale(layer, frac=self.params.z_frac_for(name)), z_name(name))

    def rep_conv(self, made: parts.RepConv) -> None:
        """First half, up to z; the 1x1 at the end is a layer like any other."""
        point, depth, _ = made.layers
        self._makers[depth.name] = made.name
        self.ops.append(RepConv(
            made.name, made.source, self.layers[point.name].weight[:, :, 0, 0],
            self.layers[depth.name].weight[:, 0],
            self.requantise(made.name, self.layers[depth.name]),
        ))

    def attention(self, made: parts.Attention, stage: int) -> None:
        height, width = self.sizes[stage]
        thresholds = self.spec.thresholds_of(stage, height * width)
        cap = None if self.form == "wide" else thresholds[-1]
        block = made.name.rpartition(".attn.")[0]
        self.ops.append(Attention(made.name, made.query, made.key, made.value, made.heads,
                                  made.name, block, cap, thresholds, self.spec.levels))

    def step(self, step: parts.Step, u_in: str | None, following: str | None, *,
             whole: bool = False) -> None:
        """Append the operators of a membrane's update; `following` is the neuron that fires it,
        `whole` as of `Integrate`."""
        for part in step.parts:
            if isinstance(part, parts.Attention):
                self.attention(part, step.stage)
                continue
            if isinstance(part, parts.RepConv):
                self.rep_conv(part)
            self.layer(part.layers[-1], step.name, u_in, following, whole=whole)

    def reading(self, source: str, layer: Layer) -> tuple[Layer, str]:
        """The layer in units of what it reads, and that tensor's name."""
        if source not in self._makers:
            return layer, source
        maker = self._makers[source]    # of a z, whose last bit is its unit
        scale = np.ldexp(layer.scale, -self.params.z_frac_for(maker))
        return Layer(layer.weight, scale, layer.offset), z_name(maker)

    def layer(self, made: parts.Layer, step: str, u_in: str | None, following: str | None, *,
              whole: bool) -> None:
        """The operator of one layer, which ends the step if nothing fires behind it."""
        name = made.name
        folded, source = self.reading(made.source, self.layers[name])
        epilogue: Any
        if made.multi_bit:
            self._makers[name] = name
            epilogue = self.requantise(name, folded)
        elif made.neuron:
            epilogue = self.fire(folded, made.neuron)
        else:
            epilogue = self.integrate(folded, f"{step}/u", u_in, following, whole=whole)
        if made.depthwise:
            self.ops.append(Depthwise(name, source, folded.weight[:, 0], epilogue))
        else:
            self.conv(name, source, folded.weight, epilogue, stride=made.stride)

    def head_layer(self, made: parts.HeadLayer) -> None:
        """The operator of one layer of a head for dense prediction."""
        folded, heads = self.layers[made.name], self.spec.dense_heads
        whole = heads is not None and heads.whole(self.spec)
        epilogue: Any
        if made.output:
            epilogue = Raw(folded.scale, folded.offset, name=made.output, on_host=made.on_host)
        elif made.membrane:
            epilogue = self.integrate(folded, made.membrane, made.added or None,
                                      made.neuron or None, made.upsample if made.added else 1,
                                      whole=whole and bool(made.neuron))
        else:
            epilogue = self.fire(folded, made.neuron, whole=whole)
        self.conv(made.name, made.source, folded.weight, epilogue)

    def mean(self, source: str, positions: int) -> None:
        """The mean of membranes as a z, for a head without a neuron."""
        channels = self.spec.dims[-1]
        scale = np.full(channels, self.spec.highest / positions / 2.0**self.params.u_frac)
        folded = Layer(np.empty(0), scale, np.zeros(channels))
        self.ops.append(Mean("mean", source, positions, self.requantise("mean", folded)))
        self._makers["mean"] = "mean"

    def conv(self, name: str, source: str, weight: NDArray[np.int8], epilogue: Any, *,
             stride: int = 1) -> None:
        weight = weight.reshape(*weight.shape, *[1] * (4 - weight.ndim))
        self.ops.append(Conv(name, source, weight, stride, weight.shape[-1] // 2, epilogue))


def build(
    layers: Mapping[str, Layer],
    spec: NetworkSpec,
    params: IntegerParams | None = None,
    *,
    form: Form = "integer",
    input_shape: tuple[int, ...] | None = None,
    origin: str = "",
    info: DataInfo | None = None,
) -> IntegerNetwork:
    """Choose the constants of folded `layers` and make the graph.

    Args:
        params: Widths; the default is `IntegerParams()`. The wide form has its own and takes none.
        form: "integer", what the hardware computes, or "wide", the same graph with real scales
            and so many fraction bits that it equals the float64 network on every level.
        input_shape: (C, H, W) of the images if not the spec's, any size is possible; or
            (T, C, H, W) of samples of T images, the spec's time steps, whose results are averaged.
            Without state a single image has the same result as T equal ones, so (C, H, W) is always
            possible. By default the network takes as many images as the spec has time steps.
        origin, info: See `IntegerNetwork`.

    Raises:
        ValueError: If the network has no integer form, the form is unknown, or an accumulator is
            too wide, or a width is given for a layer that the network does not have.
    """
    if form not in ("integer", "wide"):
        raise ValueError(f"form must be integer or wide, not {form}")
    shape = input_shape or spec.input_shape
    sizes = _sizes(spec, *shape[-2:])
    positions = prod(sizes[-1])
    params = _wide(layers, spec, positions) if form == "wide" else params or IntegerParams()
    builder, order, u = _Builder(layers, spec, params, form, sizes), spec.steps, ""
    heads = spec.dense_heads
    last = None if heads is None else source_of(spec, spec.stages[-1])
    encoders = {} if heads is None else heads.encoders(spec)
    whole = heads is not None and heads.whole(spec)
    for i, step in enumerate(order):
        ends = i + 1 == len(order)
        following = last if ends else order[i + 1].entry
        builder.step(step, None if step.replaces else u, following, whole=whole and ends)
        u = f"{step.name}/u"
        if ends or order[i + 1].stage != step.stage:
            stage = spec.stages[step.stage]
            if stage in encoders:
                builder.head_layer(encoders[stage])
    if spec.dense_heads is not None:
        for head in spec.dense_layers:
            builder.head_layer(head)
        _check_layers(params, builder.ops)
        return IntegerNetwork(spec.to_dict(), params, builder.ops, shape, origin, info)
    if spec.head_fires:
        builder.ops.append(Pool("lif", u, "lif", spec.levels, spec.half_even))
    else:
        builder.mean(u, positions)
    time_steps = shape[0] if len(shape) == 4 else 1
    if time_steps not in (1, spec.time_steps):
        raise ValueError(f"images must have {spec.time_steps} time steps for {spec.name}, "
                         f"not {time_steps}")
    folded, source = builder.reading(spec.head.source, layers["head"])
    builder.conv("head", source, folded.weight,
                 Raw(folded.scale / time_steps, folded.offset, time_steps))
    _check_layers(params, builder.ops)
    return IntegerNetwork(spec.to_dict(), params, builder.ops, shape, origin, info)


def _sizes(spec: NetworkSpec, height: int, width: int) -> list[tuple[int, int]]:
    """Height and width of every stage's membrane for an image of this size."""
    found = []
    for stride in spec.strides:
        height, width = -(-height // stride), -(-width // stride)
        found.append((height, width))
    return found


def _wide(layers: Mapping[str, Layer], spec: NetworkSpec, positions: int) -> IntegerParams:
    """Widths of the wide form. The logits of a head that reads the mean membrane have its errors,
    so that membranes, and their mean, are as fine as sums allow."""
    if spec.head_fires or spec.dense_heads is not None:
        return WIDE
    largest = int(np.abs(layers["head"].weight.astype(np.int64)).sum(axis=1).max())
    u_bits = min(48, WIDE.acc_bits - positions.bit_length())
    z_bits = min(44, WIDE.acc_bits - largest.bit_length())
    return replace(WIDE, u_bits=u_bits, u_frac=u_bits - 14, z_bits=z_bits,
                   z_frac=min(32, z_bits - 1 - _MEAN_WHOLE_BITS))


def z_layers(ops: Iterable[Op]) -> dict[str, Depthwise | RepConv]:
    """The layers that make a z, by name; the mean in front of a head is none."""
    return {op.name: op for op in ops if isinstance(op, Depthwise | RepConv)
            and isinstance(op.epilogue, Requantise)}


def _check_layers(params: IntegerParams, ops: Iterable[Op]) -> None:
    """Raise ValueError where a width is for a layer that is not there."""
    known = [op.name for op in ops if not isinstance(op, Attention | Pool)
             and isinstance(op.epilogue, Requantise)]
    for option in ("z_bits_of", "z_frac_of"):
        for layer, _ in getattr(params, option):
            if not any(matches(name, layer) for name in known):
                raise ValueError(
                    f"{option}: no layer with a z is called {layer}; known are {', '.join(known)}"
                )


def export(
    state: State,
    spec: NetworkSpec,
    params: IntegerParams | None = None,
    *,
    form: Form = "integer",
    input_shape: tuple[int, ...] | None = None,
    origin: str = "",
    info: DataInfo | None = None,
) -> IntegerNetwork:
    """`fold`, then `build`: state dict (see `model.training.checkpoint`) -> integer network."""
    layers = fold(state, spec, form=form)
    return build(layers, spec, params, form=form, input_shape=input_shape, origin=origin, info=info)
