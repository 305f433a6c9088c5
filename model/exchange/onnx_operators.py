"""ONNX nodes of the operators of an integer network: one function for each kind.

Every value is an integer in a type that holds it, so any runtime gets the same bits. Convolutions
are ConvInteger on uint8; levels are counts of thresholds reached, as uint8; membranes and z are
int64, because the standard's integer operators on it are exact everywhere.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.exchange.onnx_graph import Graph
from model.integer.epilogue import Fire, Integrate, LOGITS, Raw, RealScale, Requantise, Scale
from model.integer.graph import Attention, Conv, Depthwise, Mean, Op, Pool, RepConv
from model.integer.network import IntegerNetwork


__all__ = ["add_operator"]


_INT32_ACC_BITS = 30
"""Widest accumulators that are computed in int32, thresholds and their negatives included."""

_FLOOR_OFFSET_BITS = 62
"""A multiple of every 2^shift that makes every scaled accumulator positive, in int64."""


def add_operator(graph: Graph, network: IntegerNetwork, op: Op) -> None:
    """Add the nodes of `op`; its tensors have the names that the network gives them.

    Raises
    ------
    ValueError
        If the operator has real scales (the wide form), or sums beyond 32 bits.
    """
    graph.scope = op.name
    _KINDS[type(op)](graph, network, op)
    graph.scope = ""


def _conv(graph: Graph, network: IntegerNetwork, op: Conv) -> None:
    acc = _convolve(graph, network, op, op.weight, stride=op.stride, padding=op.padding)
    _finish(graph, network, op.epilogue, acc)


def _depthwise(graph: Graph, network: IntegerNetwork, op: Depthwise) -> None:
    channels, size = op.weight.shape[0], op.weight.shape[-1]
    acc = _convolve(graph, network, op, op.weight[:, None], padding=size // 2, group=channels)
    _finish(graph, network, op.epilogue, acc)


def _rep_conv(graph: Graph, network: IntegerNetwork, op: RepConv) -> None:
    first = _convolve(graph, network, op, op.pointwise[:, :, None, None])
    _finish(graph, network, op.epilogue, _taps(graph, network, op, first))


def _attention(graph: Graph, network: IntegerNetwork, op: Attention) -> None:
    """Q (K^T V) of every head. Products up to 255 are multiplied as uint8, others as int32."""
    tensors, heads = network.tensors(), op.heads
    _, channels, height, width = tensors[op.value]
    tokens = height * width

    def split(source: str) -> str:
        shape = graph.shared([0, heads, tensors[source][1] // heads, tokens], np.int64)
        return graph.node("Reshape", source, shape, label="heads")

    def product(a: str, b: str, *, small: bool) -> str:
        if small:
            return graph.node("MatMulInteger", a, b, label="product")
        a, b = (graph.cast(x, np.int32, label="wide") for x in (a, b))
        return graph.node("MatMul", a, b, label="product")

    def capped(value: str, label: str) -> str:
        if op.cap is None:
            return value
        return graph.node("Min", value, graph.shared(op.cap, np.int32), label=label)

    query, key, value = map(split, op.inputs)
    turned = graph.node("Transpose", value, label="v_turned", perm=[0, 1, 3, 2])
    ktv = capped(product(key, turned, small=True), "ktv_capped")
    small = min(op.cap or 1 << 31, tokens * op.levels**2) <= 255
    if small:
        ktv = graph.cast(ktv, np.uint8, label="ktv_byte")
    turned = graph.node("Transpose", ktv, label="ktv_turned", perm=[0, 1, 3, 2])
    qktv = capped(product(turned, query, small=small), "qktv_capped")
    shape = graph.shared([0, channels, height, width], np.int64)
    qktv = graph.node("Reshape", qktv, shape, label="joined")
    _fire(graph, qktv, [graph.shared(t, np.int32) for t in op.thresholds], op.level)


def _pool(graph: Graph, network: IntegerNetwork, op: Pool) -> None:
    _, _, height, width = network.tensors()[op.source]
    total = _sum(graph, op)
    _fire_membrane(graph, network, total, op, op.level, positions=height * width)


def _mean(graph: Graph, network: IntegerNetwork, op: Mean) -> None:
    _finish(graph, network, op.epilogue, _sum(graph, op))


def _sum(graph: Graph, op: Pool | Mean) -> str:
    """Membranes added up over all positions, int64 (N, C, 1, 1)."""
    axes = graph.shared([2, 3], np.int64)
    return graph.node("ReduceSum", op.source, axes, label="sum", keepdims=1)


def _convolve(
    graph: Graph, network: IntegerNetwork, op: Conv | Depthwise | RepConv, weight: NDArray[np.int8],
    *, stride: int = 1, padding: int = 0, group: int = 1,
) -> str:
    """Exact accumulators of the operator's source, see `_acc_type`; weight (O, C/group, kh, kw).

    A map wider than a byte is several of uint8, whose results are added up. Bytes have 7 bits where
    weights go beyond 64: runtimes on x86 add two products in 16 bits (VPMADDUBSW), which saturates
    (ONNX Runtime, "Quantize ONNX models", section on U8S8).
    """
    largest = int(np.abs(weight.astype(np.int64)).max())
    step, dtype = 8 if largest <= 64 else 7, _acc_type(network)
    sums = np.abs(weight.astype(np.int64)).reshape(len(weight), -1).sum(axis=1)
    if int(sums.max()) * ((1 << step) - 1) >= 1 << 31:
        raise ValueError(f"{op.name}: its sums need more than the 32 bits that ONNX has for them")
    q = graph.weight(weight, label="weight")
    attributes: dict[str, Any] = {
        "kernel_shape": list(weight.shape[2:]), "strides": [stride] * 2, "pads": [padding] * 4,
        "group": group,
    }
    total = ""
    for value, zero, position in _bytes_of(graph, network, op.source, step):
        zeros = [graph.shared(zero, np.uint8)] if zero else []
        acc = graph.node("ConvInteger", value, q, *zeros, label="conv", **attributes)
        if dtype != np.int32:
            acc = graph.cast(acc, dtype, label="conv_wide")
        if position:
            acc = graph.node("Mul", acc, graph.shared(1 << position, dtype), label="shifted")
        total = graph.node("Add", total, acc, label="acc") if total else acc
    return total


def _acc_type(network: IntegerNetwork) -> type[np.int32 | np.int64]:
    """Type of all accumulators of a network."""
    return np.int32 if network.params.acc_bits <= _INT32_ACC_BITS else np.int64


def _bytes_of(
    graph: Graph, network: IntegerNetwork, source: str, step: int
) -> list[tuple[str, int, int]]:
    """A map as uint8 maps of at most `step` bits: (value, zero point, position of its bit 0).

    source = sum of (value - zero point) * 2^position. The zero point of a signed map's last byte is
    half its range, so that padding, which a runtime does with zero points, is zero.
    """
    kind = network.tensors()[source][0]
    bits = {"image": 8, "level": network.levels.bit_length()}.get(
        kind, network.params.z_bits_for(source))
    signed = kind != "level"
    if not signed and bits <= step:
        return [(source, 0, 0)]
    rest = source if kind == "z" else graph.cast(source, np.int64, label="wide")
    if signed:
        rest = graph.node("Add", rest, graph.shared(1 << (bits - 1), np.int64), label="positive")
    found, position = [], 0
    base = graph.shared(1 << step, np.int64)
    while bits - position > step:
        high = graph.node("Div", rest, base, label="high")
        times = graph.node("Mul", high, base, label="high_shifted")
        low = graph.node("Sub", rest, times, label="low")
        found.append((graph.cast(low, np.uint8, label="byte"), 0, position))
        rest, position = high, position + step
    zero = 1 << (bits - position - 1) if signed else 0
    return [*found, (graph.cast(rest, np.uint8, label="byte"), zero, position)]


def _taps(graph: Graph, network: IntegerNetwork, op: RepConv, acc: str) -> str:
    """Depthwise convolution of accumulators, stride 1, size kept: no ONNX operator has int32.

    Nine shifted maps, each times its weight of every channel.
    """
    dtype, (channels, size, _) = _acc_type(network), op.depthwise.shape
    _, _, height, width = network.tensors()[op.source]
    edge = size // 2
    pads = graph.shared([0, 0, edge, edge, 0, 0, edge, edge], np.int64)
    padded = graph.node("Pad", acc, pads, label="padded")
    weight = op.depthwise.reshape(channels, -1).T.reshape(-1, channels, 1, 1)
    count = size * size
    q = graph.weight(weight, dtype, label="depthwise")
    taps = graph.split("Split", q, labels=["tap"] * count, axis=0, num_outputs=count)
    axes, total = graph.shared([2, 3], np.int64), ""
    for place, tap in enumerate(taps):
        y, x = divmod(place, size)
        ends = ([y, x], [y + height, x + width])
        part = graph.node(
            "Slice", padded, *(graph.shared(end, np.int64) for end in ends), axes, label="shifted"
        )
        part = graph.node("Mul", part, tap, label="product")
        total = graph.node("Add", total, part, label="acc") if total else part
    return total


def _finish(
    graph: Graph, network: IntegerNetwork, epilogue: Fire | Integrate | Requantise | Raw, acc: str
) -> None:
    _EPILOGUES[type(epilogue)](graph, network, epilogue, acc)


def _fire_rule(graph: Graph, network: IntegerNetwork, epilogue: Fire, acc: str) -> None:
    """Levels by thresholds of every channel; acc <= t is -acc >= -t."""
    rule, dtype = epilogue.thresholds, _acc_type(network)
    sign = np.where(rule.invert, -1, 1).astype(np.int64)
    if rule.invert.any():
        signs = graph.constant(_per_channel(sign, dtype), label="sign")
        acc = graph.node("Mul", acc, signs, label="signed")
    columns = (rule.thresholds * sign[:, None]).T
    names = [graph.constant(_per_channel(column, dtype), label="threshold") for column in columns]
    _fire(graph, acc, names, epilogue.level)


def _integrate(graph: Graph, network: IntegerNetwork, epilogue: Integrate, acc: str) -> None:
    u = _scaled(graph, network, epilogue.scale, acc)
    if epilogue.u_in is not None:
        u = graph.node("Add", u, _added(graph, network, epilogue), label="sum")
    u = _saturate(graph, u, network.params.u_bits, epilogue.u_out)
    if epilogue.level is not None:
        _fire_membrane(graph, network, u, epilogue, epilogue.level)


def _added(graph: Graph, network: IntegerNetwork, epilogue: Integrate) -> str:
    """The membrane that is added, every value of it `upsample` times each way."""
    added = str(epilogue.u_in)
    if epilogue.upsample == 1:
        return added
    tensors, factor = network.tensors(), epilogue.upsample
    _, channels, height, width = tensors[added]
    # Behind each value come its copies, then behind each row.
    for split, axis in (((width, 1), 4), ((1, width * factor), 3)):
        shape = graph.shared([0, channels, height, *split], np.int64)
        added = graph.node("Reshape", added, shape, label="split")
        added = graph.node("Concat", *[added] * factor, label="copies", axis=axis)
    shape = graph.shared([0, channels, height * factor, width * factor], np.int64)
    added = graph.node("Reshape", added, shape, label="upsampled")
    _, _, rows, columns = tensors[epilogue.u_out]
    for axis, size, wanted in ((2, height, rows), (3, width, columns)):
        if size * factor != wanted:
            ends = (graph.shared([x], np.int64) for x in (0, wanted, axis))
            added = graph.node("Slice", added, *ends, label="cut")
    return added


def _requantise(graph: Graph, network: IntegerNetwork, epilogue: Requantise, acc: str) -> None:
    z = _scaled(graph, network, epilogue.scale, acc)
    _saturate(graph, z, network.params.z_bits_for(epilogue.z), epilogue.z)


def _raw(graph: Graph, network: IntegerNetwork, epilogue: Raw, acc: str) -> None:
    """"logits_acc", of T > 1 images added up, and "logits" in float64; other outputs are maps."""
    if _acc_type(network) != np.int64:
        acc = graph.cast(acc, np.int64, label="wide")
    if epilogue.name != LOGITS:
        graph.node("Identity", acc, label="acc", out=epilogue.acc)
        real = graph.cast(acc, np.float64, label="real")
        scale, offset = (graph.constant(_per_channel(x, np.float64), label=label)
                         for x, label in ((epilogue.scale, "scale"), (epilogue.offset, "offset")))
        scaled = graph.node("Mul", real, scale, label="scaled")
        graph.node("Add", scaled, offset, label="values", out=epilogue.name)
        return
    shape = [-1, epilogue.steps, *network.tensors()["logits_acc"][1:]]
    acc = graph.node("Reshape", acc, graph.shared(shape, np.int64), label="by_sample")
    axes = graph.shared([1], np.int64)
    acc = graph.node("ReduceSum", acc, axes, label="sum", out="logits_acc", keepdims=0)
    for axis in (3, 2):
        acc = graph.node("Gather", acc, graph.shared(0, np.int64), label="first", axis=axis)
    real = graph.cast(acc, np.float64, label="real")
    scale, offset = (graph.constant(x, label=label) for x, label in (
        (epilogue.scale, "scale"), (epilogue.offset, "offset")))
    scaled = graph.node("Mul", real, scale, label="scaled")
    graph.node("Add", scaled, offset, label="logits", out="logits")


def _scaled(graph: Graph, network: IntegerNetwork, scale: Scale | RealScale, acc: str) -> str:
    """(multiplier * acc + bias + 2^(shift-1)) >> shift, see `golden.scale_shift`; int64.

    The shift rounds down and Div to zero, so that what is divided is made positive first:
    |multiplier * acc + bias| is below 2^62 by the limits of `IntegerParams`.
    """
    if isinstance(scale, RealScale):
        raise ValueError("the wide form has real scales; only the integer form can be exported")
    if _acc_type(network) != np.int64:
        acc = graph.cast(acc, np.int64, label="wide")
    divisor = np.int64(1) << scale.shift
    bias = scale.bias + (divisor >> 1) + (1 << _FLOOR_OFFSET_BITS)
    offset = np.int64(1) << (_FLOOR_OFFSET_BITS - scale.shift)
    for kind, label, values in (
        ("Mul", "multiplier", scale.multiplier),
        ("Add", "bias", bias),
        ("Div", "divisor", divisor),
        ("Sub", "offset", offset),
    ):
        constant = graph.constant(_per_channel(values, np.int64), label=label)
        acc = graph.node(kind, acc, constant, label=f"scale_{kind.lower()}")
    return acc


def _saturate(graph: Graph, value: str, bits: int, out: str) -> str:
    """`value`, int64, within the signed range of `bits` bits, as tensor `out`."""
    limit = 1 << (bits - 1)
    ends = (graph.shared(end, np.int64) for end in (-limit, limit - 1))
    return graph.node("Clip", value, *ends, label="saturated", out=out)


def _fire_membrane(
    graph: Graph, network: IntegerNetwork, u: str, rule: Integrate | Pool, out: str,
    positions: int = 1,
) -> None:
    """Levels of membranes, or of sums of them over `positions`: D*u rounded.

    A level is at least k where 2D*u >= (2k-1) * positions * 2^u_frac, or exceeds it if ties go to
    the even level and k is odd, see `golden.pool_fire`.
    """
    whole = isinstance(rule, Integrate) and rule.whole    # u rounded, not D*u
    unit, doubled = positions << network.params.u_frac, 2 if whole else 2 * rule.levels
    points = [(2 * k - 1) * unit // doubled + 1 if rule.half_even and k % 2
              else -(-(2 * k - 1) * unit // doubled) for k in range(1, rule.levels + 1)]
    _fire(graph, u, [graph.shared(t, np.int64) for t in points], out)


def _fire(graph: Graph, value: str, thresholds: Sequence[str], out: str) -> None:
    """Level map `out`, uint8: how many thresholds, in the type of `value`, it reaches."""
    total = ""
    for k, threshold in enumerate(thresholds, 1):
        last = out if k == len(thresholds) else None
        reached = graph.node("GreaterOrEqual", value, threshold, label="reached")
        if k == 1:
            total = graph.cast(reached, np.uint8, label="spike", out=last)
        else:
            spike = graph.cast(reached, np.uint8, label="spike")
            total = graph.node("Add", total, spike, label="spikes", out=last)


def _per_channel(values: NDArray, dtype: Any) -> NDArray:
    """(O,) -> (O, 1, 1), which broadcasts over maps."""
    return values.astype(dtype).reshape(-1, 1, 1)


_KINDS: dict[type, Callable[[Graph, IntegerNetwork, Any], None]] = {
    Conv: _conv,
    Depthwise: _depthwise,
    RepConv: _rep_conv,
    Attention: _attention,
    Pool: _pool,
    Mean: _mean,
}

_EPILOGUES: dict[type, Callable[[Graph, IntegerNetwork, Any, str], None]] = {
    Fire: _fire_rule,
    Integrate: _integrate,
    Requantise: _requantise,
    Raw: _raw,
}
