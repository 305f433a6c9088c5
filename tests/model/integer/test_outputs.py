"""Integer networks with several named outputs, on maps, and membranes added from coarser maps."""

from dataclasses import replace
import re

import numpy as np
import pytest

from model.integer import golden
from model.integer.graph import Conv, IntegerParams, Integrate, Raw, Scale
from model.integer.network import IntegerNetwork
from model.integer.random_network import random_network, with_heads


@pytest.fixture(scope="module")
def found():
    return with_heads(random_network(3, min_size=20, max_size=24), 3)


def changed(network, op_name, **fields):
    """The network with other fields of the epilogue of operator `op_name`."""
    return IntegerNetwork(network.spec, network.params, [
        replace(op, epilogue=replace(op.epilogue, **fields)) if op.name == op_name else op
        for op in network.ops], network.input_shape, read_out=network.read_out)


def test_outputs_by_name(found):
    network, images = found.network, found.images(3)
    tensors, made = network.tensors(), network.results(images)
    assert [*network.outputs][:2] == ["logits", "cls0"]
    assert {*made} == {*network.outputs}
    assert {"seg", "fpn0/u", "cls1"} <= {*made}
    every = network.run(images)
    for name, values in made.items():
        np.testing.assert_array_equal(values, every[name])
        tensor = network.outputs[name]
        _, channels, height, width = tensors[tensor]
        if name == "logits":
            assert values.shape == (3, channels) and values.dtype == np.float64
            continue
        assert values.shape == (3, channels, height, width)
        if tensor == f"{name}_acc":
            raw = next(op.epilogue for op in network.ops if tensor in op.outputs)
            np.testing.assert_array_equal(values, raw.scale[:, None, None] * every[tensor]
                                          + raw.offset[:, None, None])
    assert all(values.std() > 0 for values in made.values())
    np.testing.assert_array_equal(network.classify(images), made["logits"])


def test_the_classes_stay_as_they_are():
    """Heads change nothing in front of them; without them digest and outputs are of before."""
    plain = random_network(3, min_size=20, max_size=24)
    headed = with_heads(plain, 3)
    images = plain.images(2)
    np.testing.assert_array_equal(plain.network.classify(images), headed.network.classify(images))
    assert plain.network.outputs == {"logits": "logits_acc"}
    assert plain.network.digest() != headed.network.digest()
    alone = with_heads(plain, 3, logits=False).network
    assert "logits" not in alone.outputs and "cls0" in alone.outputs
    assert alone.results(images).keys() == alone.outputs.keys()


@pytest.mark.parametrize("height, width", [(4, 6), (5, 6), (5, 7), (1, 1)])
def test_membranes_of_coarser_maps(height, width):
    """Exact, with saturation, at odd sizes: (y, x) has what (y // 2, x // 2) had."""
    rng = np.random.default_rng(0)
    params = IntegerParams(u_frac=3, u_bits=6)
    ones = np.ones(2, np.int64)
    rule = Integrate(Scale(ones, 0 * ones, 0 * ones), "u", "coarse", upsample=2)
    coarse = rng.integers(-32, 32, (1, *rule.added_shape(2, height, width)))
    acc, stats = rng.integers(-20, 20, (1, 2, height, width)), {}
    made = rule.apply(acc, {"coarse": coarse}, params, stats)["u"]
    wanted = np.array([[[np.clip(acc[0, c, y, x] + coarse[0, c, y // 2, x // 2], -32, 31)
                         for x in range(width)] for y in range(height)] for c in range(2)])
    np.testing.assert_array_equal(made[0], wanted)
    assert height * width < 20 or stats["u_saturated"] > 0
    assert golden.upsample(coarse, 1) is coarse


def test_digest_knows_outputs(found):
    network = found.network
    others = [changed(network, "cls0", name="boxes"), changed(network, "seg", on_host=False),
              IntegerNetwork(network.spec, network.params, network.ops, network.input_shape)]
    assert len({network.digest(), *(other.digest() for other in others)}) == 4
    assert "boxes" in others[0].outputs and "fpn0/u" not in others[2].outputs


def test_what_is_no_output(found):
    network = found.network

    def again(ops=network.ops, shape=network.input_shape, **options):
        return IntegerNetwork(network.spec, network.params, ops, shape, **options)

    with pytest.raises(ValueError, match=r"cls0: logits are of one position, not of \d+ x \d+"):
        changed(IntegerNetwork(network.spec, network.params, [
            op for op in network.ops if op.name != "head"], network.input_shape), "cls0",
            name="logits")
    with pytest.raises(ValueError, match="cls0_acc is made twice"):
        changed(network, "cls1", name="cls0")
    with pytest.raises(ValueError, match=r"output fpn0\.lif has the name of a tensor"):
        changed(network, "cls0", name="fpn0.lif")
    for name in ("cls0_acc", "image", "nothing"):
        with pytest.raises(ValueError, match=f"must name level maps or membranes.*not {name}"):
            again(read_out=(name,))
    with pytest.raises(ValueError, match="each once"):
        again(read_out=("fpn0/u", "fpn0/u"))
    size = network.tensors()["fpn0.lif"][1]
    wide = Conv("big", "fpn0.lif", np.ones((2, size, 3, 3), np.int8), 1, 1,
                Raw(np.ones(2), np.ones(2), name="big", on_host=True))
    with pytest.raises(ValueError, match="big: the host computes 1x1 convolutions of level maps"):
        again((*network.ops, wide))
    with pytest.raises(ValueError, match=re.escape("fpn0: fpn1/u is (")):
        changed(network, "fpn0", upsample=1)
    steps = [replace(op, epilogue=replace(op.epilogue, steps=2)) if isinstance(
        getattr(op, "epilogue", None), Raw) else op for op in network.ops]
    with pytest.raises(ValueError, match="2 time steps are for class scores only"):
        again(steps, (2, *network.input_shape), read_out=network.read_out)
