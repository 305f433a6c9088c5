"""A training from start to end: its files, and what `--resume` reads."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import asdict
import io
from pathlib import Path
from typing import Any

import torch

from model.families.make import make_network
from model.files import write_atomic
from model.metrics.dense import FIGURES
from model.training.checkpoint import unpickle
from model.training.logbook import plot, TensorBoard, write_log
from model.training.parallel import rank
from model.training.trainer import entries_of_test, Trainer


__all__ = ["load_checkpoint", "load_pretraining", "save", "save_model", "train"]


SHOWN = ("acc", "map50", "miou")
"""Figures that are printed after an epoch."""


def save(value: Any, path: Path) -> None:
    """``torch.save``, never half a file."""
    buffer = io.BytesIO()  # on a full disk torch's own writer raises what does not say so
    torch.save(value, buffer)
    write_atomic(path, buffer.getbuffer())


def save_model(trainer: Trainer, path: Path) -> None:
    """Write the best network so far, loadable with ``torch.load(weights_only=True)``."""
    best = dict(trainer.best)
    state = {key: value.contiguous() for key, value in best.pop("model").items()}
    extra = {"recipe": asdict(trainer.recipe), **entries_of_test(trainer.test), **best}
    if trainer.task.info is not None:
        extra["data"] = trainer.task.info.to_dict()
    if trainer.task.source:
        extra["source"] = trainer.task.source
    save({"model": state, "spec": trainer.spec.to_dict(), **extra}, path)


def train(
    trainer: Trainer, out: Path, report: Callable[[str], object], *, tensorboard: bool = False
) -> dict[str, float]:
    """Train to the last epoch, then measure the best network on the test split, once.

    Writes the files that `model.train` names into `out`; `report` gets a line an epoch. Of several
    processes the first alone writes and reports. Returns the figures on the test part, 0..1 by
    name, such as "acc".
    """
    first = rank() == 0
    if not first:
        report = _say_nothing
    trainer.choose_precision(report)
    board = TensorBoard(out / "tensorboard", first_epoch=trainer.epoch) if (
        tensorboard and first) else None
    while trainer.epoch < trainer.recipe.epochs:
        record = trainer.run_epoch()
        if board is not None:
            board.add(record)
        if not first:
            continue
        save(trainer.state(), out / "checkpoint.pth")
        save_model(trainer, out / "model.pth")
        write_log(trainer.log, out / "log.jsonl")
        plot(trainer.log, out / "curve.png")
        tops = " ".join(f"{v:.2f}" for v in record["attention_top"].values()) or "-"
        report(
            f"epoch {record['epoch']}/{trainer.recipe.epochs}: loss {record['train_loss']:.4f}, "
            f"{_said(record)}, attention at top {tops}, "
            f"mean level {record['mean_level']:.2f}, {record['seconds']:.0f} s"
        )
    if trainer.test is None:  # the test split is used once, also when a finished run resumes
        network = make_network(trainer.spec).to(trainer.device)
        network.load_state_dict(trainer.best["model"])
        trainer.test = trainer.task.measure(network, "test")
        chosen = {k: v for k, v in trainer.best.items() if k != "model"}
        last: dict[str, Any] = {**entries_of_test(trainer.test), "chosen": chosen}
        if trainer.task.source:
            last["data"] = trainer.task.source
        if first:
            write_log([*trainer.log, last], out / "log.jsonl")
            save_model(trainer, out / "model.pth")
            save(trainer.state(), out / "checkpoint.pth")
    if board is not None:
        board.close()
    return trainer.test


def _said(record: Mapping[str, Any]) -> str:
    """The figures of an epoch in words, those of averaged weights in brackets."""
    text = [f"train {record['train_acc']:.4f}"] if "train_acc" in record else []
    for name in SHOWN:
        if (key := f"val_{name}") in record:
            title = "val" if name == "acc" else f"val {FIGURES[name]}"
            text.append(f"{title} {record[key]:.4f} (ema {record[f'{key}_ema']:.4f})")
    return ", ".join(text)


def _say_nothing(text: str) -> None:
    pass


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `Trainer.restore` takes, of a file that `train` wrote. Raises ValueError or OSError."""
    return _load(path, _RESUME, "model.train")


def load_pretraining(path: Path) -> dict[str, Any]:
    """What `Pretrainer.restore` takes, of a file that ``model.pretrain`` wrote; errors as above."""
    return _load(path, _RESUME_PRETRAINING, "model.pretrain")


def _load(path: Path, entries: dict[str, type], program: str) -> dict[str, Any]:
    if not path.exists():
        raise ValueError(f"--resume must find {path}: train without it first")
    try:
        state = unpickle(path)
        if not isinstance(state, dict) or not entries.items() <= {
            key: type(value) for key, value in state.items()
        }.items():
            raise ValueError(f"its entries must be {', '.join(entries)}")
    except ValueError as error:
        raise ValueError(
            f"{path}: must be a whole file that {program} wrote ({error}); train without --resume"
        ) from None
    return state


_RESUME = {"spec": dict, "recipe": dict, "model": OrderedDict, "average": OrderedDict,
           "optimiser": dict, "epoch": int, "best": dict, "log": list}
"""Entries of a checkpoint and their types."""

_RESUME_PRETRAINING = {"spec": dict, "recipe": dict, "masking": dict, "precision": str,
                       "autoencoder": OrderedDict, "optimiser": dict, "epoch": int, "log": list}
