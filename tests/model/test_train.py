"""model.train: schedule, optimiser groups, exact resume, files, and the command line."""

from dataclasses import replace
import json
import re

import numpy as np
import pytest
import torch

from model import train as program
from model.data import dataset as data
from model.data.dataset import Dataset, Split
from model.families.network import QsdTransformer
from model.families.spec import MODELS, QsdtSpec
from model.training import trainer as training
from model.training.recipe import Recipe
from model.training.trainer import build, evaluate, learning_rate, optimiser, Trainer


torch.set_num_threads(1)  # with two, a busy second core makes these small layers wait for it

TINY = QsdtSpec(
    name="tiny",
    in_channels=1,
    image_size=16,
    classes=2,
    dims=(4, 4, 4, 6, 6),
    strides=(2, 1, 2, 1, 1),
    depths=(1, 1, 1, 1, 1),
    conv_expansion=(1, 1, 1),
    mlp_ratio=1,
    heads=2,
    layer_scale_init=0.1,
    norm_mean=(0.3,),
    norm_std=(0.3,),
)
RECIPE = Recipe(epochs=2, batch=8, lr=1e-2, ema_decay=0.9)


def halves(count: int, seed: int) -> Split:
    """Noise over a bright upper (label 0) or lower (label 1) half: easily told apart."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 120, (count, 16, 16)).astype(np.uint8)
    labels = np.arange(count) % 2
    images[labels == 0, :8] += 120
    images[labels == 1, 8:] += 120
    return Split(images=images, labels=labels)


DATA = Dataset(train=halves(64, 1), val=halves(32, 2), test=halves(32, 3))


@pytest.fixture
def tiny_program(monkeypatch):
    """The command line with the tiny network and the made-up data set registered."""
    monkeypatch.setitem(MODELS, "tiny", TINY)
    monkeypatch.setitem(data.DATASETS, "halves", lambda folder: DATA)

    def run(*words) -> int:
        return program.cli(["--model", "tiny", "--data", "halves", *map(str, words)])

    return run


def test_learning_rate_rises_then_falls():
    recipe = Recipe(epochs=100, lr=1.0, warmup=0.1)
    rates = [learning_rate(recipe, progress) for progress in range(101)]
    assert rates[0] == 0 and rates[5] == pytest.approx(0.5) and rates[10] == pytest.approx(1)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.01)


def test_optimiser_decays_matrices_only_and_slows_steps():
    model = build(TINY, RECIPE)
    matrices, vectors, steps = optimiser(model, RECIPE).param_groups
    assert all(p.ndim >= 2 for p in matrices["params"]) and matrices["weight_decay"] == 0.05
    assert vectors["weight_decay"] == steps["weight_decay"] == 0
    assert steps["scale"] == 0.1
    assert {id(p) for p in steps["params"]} == {
        id(m.alpha) for m in model.modules() if hasattr(m, "alpha")
    }
    total = sum(len(g["params"]) for g in (matrices, vectors, steps))
    assert total == len(list(model.parameters()))


def test_build_starts_attention_sparse_and_is_seeded():
    one, two, other = (build(TINY, replace(RECIPE, seed=seed)) for seed in (1, 1, 2))
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name])
    assert not torch.equal(one.head.weight, other.head.weight)
    assert (one.block3[0].attn.q_conv[1].bias == -0.6).all()
    assert (one.block3[0].attn.proj_conv[1].bias == 0).all()


def test_penalty_counts_membranes_above_the_top_level():
    model = build(TINY, RECIPE)
    with training._Penalty(model) as penalty:
        model(torch.zeros(2, 1, 16, 16))
        assert penalty.take() == 0
        attn = model.block3[0].attn
        attn.attn_lif(torch.tensor([0.0, 1.0, 3.0], requires_grad=True))
        assert penalty.take().item() == pytest.approx(2 / 3)
    assert not attn.attn_lif._forward_pre_hooks


@pytest.mark.parametrize("bfloat16", [True, False])
def test_training_learns(bfloat16):
    trainer = Trainer(TINY, replace(RECIPE, epochs=12, bfloat16=bfloat16), DATA)
    losses = [trainer.run_epoch()["train_loss"] for _ in range(12)]
    assert losses[-1] < 0.6 * losses[0]
    assert trainer.best["val_acc"] > 0.9
    assert trainer.log[-1]["val_acc_ema"] > 0.7, "averaged weights and statistics must fit"


def test_resume_equals_an_uninterrupted_run(tmp_path):
    whole = Trainer(TINY, RECIPE, DATA)
    whole.run_epoch()
    training.save(whole.state(), tmp_path / "half.pth")
    whole.run_epoch()
    rest = Trainer(TINY, RECIPE, DATA)
    rest.restore(torch.load(tmp_path / "half.pth", weights_only=True))
    rest.run_epoch()
    for key in ("model", "average"):
        for name, value in whole.state()[key].items():
            assert torch.equal(value, rest.state()[key][name]), name
    strip = [{k: v for k, v in r.items() if k != "seconds"} for r in rest.log]
    assert strip == [{k: v for k, v in r.items() if k != "seconds"} for r in whole.log]
    assert not list(tmp_path.glob("*.part"))


def test_run_writes_model_log_and_curve(tiny_program, tmp_path, capsys):
    out = tmp_path / "run"
    assert tiny_program("--out", out, "--epochs", 2, "--batch", 16) == 0
    saved = torch.load(out / "model.pth", weights_only=True)
    model = QsdTransformer(QsdtSpec.from_dict(saved["spec"]))
    model.load_state_dict(saved["model"])
    assert saved["test_acc"] == evaluate(model, DATA.test)
    assert saved["val_acc"] == evaluate(model, DATA.val)
    *epochs, last = map(json.loads, (out / "log.jsonl").read_text().splitlines())
    assert [r["epoch"] for r in epochs] == [1, 2]
    assert set(epochs[0]["attention_top"]) == {"block3.0", "block4.0"}
    assert {"train_loss", "train_acc", "val_acc", "lr", "seconds", "mean_level"} < set(epochs[0])
    assert last["test_acc"] == saved["test_acc"]
    assert (out / "curve.png").read_bytes().startswith(b"\x89PNG")
    text = capsys.readouterr().out
    assert "epoch 2/2: loss" in text and "test accuracy" in text


def test_finished_run_does_not_test_again(tiny_program, tmp_path, monkeypatch):
    assert tiny_program("--out", tmp_path, "--epochs", 1) == 0
    before = (tmp_path / "log.jsonl").read_text()
    monkeypatch.setattr(training, "evaluate", lambda *_: pytest.fail("evaluated again"))
    assert tiny_program("--out", tmp_path, "--resume") == 0
    assert (tmp_path / "log.jsonl").read_text() == before


def test_interrupt_then_resume(tiny_program, tmp_path, monkeypatch, capsys):
    def interrupted(trainer: Trainer) -> dict:
        if trainer.epoch == 1:
            raise KeyboardInterrupt
        return run_epoch(trainer)

    run_epoch = Trainer.run_epoch
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run_epoch", interrupted)
        assert tiny_program("--out", tmp_path, "--epochs", 2) == 130
    assert "--resume" in capsys.readouterr().err
    assert tiny_program("--out", tmp_path, "--resume") == 0
    assert "epoch 2/2" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, message",
    [
        (["--model", "qsdt_x"], "model must be one of .*qsdt_nano.*, not qsdt_x"),
        (["--data", "cifar"], "must be one of .*, halves or folder:DIR, not cifar"),
        (["--data", "fashion_mnist", "--data-dir", "nowhere"], "apt-get install"),
        (["--model", "qsdt_nano"], "images must be 28 pixels wide, not 16"),
        (["--resume"], "--resume must find .*checkpoint.pth"),
        (["--epochs", "0"], "epochs must be positive, not 0"),
        (["--batch", "65"], "batch must be at most 64, not 65"),
    ],
)
def test_bad_input_is_one_line_and_status_1(tiny_program, tmp_path, capsys, words, message):
    assert tiny_program("--out", tmp_path, *words) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("error: ")
    assert re.search(message, error)


def test_damaged_checkpoint_is_refused(tiny_program, tmp_path, capsys):
    for content in (b"", b"damaged"):
        (tmp_path / "checkpoint.pth").write_bytes(content)
        assert tiny_program("--out", tmp_path, "--resume") == 1
        assert "must be a whole file" in capsys.readouterr().err
