"""model.ablation and its plans: rows, seeds, what goes on, what is refused."""

import json

import pytest
import torch

from model import ablation as program
from model.data import options
from model.error import InputError
from model.families.spec import MODELS
from model.training.ablation import plans, read_plan, saturation, table
from model.training.pretrainer import Pretrainer
from model.training.trainer import Trainer
from tests.model.tiny import DATA, TINY


PLAN = """
version: 1
model: tiny
data: halves
train_images: 48
seeds: 2
recipe: {epochs: 1, batch: 16, precision: fp32}
teacher: {attention_penalty: 0.0}
rows:
  plain: {paper: 75.8}
  full: {network: {mprf: add}, recipe: {fgd: 2.0}}
"""


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """A function that runs the command with a plan for the tiny network."""
    monkeypatch.setitem(MODELS, "tiny", TINY)
    monkeypatch.setitem(options.DATASETS, "halves", lambda folder, spec: DATA)
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)
    return lambda *words: program.cli(["--plan", str(path), "--out", str(tmp_path / "out"),
                                       *map(str, words)])


@pytest.mark.parametrize("name", plans())
def test_shipped_plans_fit_their_network(name):
    plan = read_plan(name)
    plan.check(MODELS[plan.model])
    assert not plan.teacher.needs_teacher


def test_the_rows_of_a_plan_have_equal_epochs():
    assert len({row.recipe.epochs for row in read_plan("nano").rows}) == 1
    alone, longer, pretrained = read_plan("masked").rows
    assert pretrained.pretraining is not None
    assert alone.recipe == pretrained.recipe and alone.pretraining is longer.pretraining is None
    assert longer.recipe.epochs == pretrained.recipe.epochs + pretrained.pretraining.recipe.epochs


def test_the_shipped_plan_has_the_rows_of_the_paper():
    rows = {row.name: row for row in read_plan("nano").rows}
    assert rows["lif"].network == {"neuron": "lif", "levels": 1, "time_steps": 4, "leak": 0.5}
    assert [rows[name].paper for name in ("lif", "ielif", "full", "full_2bit")] == [
        70.0, 75.8, 77.5, 75.0]
    assert (rows["full"].recipe.fgd, rows["fgd"].network) == (2.0, {})


def test_a_row_begins_with_its_pretraining(tiny, tmp_path, capsys, monkeypatch):
    """Which goes on where it was ended, and is done once."""
    (tmp_path / "masks.yaml").write_text(
        "version: 1\nbatch: 16\nprecision: fp32\nmasking: {width: 16, blocks: 1, heads: 2}\n")
    (tmp_path / "plan.yaml").write_text(f"""
version: 1
model: tiny
data: halves
train_images: 48
recipe: {{epochs: 1, batch: 16, precision: fp32}}
rows:
  alone: {{}}
  pretrained: {{pretraining: {{recipe: {tmp_path / "masks.yaml"}, epochs: 2}}}}
""")
    run_epoch, seen, stop = Pretrainer.run_epoch, [], 2

    def counted(pretrainer):
        if len(seen) == stop - 1:
            seen.append(None)
            raise KeyboardInterrupt
        seen.append((pretrainer.epoch, len(pretrainer.data.train)))
        return run_epoch(pretrainer)

    monkeypatch.setattr(Pretrainer, "run_epoch", counted)
    assert tiny() == 130
    assert tiny() == 0
    assert seen == [(0, 48), None, (1, 48)]
    out = tmp_path / "out"
    rows = json.loads((out / "ablation.json").read_text())
    parts = out / "pretrained" / "1"
    epochs = [json.loads(line) for folder in (parts, parts / "pretraining")
              for line in (folder / "log.jsonl").open()]
    seconds = sum(record.get("cpu_seconds", 0) for record in epochs)
    assert rows["pretrained"][0]["cpu_seconds"] == pytest.approx(seconds, abs=0.1)
    started = torch.load(parts / "pretraining" / "backbone.pth", weights_only=True)
    assert started["pretraining"]["epoch"] == 2
    capsys.readouterr()
    assert tiny() == 0 and len(seen) == 3
    plan = (tmp_path / "plan.yaml").read_text()
    (parts / "result.json").unlink()
    (tmp_path / "plan.yaml").write_text(plan.replace("epochs: 2", "epochs: 3"))
    assert tiny() == 1
    assert "holds another training (network or recipe)" in capsys.readouterr().err
    (tmp_path / "plan.yaml").write_text(plan.replace(str(tmp_path / "masks.yaml"), "nano"))
    assert tiny() == 1
    assert "pretraining.recipe must be one with masking" in capsys.readouterr().err


def test_rows_and_seeds_are_trained_once(tiny, tmp_path, capsys, monkeypatch):
    run_epoch, trained = Trainer.run_epoch, []

    def counted(trainer):
        trained.append((trainer.spec.name, trainer.spec.mprf, trainer.recipe.seed,
                        len(trainer.task)))
        if len(trained) == stop:
            raise KeyboardInterrupt
        return run_epoch(trainer)

    monkeypatch.setattr(Trainer, "run_epoch", counted)
    stop = 4
    assert tiny() == 130
    assert "the same command goes on" in capsys.readouterr().err
    out = tmp_path / "out"
    assert "| plain | 1 of 2 |" in (out / "ablation.md").read_text()
    stop = 0
    assert tiny() == 0
    ann = "tiny-ann"
    assert trained == [
        ("tiny", "none", 1, 48), (ann, "none", 1, 48), ("tiny", "add", 1, 48),
        ("tiny", "none", 2, 48), ("tiny", "none", 2, 48), (ann, "none", 2, 48),
        ("tiny", "add", 2, 48)]
    captured = capsys.readouterr()
    assert "next: " in captured.err and captured.out.endswith((out / "ablation.md").read_text())
    results = json.loads((out / "ablation.json").read_text())
    for row in results.values():
        assert [seed["seed"] for seed in row] == [1, 2]
        assert all(seed["cpu_seconds"] > 0 and 0 <= seed["test_acc"] <= 1 for seed in row)
    log = (out / "full" / "1" / "log.jsonl").read_text()
    assert "train_fgd" in log and "attention_top" in log
    assert all((out / name).read_bytes().startswith(b"\x89PNG")
               for name in ("ablation.png", "saturation.png"))
    logged = [json.loads(line)["attention_top"] for line in log.splitlines()
              if "attention_top" in line]
    for block, values in results["full"][0]["attention_by_epoch"].items():
        assert values == [record[block] for record in logged]
    assert "| full | block3.0 | " in (out / "ablation.md").read_text()
    # A cell of a sweep finds what is finished.
    plan = str(tmp_path / "plan.yaml")
    assert program.cell(row="full", seed=2, plan=plan, out=str(out)) == results["full"][1]
    assert len(trained) == 7


def test_results_of_another_plan_are_not_mixed_in(tiny, tmp_path, capsys):
    assert tiny("--rows", "plain", "--seeds", 1) == 0
    plan = str(tmp_path / "plan.yaml")
    with pytest.raises(InputError, match="plain/1 holds another training"):
        program.cell(row="plain", seed=1, plan=plan, out=str(tmp_path / "out"), epochs=2)


def test_table_of_what_is_there(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)
    seed = {"val_acc": 0.9, "test_acc": 0.88, "cpu_seconds": 1200.0, "attention_top": 0.25}
    text = table(read_plan(path), {
        "plain": [seed, seed | {"test_acc": 0.90, "attention_top": 0.35}], "full": [seed]})
    plain, full = text.splitlines()[-2:]
    assert plain == "| plain | 2 of 2 | 90.00 ± 0.00 | 89.00 ± 1.41 | 30.0 ± 7.1 | 1,200 | 75.8 |"
    assert full == "| full | 1 of 2 | 90.00 | 88.00 | 25.0 | 1,200 | - |"
    assert "| full | 0 of 2 | - | - | - | - | - |" in table(read_plan(path), {})


def test_saturation_of_blocks_and_epochs(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)
    plan = read_plan(path)
    seeds = [{"attention_by_epoch": {"block3.0": [0.5, 0.25], "block4.0": [a, 0.0]}}
             for a in (0.1, 0.2)]
    lines = saturation(plan, {"plain": seeds, "full": [{"attention_by_epoch": {}}]}).splitlines()
    assert lines[3] == "| row | block | 1 | 2 |"
    assert lines[5:] == ["| plain | block3.0 | 50.0 | 25.0 |", "| plain | block4.0 | 15.0 | 0.0 |"]
    assert saturation(plan, {}) == ""


@pytest.mark.parametrize("change, message", [
    (("version: 1", "version: 2"), "version must be 1, not 2"),
    (("seeds: 2", "seeds: 0"), r"seeds must be 1..100, not 0"),
    (("seeds: 2", "seed: 2"), "unknown key 'seed'; known are model"),
    (("train_images: 48", "train_images: few"), "train_images must be a whole number, not 'few'"),
    (("{paper: 75.8}", "{papers: 75.8}"), "rows.plain: unknown key 'papers'"),
    (("{paper: 75.8}", "{paper: 758}"), "rows.plain.paper must be 0..100, not 758"),
    (("{mprf: add}", "{mprf: 2}"), "rows.full.network.mprf must be a text, not 2"),
    (("{mprf: add}", "{mprf: some}"), "rows.full: mprf must be none, add or replace"),
    (("{fgd: 2.0}", "{fgd: -2.0}"), "rows.full.recipe: fgd must be at least 0, not -2.0"),
    (("  plain:", "  ../plain:"), "names must be letters, digits, - and _, not '../plain'"),
])
def test_bad_plans_are_one_line(tiny, tmp_path, capsys, change, message):
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN.replace(*change))
    assert tiny() == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error


def test_bad_options_are_one_line(tiny, capsys):
    for words, message in ((["--rows", "none"], "row must be one of plain, full, not none"),
                           (["--seeds", 0], "--seeds and --images must be at least 1"),
                           (["--epochs", 0], "epochs must be positive, not 0"),
                           (["--images", 4], "batch must be at most 4, not 16")):
        assert tiny(*words) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and message in error
