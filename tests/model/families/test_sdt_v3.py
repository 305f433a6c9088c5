"""The Spike-driven Transformer V3: shapes as published, and the float form against its vectors."""

from dataclasses import replace
from fractions import Fraction
import json

import numpy as np
import pytest
import torch

from model.families.layout import state_shapes
from model.families.make import make_network
from model.families.network import capture_levels
from model.families.neuron import Sfa
from model.families.sdt_v3 import attention_thresholds, MODELS, SdtV3Spec
from model.families.spec import from_dict, spec
from model.families.work import work
from model.training.recipe import read_preset
from model.training.trainer import build
from tests.model.sdt_v3_vectors import Vectors


TINY = SdtV3Spec(name="tiny", image_size=16, in_channels=1, classes=3, dims=(4, 4, 6, 8, 12),
                 strides=(2, 1, 2, 1, 1), depths=(1, 1, 1, 1, 1), conv_expansion=(1, 1, 1),
                 mlp_ratio=1, heads=2, value_expansion=2, norm_mean=(0.5,), norm_std=(0.5,))

PUBLISHED = {    # parameters, weights and multiply-accumulates at 224x224 of the published code
    "sdt_v3_t": (2_702_048, 2_665_036, 1_029_614_080),
    "sdt_v3_s": (5_105_608, 5_054_864, 1_877_828_096),
    "sdt_v3_m": (10_023_112, 9_951_384, 3_935_079_552),
    "sdt_v3_l": (18_987_504, 18_888_960, 7_200_095_424),
}


@pytest.fixture(scope="module")
def vectors():
    return Vectors()  # fails, not skips, if the files are not there


def loaded(vectors):
    model = make_network(vectors.spec).double().eval()
    state = {key: torch.from_numpy(value) for key, value in vectors.state.items()}
    lacking = model.load_state_dict(state, strict=False)
    assert not lacking.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in lacking.missing_keys)
    return model


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_the_published_ones(name):
    parameters, weights, macs = PUBLISHED[name]
    real = replace(spec(name), weight_bits=32)
    with torch.device("meta"):
        model = make_network(real)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert shapes == state_shapes(real) and len(shapes) == 605
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert spec(name).weight_count == weights
    done = work(spec(name))
    assert sum(x.macs for x in done if x.reads != "attention") == macs
    assert {x.reads for x in done} == {"image", "level", "attention"}


def test_levels_and_logits_are_the_published_ones(vectors):
    """Model check 7.21: every level of every neuron, the logits to 1e-9."""
    model = loaded(vectors)
    with torch.no_grad(), capture_levels(model) as levels:
        logits = model(torch.from_numpy(vectors.image_q).double() / 48)
    assert set(levels) == set(vectors.levels) and len(levels) == 55
    for name, want in vectors.levels.items():
        np.testing.assert_array_equal(levels[name].numpy().reshape(want.shape), want, err_msg=name)
    np.testing.assert_allclose(logits.numpy(), vectors.logits, rtol=0, atol=1e-9)


@pytest.mark.parametrize("head_size, thresholds", [
    (12, (56, 167, 278, 388)), (16, (65, 192, 321, 448)), (24, (79, 236, 392, 549)),
    (30, (88, 263, 439, 614)), (32, (91, 272, 453, 634)), (45, (108, 322, 537, 752))])
def test_attention_thresholds_of_the_published_models(head_size, thresholds):
    """The least sums that exceed 16(2k-1)sqrt(d), or reach it for an even level."""
    assert attention_thresholds(4, head_size) == thresholds


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("head_size", [1, 4, 5, 9, 16, 18, 36, 45])
def test_attention_thresholds_are_the_rule_on_reals(levels, head_size):
    """x = 2 o / (sqrt(d) D^3), squared so that it stays rational, against k - 1/2."""
    for k, threshold in enumerate(attention_thresholds(levels, head_size), 1):
        for o, fires in ((threshold - 1, False), (threshold, True)):
            square = Fraction(4 * o * o, head_size * levels**6)
            edge = Fraction(2 * k - 1, 2) ** 2
            assert (square > edge or (square == edge and k % 2 == 0)) == fires


@pytest.mark.parametrize("levels", [3, 4, 8])
@pytest.mark.parametrize("head_size", [9, 16, 18])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_attention_of_the_float_form_keeps_its_thresholds(levels, head_size, dtype):
    """From one below to one above every threshold, in whole levels and in fractions of D."""
    attention = make_network(replace(TINY, dims=(4, 4, 4, head_size * 2, head_size * 2),
                                     levels=levels)).get_submodule("block3.0.attn")
    products = torch.tensor(sorted({t + i for t in attention_thresholds(levels, head_size)
                                    for i in (-1, 0, 1)}), dtype=dtype)
    want = sum(products >= t for t in attention_thresholds(levels, head_size))
    assert torch.equal(attention.attn_lif.level(attention.membrane(products, levels)), want)
    if not levels & (levels - 1):
        values = attention.membrane(products / levels**3)
        assert torch.equal(attention.attn_lif.level(values), want)


@pytest.mark.parametrize("levels", [1, 3, 4, 8])
def test_neuron_rounds_half_to_even(levels):
    x = torch.arange(-8, 4 * levels + 9, dtype=torch.float64) / 4
    want = [min(max(round(v), 0), levels) for v in x.tolist()]
    neuron, last = Sfa(levels), Sfa(levels, gain=levels)
    assert neuron.level(x).tolist() == want == last(x).tolist()
    assert torch.equal(neuron(x), torch.tensor(want, dtype=torch.float64) / levels)


def test_neuron_passes_the_gradient_between_0_and_the_highest_level():
    x = torch.tensor([-0.1, 0.0, 0.5, 3.9, 4.0, 4.1], requires_grad=True)
    Sfa(4)(x).sum().backward()
    assert x.grad.tolist() == [0, 0.25, 0.25, 0.25, 0.25, 0]


def test_every_parameter_learns():
    torch.manual_seed(0)
    model = make_network(TINY)
    loss = torch.nn.functional.cross_entropy(
        model(torch.rand(4, 1, 16, 16) * 4), torch.tensor([0, 1, 2, 0]))
    loss.backward()
    still = [name for name, p in model.named_parameters() if p.grad is None]
    assert still == [] and all(p.grad.isfinite().all() for p in model.parameters())
    assert sum(float(p.grad.abs().sum()) > 0 for p in model.parameters()) > 60


@pytest.mark.parametrize("bits", [2, 3, 4, 8, 32])
def test_weights_have_the_bits_asked_for(bits):
    model = make_network(replace(TINY, weight_bits=bits))
    layer = model.get_submodule("block3.0.mlp.fc1_conv")
    if bits == 32:
        assert "block3.0.mlp.fc1_conv.alpha" not in model.state_dict()
        return
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-200, 200, layer.weight.numel()).view_as(layer.weight))
        layer.alpha.fill_(1)
    values = layer.quantised_weight()
    low, high = {2: (-2, 1), 3: (-4, 3), 4: (-8, 7), 8: (-128, 119)}[bits]
    assert (values.min(), values.max()) == (low, high)


def test_time_steps_of_one_image_are_equal():
    model = make_network(replace(TINY, time_steps=2)).double().eval()
    x = torch.rand(2, 1, 16, 16, dtype=torch.float64)
    one = make_network(TINY).double().eval()
    one.load_state_dict(model.state_dict())
    assert torch.equal(model(x), one(x))


@pytest.mark.parametrize("name, like", [("sdt_v3_nano", "qsdt_nano"), ("sdt_v3_scenes", "qsdt_s")])
def test_small_networks_fit_their_purpose(name, like):
    """As many weights as their rivals; heads that fill words of 64 lanes, in v one each."""
    small, rival = spec(name), spec(like)
    assert small.weight_count <= (300_000 if name == "sdt_v3_nano" else rival.weight_count)
    assert small.weight_count > 0.9 * rival.weight_count
    for dim in small.dims[3:]:
        assert dim % 64 == 0 and dim // small.heads * small.value_expansion == 64
    for field in ("in_channels", "image_size", "classes", "norm_mean", "norm_std"):
        assert getattr(small, field) == getattr(rival, field)


@pytest.mark.parametrize("name", ["sdt_v3_nano", "sdt_v3_scenes"])
def test_attention_of_small_networks_begins_between_silence_and_saturation(name):
    network = spec(name)
    model = build(network, read_preset(name).recipe)
    side = network.image_size
    image_q = torch.randint(-128, 128, (16, 1, side, side), generator=torch.manual_seed(3))
    with torch.no_grad(), capture_levels(model) as levels:
        model(image_q / 48)
    found = [level for name, level in levels.items() if name.endswith("attn_lif")]
    assert len(found) == sum(network.depths[3:])
    for level in found:
        assert 0.3 < level.float().mean() < 1.5
        assert (level == network.levels).float().mean() < 0.01


@pytest.mark.parametrize("name", MODELS)
def test_spec_survives_json(name):
    values = json.loads(json.dumps(spec(name).to_dict()))
    assert values["family"] == "sdt_v3" and from_dict(values) == spec(name)
    assert SdtV3Spec.from_dict(values) == spec(name)


@pytest.mark.parametrize("changes, message", [
    ({"weight_bits": 5}, "weight_bits must be 2, 3, 4, 8 or 32, not 5"),
    ({"value_expansion": 0}, "value_expansion must be a positive integer, not 0"),
    ({"value_expansion": 17}, "value_expansion must be at most 16, not 17"),
    ({"mprf": "add"}, "mprf is no field of the family SDT-v3"),
])
def test_spec_rejects(changes, message):
    with pytest.raises(ValueError, match=message):
        TINY.changed(**changes)


def test_there_is_no_twin():
    with pytest.raises(ValueError, match="tiny: SDT-v3 has no ANN twin here"):
        TINY.twin()


def test_unknown_families_are_named():
    with pytest.raises(ValueError, match="family must be one of qsdt, sdt_v3, sdt_v3_large, not"):
        from_dict({"family": "vit", "name": "x"})
