"""Synthetic weights: reproducible, as busy as trained ones, and never silent."""

from dataclasses import replace
import hashlib

import numpy as np
import pytest

from model import convert, evaluate, zoo
from model.families.layout import state_shapes
from model.families.spec import MODELS
from model.integer import qsd_file
from model.integer.export import export
from model.integer.synthetic import natural_images, NOTICE, synthetic_state


SMALL = replace(
    MODELS["qsdt_t"], name="small", image_size=64, dims=(16, 16, 32, 32, 40), classes=10, heads=4
)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "qsdt").mkdir()
    return tmp_path / "qsdt"


@pytest.fixture(scope="module")
def tiny():
    state = synthetic_state(MODELS["qsdt_t"])
    return state, export(state, MODELS["qsdt_t"])


def digest(state):
    found = hashlib.sha256()
    for key, value in state.items():
        found.update(f"{key}|{value.dtype.str}|{value.shape}|".encode() + value.tobytes())
    return found.hexdigest()


def test_same_seed_same_bytes():
    # A fixed digest: other machines and versions of NumPy must give it too.
    assert digest(synthetic_state(SMALL, 0)) == (
        "4f10d34eb1135db0ce25dfe62619ab7960851e326ec7d07301cde1f70b5a333a")
    assert digest(synthetic_state(SMALL, 0)) != digest(synthetic_state(SMALL, 1))


def test_holds_what_a_stored_state_holds():
    stored = qsd_file.stored_state(synthetic_state(SMALL), SMALL)
    assert {key.removesuffix(".q") for key in stored} <= set(state_shapes(SMALL))
    assert set(stored) == set(synthetic_state(SMALL))
    # The float network takes it as well, and quantising gives the same integers back.
    full = qsd_file.float_state(stored)
    assert set(full) == set(state_shapes(SMALL))
    assert digest(qsd_file.stored_state(full, SMALL)) == digest(stored)


def test_weights_are_used_like_trained_ones(tiny):
    state, _ = tiny
    codes = [value for key, value in state.items() if key.endswith(".weight.q")]
    assert sum(q.size for q in codes) == 15_015_072
    values = np.concatenate([q.reshape(-1) for q in codes])
    assert 0.15 < (values == 0).mean() < 0.30
    assert 1.1 < np.abs(values.astype(int)).mean() < 2.4
    assert np.isin(values, (-8, 7)).mean() < 0.027


def test_qsdt_t_runs_like_a_trained_network(tiny):
    """On an image that no statistics were taken of: nothing dead, nothing saturated, firing rates
    and membranes near those of the small network that was measured."""
    _, network = tiny
    image = natural_images(np.random.default_rng(7), 1, MODELS["qsdt_t"])
    stats = {}
    tensors = network.run(image, stats=stats)
    assert stats["z_saturated"] == stats["u_saturated"] == stats["threshold_clipped"] == 0
    assert stats["negative_scale"] > 1000
    for name, (kind, *_) in network.tensors().items():
        if kind == "image" or name == "lif":
            continue
        values = tensors[name].astype(float)
        channels = values.reshape(values.shape[1], -1)
        if kind == "level":
            low, high = (0.1, 0.5) if name.endswith(("q_lif", "k_lif", "v_lif")) else (0.5, 2)
            assert low < values.mean() < high, (name, values.mean())
            assert (channels.max(1) == 0).mean() < 0.15, name
            assert (values == 4).mean() < 0.4, name
        elif kind == "u":
            assert 0.5 < values.std() / 1024 < 3 and np.abs(values).max() / 1024 < 16, name
        elif kind == "z":
            assert np.abs(values).max() / 64 < 31, name
    levels = [tensors[n] for n, (kind, *_) in network.tensors().items() if kind == "level"]
    mean = sum(int(x.sum()) for x in levels) / sum(x.size for x in levels)
    assert 1.0 < mean < 1.5


def test_accumulators_of_qsdt_t_cannot_overflow(tiny):
    """Whatever the input: worst sums of these weights, and of the worst weights, in 24 bits."""
    _, network = tiny
    assert max(network.acc_bound(op) for op in network.ops) < 1 << 23
    state = dict(tiny[0])
    for key in state:
        if key.endswith(".weight.q"):
            state[key] = np.full_like(state[key], -8)
    worst = export(state, MODELS["qsdt_t"])
    assert 1 << 22 < max(worst.acc_bound(op) for op in worst.ops) < 1 << 23


@pytest.mark.parametrize("bits, size", [(2, 32), (3, 64)])
def test_other_networks(bits, size):
    spec = replace(SMALL, weight_bits=bits, image_size=size, in_channels=1, norm_mean=(0.5,),
                   norm_std=(0.25,))
    state = synthetic_state(spec, 3)
    network = export(state, spec)
    out = network.run(natural_images(np.random.default_rng(1), 2, spec))
    assert out["block4.0.attn.attn_lif"].any() and out["logits"].std() > 0


# By name -----------------------------------------------------------------------------------------


def test_a_name_without_weights_is_synthetic_and_says_so(cache, caplog):
    found = zoo.read("qsdt_t")
    assert found.origin == NOTICE and NOTICE in caplog.text
    assert str(cache) in caplog.text and "15M_1x4_w4a1t4_74_5.pth" in caplog.text
    assert zoo.network(found).origin == NOTICE
    assert zoo.read("qsdt_nano").origin == ""


def test_a_file_in_the_cache_goes_first_and_keeps_what_it_is(cache, caplog, capsys):
    assert convert.cli(["--model", "qsdt_t", "--seed", "5", "--out", str(cache / "x.qsd")]) == 0
    assert NOTICE in capsys.readouterr().out
    (cache / "x.qsd").rename(cache / "qsdt_t.qsd")
    caplog.clear()
    found = zoo.read("qsdt_t")
    assert found.origin == NOTICE and NOTICE in caplog.text
    assert zoo.network(found).digest() == zoo.load("qsdt_t", cache / "qsdt_t.qsd").digest()
    assert digest(found.state) == digest(synthetic_state(MODELS["qsdt_t"], 5))


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert zoo.cache_folder() == tmp_path / ".cache" / "qsdt"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert zoo.cache_folder() == tmp_path / ".cache" / "qsdt"


def test_evaluate_says_so(cache, tmp_path, capsys):
    image = natural_images(np.random.default_rng(1), 1, MODELS["qsdt_t"])
    np.savez(tmp_path / "x.npz", image_q=image)
    assert evaluate.cli(["--model", "qsdt_t", "--images", str(tmp_path / "x.npz")]) == 0
    assert NOTICE in capsys.readouterr().out
