"""The integer form with levels 0..D other than 4: exact rules, files, and what refuses it."""

from dataclasses import replace
from fractions import Fraction
from math import floor

import numpy as np
import pytest

from gen.compile.compiler import compile_network
from hw.config import CoreConfig
from model.error import InputError
from model.families.qsdt import attention_thresholds
from model.integer import fixed_point, golden, qsd_file
from model.integer.epilogue import IntegerParams
from model.integer.export import export
from model.integer.network import IntegerNetwork
from model.integer.random_network import random_network, random_spec, random_state
from model.integer.synthetic import synthetic_state


def exact(x: Fraction, levels: int) -> int:
    return floor(min(max(levels * x, Fraction(0)), Fraction(levels)) + Fraction(1, 2))


def made_up(levels: int, seed: int = 3):
    rng = np.random.default_rng(seed)
    spec = replace(random_spec(rng, max_dim=24, name="other"), levels=levels)
    return spec, random_state(rng, spec, IntegerParams())


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5])
def test_membranes_and_means_fire_exactly(levels):
    u = np.arange(-40, 200)
    fired = golden.fire_membrane(u, u_frac=6, levels=levels)
    assert fired.tolist() == [exact(Fraction(int(v), 64), levels) for v in u]
    r = np.random.default_rng(levels)
    maps = r.integers(-20, 90, (1, 300, 3, 2))
    means = golden.pool_fire(maps, u_frac=6, levels=levels)[0, :, 0, 0]
    sums = maps.sum(axis=(0, 2, 3)).tolist()
    assert means.tolist() == [exact(Fraction(s, 6 * 64), levels) for s in sums]
    assert set(means.tolist()) == set(range(levels + 1))


@pytest.mark.parametrize("levels", [1, 2, 3, 5])
@pytest.mark.parametrize("density", [0.1, 1.0])
def test_attention_fires_exactly_and_survives_saturation(levels, density):
    r = np.random.default_rng(levels)
    q, k, v = (r.integers(1, levels + 1, (1, 12, 4, 4)) * (r.random((1, 12, 4, 4)) < density)
               for _ in range(3))
    thresholds = attention_thresholds(levels)
    cap = thresholds[-1]
    ktv, qktv, level = golden.attention(q, k, v, heads=2, thresholds=thresholds)
    capped = golden.attention(q, k, v, heads=2, thresholds=thresholds, cap=cap)
    np.testing.assert_array_equal(capped[2], level)
    assert max(capped[0].max(), capped[1].max()) <= cap
    # In real units: D times 0.25 * Q (K^T V) on values level/D.
    want = [exact(Fraction(int(x), 4 * levels**3), levels) for x in qktv.flat]
    assert level.flatten().tolist() == want
    assert density < 1 or (qktv >= cap).any()


def test_thresholds_of_three_levels_exhaustively():
    r = np.random.default_rng(0)
    scale = np.array([0.0, 0.0, 2.0**-9, -(2.0**-9), 1 / 96, *r.normal(0, 0.01, 20)])
    offset = np.array([0.5, -0.5, 1 / 6, 5 / 6, 0.0, *r.normal(0.3, 0.3, 20)])
    acc = np.arange(-512, 513)
    rule = fixed_point.thresholds(scale, offset, acc_bits=16, levels=3)
    got = golden.level_fire(np.broadcast_to(acc, (25, 1025)), rule.thresholds,
                            invert=rule.invert, axis=0)
    for row, a, b in zip(got, scale.tolist(), offset.tolist(), strict=True):
        want = [exact(Fraction(a) * int(x) + Fraction(b), 3) for x in acc]
        assert row.tolist() == want


def test_networks_know_their_levels():
    spec, state = made_up(3)
    network = export(state, spec)
    assert network.levels == 3 and random_network(1).network.levels == 4
    shape = (2, *network.input_shape)
    image_q = np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
    made = network.run(image_q)
    tops = [made[n].max() for n, (kind, *_) in network.tensors().items() if kind == "level"]
    assert max(tops) == 3
    other = export(state, replace(spec, levels=4))
    assert other.digest() != network.digest()
    with pytest.raises(ValueError, match=r"every neuron must fire the same levels, not .*\[3, 4\]"):
        IntegerNetwork({}, network.params, (*network.ops, *other.ops), network.input_shape)


def test_bounds_count_the_highest_level():
    spec, state = made_up(2)
    two, four = export(state, spec), export(state, replace(spec, levels=4))
    for op, twin in zip(two.ops, four.ops, strict=True):
        source = two.tensors()[op.inputs[0]][0]
        assert two.acc_bound(op) * (2 if source == "level" else 1) == four.acc_bound(twin)


def test_files_keep_the_levels(tmp_path):
    spec, state = made_up(3)
    qsd_file.save(tmp_path / "three.qsd", state, spec)
    found = qsd_file.read(tmp_path / "three.qsd")
    assert found.spec == spec
    assert export(found.state, found.spec).digest() == export(state, spec).digest()


def test_a_core_of_other_levels_is_refused():
    spec, state = made_up(3)
    with pytest.raises(InputError, match=r"are 0\.\.3, those of the core 0\.\.4; leave core"):
        compile_network(export(state, spec), CoreConfig())


@pytest.mark.parametrize("changes", [{"levels": 3}, {"mprf": "add"}])
def test_synthetic_weights_are_of_published_networks(changes):
    spec = replace(made_up(4)[0], **changes)
    with pytest.raises(ValueError, match="synthetic weights are made for levels 0..4 without mprf"):
        synthetic_state(spec)


@pytest.mark.parametrize("changes, why", [
    ({"neuron": "relu", "weight_bits": 32}, "its neuron is relu"),
    ({"weight_bits": 32}, "its weights are real numbers"),
    ({"leak": 0.5}, "its membranes leak")])
def test_networks_without_integer_form_are_refused(changes, why, tmp_path):
    spec, state = made_up(4)
    with pytest.raises(ValueError, match=f"other has no integer form: {why}"):
        export(state, replace(spec, **changes))
    with pytest.raises(ValueError, match=f"other has no integer form: {why}"):
        qsd_file.save(tmp_path / "x.qsd", state, replace(spec, **changes))
    assert not list(tmp_path.iterdir())
