"""Networks with heads for dense prediction in integers: form, files, ONNX, synthetic weights."""

from dataclasses import replace
import json

import numpy as np
import pytest
from safetensors import safe_open

from model.exchange import onnx_file
from model.exchange.onnx_runtime import differences, OnnxNetwork
from model.integer import golden, qsd_file
from model.integer.epilogue import IntegerParams, Integrate, Raw, Scale
from model.integer.export import export
from model.integer.graph import Conv
from model.integer.quantise import quantise
from model.integer.random_network import random_state
from model.integer.synthetic import synthetic_state
from model.zoo import float_network, network, Weights
from tests.model.dense_nets import FAMILIES, QSDT, used, with_heads


FAITHFUL = {"segmenter": {"classes": 4, "kind": "faithful", "on_host": True}}


def pictures(spec, count=2):
    rng = np.random.default_rng(5)
    return rng.integers(-128, 128, (count, *spec.input_shape)).astype(np.int8)


@pytest.mark.parametrize("width", [4, 8, 12, 16, 20, 48])
@pytest.mark.parametrize("height, columns", [(3, 4), (5, 3), (1, 1)])
def test_doubled_by_copies_or_by_address(width, height, columns):
    """Detection check (c): a map doubled by a producer that makes each channel twice, whose rows
    are read twice, is the map that is read at (y // 2, x // 2); with saturation, at odd rows."""
    rng = np.random.default_rng(width)
    params = IntegerParams(u_frac=4, u_bits=7)
    source = rng.integers(0, 5, (1, 6, height, columns))
    weight = rng.integers(-8, 8, (width, 6, 1, 1)).astype(np.int8)
    scale = Scale(*(rng.integers(low, high, width) for low, high in ((-3, 4), (-9, 9), (0, 2))))
    rows, cols = 2 * height - 1, 2 * columns
    acc = rng.integers(-60, 60, (1, width, rows, cols))

    def produced(copies):
        made = Conv("lateral", "x", np.concatenate([weight] * copies), 1, 0, Integrate(
            Scale(*(np.tile(x, copies) for x in (scale.multiplier, scale.bias, scale.shift))),
            "coarse"))
        return made.run({"x": source}, params, {})["coarse"]

    added, stats = Integrate(scale, "u", "coarse", "level", upsample=2), {}
    wanted = added.apply(acc, {"coarse": produced(1)}, params, stats)
    # Position by position, all channels of it: W positions of 2F channels are 2W positions of F.
    twice = produced(2)[0].transpose(1, 2, 0).reshape(height, cols, width).transpose(2, 0, 1)
    by_copies = np.stack([twice[:, y >> 1] for y in range(rows)], axis=1)[None]
    plain = replace(added, upsample=1)
    made = plain.apply(acc, {"coarse": by_copies}, params, {})
    for name in ("u", "level"):
        np.testing.assert_array_equal(made[name], wanted[name])
    assert stats["u_saturated"] > 0 or acc.size < 100
    np.testing.assert_array_equal(golden.upsample(produced(1), 2)[0, :, :, :cols], np.stack(
        [twice[:, y >> 1] for y in range(2 * height)], axis=1))


@pytest.mark.parametrize("kind", [{}, FAITHFUL], ids=["lite", "faithful"])
@pytest.mark.parametrize("family", FAMILIES)
def test_files_and_onnx(tmp_path, family, kind):
    """A .qsd gives the same network again, and ONNX every output and level of it."""
    spec = with_heads(FAMILIES[family], **kind)
    _, state = used(spec)
    made = export(state, spec)
    path = tmp_path / "heads.qsd"
    qsd_file.save(path, state, spec)
    with safe_open(path, framework="np") as file:
        assert json.loads(file.metadata()["qsd"])["version"] == 5 == qsd_file.VERSION
    content = qsd_file.read(path)
    assert content.spec == spec
    again = export(content.state, content.spec, content.params)
    assert again.digest() == made.digest()
    image_q = pictures(spec)
    results = again.results(image_q)
    assert [*results] == ["cls8", "reg8", "cls16", "reg16", "seg"]
    assert all(value.std() > 0 for value in results.values())
    model = OnnxNetwork(onnx_file.to_bytes(again, keep=onnx_file.level_names(again)))
    assert not any(differences(again, model, image_q))


def test_files_give_the_float_network():
    _, state = used(QSDT)
    content = Weights(QSDT, None, qsd_file.stored_state(state, QSDT))
    model = float_network(content).double()
    import torch

    image_q = pictures(QSDT)
    with torch.inference_mode():
        outputs = model(torch.from_numpy(image_q).double() / 48)
    wide = network(content, form="wide").results(image_q)
    for name, value in outputs.items():
        np.testing.assert_allclose(wide[name], value.numpy(), rtol=0, atol=1e-9)


def test_tokens_need_the_version_too(tmp_path):
    spec = replace(QSDT, dense_heads=None, attention_tokens=16)
    qsd_file.save(tmp_path / "n.qsd", synthetic_state(spec), spec)
    assert b'"version":5' in (tmp_path / "n.qsd").read_bytes().replace(b"\\", b"")
    assert qsd_file.read(tmp_path / "n.qsd").spec == spec


def test_raw_outputs_are_small():
    """DETSEG.md 3.1: a predictor's accumulators fit the 16 bits of a word that is read out."""
    made = network(Weights(QSDT, None, synthetic_state(QSDT)))
    for op in made.ops:
        if isinstance(getattr(op, "epilogue", None), Raw):
            assert made.acc_bound(op) < 1 << 15


@pytest.mark.parametrize("family", FAMILIES)
def test_synthetic_weights(family):
    """One seed gives one network; its levels are as busy as those of a trained one."""
    spec = FAMILIES[family]
    state = synthetic_state(spec, 3)
    assert all(np.array_equal(state[key], value) for key, value in synthetic_state(spec, 3).items())
    made = network(Weights(spec, None, state)).run(pictures(spec, 4))
    for name, value in made.items():
        if "lif" in name and name.startswith(("neck", "detector", "segmenter")):
            assert 0.3 < value.mean() < 3, name


def test_random_and_quantised_states():
    rng = np.random.default_rng(0)
    made = export(random_state(rng, QSDT, IntegerParams()), QSDT)
    assert made.results(pictures(QSDT))["seg"].shape == (2, 4, 16, 16)
    real = replace(FAMILIES["sdt_v3"], weight_bits=32)
    _, state = used(real)
    found = quantise(state, real, 4)
    assert {"detector.cls", "detector.tower0_conv"} <= {*found.sqnr}
    assert export(found.state, found.spec).results(pictures(real))["cls8"].shape == (2, 3, 4, 4)


def test_binary_necks_have_no_integer_form():
    spec = with_heads(QSDT, binary_neck="always")
    _, state = used(spec)
    with pytest.raises(ValueError, match="dense has no integer form: its neck hands on levels of "):
        export(state, spec)
