"""Reading checkpoints safely, and the portable .qsd file."""

import argparse
from dataclasses import replace
import json
import os
from pathlib import Path
import pickle
import subprocess
import sys

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load as from_safetensors
from safetensors.numpy import save as to_safetensors
import torch

from model import convert, zoo
from model.error import InputError
from model.families.layout import state_shapes
from model.families.network import QsdTransformer
from model.families.spec import MODELS, QsdtSpec
from model.files import write_atomic
from model.integer import qsd_file
from model.integer.export import export, fold
from model.integer.network import IntegerParams
from model.integer.random_network import random_network
from model.training import checkpoint


torch.set_num_threads(1)

TINY = QsdtSpec(
    name="tiny",
    image_size=16,
    classes=3,
    dims=(4, 6, 8, 12, 18),
    depths=(1, 1, 2, 2, 1),
    heads=3,
)


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return QsdTransformer(TINY).state_dict()


def official(state: dict[str, torch.Tensor]) -> dict[str, object]:
    """The published file's layout: unused .act. entries, a Namespace, optimiser state."""
    extra = {"head.act.alpha": torch.full((18,), float("nan")), "head.act.signed": torch.ones(1)}
    args = argparse.Namespace(model="spikformer", lr=1e-3, nb_classes=3)
    return {"model": state | extra, "optimizer": {"state": {}}, "epoch": 3, "args": args}


def written(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def test_official_layout_round_trip(tmp_path, state):
    """Model check 7.9: every value bit for bit, dims and depths from the shapes."""
    path = written(tmp_path / "net.pth", official(state))
    spec, arrays = checkpoint.load(path, heads=3, image_size=16)
    assert replace(spec, name="tiny") == TINY
    assert set(arrays) == set(state)
    for key, value in arrays.items():
        assert value.dtype == state[key].numpy().dtype
        np.testing.assert_array_equal(value, state[key].numpy())


@pytest.mark.parametrize("prefix", ["backbone.", "module.", "module.backbone."])
def test_prefixes_are_removed(tmp_path, state, prefix):
    content = {"state_dict": {prefix + key: value for key, value in state.items()}}
    spec, arrays = checkpoint.load(written(tmp_path / "net.pth", content), heads=3)
    assert spec.dims == TINY.dims and set(arrays) == set(state)


def test_bare_and_half_precision_state_dicts(tmp_path, state):
    half = {k: v.bfloat16() if v.is_floating_point() else v for k, v in state.items()}
    _, arrays = checkpoint.load(written(tmp_path / "net.pth", half), heads=3)
    assert arrays["head.weight"].dtype == np.float32


def test_own_checkpoint_states_its_spec(tmp_path, state):
    path = written(tmp_path / "net.pth", {"model": state, "spec": TINY.to_dict()})
    assert checkpoint.load(path)[0] == TINY
    with pytest.raises(checkpoint.CheckpointError, match="heads is 3 in this file, not 2"):
        checkpoint.load(path, heads=2)


@pytest.mark.parametrize("heads, said", [(None, "do not tell"), (4, "not 4")])
def test_heads_must_be_given_and_fit(tmp_path, state, heads, said):
    path = written(tmp_path / "net.pth", official(state))
    message = f"heads must be one of 1, 2, 3, 6 .*{said}"
    with pytest.raises(checkpoint.CheckpointError, match=message):
        checkpoint.load(path, heads=heads)


def changed(state, key, change):
    value = state[key].clone()
    return state | {key: change(value)}


def first(value):
    def change(tensor):
        tensor.view(-1)[0] = value
        return tensor

    return change


@pytest.mark.parametrize(
    "key, change, message",
    [
        ("head.weight", first(float("nan")), "head.weight must be finite"),
        ("lost", None, "block3.1.mlp.fc1_bn.bias: missing"),
        ("block3.0.layer_scale1", first(float("inf")), "layer_scale1 must be finite"),
        ("head.alpha", first(0.0), "head.alpha must not be 0"),
        ("head.init_state", first(0.0), "head.init_state must be 1"),
        ("downsample2.encode_bn.running_var", first(-1.0), "running_var must not be negative"),
        ("head.bias", lambda t: t[:-1], r"head.bias must have shape \(3,\), not \(2,\)"),
        ("head.weight", lambda t: t[0], "shapes are not|head.weight must have shape"),
        ("extra.key", None, "extra.key: not expected"),
    ],
)
def test_unusable_values_are_named(tmp_path, state, key, change, message):
    if key == "lost":
        content = {k: v for k, v in state.items() if k != "block3.1.mlp.fc1_bn.bias"}
    elif change is None:
        content = state | {key: torch.zeros(1)}
    else:
        content = changed(state, key, change)
    path = written(tmp_path / "net.pth", {"model": content})
    with pytest.raises(checkpoint.CheckpointError, match=message) as caught:
        checkpoint.load(path, heads=3)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_negative_alpha_is_accepted(tmp_path, state):
    content = changed(state, "head.alpha", lambda t: -t)
    spec, arrays = checkpoint.load(written(tmp_path / "net.pth", content), heads=3)
    assert (arrays["head.alpha"] < 0).all() and export(arrays, spec)


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("bare", [False, True])
def test_malicious_pickle_is_refused(tmp_path, state, bare):
    marker, path = tmp_path / "ran", tmp_path / "net.pth"
    content = official(state) | {"scaler": Malicious(marker)}
    if bare:
        path.write_bytes(pickle.dumps(content["scaler"], protocol=2))
    else:
        torch.save(content, path)
    with pytest.raises(checkpoint.CheckpointError, match=r"unsafe checkpoint.*(posix|nt)\.system"):
        checkpoint.load(path, heads=3)
    assert not marker.exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b[: len(b) // 2],
        lambda b: b[:-30],
        lambda b: b"",
        lambda b: b"hello, this is no checkpoint",
        lambda b: b[:200] + bytes(100) + b[300:],
    ],
)
def test_damaged_files_are_refused(tmp_path, state, damage):
    path = written(tmp_path / "net.pth", official(state))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(checkpoint.CheckpointError, match="net.pth: ") as caught:
        checkpoint.load(path, heads=3)
    assert "\n" not in str(caught.value)


def test_other_content_is_refused(tmp_path):
    for content, message in (([1], "must be a dictionary"), ({"model": {"a": 1}}, "a must be a")):
        with pytest.raises(checkpoint.CheckpointError, match=message):
            checkpoint.load(written(tmp_path / "net.pth", content), heads=3)


@pytest.mark.parametrize("spec", [TINY, MODELS["qsdt_nano"]], ids=lambda spec: spec.name)
def test_layout_is_that_of_the_float_network(spec):
    expected = {k: tuple(v.shape) for k, v in QsdTransformer(spec).state_dict().items()}
    assert state_shapes(spec) == expected


# The portable file ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made():
    return random_network(2, max_dim=32)


def test_qsd_round_trip_and_same_bytes(tmp_path, made):
    path = tmp_path / "net.qsd"
    qsd_file.save(path, made.state, made.spec, made.params)
    spec, params, stored = qsd_file.load(path)
    assert (spec, params) == (made.spec, made.params)
    shape = made.network.input_shape
    assert export(stored, spec, params, input_shape=shape).digest() == made.network.digest()
    # Written again from what was read, and from another order of keys: the same bytes.
    backwards = dict(reversed(made.state.items()))
    assert qsd_file.to_bytes(stored, spec, params) == path.read_bytes()
    assert qsd_file.to_bytes(backwards, spec, params) == path.read_bytes()
    assert os.listdir(tmp_path) == ["net.qsd"]


def test_qsd_serves_every_form_and_width(tmp_path, made):
    path, shape = tmp_path / "net.qsd", made.network.input_shape
    qsd_file.save(path, made.state, made.spec, made.params)
    for form, params in (("wide", None), ("integer", IntegerParams(u_frac=8, mult_bits=12))):
        loaded = zoo.load(weights=path, params=params, form=form, input_shape=shape)
        direct = export(made.state, made.spec, params, form=form, input_shape=shape)
        assert loaded.digest() == direct.digest() != made.network.digest()


def test_qsd_with_widths_of_z_by_layer(tmp_path, made):
    """Only such a file is of version 2, which programs that know one width refuse."""
    path, shape = tmp_path / "net.qsd", made.network.input_shape
    params = replace(made.params, z_bits_of=(("q_conv", 7), ("block3.0.attn.q_conv", 5)))
    for given, version in ((made.params, 1), (params, 2)):
        qsd_file.save(path, made.state, made.spec, given)
        with safe_open(path, framework="np") as file:
            header = json.loads(file.metadata()["qsd"])
        assert header["version"] == version
        assert ("z_bits_of" in header["params"]) == (version == 2)
        assert qsd_file.read(path).params == given
    loaded = zoo.load(weights=path, input_shape=shape)
    assert loaded.z_widths()["block3.0.attn.q_conv/z"] == 5
    assert loaded.digest() == export(made.state, made.spec, params, input_shape=shape).digest()
    content = path.read_bytes()
    for changes, message in (
        ({"version": 1}, "params are not those of format version 1"),
        ({"params": {"z_bits_of": [["nope", 5]]}}, "no layer with a z is called nope"),
        ({"params": {"z_bits_of": [["q_conv", 50]]}}, "z_bits of q_conv must be"),
        ({"params": {"z_bits_of": [["q_conv"]]}}, "net.qsd: "),
    ):
        path.write_bytes(repacked(content, **changes))
        with pytest.raises(qsd_file.QsdError, match=message):
            qsd_file.read(path)


def test_float_state_is_the_published_layout(made):
    full = qsd_file.float_state(qsd_file.stored_state(made.state, made.spec))
    checkpoint.check(full, made.spec)
    assert set(full) == set(state_shapes(made.spec))
    for key in full:
        np.testing.assert_allclose(full[key], made.state[key], rtol=3e-7)
    for key, layer in fold(made.state, made.spec).items():
        np.testing.assert_array_equal(fold(full, made.spec)[key].weight, layer.weight)


def test_qsd_bytes_do_not_depend_on_the_process(made, tmp_path):
    script = (
        "import sys, hashlib; from model.integer.random_network import random_network;"
        "from model.integer.qsd_file import to_bytes; m = random_network(2, max_dim=32);"
        "print(hashlib.sha256(to_bytes(m.state, m.spec, m.params)).hexdigest());"
        "assert 'torch' not in sys.modules"
    )
    root = Path(__file__).parents[3]
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=root,
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def repacked(content: bytes, *, tensors=None, **header) -> bytes:
    length = int.from_bytes(content[:8], "little")
    meta = json.loads(content[8 : 8 + length])["__metadata__"]
    values = json.loads(meta["qsd"]) | header
    arrays = from_safetensors(content) | (tensors or {})
    if "sha256" not in header:  # a consistent file of somebody else
        values.pop("sha256")
        values["sha256"] = qsd_file._digest(values, arrays)
    return to_safetensors(arrays, metadata={"qsd": json.dumps(values)})


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda b: b[:-1], "not a complete .qsd file"),
        (lambda b: b[:100], "not a complete .qsd file"),
        (lambda b: b"", "not a complete .qsd file"),
        (lambda b: b[:-9] + bytes([b[-9] ^ 1]) + b[-8:], "damaged"),
        (lambda b: repacked(b, version=6), "format version 6, this program reads 1 to 5"),
        (lambda b: repacked(b, version=5), "spec and params are not those of format version 5"),
        (lambda b: repacked(b, version=4), "spec and params are not those of format version 4"),
        (lambda b: repacked(b, version=2), "params are not those of format version 2"),
        (lambda b: repacked(b, format="other"), "not a .qsd file"),
        (lambda b: to_safetensors({"a": np.zeros(1)}), "not a .qsd file"),
        (lambda b: repacked(b, sha256="0"), "damaged"),
        (lambda b: repacked(b, graph=[]), "another graph"),
        (lambda b: repacked(b, params={"u_frac": 1}), "u_frac must be"),
        (lambda b: repacked(b, spec={}), "keys of QsdtSpec"),
        (
            lambda b: repacked(b, tensors={"head.bias": np.zeros(1, np.float32)}),
            "head.bias must have shape",
        ),
        (lambda b: repacked(b, tensors={"x": np.zeros(1)}), "x is not expected"),
    ],
)
def test_damaged_qsd_files_are_refused(tmp_path, made, damage, message):
    path = tmp_path / "net.qsd"
    path.write_bytes(damage(qsd_file.to_bytes(made.state, made.spec, made.params)))
    with pytest.raises(qsd_file.QsdError, match=message) as caught:
        qsd_file.load(path)
    assert str(path) in str(caught.value)


def test_values_out_of_range_are_refused(tmp_path, made):
    content = qsd_file.to_bytes(made.state, made.spec, made.params)
    weight = np.full_like(from_safetensors(content)["head.weight.q"], 100)
    for bad in ({"head.weight.q": weight}, {"head.bias": np.full(made.spec.classes, np.nan)}):
        path = tmp_path / "net.qsd"
        path.write_bytes(repacked(content, tensors=bad))
        with pytest.raises(qsd_file.QsdError, match=f"{next(iter(bad))} has values"):
            qsd_file.load(path)


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "net.qsd"
    path.write_bytes(b"old")

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(InputError, match="disk full"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["net.qsd"]


# Finding networks and the converter --------------------------------------------------------------


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match="model must be one of .*qsdt_l.*qsdt_nano.*, not nope"):
        zoo.load("nope")
    with pytest.raises(ValueError, match="must be given"):
        zoo.load()
    with pytest.raises(ValueError, match=r"weights.doc: weights must be a .qsd file or a check"):
        zoo.load(weights="weights.doc")


def test_model_and_weights_must_agree(tmp_path, made):
    path = tmp_path / "net.qsd"
    qsd_file.save(path, made.state, made.spec, made.params)
    with pytest.raises(ValueError, match="does not hold a qsdt_nano"):
        zoo.load("qsdt_nano", path)


def test_convert_gives_the_network_of_the_checkpoint(tmp_path, state, capsys):
    source = written(tmp_path / "net.pth", official(state))
    out = tmp_path / "net.qsd"
    command = ["--checkpoint", str(source), "--heads", "3", "--image-size", "16"]
    widths = ["--u-frac", "9", "--z-frac-of", "proj_conv=5"]
    assert convert.cli([*command, *widths, "--out", str(out)]) == 0
    assert "3 heads" in capsys.readouterr().out
    spec, params, _ = qsd_file.load(out)
    assert (params.u_frac, params.z_frac_of) == (9, (("proj_conv", 5),))
    spec_pth, arrays = checkpoint.load(source, heads=3, image_size=16)
    assert spec == spec_pth
    assert zoo.load(weights=out).digest() == export(arrays, spec_pth, params).digest()


@pytest.mark.parametrize(
    "extra, message",
    [
        ([], "heads must be one of"),
        (["--heads", "3", "--u-frac", "1"], "u_frac must be"),
        (["--heads", "3", "--acc-bits", "8"], "accumulator needs"),
        (["--heads", "3", "--out", "net.bin"], "must end in .qsd"),
        (["--heads", "x"], "invalid int value"),
        (["--heads", "3", "--checkpoint", "nowhere.pth"], "nowhere.pth"),
    ],
)
def test_convert_refuses_in_one_line_and_writes_nothing(tmp_path, state, capsys, extra, message):
    source = written(tmp_path / "net.pth", official(state))
    command = ["--checkpoint", str(source), "--out", str(tmp_path / "net.qsd"), *extra]
    try:
        status = convert.cli(command)
    except SystemExit as end:
        status = end.code
    last = capsys.readouterr().err.splitlines()[-1]
    assert status == 1 and last.startswith("error: ") and message in last
    assert os.listdir(tmp_path) == ["net.pth"]
