"""model.pretrain: the command line, from pictures without labels to a training."""

import json
import re

import pytest
import torch

from model import convert, evaluate, pretrain
from model import train as training
from model.data import options
from model.families.spec import MODELS
from tests.model.tiny import DATA, TINY


torch.set_num_threads(1)

RECIPE = """version: 1
epochs: 2
batch: 8
precision: fp32
masking: {width: 16, blocks: 1, heads: 2}
"""


@pytest.fixture
def program(monkeypatch, tmp_path):
    """The command line with the tiny network, the made-up data set and a short recipe."""
    monkeypatch.setitem(MODELS, "tiny", TINY)
    monkeypatch.setitem(options.DATASETS, "halves", lambda folder, spec: DATA)
    (tmp_path / "short.yaml").write_text(RECIPE)
    given = ["--model", "tiny", "--data", "halves", "--out", str(tmp_path / "out")]

    def run(*words, recipe=tmp_path / "short.yaml") -> int:
        return pretrain.cli([*given, "--recipe", str(recipe), *map(str, words)])

    return run


def test_from_pictures_to_a_training(program, tmp_path, capsys):
    out = tmp_path / "out"
    assert program("--epochs", 1, "--ratio", 0.75) == 0
    said = capsys.readouterr()
    assert "on validation pictures after epoch 1" in said.out
    assert f"--init {out / 'backbone.pth'}" in said.err
    assert sorted(path.name for path in out.iterdir() if path.name[0] != ".") == [
        "backbone.pth", "checkpoint.pth", "curve.png", "log.jsonl", "pictures.png"]
    assert torch.load(out / "backbone.pth", weights_only=True)["pretraining"]["masking"] == {
        "ratio": 0.75, "cell": 0, "width": 16, "blocks": 1, "heads": 2}
    words = ["--model", "tiny", "--data", "halves", "--epochs", "1", "--batch", "8",
             "--precision", "fp32", "--out", str(tmp_path / "trained")]
    assert training.cli([*words, "--init", str(out / "backbone.pth")]) == 0
    assert "backbone.pth; new: head" in capsys.readouterr().out
    # What is not trained to classify is not taken as a classifier.
    refused = "its head is not trained: qsdt train --init starts from such a file"
    assert convert.cli(["--checkpoint", str(out / "backbone.pth"),
                        "--out", str(tmp_path / "x.qsd")]) == 1
    assert refused in capsys.readouterr().err
    assert evaluate.cli(["--weights", str(out / "backbone.pth"), "--data", "halves"]) == 1
    assert refused in capsys.readouterr().err


def test_resume_goes_on(program, tmp_path):
    assert program("--epochs", 1) == 0
    path = tmp_path / "out" / "checkpoint.pth"
    state = torch.load(path, weights_only=True)
    state["recipe"]["epochs"] = 2
    torch.save(state, path)
    assert program("--resume", "--epochs", 9) == 0    # options for the recipe are ignored
    records = [json.loads(x) for x in (tmp_path / "out" / "log.jsonl").open()]
    assert [record["epoch"] for record in records] == [1, 2]


@pytest.mark.parametrize("words, message", [
    (["--recipe", "nano"], "the recipe nano is for .*train: it says nothing of masking"),
    (["--recipe", "none"], "recipe must be one of .*masked_sdt_v3"),
    (["--model", "nope"], "model must be one of .*, not nope"),
    (["--cell", "5"], "cell must be a multiple of 4 .* that divides 16, not 5"),
    (["--ratio", "1"], "ratio must be between 0 and 1, not 1"),
    (["--ratio", "0.99"], "ratio must hide 1 to 15 of 16 cells of tiny, not 16"),
    (["--batch", "65"], "batch must be at most 64"),
    (["--resume"], "--resume must find .*checkpoint.pth: train without it first"),
    (["--data", "folder:nowhere"], "nowhere"),
])
def test_bad_input_is_one_line(program, capsys, words, message):
    assert program(*words) == 1
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert re.search(message, error)


def test_recipes_for_pretraining_train_nothing(capsys):
    assert training.cli(["--recipe", "masked_qsdt"]) == 1
    assert "the recipe masked_qsdt is for" in capsys.readouterr().err
