"""ONNX files of networks: what they say of themselves, and the shipped one on real images."""

from importlib import resources
import json

import numpy as np
import onnx
from onnx import TensorProto
import pytest

from model import zoo
from model.data.dataset import to_image_q
from model.exchange.onnx_file import level_names, metadata, OPSET, to_bytes, to_model
from model.exchange.onnx_runtime import differences, OnnxNetwork
from model.families.sdt_v3 import SdtV3Spec
from model.integer.epilogue import IntegerParams
from model.integer.random_network import random_network


@pytest.fixture(scope="module")
def nano():
    return zoo.load("qsdt_nano")


def shape_of(value):
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def test_shipped_network_on_images(nano):
    with resources.as_file(resources.files("model") / "weights/qsdt_nano.images.npz") as path:
        image_q = np.load(path)["image_q"][:16]
    content = to_bytes(nano, keep=level_names(nano))
    for batch in (1, 16):
        found = list(differences(nano, OnnxNetwork(content), image_q, batch=batch))
        assert found == [{}] * (16 // batch)


def test_the_file_is_standard_and_small(nano):
    content = to_bytes(nano)
    model = onnx.load_from_string(content)
    assert content == to_bytes(zoo.load("qsdt_nano")) and len(content) < 360_000
    assert {node.domain for node in model.graph.node} == {""}
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]
    weights = [c for c in model.graph.initializer if c.data_type == TensorProto.INT4]
    assert sum(np.prod(c.dims) for c in weights) == 268_872
    # Nothing is real but the constants of the logits.
    real = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16}
    assert [c.name for c in model.graph.initializer if c.data_type in real] == [
        "head/scale", "head/offset"]


def test_inputs_and_outputs(nano):
    model = to_model(nano, keep=["lif", "ConvBlock1_1.0.Conv.lif1", "downsample1_1/u"])
    assert [(i.name, shape_of(i)) for i in model.graph.input] == [("image", ["N", 1, 28, 28])]
    assert [(o.name, o.type.tensor_type.elem_type, shape_of(o)) for o in model.graph.output] == [
        ("logits", TensorProto.DOUBLE, ["N", 10]),
        ("logits_acc", TensorProto.INT64, ["N", 10, 1, 1]),
        ("downsample1_1/u", TensorProto.INT64, ["N", *nano.tensors()["downsample1_1/u"][1:]]),
        ("ConvBlock1_1.0.Conv.lif1", TensorProto.UINT8,
         ["N", *nano.tensors()["ConvBlock1_1.0.Conv.lif1"][1:]]),
        ("lif", TensorProto.UINT8, ["N", 60, 1, 1]),
    ]
    with pytest.raises(ValueError, match="network has no level, membrane or z image, nothing"):
        to_model(nano, keep=["nothing", "lif", "image"])


def test_samples_have_their_images():
    found = random_network(2, time_steps=3, max_dim=16, max_size=10)
    model = to_model(found.network, keep=["lif"])
    assert shape_of(model.graph.input[0]) == ["N", *found.network.input_shape]
    assert shape_of(model.graph.output[2])[:2] == ["N", 3]
    assert {p.key: p.value for p in model.metadata_props}["time_steps"] == "3"


def test_metadata_makes_the_input(nano):
    """The formula of the metadata, from nothing else, is the one that networks are fed with."""
    model = to_model(nano)
    text = {p.key: p.value for p in model.metadata_props}
    assert text == metadata(nano) and text["name"] == "qsdt_nano" == model.graph.name
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    mean, std, factor = (json.loads(text[key]) for key in ("mean", "std", "image_scale"))
    assert text["input"].startswith("image = clip(floor(S*x + 0.5), -128, 127) as int8, where x = "
                                    "(pixel/255 - mean)/std of")
    made = np.clip(np.floor(factor * ((pixels / 255 - mean[0]) / std[0]) + 0.5), -128, 127)
    np.testing.assert_array_equal(made.astype(np.int8),
                                  to_image_q(pixels, zoo.spec_of("qsdt_nano"))[0])


def test_metadata_tells_units(nano):
    text = metadata(nano)
    units = json.loads(text["units"])
    assert units["u"] == 2.0**-nano.params.u_frac and list(units["z"]) == list(nano.z_widths())
    assert json.loads(text["levels"]) == 4 and text["sha256"] == nano.digest()
    names = json.loads(text["classes"])
    assert names == (10 if nano.info is None else list(nano.info.classes))
    assert IntegerParams(**json.loads(text["params"])) == nano.params
    assert json.loads(text["spec"]) == nano.spec


def test_membranes_of_other_families_have_their_own_unit():
    """In an SDT-v3 with levels of 0..4 a membrane of 4 is the highest level."""
    made = random_network(1, family=SdtV3Spec, max_dim=24, max_size=12)
    units = json.loads(metadata(made.network)["units"])
    assert units == {"u": 4 * 2.0**-made.params.u_frac, "z": {}}


def test_origin_and_classes_are_told():
    found = zoo.read("qsdt_nano")
    network = zoo.network(zoo.Weights(found.spec, found.params, found.state, "made up"))
    text = metadata(network)
    assert text["origin"] == "made up" and text["classes"] == "10" and "fit" not in text
