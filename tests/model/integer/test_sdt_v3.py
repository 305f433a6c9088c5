"""The integer form of the SDT-v3 against published vectors and the float network, and files."""

from dataclasses import replace
import json

import numpy as np
import pytest
from safetensors import safe_open

from model import zoo
from model.evaluate import run as run_form
from model.families.sdt_v3 import MODELS, SdtV3Spec
from model.integer import qsd_file
from model.integer.epilogue import Integrate
from model.integer.export import export
from model.integer.graph import Attention, Depthwise
from model.integer.network import IntegerParams, STATS
from model.integer.random_network import EXTREMES, random_network
from model.integer.synthetic import natural_images, NOTICE, synthetic_state
from model.zoo import Weights
from tests.model.sdt_v3_vectors import Vectors


SMALL = replace(MODELS["sdt_v3_s"], name="small", image_size=64, dims=(8, 16, 16, 24, 32),
                classes=10, heads=4, depths=(1, 1, 1, 2, 1))


@pytest.fixture(scope="module")
def vectors():
    return Vectors()  # fails, not skips, if the files are not there


def ties(network, made):
    """Sums of the attentions that lie on a threshold, where the square root of d is whole."""
    count = 0
    for op in network.ops:
        if isinstance(op, Attention):
            size = network.tensors()[op.query][1] // op.heads
            for k in (1, 2, 3, 4):
                if 16 * (2 * k - 1) * np.sqrt(size) % 1 == 0:
                    tie = int(16 * (2 * k - 1) * np.sqrt(size))
                    count += int((made[f"{op.block}/qktv"] == tie).sum())
    return count


def test_wide_form_equals_the_published_network(vectors):
    """Model check 7.21: every level map, ties of the attention included, and the logits."""
    network = export(vectors.state, vectors.spec, form="wide")
    made = network.run(vectors.image_q)
    names = [name for name, (kind, *_) in network.tensors().items() if kind == "level"]
    assert sorted(names) == sorted(vectors.levels)
    for name, want in vectors.levels.items():
        np.testing.assert_array_equal(made[name].reshape(want.shape), want, err_msg=name)
    np.testing.assert_allclose(made["logits"], vectors.logits, rtol=0, atol=1e-9)
    assert ties(network, made) > 100


def test_saturated_attention_fires_the_same_levels(vectors):
    """In 10 bits; from equal inputs, so that nothing else of the integer form plays a part."""
    network = export(vectors.state, vectors.spec)
    levels = {name: value if value.ndim == 4 else value.reshape(
        network.tensors()[name][1:] if name == "lif" else (1, *network.tensors()[name][1:]))
        for name, value in vectors.levels.items()}
    levels["lif"] = levels["lif"].reshape(1, -1, 1, 1)
    made = network.run(vectors.image_q, force=levels)
    differing = total = 0
    for name, want in levels.items():
        off = made[name] != want
        if name.endswith((".lif2", ".lif3", ".fc2_lif", "q_lif", "k_lif", "v_lif", "attn_lif")):
            assert not off.any(), name     # no rounded input: exact at any width
        assert np.abs(made[name].astype(int) - want).max() <= 1, name
        differing, total = differing + off.sum(), total + off.size
    assert 0 < differing < 1e-3 * total
    for op in network.ops:
        if isinstance(op, Attention):
            assert op.cap == op.thresholds[-1] < 1 << 10
            assert made[f"{op.block}/qktv"].max() <= op.cap


def test_rules_of_the_family_are_fields_of_the_operators(vectors):
    network = export(vectors.state, vectors.spec)
    assert all(op.epilogue.half_even for op in network.ops
               if isinstance(getattr(op, "epilogue", None), Integrate))
    assert {op.thresholds for op in network.ops if isinstance(op, Attention)} == {
        (65, 192, 321, 448), (68, 204, 340, 476)}
    assert sum(isinstance(op, Depthwise) for op in network.ops) == 7
    assert {kind for kind, *_ in network.tensors().values()} == {"image", "level", "u", "raw"}
    with pytest.raises(ValueError, match="z_bits_of: no layer with a z is called q_conv"):
        export(vectors.state, vectors.spec, IntegerParams(z_bits_of=(("q_conv", 5),)))


@pytest.mark.parametrize("seed", range(10))
def test_wide_form_equals_float_on_random_networks(seed):
    """Odd sizes, one or three channels, 2..8 bits, values of other widths, extremes."""
    made = random_network(seed, family=SdtV3Spec, max_dim=36, max_size=18)
    weights, image_q = Weights(made.spec, None, made.state), made.images(2)
    wide = run_form(weights, image_q, "wide", tensors=True)
    real = run_form(weights, image_q, "float", tensors=True)
    assert list(wide) == list(real)
    for name in wide:
        np.testing.assert_allclose(wide[name], real[name], rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("levels", [1, 3, 8])
def test_wide_form_equals_float_with_other_levels(levels):
    made = random_network(4, family=SdtV3Spec, max_dim=24, max_size=12, extremes=(), head_size=9)
    weights = Weights(replace(made.spec, levels=levels), None, made.state)
    wide = run_form(weights, made.images(2), "wide", tensors=True)
    real = run_form(weights, made.images(2), "float", tensors=True)
    for name in wide:
        np.testing.assert_allclose(wide[name], real[name], rtol=1e-9, atol=1e-9, err_msg=name)
    assert max(value.max() for name, value in wide.items() if name != "logits") == levels


def test_random_networks_reach_every_extreme_and_ties():
    tied = 0
    for seed in (0, 2):
        made = random_network(seed, family=SdtV3Spec, extremes=EXTREMES, max_dim=64)
        stats: dict[str, int] = {}
        made.network.run(made.images(3), stats=stats)
        assert min(stats[key] for key in STATS if key != "z_saturated") > 0, stats
        assert stats["z_saturated"] == 0
    for seed in range(4):
        made = random_network(seed, family=SdtV3Spec, extremes=(), max_dim=32, head_size=4)
        tensors = made.network.run(made.images(3))
        tied += ties(made.network, tensors)
        units = [4 * tensors[op.epilogue.u_out] for op in made.network.ops
                 if isinstance(getattr(op, "epilogue", None), Integrate)]
        half = 1 << (made.params.u_frac - 1)
        assert any(((u % (4 * half) == half) & (u >= 0) & (u < 16 * half)).any() for u in units)
    assert tied > 0


def test_weights_of_8_bits_fill_their_range():
    networks = (random_network(seed, family=SdtV3Spec, max_dim=24, max_size=9)
                for seed in range(12))
    made = next(made for made in networks if made.spec.weight_bits == 8)
    weights = [op.weight for op in made.network.ops if hasattr(op, "weight")]
    assert min(w.min() for w in weights) == -128 and max(w.max() for w in weights) == 119
    stored = qsd_file.stored_state(made.state, made.spec)
    again = qsd_file.stored_state(qsd_file.float_state(stored), made.spec)
    assert all((again[key] == value).all() for key, value in stored.items())


def test_digest_knows_rounding_thresholds_and_saturation(vectors):
    """Two networks that differ in one of them alone are different."""
    network = export(vectors.state, vectors.spec)

    def digest(change):
        ops = [change(op) for op in network.ops]
        return type(network)(network.spec, network.params, ops, network.input_shape).digest()

    def attention(**values):
        return lambda op: replace(op, **values) if isinstance(op, Attention) else op

    def rounding(op):
        epilogue = getattr(op, "epilogue", None)
        if isinstance(epilogue, Integrate):
            return replace(op, epilogue=replace(epilogue, half_even=False))
        return op

    found = {network.digest(), digest(rounding), digest(attention(cap=None)),
             digest(attention(thresholds=(32, 96, 160, 224))),
             digest(lambda op: replace(op, half_even=False) if op.name == "lif" else op)}
    assert len(found) == 5 and digest(lambda op: op) == network.digest()


# Files and names ----------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2])
def test_files_are_of_version_4_and_keep_everything(tmp_path, steps):
    made = random_network(1, family=SdtV3Spec, max_dim=24, max_size=12, time_steps=steps)
    path = tmp_path / "net.qsd"
    qsd_file.save(path, made.state, made.spec, made.params)
    with safe_open(path, framework="np") as file:
        header = json.loads(file.metadata()["qsd"])
    assert header["version"] == 4 and header["spec"]["family"] == "sdt_v3"
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
        if kind == "level" and name != "lif":
            low, high = (0.1, 1.2) if name.endswith(("q_lif", "k_lif", "v_lif")) else (0.5, 2)
            assert low < made[name].mean() < high, name
        elif kind == "u":
            assert 0.5 < made[name].std() / 1024 < 3, name
    assert set(qsd_file.stored_state(state, SMALL)) == set(state)


def test_a_name_without_weights_is_synthetic(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(zoo.MODELS, "sdt_v3_s", replace(SMALL, name="sdt_v3_s"))
    found = zoo.read("sdt_v3_s")
    assert found.origin == NOTICE and found.spec.family == "sdt_v3"
    other = tmp_path / "other.qsd"
    made = random_network(1, max_dim=24, max_size=12)
    qsd_file.save(other, made.state, made.spec, made.params)
    with pytest.raises(ValueError, match="does not hold a sdt_v3_s: it is of the family QSD-Tran"):
        zoo.read("sdt_v3_s", other)
