"""onnxruntime, and ONNX's reference, compute every tensor of integer networks bit for bit."""

from dataclasses import replace

import numpy as np
from onnx.reference import ReferenceEvaluator
import pytest

from model.exchange.onnx_file import level_names, to_bytes, to_model
from model.exchange.onnx_runtime import differences, OnnxNetwork
from model.families.sdt_v3 import SdtV3Spec
from model.families.sdt_v3_large import SdtV3LargeSpec
from model.integer.epilogue import (
    Fire,
    IntegerParams,
    Integrate,
    Raw,
    Requantise,
    Scale,
    Thresholds,
)
from model.integer.export import export
from model.integer.graph import Attention, Conv, Depthwise, RepConv
from model.integer.network import IntegerNetwork
from model.integer.random_network import EXTREMES, random_network, with_heads


def every_tensor(network):
    """Names of all levels, membranes and z."""
    return [name for name, (kind, *_) in network.tensors().items() if kind in ("level", "u", "z")]


def assert_equal(network, image_q, *, optimise=(True,)):
    content = to_bytes(network, keep=every_tensor(network))
    for choice in optimise:
        model = OnnxNetwork(content, optimise=choice)
        assert len(model.outputs) == 2 + len(every_tensor(network))
        assert list(differences(network, model, image_q, batch=len(image_q))) == [{}]


def noise(network, count=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(-128, 128, (count, *network.input_shape), np.int8)


@pytest.mark.parametrize("seed", range(12))
def test_random_networks(seed):
    found = random_network(seed, max_dim=48, max_size=18)
    assert_equal(found.network, found.images(4), optimise=(True, False))


@pytest.mark.parametrize("seed, logits", [(3, True), (6, False), (11, True)])
def test_several_outputs(seed, logits):
    """Whole maps by name, membranes added from coarser maps, odd sizes, and what is read out."""
    found = with_heads(random_network(seed, max_dim=32, min_size=18, max_size=25), seed,
                       logits=logits)
    network = found.network
    model = OnnxNetwork(to_bytes(network))
    assert {*model.outputs} == {*network.outputs, *network.outputs.values()}
    assert ("logits" in model.outputs) == logits and "seg" in model.outputs
    assert list(differences(network, model, found.images(3), batch=3)) == [{}]


@pytest.mark.parametrize("seed, steps", [(20, 2), (21, 3)])
def test_samples_of_images(seed, steps):
    found = random_network(seed, time_steps=steps, max_dim=32, max_size=12)
    assert_equal(found.network, found.images(3))


def test_every_extreme():
    found = random_network(7, extremes=EXTREMES, max_dim=32, max_size=12)
    stats = {}
    found.network.run(found.images(4), stats=stats)
    assert all(stats[name] for name in stats), stats
    assert_equal(found.network, found.images(4))


@pytest.mark.parametrize("levels", [1, 2, 3, 5, 8])
def test_other_levels(levels):
    """With D = 8 attention is capped beyond a byte."""
    found = random_network(30 + levels, extremes=("attention",), max_dim=24, max_size=10,
                           params=IntegerParams())
    spec = replace(found.spec, levels=levels)
    network = export(found.state, spec, found.params, input_shape=found.network.input_shape)
    assert network.levels == levels
    assert_equal(network, found.images(3))


@pytest.mark.parametrize("params", [
    IntegerParams(z_bits=2, z_frac=0),
    IntegerParams(z_bits=8, z_bits_of=(("q_conv", 5), ("dwconv", 9)), z_frac_of=(("q_conv", 3),)),
    IntegerParams(z_bits=20, z_frac=12, acc_bits=32),
    IntegerParams(acc_bits=40, u_bits=40, u_frac=30, mult_bits=23, max_shift=40, bias_bits=56),
], ids=["z 2", "by layer", "z 20", "64 bits"])
def test_other_widths(params):
    found = random_network(40, max_dim=24, max_size=12)
    network = export(found.state, found.spec, params, input_shape=found.network.input_shape)
    assert_equal(network, found.images(3))


def test_reference_evaluator():
    """The standard's own implementation, without onnxruntime."""
    found = random_network(3, max_dim=12, max_size=10, time_steps=2)
    network, image_q = found.network, found.images(2)
    model = to_model(network, keep=level_names(network))
    made = ReferenceEvaluator(model).run(None, {"image": image_q})
    wanted = network.run(image_q)
    for output, values in zip(model.graph.output, made, strict=True):
        np.testing.assert_array_equal(values, wanted[output.name], output.name)


def scale(channels, multiplier=3, bias=5, shift=2):
    return Scale(*(np.full(channels, x, np.int64) for x in (multiplier, bias, shift)))


def by_hand(*ops, shape, **params):
    return IntegerNetwork({"name": "by hand"}, IntegerParams(**params), ops, shape)


@pytest.mark.parametrize("seed", range(6))
def test_networks_that_round_half_to_even(seed):
    """SDT-v3: ties, attention thresholds of the head size, wider values, 8 bits."""
    found = random_network(seed, family=SdtV3Spec, max_dim=36, max_size=14,
                           extremes=() if seed else None)
    assert_equal(found.network, found.images(4), optimise=(True, False))


@pytest.mark.parametrize("family", [SdtV3Spec, SdtV3LargeSpec])
def test_levels_of_0_to_8(family):
    """Spike firing approximation with D = 8: eight thresholds everywhere, 14 bits of attention."""
    found = random_network(5, family=family, max_dim=32, max_size=12, extremes=("attention",))
    network = export(found.state, replace(found.spec, levels=8), found.params,
                     input_shape=found.network.input_shape)
    image_q = found.images(3)
    assert_equal(network, image_q, optimise=(True, False))
    tensors = network.run(image_q)
    names = [name for name, (kind, *_) in network.tensors().items() if kind == "level"]
    assert max(int(tensors[name].max()) for name in names) == 8
    assert max(op.cap for op in network.ops if isinstance(op, Attention)) > 1 << 11


@pytest.mark.parametrize("seed", range(4))
def test_heads_that_read_the_mean(seed):
    """Large SDT-v3: the mean membrane as a z of its own width; half up, 11-bit attention."""
    found = random_network(seed, family=SdtV3LargeSpec, max_dim=36, max_size=14,
                           extremes=() if seed else None)
    assert "mean/z" in every_tensor(found.network)
    assert_equal(found.network, found.images(4), optimise=(True, False))


def test_weights_of_eight_bits():
    """Bytes of 7 bits: two products of 255 and -128 would not fit the 16 bits of VPMADDUBSW."""
    rng = np.random.default_rng(0)

    def weight(*shape):
        q = rng.integers(-128, 128, shape, np.int8)
        q.flat[:2] = -128
        return q

    rule = Thresholds(np.sort(rng.integers(-9000, 9000, (6, 4)), axis=1),
                      np.arange(6) % 2 == 0, np.zeros(6, bool))
    network = by_hand(
        Conv("stem", "image", weight(6, 3, 3, 3), 2, 1, Fire(rule, "a")),
        RepConv("rep", "a", weight(6, 6), weight(6, 3, 3), Requantise(scale(6, 1, 0, 4), "rep/z")),
        Conv("wide", "rep/z", weight(6, 6, 3, 3), 1, 1, Integrate(scale(6), "u", None, "b")),
        Depthwise("deep", "b", weight(6, 5, 5), Requantise(scale(6), "deep/z")),
        Conv("head", "deep/z", weight(4, 6, 1, 1), 1, 0,
             Raw(rng.normal(size=4), rng.normal(size=4), name="map")),
        shape=(3, 9, 8), acc_bits=34, z_bits=14)
    image_q = noise(network)
    image_q[0], image_q[1] = 127, -128
    assert_equal(network, image_q, optimise=(True, False))
    assert {-(1 << 13), (1 << 13) - 1} <= set(network.run(image_q)["rep/z"].ravel().tolist())


def test_heads_of_attention():
    """Products at the cap, and at and beside every threshold."""
    rng = np.random.default_rng(1)

    def fired(name):
        rule = Thresholds(np.tile([300, 500, 700, 900], (8, 1)), *np.zeros((2, 8), bool))
        q = rng.integers(-8, 8, (8, 3, 1, 1), np.int8)
        return Conv(name, "image", q, 1, 0, Fire(rule, name))

    network = by_hand(
        *map(fired, "qkv"),
        Attention("attn", "q", "k", "v", 2, "level", "block"),
        Conv("head", "level", np.ones((1, 8, 1, 1), np.int8), 1, 0,
             Raw(np.ones(1), np.zeros(1), name="map")),
        shape=(3, 4, 5))
    image_q = noise(network, 300)
    products = set(network.run(image_q)["block/qktv"].ravel().tolist())
    assert {0, 31, 32, 33, 95, 96, 97, 159, 160, 161, 223, 224} <= products
    assert_equal(network, image_q)


def test_what_cannot_be_exported():
    found = random_network(3, max_dim=12, max_size=10)
    shape = found.network.input_shape
    wide = export(found.state, found.spec, form="wide", input_shape=shape)
    with pytest.raises(ValueError, match="only the integer form can be exported"):
        to_model(wide)
    weight = np.full((1, 1, 1100, 1100), -8, np.int8)
    head = Conv("huge", "image", weight, 1, 0, Raw(np.ones(1), np.zeros(1)))
    with pytest.raises(ValueError, match="huge: its sums need more than the 32 bits that ONNX"):
        to_model(by_hand(head, shape=(1, 1100, 1100), acc_bits=40))
