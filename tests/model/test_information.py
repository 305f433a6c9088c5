"""model.training.information and its command: entropies by hand, and of networks."""

import json
import math

import numpy as np
import pytest
import torch

from model import information as program
from model.data import dataset as data
from model.data import options
from model.families.network import capture_levels
from model.training.information import (
    BIMODAL,
    bimodality,
    conditional_entropy,
    entropy,
    gaussian_entropy,
    measure,
)
from model.training.information_report import short_names
from model.training.measures import to_input
from model.training.session import save_model
from model.training.trainer import build, Trainer
from tests.model.tiny import DATA, RECIPE, TINY


torch.set_num_threads(1)


def test_entropy_in_bits():
    assert entropy(np.array([1, 1, 1, 1, 1])) == pytest.approx(math.log2(5))
    assert entropy(np.array([7, 0, 0])) == 0 and math.copysign(1, entropy(np.array([7, 0]))) == 1
    assert entropy(np.array([3, 1])) == pytest.approx(2 - 0.75 * math.log2(3))


def test_conditional_entropy():
    assert conditional_entropy(np.diag([3, 5, 2])) == 0  # A tells S
    independent = np.outer([1, 3], [2, 2, 4])
    assert conditional_entropy(independent) == pytest.approx(entropy(independent.sum(0)))
    joint = np.array([[1, 1], [2, 0], [0, 0]])
    assert conditional_entropy(joint) == pytest.approx(0.5)


def test_bimodality_tells_two_peaks():
    assert bimodality(np.array([5, 0, 0, 0, 5])) == pytest.approx(1)
    assert bimodality(np.array([1, 4, 6, 4, 1])) < BIMODAL
    assert bimodality(np.ones(1000)) == pytest.approx(BIMODAL, abs=1e-5)
    assert bimodality(np.array([0, 9, 0])) is None


def test_entropy_of_a_normal_membrane():
    """The code's units (DETSEG): N(0, 1) has 1.84 bit, N(.5, .1^2) .96, the best of all 2.320."""
    assert gaussian_entropy(0, 1) == pytest.approx(1.84, abs=0.005)
    assert gaussian_entropy(0.5, 0.1) == pytest.approx(0.96, abs=0.005)
    assert gaussian_entropy(0.5, 0.45) == pytest.approx(2.320, abs=0.001)
    draws = np.random.default_rng(0).normal(0.3, 0.4, 200_000)
    for levels in (1, 3, 4):
        fired = np.floor(np.clip(levels * draws, 0, levels) + 0.5).astype(int)
        assert entropy(np.bincount(fired)) == pytest.approx(
            gaussian_entropy(0.3, 0.4, levels), abs=0.01)


def test_rows_count_every_level_of_a_network():
    model = build(TINY, RECIPE)
    rows = measure(model, DATA.val, batch=10)
    assert len(rows) == 2 * 4 * 2  # blocks, tensors, heads
    with torch.no_grad(), capture_levels(model.eval()) as levels:
        image_q, _ = next(data.batches(DATA.val, TINY, batch=len(DATA.val)))
        model(to_input(image_q, TINY))
    for row in rows:
        name = "attn_lif" if row["tensor"] == "attention" else f"{row['tensor']}_lif"
        level = levels[f"{row['block']}.attn.{name}"][:, 3 * row["head"]:3 * row["head"] + 3]
        assert row["histogram"] == torch.bincount(level.flatten().long(), minlength=5).tolist()
        assert row["zero"] == pytest.approx((level == 0).float().mean().item())
        assert row["top"] == pytest.approx((level == 4).float().mean().item())
        assert row["mean"] == pytest.approx(level.float().mean().item(), rel=1e-5)
        assert "information" not in row


def test_a_teacher_that_is_the_network_itself_tells_all():
    model = build(TINY, RECIPE)
    for row in measure(model, DATA.val, teacher=model):
        if row["tensor"] != "attention":
            assert row["conditional"] <= row["entropy"] + 1e-12
            assert row["information"] == pytest.approx(row["entropy"] - row["conditional"])
    # Levels are few, so that their quantile bins part them where they are common.
    told = [row for row in measure(model, DATA.val, teacher=model) if row["tensor"] == "v"]
    assert all(row["conditional"] < 0.35 * row["entropy"] + 1e-9 for row in told)


def test_networks_without_spikes_are_refused():
    with pytest.raises(ValueError, match="tiny-ann does not spike: name it with --teacher"):
        measure(build(TINY.twin(), RECIPE), DATA.val)


@pytest.mark.parametrize("files, names", [
    (["runs/ielif/1/model.pth", "runs/mprf/1/model.pth"], ["ielif", "mprf"]),
    (["runs/full/model.pth"], ["full"]),
    (["nano.qsd", "runs/full/model.pth"], ["nano.qsd", "runs/full/model.pth"]),
    (["a/model.pth", "model.pth"], ["a/model.pth", "model.pth"]),
    (["model.pth"] * 2, ["model"] * 2),
])
def test_names_tell_files_from_each_other(files, names):
    assert short_names(files) == names


def test_command_writes_table_numbers_and_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(options.DATASETS, "halves", lambda folder, spec: DATA)
    for name, spec in (("one", TINY), ("ann", TINY.twin())):
        trainer = Trainer(spec, RECIPE, DATA)
        trainer.run_epoch()
        (tmp_path / name).mkdir()
        save_model(trainer, tmp_path / name / "model.pth")
    model, ann = (str(tmp_path / name / "model.pth") for name in ("one", "ann"))
    out = tmp_path / "out"
    words = ["--data", "halves", "--count", "20", "--out", str(out)]
    assert program.cli(["--weights", model, model, "--teacher", ann, *words]) == 0
    captured = capsys.readouterr()
    assert "next: " in captured.err
    networks = json.loads((out / "information.json").read_text())
    assert [network["images"] for network in networks] == [20, 20]
    assert sum(networks[0]["rows"][0]["histogram"]) == 20 * 16 * 3
    text = (out / "information.md").read_text()
    assert text == captured.out and text.count("| block3.0 | q |") == 2
    assert (out / "information.png").read_bytes().startswith(b"\x89PNG")
    assert program.cli(["--weights", ann, *words]) == 1
    error = capsys.readouterr().err
    assert error == "error: tiny-ann does not spike: name it with --teacher\n"
