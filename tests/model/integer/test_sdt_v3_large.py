"""The integer form of the large SDT-v3 against published vectors and the float network; files."""

from dataclasses import replace
import json

import numpy as np
import pytest
from safetensors import safe_open

from model import zoo
from model.evaluate import run as run_form
from model.families.sdt_v3_large import MODELS, SdtV3LargeSpec
from model.integer import qsd_file
from model.integer.epilogue import Integrate, Requantise
from model.integer.export import export
from model.integer.graph import Attention, Mean
from model.integer.network import IntegerParams, STATS
from model.integer.quantise import quantise
from model.integer.random_network import EXTREMES, random_network
from model.integer.synthetic import natural_images, NOTICE, synthetic_state
from model.zoo import Weights
from tests.model.sdt_v3_large_vectors import Vectors


SMALL = replace(MODELS["sdt_v3_83m"], name="small", image_size=64, dims=(8, 16, 16, 32),
                classes=10, heads=4, depths=(1, 1, 2, 2))


@pytest.fixture(scope="module")
def vectors():
    return Vectors()  # fails, not skips, if the files are not there


def test_wide_form_equals_the_published_network(vectors):
    """Model check 7.22: every level map and the logits; real weights where chains were merged."""
    network = export(vectors.mixed, replace(vectors.spec, weight_bits=4), form="wide")
    made = network.run(vectors.image_q)
    names = [name for name, (kind, *_) in network.tensors().items() if kind == "level"]
    assert sorted([*names, "lif"]) == sorted(vectors.levels)
    for name in names:
        np.testing.assert_array_equal(made[name], vectors.levels[name], err_msg=name)
    np.testing.assert_allclose(made["logits"], vectors.logits, rtol=0, atol=1e-9)
    assert {np.abs(op.weight).max() > 128 for op in network.ops if hasattr(op, "weight")} == {
        True, False}


def test_wide_form_of_real_weights_has_the_published_levels(vectors):
    """All of them as they are in a file; the head's are coarser, its logits too."""
    network = export(vectors.state, vectors.spec, form="wide")
    made = network.run(vectors.image_q)
    for name, want in vectors.levels.items():
        if name != "lif":
            np.testing.assert_array_equal(made[name], want, err_msg=name)
    np.testing.assert_allclose(made["logits"], vectors.logits, rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="sdt_v3_large_tiny has no integer form: its weights are"):
        export(vectors.state, vectors.spec)


def test_integer_form_of_8_bits_is_near_the_published_network(vectors):
    """Merged, then quantised: classes stay, and most levels."""
    made = quantise(vectors.state, vectors.spec, 8)
    network = export(made.state, made.spec)
    tensors = network.run(vectors.image_q)
    assert tensors["logits"].argmax() == vectors.logits.argmax()
    differing = total = 0
    for name, want in vectors.levels.items():
        if name != "lif":
            differing, total = differing + (tensors[name] != want).sum(), total + want.size
    assert 0 < differing < 0.2 * total    # from the image on, where a level that differs spreads
    assert min(made.sqnr.values()) > 35


def test_rules_of_the_family_are_fields_of_the_operators(vectors):
    made = quantise(vectors.state, vectors.spec, 4)
    network = export(made.state, made.spec)
    assert not any(op.epilogue.half_even for op in network.ops
                   if isinstance(getattr(op, "epilogue", None), Integrate))
    attentions = [op for op in network.ops if isinstance(op, Attention)]
    assert {(op.thresholds, op.cap) for op in attentions} == {((256, 768, 1280, 1792), 1792)}
    assert [op.name for op in network.ops][-2:] == ["mean", "head"]
    assert network.tensors()["mean/z"] == ("z", 64, 1, 1)


def test_mean_is_the_exact_sum_scaled_once():
    """Rounding happens once, behind the sum; its width is that of the layer called mean."""
    made = random_network(2, family=SdtV3LargeSpec, max_dim=24, max_size=20, extremes=())
    params = replace(made.params, z_bits_of=(("mean", 14),), z_frac_of=(("mean", 8),))
    network = export(made.state, made.spec, params, input_shape=made.network.input_shape)
    tensors = network.run(made.images(3))
    mean = next(op for op in network.ops if isinstance(op, Mean))
    assert isinstance(mean.epilogue, Requantise) and mean.positions > 1
    exact = made.spec.highest * tensors[mean.source].mean(axis=(2, 3)) * 2.0**-params.u_frac
    z = tensors["mean/z"][..., 0, 0] * 2.0**-8
    clipped = np.clip(exact, -32, 32 - 2.0**-8)
    # The multiplier has mult_bits - 1 bits or more, and z is rounded to half a unit.
    limit = 2.0**-9 + np.abs(clipped) * 2.0 ** (2 - params.mult_bits)
    assert (np.abs(z - clipped) <= limit).all()
    with pytest.raises(ValueError, match="z_bits_of: no layer with a z is called q_conv; known are "
                                         "mean"):
        export(made.state, made.spec, IntegerParams(z_bits_of=(("q_conv", 5),)))
    with pytest.raises(ValueError, match="mean: the sum of membranes needs 51 bits; at most 47 are "
                                         "possible with mult_bits 16"):
        export(made.state, made.spec, IntegerParams(u_bits=48), input_shape=(
            made.spec.in_channels, *[2 * made.spec.reduction] * 2))


@pytest.mark.parametrize("seed", range(6))
def test_wide_form_equals_float_on_random_networks(seed):
    """Odd sizes, one or three channels, 2..8 bits; no membranes beyond the mean's 9 bits."""
    extremes = ("zero", "negative", "thresholds", "attention") if seed % 2 else ()
    made = random_network(seed, family=SdtV3LargeSpec, max_dim=30, max_size=16, extremes=extremes)
    weights, image_q = Weights(made.spec, None, made.state), made.images(2)
    wide = run_form(weights, image_q, "wide", tensors=True)
    real = run_form(weights, image_q, "float", tensors=True)
    assert list(wide) == list(real) and "levels/lif" not in wide
    for name in wide:
        np.testing.assert_allclose(wide[name], real[name], rtol=1e-8, atol=1e-8, err_msg=name)


@pytest.mark.parametrize("levels", [1, 3, 8])
def test_wide_form_equals_float_with_other_levels(levels):
    made = random_network(4, family=SdtV3LargeSpec, max_dim=24, max_size=12, extremes=())
    weights = Weights(replace(made.spec, levels=levels), None, made.state)
    wide = run_form(weights, made.images(2), "wide", tensors=True)
    real = run_form(weights, made.images(2), "float", tensors=True)
    for name in wide:
        np.testing.assert_allclose(wide[name], real[name], rtol=1e-8, atol=1e-8, err_msg=name)
    assert max(value.max() for name, value in wide.items() if name != "logits") == levels


def test_random_networks_reach_every_extreme_and_ties():
    total = dict.fromkeys(STATS, 0)
    tied = 0
    for seed in range(3):
        made = random_network(seed, family=SdtV3LargeSpec, extremes=EXTREMES, max_dim=48)
        made.network.run(made.images(3), stats=total)
    assert min(total.values()) > 0, total
    for seed in range(3):
        made = random_network(seed, family=SdtV3LargeSpec, extremes=(), max_dim=32)
        tensors = made.network.run(made.images(3))
        units = [4 * tensors[op.epilogue.u_out] for op in made.network.ops
                 if isinstance(getattr(op, "epilogue", None), Integrate)]
        half = 1 << (made.params.u_frac - 1)
        tied += sum(int(((u % (2 * half) == half) & (u > 0) & (u < 8 * half)).sum())
                    for u in units)
        tied += sum(int((tensors[f"{op.block}/qktv"] == t).sum()) for op in made.network.ops
                    if isinstance(op, Attention) for t in op.thresholds[:-1])
    assert tied > 0


# Files and names ----------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2])
def test_files_are_of_version_4_and_keep_everything(tmp_path, steps):
    made = random_network(1, family=SdtV3LargeSpec, max_dim=24, max_size=12, time_steps=steps)
    path = tmp_path / "net.qsd"
    qsd_file.save(path, made.state, made.spec, made.params)
    with safe_open(path, framework="np") as file:
        header = json.loads(file.metadata()["qsd"])
    assert header["version"] == 4 and header["spec"]["family"] == "sdt_v3_large"
    content = qsd_file.read(path)
    assert (content.spec, content.params) == (made.spec, made.params)
    assert zoo.load(weights=path, input_shape=made.network.input_shape).digest() == (
        made.network.digest())
    assert qsd_file.to_bytes(content.state, content.spec, content.params) == path.read_bytes()


def test_synthetic_weights_are_busy():
    state = synthetic_state(SMALL)
    network = export(state, SMALL)
    stats: dict[str, int] = {}
    made = network.run(natural_images(np.random.default_rng(7), 2, SMALL), stats=stats)
    assert stats["u_saturated"] == stats["threshold_clipped"] == 0
    for name, (kind, *_) in network.tensors().items():
        if kind == "level":
            low, high = (0.1, 2) if name.endswith(("q_lif", "k_lif", "v_lif")) else (0.5, 2)
            assert low < made[name].mean() < high, name
    assert set(qsd_file.stored_state(state, SMALL)) == set(state)


def test_a_name_without_weights_is_synthetic(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(zoo.MODELS, "sdt_v3_83m", replace(SMALL, name="sdt_v3_83m"))
    found = zoo.read("sdt_v3_83m")
    assert found.origin == NOTICE and found.spec.family == "sdt_v3_large"
