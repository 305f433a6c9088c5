"""model.train: schedule, optimiser groups, exact resume, files, and the command line."""

from dataclasses import replace
import json
from pathlib import Path
import re
import subprocess
import sys
import time

import pytest
import torch

from model import train as program
from model.data import options
from model.families.network import QsdTransformer
from model.families.spec import MODELS, QsdtSpec
from model.training import session
from model.training import trainer as training
from model.training.measures import evaluate, first_not_finite
from model.training.optimise import learning_rate, optimiser
from model.training.recipe import Recipe
from model.training.session import load_checkpoint
from model.training.task import ClassTask
from model.training.trainer import build, Trainer
from tests.model.tiny import DATA, RECIPE, TINY


torch.set_num_threads(1)  # with two, a busy second core makes these small layers wait for it


@pytest.fixture
def tiny_program(monkeypatch):
    """The command line with the tiny network and the made-up data set registered."""
    monkeypatch.setitem(MODELS, "tiny", TINY)
    monkeypatch.setitem(options.DATASETS, "halves", lambda folder, spec: DATA)

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
    with training.Penalty(model) as penalty:
        model(torch.zeros(2, 1, 16, 16))
        assert penalty.take() == 0
        attn = model.block3[0].attn
        attn.attn_lif(torch.tensor([0.0, 1.0, 3.0], requires_grad=True))
        assert penalty.take().item() == pytest.approx(2 / 3)
    assert not attn.attn_lif._forward_pre_hooks


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_training_learns(precision):
    trainer = Trainer(TINY, replace(RECIPE, epochs=12, precision=precision), DATA)
    losses = [trainer.run_epoch()["train_loss"] for _ in range(12)]
    assert losses[-1] < 0.6 * losses[0]
    assert trainer.best["val_acc"] > 0.9
    assert trainer.log[-1]["val_acc_ema"] > 0.7, "averaged weights and statistics must fit"


def test_resume_equals_an_uninterrupted_run(tmp_path):
    whole = Trainer(TINY, RECIPE, DATA)
    whole.run_epoch()
    session.save(whole.state(), tmp_path / "half.pth")
    whole.run_epoch()
    rest = Trainer(TINY, RECIPE, DATA)
    rest.restore(torch.load(tmp_path / "half.pth", weights_only=True))
    rest.run_epoch()
    for key in ("model", "average"):
        for name, value in whole.state()[key].items():
            assert torch.equal(value, rest.state()[key][name]), name
    timed = {"seconds", "images_per_cpu_second", "cpu_seconds"}
    one, two = ([{k: v for k, v in r.items() if k not in timed} for r in t.log]
                for t in (whole, rest))
    assert one == two
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
    monkeypatch.setattr(ClassTask, "measure", lambda *_: pytest.fail("evaluated again"))
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
        (["--recipe", "none"], "recipe must be one of .*cifar_table8, .*, nano, .* or a file"),
        (["--recipe", "nowhere.yaml"], "Cannot read nowhere.yaml"),
        (["--fgd", "2"], "learns from a teacher: name it with --teacher"),
        (["--teacher", "nowhere.pth"], "nowhere.pth"),
        (["--init", "nowhere.pth"], "nowhere.pth"),
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


def test_a_killed_training_loses_one_epoch_at_most(tmp_path):
    """Killed without a chance to clean up, between steps or in the middle of writing."""
    script = ("import sys; from tests.model.test_train import registered; from model import train;"
              "registered(); sys.exit(train.cli(sys.argv[1:]))")
    words = ["--model", "tiny", "--data", "halves", "--epochs", "6", "--batch", "8",
             "--precision", "fp32", "--out"]
    root = Path(__file__).parents[2]

    def start(folder: Path, *more: str) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-c", script, *words, str(folder), *more],
                                cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    whole = start(tmp_path / "whole")
    done = 0
    running = start(tmp_path / "killed")
    for wanted in (1, 3):
        while len(read_log(tmp_path / "killed")) < wanted and running.poll() is None:
            time.sleep(0.002)
        running.kill()
        running.wait()
        running.stderr.close()
        reached = load_checkpoint(tmp_path / "killed" / "checkpoint.pth")["epoch"]
        assert reached >= wanted > done, "what was logged is in the checkpoint"
        done = reached
        running = start(tmp_path / "killed", "--resume")
    for process in (running, whole):
        _, error = process.communicate()
        assert process.returncode == 0, error
    timed = {"seconds", "images_per_cpu_second", "cpu_seconds"}
    one, two = ([{k: v for k, v in r.items() if k not in timed} for r in read_log(tmp_path / name)]
                for name in ("whole", "killed"))
    assert one == two and len(one) == 7


def registered() -> None:
    """Make the tiny network and its data known to the command line of this process."""
    MODELS["tiny"] = TINY
    options.DATASETS["halves"] = lambda folder, spec: DATA
    torch.set_num_threads(1)


def read_log(folder: Path) -> list[dict]:
    path = folder / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_nan_stops_with_step_and_layer(tiny_program, tmp_path, capsys):
    assert tiny_program("--out", tmp_path, "--epochs", 1, "--batch", 8, "--precision", "fp32") == 0
    state = load_checkpoint(tmp_path / "checkpoint.pth")
    state["recipe"]["epochs"] = 2
    state["model"]["block3.0.mlp.fc1_bn.running_mean"][0] = 0.0
    state["model"]["block3.0.mlp.fc1_conv.weight"][0] = float("nan")
    session.save(state, tmp_path / "checkpoint.pth")
    capsys.readouterr()
    assert tiny_program("--out", tmp_path, "--resume") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "but is nan in epoch 2, step 1; first not finite: the weights block3.0.mlp.fc1" in error


def test_the_layer_where_infinities_begin():
    model = build(TINY, RECIPE)
    x = torch.zeros(2, 1, 16, 16)
    assert first_not_finite(model, x) == "the loss alone"
    with torch.no_grad():
        model.downsample2.encode_bn.weight.fill_(3e38)
        model.downsample2.encode_bn.bias.fill_(3e38)
    assert first_not_finite(model, x) == "the output of downsample2.encode_bn"


def test_a_transfer_starts_from_other_weights(tiny_program, tmp_path, monkeypatch, capsys):
    assert tiny_program("--out", tmp_path / "a", "--epochs", 1, "--batch", 16) == 0
    monkeypatch.setitem(MODELS, "tiny", replace(TINY, classes=5))
    recipe = tmp_path / "own.yaml"
    recipe.write_text("version: 1\nepochs: 1\nbatch: 16\nprecision: fp32\nnetwork: {mprf: add}\n")
    capsys.readouterr()
    assert tiny_program("--out", tmp_path / "b", "--recipe", recipe, "--init",
                        tmp_path / "a" / "model.pth") == 0
    assert "starts from" in (text := capsys.readouterr().out) and "new: MPRF, head" in text
    assert load_checkpoint(tmp_path / "b" / "checkpoint.pth")["spec"]["mprf"] == "add"


def test_distillation_from_the_command_line_resumes(tiny_program, tmp_path, monkeypatch, capsys):
    assert tiny_program("--out", tmp_path / "ann", "--twin", "--epochs", 1, "--batch", 16) == 0
    assert "next: " in capsys.readouterr().err
    teacher = tmp_path / "ann" / "model.pth"
    words = ["--out", tmp_path / "b", "--fgd", 2, "--teacher", teacher, "--batch", 16]
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run_epoch", once(Trainer.run_epoch))
        assert tiny_program(*words, "--epochs", 2) == 130
    assert tiny_program("--out", tmp_path / "b", "--resume") == 0
    log = read_log(tmp_path / "b")
    assert [("train_fgd" in record) for record in log] == [True, True, False]
    state = load_checkpoint(tmp_path / "b" / "checkpoint.pth")
    teacher.write_bytes((tmp_path / "b" / "model.pth").read_bytes())
    capsys.readouterr()
    assert tiny_program("--out", tmp_path / "b", "--resume") == 1
    assert "is not the teacher that" in capsys.readouterr().err
    assert state["teacher_file"]["path"] == str(teacher)


def once(run_epoch):
    """An epoch that is interrupted when it is asked for a second time."""
    def interrupted(trainer: Trainer) -> dict:
        if trainer.epoch == 1:
            raise KeyboardInterrupt
        return run_epoch(trainer)
    return interrupted


def test_tensorboard_gets_every_number(tiny_program, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "run"
    assert tiny_program("--out", out, "--epochs", 2, "--batch", 16, "--tensorboard") == 0
    found = EventAccumulator(str(out / "tensorboard")).Reload()
    epochs = read_log(out)[:2]
    for tag in ("train_loss", "val_acc", "attention_top/block3.0"):
        values = [event.value for event in found.Scalars(tag)]
        key, _, part = tag.partition("/")
        wanted = [r[key][part] if part else r[key] for r in epochs]
        assert values == pytest.approx(wanted, rel=1e-6)
