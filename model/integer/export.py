"""From a state dict with the published names to an `IntegerNetwork`. NumPy only, no torch.

Two steps: `fold` turns weights, LSQ steps, biases, batch norms and layer scales into integer
weights and one real affine map a channel; `build` chooses the integer constants and makes the
graph. Everything is computed in float64 by operations that IEEE 754 defines exactly, so that two
machines get the same integers.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import fsum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from model.data.dataset import DataInfo
from model.families.layout import state_shapes, steps
from model.families.spec import QsdtSpec
from model.integer import fixed_point, golden
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
from model.integer.graph import Attention, Conv, Depthwise, Op, Pool, RepConv
from model.integer.network import IntegerNetwork


State = Mapping[str, NDArray]
Form = Literal["integer", "wide"]

LEVEL_UNIT, ATTENTION_UNIT = 1 / 4, 1 / 2
"""Real value with levels 0..4 of a level and of a level of an attention neuron; with levels 0..D
these are 1/D and 2/D. That of a step of an image is 1/image_scale of the spec."""

_EPSILON = 1e-5  # of every published batch norm


@dataclass(frozen=True, eq=False)
class Layer:
    """One quantised layer: result = scale * (sum of weight * input) + offset, in real units.

    weight int8, shape as published; scale, offset float64 (O,). The input's unit (1/4 of a
    level, ...) is part of `scale`, except for an input z, whose unit is chosen later.
    """

    weight: NDArray[np.int8]
    scale: NDArray[np.float64]
    offset: NDArray[np.float64]


def integer_weight(weight: NDArray, alpha: NDArray, bits: int) -> NDArray[np.int8]:
    """q = round_half_even(clamp(weight/alpha, -2^(bits-1), 2^(bits-1)-1)), as published.

    Computed in float32 whatever the inputs' type, because that is what the network was trained
    with; alpha (O,) goes with the first axis and may be negative.
    """
    step = alpha.astype(np.float32).reshape(-1, *[1] * (weight.ndim - 1))
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return np.rint(np.clip(weight.astype(np.float32) / step, low, high)).astype(np.int8)


def codes(state: State, name: str, bits: int) -> NDArray[np.int8]:
    """Integer weights of layer `name`: stored ones ("<name>.weight.q") or its weights rounded."""
    if f"{name}.weight.q" in state:
        return state[f"{name}.weight.q"].astype(np.int8)
    return integer_weight(state[f"{name}.weight"], state[f"{name}.alpha"], bits)


def fold(state: State, spec: QsdtSpec) -> dict[str, Layer]:
    """Fold every layer of `state`, by published layer name.

    A state dict holds "<layer>.weight" or, exported before, the int8 "<layer>.weight.q".
    Raises ValueError if the network has no integer form, and naming the layer if a constant is not
    finite.
    """
    spec.check_integer_form()
    layers: dict[str, Layer] = {}
    shapes = state_shapes(spec)
    level_unit, attention_unit = 1 / spec.levels, 2 / spec.levels

    def lsq(name: str, unit: float = 1.0) -> Layer:
        """The layer alone: scale alpha * unit, offset its bias (0 if it has none)."""
        weight, alpha = codes(state, name, spec.weight_bits), _real(state, f"{name}.alpha")
        bias = f"{name}.bias"
        offset = _real(state, bias) if bias in state else np.zeros_like(alpha)
        return Layer(weight, alpha * unit, offset)

    def put(name: str, layer: Layer) -> None:
        if not (np.isfinite(layer.scale).all() and np.isfinite(layer.offset).all()):
            raise ValueError(f"{name}: folded constants must be finite")
        layers[name] = layer

    def rep_conv(name: str, unit: float, after: NDArray[np.float64] | None = None) -> None:
        """body.0 keeps the 1x1; body.2.0 maps its 3x3's sums to z; body.2.1 maps z to the end."""
        first, second = lsq(f"{name}.0.body.0"), lsq(f"{name}.0.body.2.1")
        depth = lsq(f"{name}.0.body.2.0")
        gain, shift = _batch_norm(state, f"{name}.0.body.1.bn")
        put(f"{name}.0.body.0", first)
        z_scale = depth.scale * (gain * (first.scale * unit))
        put(f"{name}.0.body.2.0", Layer(depth.weight, z_scale, np.zeros_like(z_scale)))
        # The inner batch norm's shift is the border value of its map too, so what it adds to z
        # is the same everywhere; the second 1x1 carries it into its offset.
        constant = depth.scale * shift * depth.weight.astype(np.int64).sum(axis=(1, 2, 3))
        matrix = second.weight[:, :, 0, 0].astype(np.float64)
        reached = np.array([fsum(row) for row in (matrix * constant).tolist()])
        layer = Layer(second.weight, second.scale, second.scale * reached)
        layer = _normalised(layer, _batch_norm(state, f"{name}.0.body.2.2"))
        for norm in (f"{name}.1", name.replace("_conv", "_mprf")):
            if f"{norm}.weight" in shapes:
                layer = _normalised(layer, _batch_norm(state, norm))
        put(f"{name}.0.body.2.1", layer if after is None else _scaled(layer, after))

    for name, kind, stage in steps(spec):
        if kind == "downsample":
            layer = lsq(f"{name}.encode_conv", level_unit if stage else 1 / spec.image_scale)
            put(f"{name}.encode_conv", _normalised(layer, _batch_norm(state, f"{name}.encode_bn")))
        elif kind == "sepconv":
            first = lsq(f"{name}.pwconv1", level_unit)
            put(f"{name}.pwconv1", _normalised(first, _batch_norm(state, f"{name}.bn1")))
            put(f"{name}.dwconv", lsq(f"{name}.dwconv", level_unit))
            second = lsq(f"{name}.pwconv2")
            put(f"{name}.pwconv2", _normalised(second, _batch_norm(state, f"{name}.bn2")))
        elif kind == "convs":
            for i in (1, 2):
                layer = lsq(f"{name}.conv{i}", level_unit)
                put(f"{name}.conv{i}", _normalised(layer, _batch_norm(state, f"{name}.bn{i}")))
        elif kind == "attention":
            for branch in "qkv":
                rep_conv(f"{name}.{branch}_conv", level_unit)
            after = _real(state, f"{name.removesuffix('.attn')}.layer_scale1")
            rep_conv(f"{name}.proj_conv", attention_unit, after)
        else:
            for i in (1, 2):
                layer = lsq(f"{name}.fc{i}_conv", level_unit)
                layer = _normalised(layer, _batch_norm(state, f"{name}.fc{i}_bn"))
                if i == 2:
                    after = _real(state, f"{name.removesuffix('.mlp')}.layer_scale2")
                    layer = _scaled(layer, after)
                put(f"{name}.fc{i}_conv", layer)
    put("head", lsq("head", level_unit))
    return layers


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

    def __init__(self, layers: Mapping[str, Layer], params: IntegerParams, form: Form,
                 levels: int) -> None:
        self.layers, self.params, self.form, self.levels = layers, params, form, levels
        self.ops: list[Op] = []

    def _scale(self, layer: Layer, *, frac: int, unit_bits: int = 0) -> Any:
        scale = np.ldexp(layer.scale, -unit_bits)
        if self.form == "wide":
            return fixed_point.real_scale(scale, layer.offset, frac=frac)
        return fixed_point.fixed_scale(scale, layer.offset, frac=frac, params=self.params)

    def fire(self, layer: Layer, level: str, *, unit_bits: int = 0) -> Fire:
        scale = np.ldexp(layer.scale, -unit_bits)
        rule = fixed_point.thresholds(
            scale, layer.offset, acc_bits=self.params.acc_bits, levels=self.levels
        )
        return Fire(rule, level)

    def integrate(
        self, layer: Layer, step: str, u_in: str | None, level: str | None, unit_bits: int = 0
    ) -> Integrate:
        scale = self._scale(layer, frac=self.params.u_frac, unit_bits=unit_bits)
        return Integrate(scale, f"{step}/u", u_in, level, self.levels)

    def requantise(self, name: str, layer: Layer) -> Requantise:
        return Requantise(self._scale(layer, frac=self.params.z_frac_for(name)), z_name(name))

    def conv(self, name: str, source: str, epilogue: Any, *, stride: int = 1) -> None:
        weight = self.layers[name].weight
        weight = weight.reshape(*weight.shape, *[1] * (4 - weight.ndim))
        self.ops.append(Conv(name, source, weight, stride, weight.shape[-1] // 2, epilogue))

    def rep_conv(self, name: str, source: str, epilogue_of: Any) -> None:
        """Both halves; `epilogue_of` makes the end's epilogue from its layer and z's fraction."""
        point, depth, end = (f"{name}.0.body.{i}" for i in ("0", "2.0", "2.1"))
        self.ops.append(
            RepConv(
                name,
                source,
                self.layers[point].weight[:, :, 0, 0],
                self.layers[depth].weight[:, 0],
                self.requantise(name, self.layers[depth]),
            )
        )
        epilogue = epilogue_of(self.layers[end], self.params.z_frac_for(name))
        self.conv(end, z_name(name), epilogue)

    def step(
        self, name: str, kind: str, spec: QsdtSpec, stage: int, u_in: str | None, next_level: Any
    ) -> None:
        """Append the operators of one membrane update, see `steps`."""
        source, layers = _entry(name, kind, stage), self.layers
        if kind == "downsample":
            conv = f"{name}.encode_conv"
            epilogue = self.integrate(layers[conv], name, None, next_level)
            self.conv(conv, source, epilogue, stride=spec.strides[stage])
        elif kind == "sepconv":
            first, depth, second = (f"{name}.{i}" for i in ("pwconv1", "dwconv", "pwconv2"))
            self.conv(first, source, self.fire(layers[first], f"{name}.lif2"))
            weight = layers[depth].weight[:, 0]
            made = self.requantise(depth, layers[depth])
            self.ops.append(Depthwise(depth, f"{name}.lif2", weight, made))
            z_frac = self.params.z_frac_for(depth)
            epilogue = self.integrate(layers[second], name, u_in, next_level, z_frac)
            self.conv(second, made.z, epilogue)
        elif kind == "attention":
            for x in "qkv":
                level = f"{name}.{x}_lif"
                self.rep_conv(
                    f"{name}.{x}_conv",
                    source,
                    lambda layer, frac, level=level: self.fire(layer, level, unit_bits=frac),
                )
            query, key, value = (f"{name}.{x}_lif" for x in "qkv")
            level, block = f"{name}.attn_lif", name.removesuffix(".attn")
            cap = None if self.form == "wide" else golden.attention_cap(self.levels)
            self.ops.append(
                Attention(level, query, key, value, spec.heads, level, block, cap, self.levels)
            )
            self.rep_conv(
                f"{name}.proj_conv",
                level,
                lambda layer, frac: self.integrate(layer, name, u_in, next_level, frac),
            )
        else:  # "convs" and "mlp": fire, then integrate
            parts = (
                ("conv1", "lif2", "conv2")
                if kind == "convs"
                else ("fc1_conv", "fc2_lif", "fc2_conv")
            )
            first, middle, second = (f"{name}.{part}" for part in parts)
            self.conv(first, source, self.fire(layers[first], middle))
            self.conv(second, middle, self.integrate(layers[second], name, u_in, next_level))


def _entry(name: str, kind: str, stage: int) -> str:
    """Name of the level map, or the image, that a step begins with."""
    if kind == "downsample":
        return "image" if stage == 0 else f"{name}.encode_lif"
    neuron = {"sepconv": "lif1", "convs": "lif1", "attention": "head_lif", "mlp": "fc1_lif"}
    return f"{name}.{neuron[kind]}"


def build(
    layers: Mapping[str, Layer],
    spec: QsdtSpec,
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
    params = WIDE if form == "wide" else params or IntegerParams()
    builder, order, u = _Builder(layers, params, form, spec.levels), steps(spec), ""
    for i, (name, kind, stage) in enumerate(order):
        following = _entry(*order[i + 1]) if i + 1 < len(order) else None
        builder.step(name, kind, spec, stage, u or None, following)
        u = f"{name}/u"
    builder.ops.append(Pool("lif", u, "lif", spec.levels))
    shape = input_shape or spec.input_shape
    time_steps = shape[0] if len(shape) == 4 else 1
    if time_steps not in (1, spec.time_steps):
        raise ValueError(f"images must have {spec.time_steps} time steps for {spec.name}, "
                         f"not {time_steps}")
    head = layers["head"]
    builder.conv("head", "lif", Raw(head.scale / time_steps, head.offset, time_steps))
    _check_layers(params, builder.ops)
    return IntegerNetwork(spec.to_dict(), params, builder.ops, shape, origin, info)


def z_layers(ops: Iterable[Op]) -> dict[str, Depthwise | RepConv]:
    """The operators that make a z, by name."""
    return {op.name: op for op in ops if isinstance(op, Depthwise | RepConv)}


def _check_layers(params: IntegerParams, ops: Iterable[Op]) -> None:
    """Raise ValueError where a width is for a layer that is not there."""
    known = z_layers(ops)
    for option in ("z_bits_of", "z_frac_of"):
        for layer, _ in getattr(params, option):
            if not any(matches(name, layer) for name in known):
                raise ValueError(
                    f"{option}: no layer with a z is called {layer}; known are {', '.join(known)}"
                )


def export(
    state: State,
    spec: QsdtSpec,
    params: IntegerParams | None = None,
    *,
    form: Form = "integer",
    input_shape: tuple[int, ...] | None = None,
    origin: str = "",
    info: DataInfo | None = None,
) -> IntegerNetwork:
    """`fold`, then `build`: state dict (see `model.training.checkpoint`) -> integer network."""
    layers = fold(state, spec)
    return build(layers, spec, params, form=form, input_shape=input_shape, origin=origin, info=info)
