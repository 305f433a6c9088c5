"""An integer network as an ONNX model, opset 21, which gives the same integers anywhere.

Input "image", int8 (N, C, H, W), with T > 1 time steps (N, T, C, H, W). Outputs are those of the
network: "logits", float64 (N, classes), and "logits_acc", int64 (N, classes, 1, 1), from which they
are made; of networks with heads float64 and int64 maps (N, O, H, W) by the outputs' names; and any
other tensor on request. Metadata tells how to make the input and what every unit is.
"""

from collections.abc import Collection
import json
from typing import Any

from onnx import checker, helper, ModelProto, TensorProto, ValueInfoProto

from model.exchange.onnx_graph import Graph
from model.exchange.onnx_operators import add_operator
from model.families.spec import from_dict
from model.integer.epilogue import LOGITS
from model.integer.network import IntegerNetwork


__all__ = ["IR_VERSION", "level_names", "metadata", "OPSET", "to_bytes", "to_model"]


OPSET, IR_VERSION = 21, 10
"""Of ONNX 1.16, the first with INT4 (version table of the standard)."""

_ELEMENT = {"level": TensorProto.UINT8, "z": TensorProto.INT64, "u": TensorProto.INT64}

_INPUT = ("image = clip(floor(S*x + 0.5), -128, 127) as int8, where x = (pixel/255 - mean)/std of "
          "each channel and S is image_scale; pixel is 0..255")


def level_names(network: IntegerNetwork) -> tuple[str, ...]:
    """Names of all level maps, in the order in which they are made."""
    return tuple(name for name, (kind, *_) in network.tensors().items() if kind == "level")


def to_model(network: IntegerNetwork, *, keep: Collection[str] = ()) -> ModelProto:
    """The model, checked by ONNX's own checker.

    Parameters
    ----------
    network
        In integer form.
    keep
        Tensors of the network that are outputs, too: levels as uint8, membranes and z as int64,
        (N, C, H, W) or, with T time steps, (N, T, C, H, W).

    Raises
    ------
    ValueError
        If a name in `keep` is none of a level, membrane or z, or the network is in wide form.
    """
    tensors = network.tensors()
    unknown = [name for name in keep if tensors.get(name, ("",))[0] not in _ELEMENT]
    if unknown:
        raise ValueError(f"network has no level, membrane or z {', '.join(sorted(unknown))}")
    graph = Graph({*tensors, *network.outputs})
    for op in network.ops:
        add_operator(graph, network, op)
    kept = [name for name in tensors if name in keep or name in network.read_out]
    if network.time_steps > 1:
        _join_samples(graph, network, kept)
    steps = network.input_shape[:-3]
    inputs = [_value("image", TensorProto.INT8, network.input_shape)]
    outputs = [
        *(value for name, acc in network.outputs.items() if name != acc
          for value in _result(name, acc, tensors[acc][1:])),
        *(_value(n, _ELEMENT[tensors[n][0]], (*steps, *tensors[n][1:])) for n in kept),
    ]
    text = metadata(network)
    made = helper.make_graph(graph.nodes, text["name"], inputs, outputs, graph.constants)
    model = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
        producer_name="qsdt-fpga", doc_string=f"Integer network {text['name']}. {text['input']}",
    )
    helper.set_model_props(model, text)
    checker.check_model(model, full_check=True)
    return model


def to_bytes(network: IntegerNetwork, *, keep: Collection[str] = ()) -> bytes:
    """Content of the file of `to_model`, which raises the same; equal for equal networks."""
    return to_model(network, keep=keep).SerializeToString(deterministic=True)


def metadata(network: IntegerNetwork) -> dict[str, str]:
    """What the file says of the network, as texts; lists, numbers and tables as JSON.

    name, classes (names, or their number where no names are known), time_steps, image_scale, mean
    and std, input (how a picture becomes "image"), fit and background (how a picture becomes a
    square, if known), levels (D), units (real value of 1 in tensors of each kind, in z by name),
    params (widths), sha256 (of the network, `IntegerNetwork.digest`), spec, origin (of weights that
    were not trained).
    """
    spec, params, info = network.spec, network.params, network.info
    tensors = network.tensors()
    logits = network.outputs.get(LOGITS)
    classes = spec.get("classes") if logits is None else tensors[logits][1]
    highest = from_dict(spec).highest if "dims" in spec else 1.0
    values: dict[str, Any] = {
        "classes": classes if info is None else list(info.classes),
        "time_steps": network.time_steps,
        "image_scale": spec.get("image_scale", 48),
        "mean": spec.get("norm_mean"),
        "std": spec.get("norm_std"),
        "levels": network.levels,
        "units": {
            "u": highest * 2.0**-params.u_frac,
            "z": {name: 2.0 ** -params.z_frac_for(name)
                  for name, (kind, *_) in tensors.items() if kind == "z"},
        },
        "params": params.to_dict(),
        "spec": spec,
    }
    texts = {"name": str(spec.get("name", "")), "input": _INPUT, "sha256": network.digest()}
    if info is not None:
        texts |= {"fit": info.fit, "background": info.background}
    if network.origin:
        texts["origin"] = network.origin
    return texts | {key: json.dumps(value) for key, value in values.items() if value is not None}


def _value(name: str, element: int, shape: tuple[int, ...]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, element, ["N", *shape])


def _result(name: str, acc: str, shape: tuple[int, ...]) -> tuple[ValueInfoProto, ...]:
    """An output and the accumulators that it is made of."""
    values = shape[:1] if name == LOGITS else shape
    return _value(name, TensorProto.DOUBLE, values), _value(acc, TensorProto.INT64, shape)


def _join_samples(graph: Graph, network: IntegerNetwork, kept: Collection[str]) -> None:
    """Run the T images of a sample as images of their own; give tensors of `kept` their T back."""
    inner = {name: f"{name}/each" for name in ("image", *kept)}
    for node in graph.nodes:
        for names in (node.input, node.output):
            names[:] = [inner.get(name, name) for name in names]
        node.name = node.output[0]
    shapes = network.tensors()
    flat = graph.shared([-1, *network.input_shape[1:]], "int64")
    graph.node("Reshape", "image", flat, label="each", out=inner["image"])
    graph.nodes.insert(0, graph.nodes.pop())
    for name in kept:
        shape = graph.shared([-1, network.time_steps, *shapes[name][1:]], "int64")
        graph.node("Reshape", inner[name], shape, label="by_sample", out=name)
