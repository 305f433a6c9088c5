"""Compare variants of a training: ``python -m model.ablation --plan nano --out DIR``.

Trains every row of a plan for every seed, one after the other, each in a folder ``DIR/ROW/SEED``
of its own, and writes after each

``ablation.json``  what every finished training gave
``ablation.md``    the same as a table, with the spread over the seeds; then saturation by epoch
``ablation.png``   accuracies as a picture
``saturation.png`` the attention's saturation through the trainings

The same command goes on where it was ended. `cell` is one training as a function, for ``qsdt
sweep model.ablation:cell``, which spreads them over machines.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
import json
from pathlib import Path
import sys
from typing import Any, TYPE_CHECKING

from model.command import add_verbosity, ArgumentParser, called, main, next_step, require
from model.data.dataset import Dataset
from model.data.options import read_dataset
from model.error import as_input_error, InputError
from model.families.base import NetworkSpec
from model.files import check_writable, digest_file, locked, make_folder, write_atomic
from model.progress import say
from model.training.ablation import (
    picture,
    Plan,
    plans,
    read_plan,
    Row,
    saturation,
    saturation_picture,
    table,
)
from model.zoo import spec_of


if TYPE_CHECKING:
    from model.training.trainer import Trainer


def cli(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return main(_run, _parser(), argv)


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog=called("model.ablation"),
        description="Train every row of a plan for several seeds and compare them.",
        epilog="The same command goes on where it was ended.",
    )
    parser.set_defaults(on_interrupt="the same command goes on")
    add = parser.add_argument
    add("--plan", default="nano", metavar="NAME",
        help=f"what is compared: {', '.join(plans())}, or a file (F.yaml, see model/ablations) "
        "(default: %(default)s)")
    add("--out", type=Path, default=Path("runs/ablation"), metavar="DIR",
        help="folder to write (default: %(default)s)")
    add("--rows", metavar="R,…", help="these rows alone (default: all)")
    add("--seeds", type=int, metavar="N", help="instead of the plan's number of seeds")
    add("--epochs", type=int, metavar="N", help="instead of the plan's epochs")
    add("--images", type=int, metavar="N", help="instead of the plan's number of training images")
    add("--data-dir", type=Path, metavar="D",
        help="where a data set lies if its package is not installed")
    add("--threads", type=int, default=1, metavar="N", help="CPU threads (default: %(default)s)")
    add_verbosity(parser)
    return parser


def _run(args: argparse.Namespace) -> None:
    require("torch", "matplotlib", what="ablation")
    with as_input_error():
        plan = _shortened(read_plan(args.plan), args.seeds, args.epochs, args.images)
        plan.check(spec_of(plan.model))
    rows = [plan.row(name) for name in args.rows.split(",")] if args.rows else list(plan.rows)
    check_writable(make_folder(args.out) / "ablation.json")
    _compare(plan, args.out)
    # Seeds first: whenever it is ended, rows have as many seeds as can be.
    for seed in range(1, plan.seeds + 1):
        for row in rows:
            if not (args.out / row.name / str(seed) / "result.json").exists():
                say(f"{row.name}, seed {seed} of {plan.seeds}")
                _train(plan, row, seed, args.out, args.data_dir, args.threads)
                _compare(plan, args.out)
    print(_compare(plan, args.out), end="")
    best = args.out / rows[-1].name / "1" / "model.pth"
    next_step("model.information", "--weights", best, "--out", args.out / "information")


def cell(
    *, row: str, seed: int, plan: str = "nano", out: str = "runs/ablation",
    epochs: int | None = None, images: int | None = None, data_dir: str | None = None,
) -> dict[str, Any]:
    """One training of a plan, as a task of ``qsdt sweep``; what was finished is not done again.

    Returns seed, val_acc, test_acc (0..1), cpu_seconds, attention_top (0..1, the share of the
    attention at its highest level after the last epoch, mean of the blocks; None without spikes)
    and attention_by_epoch, that share of every block after each epoch.
    """
    found = _shortened(read_plan(plan), None, epochs, images)
    folder = Path(out)
    return _train(found, found.row(row), seed, folder,
                  None if data_dir is None else Path(data_dir), 1)


def _shortened(plan: Plan, seeds: int | None, epochs: int | None, images: int | None) -> Plan:
    """The plan with other numbers of seeds, epochs and training images."""
    if (seeds is not None and seeds < 1) or (images is not None and images < 1):
        raise InputError("--seeds and --images must be at least 1")
    if epochs is not None:
        rows = tuple(_with_epochs(row, epochs) for row in plan.rows)
        plan = replace(plan, rows=rows, teacher=replace(plan.teacher, epochs=epochs))
    return replace(plan, seeds=seeds or plan.seeds, train_images=images or plan.train_images)


def _with_epochs(row: Row, epochs: int) -> Row:
    before = row.pretraining
    if before is not None:
        before = replace(before, recipe=replace(before.recipe, epochs=epochs))
    return replace(row, recipe=replace(row.recipe, epochs=epochs), pretraining=before)


def _train(plan: Plan, row: Row, seed: int, out: Path, data_dir: Path | None,
           threads: int) -> dict[str, Any]:
    """Train a row to its end, or go on with it; its result is kept in ``result.json``."""
    teacher = None
    if row.recipe.needs_teacher:
        twin = Row(name="teacher", recipe=plan.teacher, network={})
        with locked(out / "teacher" / str(seed), "training", wait=True):
            _finish(plan, twin, seed, out, data_dir, threads, None)
        teacher = out / "teacher" / str(seed) / "model.pth"
    with locked(out / row.name / str(seed), "training"):
        return _finish(plan, row, seed, out, data_dir, threads, teacher)


def _finish(plan: Plan, row: Row, seed: int, out: Path, data_dir: Path | None, threads: int,
            teacher: Path | None) -> dict[str, Any]:
    from model.training.process import prepare
    from model.training.session import train

    folder = out / row.name / str(seed)
    made = {"plan": _described(plan, row), "seed": seed}
    if (folder / "result.json").exists():
        kept = json.loads((folder / "result.json").read_text())
        if kept["made"] != made:
            raise InputError(f"{folder} holds another training (epochs, images, network or "
                             "recipe); choose another --out")
        return kept["result"]
    prepare(threads)
    with as_input_error():
        before = 0.0 if row.pretraining is None else _pretrain(plan, row, seed, folder, data_dir)
        trainer = _trainer(plan, row, seed, folder, data_dir, teacher)
        test = train(trainer, folder, say)
    tops = trainer.log[-1]["attention_top"].values()
    result = {
        "seed": seed, "val_acc": trainer.best["val_acc"], "test_acc": test["acc"],
        "cpu_seconds": round(before + sum(record["cpu_seconds"] for record in trainer.log), 1),
        "attention_top": sum(tops) / len(tops) if tops else None,
        "attention_by_epoch": {block: [record["attention_top"][block] for record in trainer.log]
                               for block in trainer.log[-1]["attention_top"]},
    }
    write_atomic(folder / "result.json", json.dumps({"made": made, "result": result}) + "\n")
    return result


def _pretrain(plan: Plan, row: Row, seed: int, folder: Path, data_dir: Path | None) -> float:
    """Prepare the row's network without labels, or go on with it; the CPU seconds of it."""
    from model.training.pretrainer import pretrain, Pretrainer
    from model.training.session import load_pretraining

    if row.pretraining is None:
        raise ValueError("there must be a pretraining")
    network = spec_of(plan.model).changed(**row.network)
    recipe = replace(row.pretraining.recipe, seed=seed)
    data = _data(plan, network, data_dir)
    pretrainer = Pretrainer(network, recipe, row.pretraining.masking, data)
    own = make_folder(folder / "pretraining")
    path = own / "checkpoint.pth"
    if path.exists():
        state, wanted = load_pretraining(path), pretrainer.state()
        if any(state[key] != wanted[key] for key in ("spec", "recipe", "masking")):
            raise InputError(f"{own} holds another training (network or recipe); choose another "
                             "--out")
        pretrainer.restore(state)
    pretrain(pretrainer, own, say)
    return sum(record["cpu_seconds"] for record in pretrainer.log)


def _data(plan: Plan, network: NetworkSpec, data_dir: Path | None) -> Dataset:
    """The plan's data set with so many training images as it says."""
    data = read_dataset(plan.data, network, data_dir=data_dir)
    return replace(data, train=replace(data.train, images=data.train.images[:plan.train_images],
                                       labels=data.train.labels[:plan.train_images]))


def _trainer(plan: Plan, row: Row, seed: int, folder: Path, data_dir: Path | None,
             teacher: Path | None) -> "Trainer":
    from model.training.checkpoint import read, tensors
    from model.training.distil import load_teacher
    from model.training.session import load_checkpoint
    from model.training.start import adopt
    from model.training.trainer import Trainer

    spec = spec_of(plan.model)
    network = spec.twin() if row.name == "teacher" else spec.changed(**row.network)
    data = _data(plan, network, data_dir)
    recipe = replace(row.recipe, seed=seed)
    trainer = Trainer(network, recipe, data,
                      teacher=None if teacher is None else load_teacher(teacher, network))
    if teacher is not None:
        trainer.teacher_file = {"path": str(teacher), "sha256": digest_file(teacher)}
    path = folder / "checkpoint.pth"
    if path.exists():
        state = load_checkpoint(path)
        if state["spec"] != network.to_dict() or state["recipe"] != trainer.state()["recipe"]:
            raise InputError(f"{folder} holds another training (network or recipe); choose "
                             "another --out")
        trainer.restore(state)
    elif row.pretraining is not None:
        found = read(folder / "pretraining" / "backbone.pth", headless=True)
        trainer.start_from(lambda model: adopt(model, tensors(found.state), head=found.head))
    return trainer


def _described(plan: Plan, row: Row) -> dict[str, Any]:
    """What a result depends on, in plain values."""
    pretraining = row.pretraining
    before = {} if pretraining is None else {"pretraining": {
        "recipe": vars(pretraining.recipe), "masking": vars(pretraining.masking)}}
    return {"model": plan.model, "data": plan.data, "train_images": plan.train_images,
            "network": dict(row.network), "recipe": vars(row.recipe),
            "teacher": vars(plan.teacher) if row.recipe.needs_teacher else None, **before}


def _compare(plan: Plan, out: Path) -> str:
    """Write the three files of what is finished; return the table."""
    results: dict[str, list[dict[str, Any]]] = {}
    for row in plan.rows:
        for seed in range(1, plan.seeds + 1):
            path = out / row.name / str(seed) / "result.json"
            if path.exists():
                results.setdefault(row.name, []).append(json.loads(path.read_text())["result"])
    write_atomic(out / "ablation.json", json.dumps(results, indent=1) + "\n")
    text = table(plan, results) + saturation(plan, results)
    write_atomic(out / "ablation.md", text)
    picture(plan, results, out / "ablation.png")
    saturation_picture(plan, results, out / "saturation.png")
    return text


if __name__ == "__main__":
    sys.exit(cli())
