"""What a training leaves to look at: log.jsonl, curve.png, TensorBoard's files."""

from collections.abc import Mapping
import json
from pathlib import Path
from typing import Any

from model.files import replacing, write_atomic


__all__ = ["plot", "TensorBoard", "write_log"]


def write_log(records: list[dict[str, Any]], path: Path) -> None:
    """Write one JSON object a line, atomically."""
    write_atomic(path, "".join(json.dumps(record) + "\n" for record in records))


def plot(log: list[dict[str, Any]], path: Path) -> None:
    """Draw loss, accuracy and the saturation of the attention of `log` into a PNG file."""
    from matplotlib.figure import Figure

    epochs = [r["epoch"] for r in log]
    figure = Figure(figsize=(14, 4), layout="constrained")  # without pyplot: no display, no state
    left, middle, right = figure.subplots(1, 3)
    left.plot(epochs, [r["train_loss"] for r in log], marker=".")
    left.set(xlabel="epoch", ylabel="training loss")
    for key, label in (
        ("train_acc", "training, augmented"),
        ("val_acc", "validation"),
        ("val_acc_ema", "validation, averaged weights"),
        ("val_map50", "mAP@0.5, validation"),
        ("val_map50_ema", "mAP@0.5, averaged weights"),
        ("val_miou", "mIoU, validation"),
        ("val_miou_ema", "mIoU, averaged weights"),
    ):
        if log and key in log[0]:
            middle.plot(epochs, [100 * r[key] for r in log], marker=".", label=label)
    middle.set(xlabel="epoch", ylabel="accuracy, %" if log and "val_acc" in log[0] else "%")
    middle.legend()
    tops = [r["attention_top"] for r in log]
    for block in tops[-1] if tops else ():
        shares = [100 * top.get(block, float("nan")) for top in tops]
        right.plot(epochs, shares, marker=".", label=block)
    right.set(xlabel="epoch", ylabel="attention at its highest level, %", ylim=(0, 100))
    if tops and tops[-1]:
        right.legend()
    with replacing(path) as file:
        figure.savefig(file, dpi=120, format="png")


class TensorBoard:
    """Writes the records of a log for TensorBoard; those of a resumed run replace old ones.

    Needs the package tensorboard.
    """

    def __init__(self, folder: Path, *, first_epoch: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=first_epoch + 1)

    def add(self, record: Mapping[str, Any]) -> None:
        """Every number of a record; those of a mapping in it as ``key/name``."""
        for key, value in record.items():
            if isinstance(value, Mapping):
                for name, part in value.items():
                    self._writer.add_scalar(f"{key}/{name}", part, record["epoch"])
            elif isinstance(value, int | float) and key != "epoch":
                self._writer.add_scalar(key, value, record["epoch"])
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
