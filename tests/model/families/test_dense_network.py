"""The float form of heads: equal to the integer form in every level, what binary necks change,
gradients, and the attention's scale by tokens."""

from dataclasses import replace
from fractions import Fraction
import math

import numpy as np
import pytest
import torch

from model.families.dense_network import PRIOR
from model.families.make import make_network
from model.families.network import capture_levels
from model.families.qsdt import attention_thresholds
from model.families.sdt_v3 import attention_thresholds as sdt_v3_thresholds
from model.families.thermometer import binary_time_steps
from model.integer.export import export
from tests.model.dense_nets import FAMILIES, QSDT, SDT_V3, used, with_heads


torch.set_num_threads(1)

KINDS = {"lite": {}, "faithful": {"segmenter": {"classes": 4, "kind": "faithful"}}}


def pictures(spec, count=2, seed=0, shape=None):
    size = (spec.image_size,) * 2 if shape is None else shape
    rng = np.random.default_rng(seed)
    return rng.integers(-128, 128, (count, spec.in_channels, *size)).astype(np.int8)


def outputs_and_levels(model, image_q):
    x = torch.from_numpy(image_q).double() / model.spec.image_scale
    with torch.inference_mode(), capture_levels(model) as levels:
        outputs = model(x)
    return ({name: value.numpy() for name, value in outputs.items()},
            {name: value.numpy() for name, value in levels.items()})


def assert_equal_to_the_wide_form(spec, shape=None):
    model, state = used(spec)
    image_q = pictures(spec, shape=shape)
    outputs, levels = outputs_and_levels(model, image_q)
    network = export(state, spec, form="wide", input_shape=image_q.shape[1:])
    made = network.run(image_q)
    heads = ("neck.", "detector.", "segmenter.")
    assert any(name.startswith(heads) for name in levels)
    for name, level in levels.items():
        np.testing.assert_array_equal(made[name], level, err_msg=name)
        if name.startswith(heads):
            assert 0.1 < level.mean() < 0.97 * spec.levels and level.std() > 0.3, name
    assert list(network.outputs) == list(outputs)
    for name, value in outputs.items():
        np.testing.assert_allclose(made[name], value, rtol=0, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_wide_form_equals_the_float_network(family, kind):
    """Every level map, and the outputs to 1e-9."""
    assert_equal_to_the_wide_form(with_heads(FAMILIES[family], **KINDS[kind]))


@pytest.mark.parametrize("family", ["qsdt", "sdt_v3"])
def test_other_sizes_and_scaled_attention(family):
    """With N0 the thresholds follow the tokens of the picture at hand; odd maps are cut."""
    spec = replace(FAMILIES[family], attention_tokens=3)
    assert_equal_to_the_wide_form(spec)
    assert_equal_to_the_wide_form(spec, shape=(48, 80))
    assert_equal_to_the_wide_form(spec, shape=(40, 56))


def test_levels_of_another_number():
    assert_equal_to_the_wide_form(replace(SDT_V3, levels=8, attention_tokens=4))


def test_outputs_of_each_head_alone():
    for gone, names in (("segmenter", ["cls8", "reg8", "cls16", "reg16"]), ("detector", ["seg"])):
        spec = with_heads(QSDT, **{gone: None})
        found = make_network(spec).eval()(torch.zeros(1, 1, 32, 32))
        assert [*found] == names
        if gone == "detector":
            assert found["seg"].shape == (1, 4, 16, 16)
        else:
            assert found["cls8"].shape == (1, 3, 4, 4) and found["reg16"].shape == (1, 5, 2, 2)


def test_start_values():
    """Every class has the probability of the focal loss's prior, every box sides of two strides."""
    model = make_network(QSDT)
    bias = model.get_submodule("detector.cls").bias
    assert torch.allclose(torch.sigmoid(bias), torch.full_like(bias, PRIOR))
    assert not model.get_submodule("detector.reg").bias.any()


def test_gradients_reach_every_weight():
    """Also through maps of all strides to the shared tower."""
    model, _ = used(with_heads(QSDT, **KINDS["faithful"]))
    model.train()
    outputs = model(torch.randn(4, 1, 32, 32, dtype=torch.float64))
    sum(value.square().mean() for value in outputs.values()).backward()
    for name, value in model.named_parameters():
        assert value.grad is not None and torch.isfinite(value.grad).all(), name
        if name.startswith(("neck", "detector", "segmenter")):
            assert value.grad.abs().sum() > 0, name


def test_binary_necks():
    """The published detector's mistake changes evaluation alone; always, both modes, alike."""
    x = torch.randn(2, 1, 32, 32, dtype=torch.float64)
    plain, state = used(QSDT)

    def answers(binary, train):
        model = make_network(with_heads(QSDT, binary_neck=binary)).double()
        model.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in state.items()})
        model.train(train)
        with torch.no_grad():
            return model(x)

    def same(one, two):
        return all(torch.equal(one[name], two[name]) for name in one)

    for train in (False, True):
        assert same(answers("none", train), answers("evaluation", train)) == train
        assert not same(answers("none", train), answers("always", train))
        assert same(answers("evaluation", train), answers("always", train)) != train


def test_twin_is_real():
    """The ANN of the same graph has the same outputs, and no levels."""
    twin = QSDT.twin()
    model = make_network(twin).eval()
    with capture_levels(model) as levels:
        found = model(torch.randn(1, 1, 32, 32))
    assert not levels and [*found] == ["cls8", "reg8", "cls16", "reg16", "seg"]


def test_binary_time_steps_are_the_same_network():
    model, _ = used(QSDT)
    x = torch.from_numpy(pictures(QSDT)).double() / 48
    with torch.inference_mode():
        whole = model(x)
        with binary_time_steps(model):
            steps = model(x)
    for name, value in whole.items():
        torch.testing.assert_close(steps[name], value, rtol=0, atol=1e-9)


@pytest.mark.parametrize("tokens, reference", [(196, 196), (784, 196), (4200, 196), (16, 196),
                                               (49, 16)])
def test_thresholds_by_tokens(tokens, reference):
    """DETSEG.md 3.2.9: t_k = ceil((2k-1)*32*N/N0); of an SDT-v3 around (2k-1)*16*sqrt(d)*N/N0."""
    made = attention_thresholds(4, tokens, reference)
    assert made == tuple(math.ceil(Fraction((2 * k - 1) * 32 * tokens, reference))
                         for k in (1, 2, 3, 4))
    for d in (4, 9, 12, 16):
        for k, t in enumerate(sdt_v3_thresholds(4, d, tokens, reference), 1):
            def fires(q, k=k, d=d):    # 2/sqrt(d) * N0/N * q/64, in levels
                left = Fraction(q * reference, 32 * tokens) ** 2
                right = Fraction(2 * k - 1, 2) ** 2 * d
                return left > right or (left == right and k % 2 == 0)
            scale = [fires(q) for q in (t - 1, t)]
            assert scale == [False, True]
    if (tokens, reference) == (784, 196):
        assert made[-1] == 896
