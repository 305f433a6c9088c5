"""The command that writes ONNX files."""

import importlib.util
from pathlib import Path
import re

import numpy as np
import onnx
import pytest

from model import export, zoo
from model.data.dataset import to_image_q
from model.exchange import onnx_runtime
from model.integer import qsd_file
from model.integer.epilogue import IntegerParams
from model.integer.random_network import random_network


ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    found = random_network(6, max_dim=16, params=IntegerParams())
    path = tmp_path_factory.mktemp("qsd") / "small.qsd"
    qsd_file.save(path, found.state, found.spec, found.params)
    return path


def outputs(path):
    return [output.name for output in onnx.load(path).graph.output]


def test_export(weights, tmp_path, capsys):
    path = tmp_path / "small.onnx"
    assert export.cli(["--weights", str(weights), "--onnx", str(path)]) == 0
    said = capsys.readouterr().out
    assert "random6, image int8 (N, " in said and f"{path.stat().st_size:,} bytes" in said
    assert "= integer model on 2 random images: every output, " in said
    assert outputs(path) == ["logits", "logits_acc"]


def test_levels(weights, tmp_path, capsys):
    path = tmp_path / "small.onnx"
    assert export.cli(["--weights", str(weights), "--onnx", str(path), "--levels", "--check", "1",
                       "--z-bits", "9"]) == 0
    count = len(outputs(path)) - 2
    said = capsys.readouterr().out
    assert f"logits, {count} level maps, " in said
    assert f"on 1 random image: every output, {count} level maps" in said
    text = {p.key: p.value for p in onnx.load(path).metadata_props}
    assert '"z_bits": 9' in text["params"]


def test_unchecked(weights, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(onnx_runtime, "OnnxNetwork", None)
    path = tmp_path / "small.onnx"
    assert export.cli(["--weights", str(weights), "--onnx", str(path), "--check", "0"]) == 0
    assert "not checked; --check N" in capsys.readouterr().out and path.is_file()


def test_a_runtime_that_differs_is_refused(weights, tmp_path, capsys, monkeypatch):
    run = onnx_runtime.OnnxNetwork.run

    def wrong(self, image_q):
        made = run(self, image_q)
        return made | {"lif": made["lif"] ^ 1} if "lif" in made else made

    monkeypatch.setattr(onnx_runtime.OnnxNetwork, "run", wrong)
    path = tmp_path / "small.onnx"
    assert export.cli(["--weights", str(weights), "--onnx", str(path)]) == 1
    assert "differs from the integer model in lif (" in capsys.readouterr().err
    assert not path.exists()


@pytest.mark.parametrize("words, message", [
    (["--onnx", "x.qsd"], "--onnx must end in .onnx, not be x.qsd"),
    (["--onnx", "x.onnx", "--check", "-1"], "--check must be at least 0, not -1"),
    (["--onnx", "no/such/x.onnx"], "no/such: no such file or directory; check the name"),
    (["--onnx", "x.onnx", "--z-bits-of", "head=3"], "no layer with a z is called head"),
])
def test_bad_input(words, message, weights, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert export.cli(["--weights", str(weights), *words]) == 1
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing, words, said", [
    ("onnxruntime", [], r"Python package onnxruntime \(checks the file; --check 0 writes it "
                        r"unchecked\) is missing; install it with: pip install '.*\[onnx\]'"),
    ("onnx", ["--check", "0"], r"Python package onnx \(writes ONNX files\) is missing; install it"),
])
def test_packages_that_are_missing(missing, words, said, weights, tmp_path, capsys, monkeypatch):
    """Named before anything is computed, with what to do; without the runtime a file is possible.
    """
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec",
                        lambda name, *more: None if name == missing else found(name, *more))
    path = tmp_path / "small.onnx"
    given = ["--weights", str(weights), "--onnx", str(path)]
    assert export.cli([*given, *words]) == 3
    text = capsys.readouterr().err
    assert re.search(said, text) and text.count("\n") == 1 and not path.exists()
    if missing == "onnxruntime":
        assert export.cli([*given, "--check", "0"]) == 0 and path.is_file()


def test_the_program_of_the_tutorial(tmp_path, monkeypatch):
    """docs/tutorials/onnx.md: what it does with pixels gives the logits of the integer model."""
    monkeypatch.chdir(tmp_path)
    assert export.cli(["--model", "qsdt_nano", "--onnx", "nano.onnx", "--check", "0"]) == 0
    text = (ROOT / "docs" / "tutorials" / "onnx.md").read_text()
    names = {}
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], names)  # noqa: S102
    network = zoo.load("qsdt_nano")
    wanted = network.classify(to_image_q(names["pixels"], zoo.spec_of("qsdt_nano")))
    np.testing.assert_array_equal(names["logits"], wanted)
