"""Comparing ONNX models with integer networks: every difference is found."""

from dataclasses import replace

import numpy as np
import pytest

from model.exchange.onnx_file import level_names, to_bytes
from model.exchange.onnx_runtime import differences, OnnxNetwork, RUNTIME
from model.integer.epilogue import Raw
from model.integer.network import IntegerNetwork
from model.integer.random_network import random_network


@pytest.fixture(scope="module")
def found():
    return random_network(3, max_dim=16, max_size=10)


def changed(network, place, **fields):
    ops = list(network.ops)
    ops[place] = replace(ops[place], **fields)
    return IntegerNetwork(network.spec, network.params, ops, network.input_shape)


def test_outputs(found):
    network, image_q = found.network, found.images(5)
    model = OnnxNetwork(to_bytes(network))
    assert model.outputs == ("logits", "logits_acc") and RUNTIME.startswith("onnxruntime 1.")
    made = model.run(image_q)
    assert made["logits"].shape == (5, found.spec.classes)
    assert list(differences(network, model, image_q, batch=2)) == [{}] * 3


def test_a_file_is_read(found, tmp_path):
    path = tmp_path / "x.onnx"
    path.write_bytes(to_bytes(found.network))
    assert list(differences(found.network, OnnxNetwork(path), found.images(2))) == [{}, {}]


def test_one_wrong_layer_is_found(found):
    network, image_q = found.network, found.images(4)
    wrong = changed(network, 0, weight=~network.ops[0].weight)
    model = OnnxNetwork(to_bytes(wrong, keep=level_names(network)))
    counts = next(differences(network, model, image_q, batch=4))
    assert counts[level_names(network)[0]] > 0 and set(counts) <= set(model.outputs)


def test_logits_are_compared_by_their_bits(found):
    network, image_q = found.network, found.images(1)
    raw = network.ops[-1].epilogue
    nearly = Raw(raw.scale, raw.offset + 1e-13)
    model = OnnxNetwork(to_bytes(changed(network, -1, epilogue=nearly)))
    assert list(differences(network, model, image_q)) == [{"logits": found.spec.classes}]


def test_other_shapes_and_types_differ(found):
    class Other:
        outputs = ("logits", "logits_acc")

        def run(self, image_q):
            made = found.network.run(image_q, keep=self.outputs)
            return {"logits": made["logits"].astype(np.int64), "logits_acc": made["logits_acc"][0]}

    classes = found.spec.classes
    assert list(differences(found.network, Other(), found.images(1))) == [
        {"logits": classes, "logits_acc": classes}]
