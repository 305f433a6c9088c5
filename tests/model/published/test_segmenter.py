"""Neck and head of the published segmenter against its vectors."""

import numpy as np
import pytest
import torch

from model.families.network import capture_levels
from model.families.neuron import Neuron
from model.families.spec import spec
from model.published.checkpoint import published_key
from model.published.segmenter import Qfpn, QfpnHead
from model.published.semantic_fpn import SemanticFpn
from tests.model import detseg_vectors


torch.set_num_threads(1)


def vectors():
    return detseg_vectors.arrays("seg_qfpn")


def loaded(module, part):
    """`module` with its weights, in float64; `part` is what the whole network calls it."""
    weights = detseg_vectors.weights("seg_qfpn")
    state = {key: torch.from_numpy(weights[published_key(f"{part}.{key}")])
             for key in module.state_dict() if not key.endswith("num_batches_tracked")}
    lacking = module.double().load_state_dict(state, strict=False)
    assert all(key.endswith("num_batches_tracked") for key in lacking.missing_keys)
    return module.eval()


def test_neck_is_the_published_one():
    """Detection check (a): all maps to 1e-9, all levels."""
    model = loaded(Qfpn((8, 16, 32, 64), 16), "neck")
    with torch.inference_mode(), capture_levels(model) as levels:
        maps = model([torch.from_numpy(vectors()[f"in{i}"]) for i in range(4)])
    for i, found in enumerate(maps):
        np.testing.assert_allclose(found, vectors()[f"neck_out{i}"], rtol=0, atol=1e-9)
    assert len(levels) == 8
    for key, level in levels.items():
        name, place, _ = key.split(".")
        np.testing.assert_array_equal(level, vectors()[f"lv/{name}_spikes.{place}"], err_msg=key)


def test_head_is_the_published_one():
    """Detection check (a)."""
    model = loaded(QfpnHead((2, 4, 8, 16), 16, classes=7), "head")
    with torch.inference_mode(), capture_levels(model) as levels:
        logits = model([torch.from_numpy(vectors()[f"neck_out{i}"]) for i in range(4)])
    np.testing.assert_allclose(logits, vectors()["logits"], rtol=0, atol=1e-9)
    assert len(levels) == 1 + 1 + 2 + 3 + 1
    for key, level in levels.items():
        if key == "out.lif":
            name = "out_spike"
        else:
            _, branch, unit, _ = key.split(".")
            name = f"scale_heads.{branch}.{2 * int(unit)}.0"
        np.testing.assert_array_equal(level, vectors()[f"lv/head/{name}"], err_msg=key)


def test_neurons_fire_the_same_in_evaluation_and_training():
    """Detection check (h)."""
    x = torch.linspace(-1, 6, 57, dtype=torch.float64)
    neurons = [m for m in QfpnHead((2, 4, 8, 16), 8, classes=2).modules() if isinstance(m, Neuron)]
    neurons += [m for m in Qfpn((8, 8), 8).modules() if isinstance(m, Neuron)]
    assert len(neurons) == 8 + 4
    assert all(torch.equal(m.train()(x), m.eval()(x)) for m in neurons)


@pytest.mark.parametrize("name, parameters", [("qsdt_t", 1_720_982), ("qsdt_m", 1_750_678),
                                              ("qsdt_l", 1_785_494)])
def test_sizes_are_the_published_ones(name, parameters):
    with torch.device("meta"):
        model = SemanticFpn(spec(name))
    found = sum(p.numel() for part in (model.neck, model.head) for p in part.parameters())
    assert found == parameters
    assert [len(branch) for branch in model.head.scale_heads] == [1, 1, 2, 3]


def test_strides_that_are_no_powers_of_two_are_named():
    with pytest.raises(ValueError, match="strides must be 4 times a power of two, not 12"):
        QfpnHead((4, 12), 8, classes=2)
    with pytest.raises(ValueError, match="strides must be 4 times a power of two, not 2"):
        QfpnHead((4, 2), 8, classes=2)


def test_what_is_not_one_image_is_named():
    with torch.device("meta"):
        model = SemanticFpn(spec("qsdt_t"))
    for count in (0, 2):
        with pytest.raises(ValueError, match=f"there must be one image, not {count}"):
            model.segment(torch.zeros(count, 3, 32, 32))
