"""The large Spike-driven Transformer V3: published shapes, and the float form against vectors."""

from dataclasses import replace
import json

import numpy as np
import pytest
import torch

from model.families.layout import state_shapes
from model.families.make import make_network
from model.families.network import capture_levels
from model.families.neuron import Sfa
from model.families.sdt_v3_large import attention_thresholds, MODELS, SdtV3LargeSpec
from model.families.spec import from_dict, spec
from model.families.thermometer import binary_time_steps
from model.families.work import work
from tests.model.sdt_v3_large_vectors import Vectors


TINY = SdtV3LargeSpec(name="tiny", image_size=16, in_channels=1, classes=3, dims=(4, 4, 6, 12),
                      strides=(2, 1, 2, 1), depths=(1, 1, 1, 2), conv_expansion=(1, 1, 1),
                      mlp_ratio=1, heads=2, rep_conv=True, layer_scale_init=0.1, norm_mean=(0.5,),
                      norm_std=(0.5,))


@pytest.fixture(scope="module")
def vectors():
    return Vectors()  # fails, not skips, if the files are not there


def unmerged(spec):
    """Parameters of the published class, whose chains have 1.5 C channels in between, and one C."""
    c, blocks = spec.dims[-1], spec.depths[-1]
    weights, middle = 2 * c * 3 * c // 2, 3 * c // 2
    pair = weights + 2 * middle + 2 * c         # both convolutions, both batch norms
    extra = (2 * c * c + 2 * 2 * c) - (c * c + 2 * c) if spec.rep_conv else 0
    merged = sum(np.prod(shape, dtype=int) for key, shape in
                 state_shapes(replace(spec, weight_bits=32)).items()
                 if "running" not in key and "num_batches" not in key)
    return int(merged) + blocks * (4 * (pair - c * c) + extra)


def test_sizes_are_the_published_ones():
    """170,971,714 parameters of the model without distillation, merged 113.9 M weights."""
    large, base = MODELS["sdt_v3_173m"], MODELS["sdt_v3_83m"]
    assert unmerged(large) == 170_971_714
    assert [round(x.weight_count / 1e6, 1) for x in (base, large)] == [53.9, 113.9]
    assert base.rep_conv and not large.rep_conv
    assert {x.reads for x in work(large)} == {"image", "level", "attention", "raw"}
    assert work(large)[-1].reads == "raw"


def test_shapes_are_those_of_the_network():
    for given in (TINY, replace(TINY, rep_conv=False), replace(TINY, weight_bits=32)):
        state = make_network(given).state_dict()
        assert {key: tuple(value.shape) for key, value in state.items()} == state_shapes(given)


def test_levels_and_logits_are_the_published_ones(vectors):
    """Model check 7.22: every level of every neuron, the logits to 1e-9."""
    model = make_network(vectors.spec).double().eval()
    lacking = model.load_state_dict(
        {key: torch.from_numpy(np.array(value)) for key, value in vectors.state.items()},
        strict=False)
    assert not lacking.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in lacking.missing_keys)
    means = []
    model.head.register_forward_pre_hook(lambda module, args: means.append(args[0]))
    with torch.no_grad(), capture_levels(model) as levels:
        logits = model(torch.from_numpy(vectors.image_q).double() / 48)
    levels["lif"] = Sfa(4, half_even=False).level(means[0])    # fires, but nothing reads it
    assert set(levels) == set(vectors.levels) and len(levels) == 26
    for name, want in vectors.levels.items():
        np.testing.assert_array_equal(levels[name].numpy(), want, err_msg=name)
    np.testing.assert_allclose(logits.numpy(), vectors.logits, rtol=0, atol=1e-9)


def test_attention_thresholds_are_inclusive_and_need_11_bits():
    assert attention_thresholds(4) == (256, 768, 1280, 1792) and 1792 < 1 << 11
    for levels in (1, 2, 3, 4, 8):
        attention = make_network(replace(TINY, levels=levels)).get_submodule("block3.0.attn")
        thresholds = attention_thresholds(levels)
        products = torch.tensor(sorted({t + i for t in thresholds for i in (-1, 0, 1)})).double()
        want = sum(products >= t for t in thresholds)
        assert torch.equal(attention.attn_lif.level(attention.membrane(products, levels)), want)


@pytest.mark.parametrize("levels", [1, 3, 4, 8])
def test_neuron_rounds_half_up(levels):
    x = torch.arange(-8, 4 * levels + 9, dtype=torch.float64) / 4
    want = [int(np.floor(min(max(v, 0), levels) + 0.5)) for v in x.tolist()]
    neuron = Sfa(levels, half_even=False)
    assert neuron.level(x).tolist() == want
    assert torch.equal(neuron(x), torch.tensor(want, dtype=torch.float64) / levels)
    assert any(a != b for a, b in zip(want, Sfa(levels).level(x).tolist(), strict=True))


def test_neuron_passes_the_gradient_strictly_between_0_and_the_highest_level():
    x = torch.tensor([-0.1, 0.0, 0.5, 3.9, 4.0, 4.1], requires_grad=True)
    Sfa(4, half_even=False)(x).sum().backward()
    assert x.grad.tolist() == [0, 0, 0.25, 0.25, 0, 0]


def test_every_parameter_learns():
    torch.manual_seed(0)
    model = make_network(TINY)
    loss = torch.nn.functional.cross_entropy(
        model(torch.rand(4, 1, 16, 16) * 4), torch.tensor([0, 1, 2, 0]))
    loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert sum(float(p.grad.abs().sum()) > 0 for p in model.parameters()) > 60


def test_binary_time_steps_give_the_same_levels():
    """The head multiplies the mean membrane itself, so that it is not split into spikes."""
    torch.manual_seed(1)
    model = make_network(TINY).double().eval()
    x = torch.rand(2, 1, 16, 16, dtype=torch.float64) * 4
    with torch.no_grad(), capture_levels(model) as want:
        logits = model(x)
    want = dict(want)
    with torch.no_grad(), binary_time_steps(model), capture_levels(model) as made:
        np.testing.assert_allclose(model(x).numpy(), logits.numpy(), rtol=1e-12)
    assert made.keys() == want.keys()
    assert all(torch.equal(made[name], level) for name, level in want.items())


@pytest.mark.parametrize("name", MODELS)
def test_spec_survives_json(name):
    values = json.loads(json.dumps(spec(name).to_dict()))
    assert values["family"] == "sdt_v3_large" and from_dict(values) == spec(name)
    assert "sep_expansion" not in values


@pytest.mark.parametrize("changes, message", [
    ({"weight_bits": 5}, "weight_bits must be 2, 3, 4, 8 or 32, not 5"),
    ({"rep_conv": 1}, "rep_conv must be true or false, not 1"),
    ({"layer_scale_init": "x"}, "layer_scale_init must be a number, not 'x'"),
    ({"dims": (4, 4, 6, 12, 12)}, "dims must be 4 positive integers"),
    ({"dims": (4, 4, 6, 13)}, r"heads must divide the dims \(13,\), not be 2"),
    ({"dims": (400, 800, 1600, 3200)}, "a network must have at most 134,217,728 weights"),
])
def test_spec_rejects(changes, message):
    with pytest.raises(ValueError, match=message):
        TINY.changed(**changes)


def test_there_is_no_twin():
    with pytest.raises(ValueError, match="tiny: large SDT-v3 has no ANN twin here"):
        TINY.twin()
