"""Training of the float network: epochs, moving average, checkpoints, learning curve."""

from collections import OrderedDict
from collections.abc import Callable
import copy
from dataclasses import asdict
import io
import json
import math
from pathlib import Path
import time
from typing import Any

import numpy as np
import torch
from torch import nn, Tensor
from torch.nn import functional as F

from model.data.dataset import batches, Dataset, IMAGE_SCALE, Split
from model.families.network import Attention, capture_levels, QsdTransformer
from model.families.spec import QsdtSpec
from model.files import replacing, write_atomic
from model.progress import tracked
from model.training.checkpoint import unpickle
from model.training.recipe import Recipe


def build(spec: QsdtSpec, recipe: Recipe) -> QsdTransformer:
    """Make the network of `spec` with the start values of `recipe`, in channels-last layout."""
    torch.manual_seed(recipe.seed)
    model = QsdTransformer(spec)
    for module in model.modules():
        if isinstance(module, Attention):
            for branch in (module.q_conv, module.k_conv, module.v_conv):
                norm = branch[1]
                if isinstance(norm, nn.BatchNorm2d):
                    nn.init.constant_(norm.bias, recipe.attention_beta)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def to_input(image_q: np.ndarray) -> Tensor:
    """image_q (B, C, H, W) int8 -> the network's float32 input image_q/48, channels last."""
    x = torch.from_numpy(image_q).float() / IMAGE_SCALE
    return x.contiguous(memory_format=torch.channels_last)


def learning_rate(recipe: Recipe, progress: float) -> float:
    """Learning rate after `progress` epochs."""
    done = progress / recipe.epochs
    if done < recipe.warmup:
        return recipe.lr * done / recipe.warmup
    rest = (done - recipe.warmup) / (1 - recipe.warmup)
    return recipe.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(rest, 1.0))))


def optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW with three groups; ``scale`` of a group multiplies the learning rate."""
    named = list(model.named_parameters())
    steps = [p for name, p in named if name.endswith(".alpha")]
    matrices = [p for _, p in named if p.ndim >= 2]
    vectors = [p for name, p in named if p.ndim < 2 and not name.endswith(".alpha")]
    return torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": recipe.weight_decay, "scale": 1.0},
            {"params": vectors, "weight_decay": 0.0, "scale": 1.0},
            {"params": steps, "weight_decay": 0.0, "scale": recipe.alpha_lr},
        ],
        lr=recipe.lr,
        fused=True,
    )


class Trainer:
    """A network, its moving average and optimiser, and what happens in one epoch."""

    def __init__(self, spec: QsdtSpec, recipe: Recipe, data: Dataset) -> None:
        side = data.train.images.shape[-1]
        if side != spec.image_size:
            raise ValueError(f"images must be {spec.image_size} pixels wide, not {side}")
        most = max(int(part.labels.max()) for part in (data.train, data.val, data.test))
        if most >= spec.classes:
            raise ValueError(f"data set must have at most {spec.classes} classes for {spec.name}, "
                             f"not {most + 1}")
        if recipe.batch > len(data.train):
            raise ValueError(f"batch must be at most {len(data.train)}, not {recipe.batch}")
        self.spec, self.recipe, self.data = spec, recipe, data
        self.model = build(spec, recipe)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self._averaged, self._followed = _floats(self.average), _floats(self.model)
        self.optimiser = optimiser(self.model, recipe)
        self.epoch = 0
        self.best: dict[str, Any] = {"val_acc": -1.0}
        self.log: list[dict[str, Any]] = []
        self.test_acc: float | None = None

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, in types that ``weights_only`` loading accepts."""
        return {
            "spec": self.spec.to_dict(),
            "recipe": asdict(self.recipe),
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "epoch": self.epoch,
            "best": self.best,
            "log": self.log,
            "test_acc": self.test_acc,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned. Raises ValueError if it is not of this training."""
        self.epoch, self.best, self.log = state["epoch"], state["best"], state["log"]
        self.test_acc = state.get("test_acc")
        if not 0 <= self.epoch <= self.recipe.epochs:
            raise ValueError(f"epoch of the checkpoint must be 0 to {self.recipe.epochs}, "
                             f"not {self.epoch}")
        try:
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
            if self.epoch:
                copy.deepcopy(self.model).load_state_dict(self.best["model"])
                _ = self.best["epoch"] + self.best["val_acc"], self.best["weights"]
            if [record["epoch"] for record in self.log] != list(range(1, self.epoch + 1)):
                raise ValueError("its log must have one record an epoch")
            if self.test_acc is not None and not 0 <= self.test_acc <= 1:
                raise ValueError(f"its test accuracy must be 0 to 1, not {self.test_acc}")
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            cause = str(error).strip().splitlines()[0][:200]
            raise ValueError(f"checkpoint does not fit its own recipe and network ({cause}); "
                             "train without --resume") from None

    def run_epoch(self) -> dict[str, Any]:
        """Train one epoch, evaluate, append the record to `log` and return it."""
        started = time.monotonic()
        loss, accuracy = self._train_epoch()
        self.epoch += 1
        record = {
            "epoch": self.epoch,
            "train_loss": round(loss, 5),
            "train_acc": round(accuracy, 5),
            "lr": learning_rate(self.recipe, self.epoch),
        }
        for key, network in (("val_acc", self.model), ("val_acc_ema", self.average)):
            record[key] = evaluate(network, self.data.val)
            if record[key] > self.best["val_acc"]:
                self.best = {
                    "val_acc": record[key],
                    "epoch": self.epoch,
                    "weights": "last" if network is self.model else "average",
                    "model": {k: v.clone() for k, v in network.state_dict().items()},
                }
        record.update(activity(self.model, self.data.val))
        record["seconds"] = round(time.monotonic() - started, 1)
        self.log.append(record)
        return record

    def _train_epoch(self) -> tuple[float, float]:
        recipe, model = self.recipe, self.model.train()
        steps = len(self.data.train) // recipe.batch
        # The order and augmentation of an epoch depend on nothing but the seed and its number.
        rng = np.random.default_rng((recipe.seed, self.epoch))
        pairs = batches(self.data.train, self.spec, batch=recipe.batch, rng=rng)
        bar = tracked(pairs, f"epoch {self.epoch + 1}", steps, "steps")
        total = hits = 0.0
        with _Penalty(model) as penalty:
            for step, (image_q, labels) in enumerate(bar):
                for group in self.optimiser.param_groups:
                    progress = self.epoch + (step + 1) / steps
                    group["lr"] = group["scale"] * learning_rate(recipe, progress)
                target = torch.from_numpy(labels)
                with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
                    logits = model(to_input(image_q)).float()
                loss = F.cross_entropy(logits, target, label_smoothing=recipe.label_smoothing)
                self.optimiser.zero_grad()
                (loss + recipe.attention_penalty * penalty.take()).backward()
                self.optimiser.step()
                self._update_average(self.epoch * steps + step)
                total += loss.item()
                hits += (logits.argmax(1) == target).sum().item()
        if not math.isfinite(total):
            raise ValueError(f"the loss must stay finite, not be {total}: lower --lr")
        return total / steps, hits / (steps * recipe.batch)

    @torch.no_grad()
    def _update_average(self, step: int) -> None:
        decay = min(self.recipe.ema_decay, (1 + step) / (10 + step))  # forgets the start soon
        torch._foreach_lerp_(self._averaged, self._followed, 1 - decay)


def _floats(model: nn.Module) -> list[Tensor]:
    """Parameters and buffers that can be averaged: all but the integer batch counters."""
    return [value for value in model.state_dict().values() if value.is_floating_point()]


class _Penalty:
    """Collects mean(max(x - 1, 0)) of all attention membranes x during forward passes."""

    def __init__(self, model: nn.Module) -> None:
        lifs = [m.attn_lif for m in model.modules() if isinstance(m, Attention)]
        self._terms: list[Tensor] = []
        self._handles = [lif.register_forward_pre_hook(self._collect) for lif in lifs]

    def _collect(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        self._terms.append(F.relu(args[0].float() - 1).mean())

    def take(self) -> Tensor:
        """Sum of the terms since the last call."""
        total = torch.stack(self._terms).sum()
        self._terms.clear()
        return total

    def __enter__(self) -> "_Penalty":
        return self

    def __exit__(self, *exc: object) -> None:
        for handle in self._handles:
            handle.remove()


@torch.inference_mode()
def evaluate(model: QsdTransformer, split: Split, *, batch: int = 100) -> float:
    """Accuracy 0..1 of `model` in float32 evaluation mode."""
    model.eval()
    hits = 0
    for image_q, labels in batches(split, model.spec, batch=batch):
        hits += (model(to_input(image_q)).argmax(1).numpy() == labels).sum().item()
    return hits / len(split)


@torch.inference_mode()
def activity(model: QsdTransformer, split: Split, *, count: int = 500) -> dict[str, Any]:
    """Mean level of all neurons, and of each attention block the share of levels at the top.

    Measured on the first `count` images.
    """
    model.eval()
    part = Split(images=split.images[:count], labels=split.labels[:count])
    image_q, _ = next(batches(part, model.spec, batch=count))
    with capture_levels(model) as levels:
        model(to_input(image_q))
    top = model.spec.levels
    return {
        "mean_level": round(
            sum(int(x.sum()) for x in levels.values()) / sum(x.numel() for x in levels.values()), 4
        ),
        "attention_top": {
            name.removesuffix(".attn.attn_lif"): round((x == top).float().mean().item(), 4)
            for name, x in levels.items()
            if name.endswith(".attn_lif")
        },
    }


def save(value: Any, path: Path) -> None:
    """``torch.save``, never half a file."""
    buffer = io.BytesIO()  # on a full disk torch's own writer raises what does not say so
    torch.save(value, buffer)
    write_atomic(path, buffer.getbuffer())


def save_model(trainer: Trainer, path: Path) -> None:
    """Write the best network so far, loadable with ``torch.load(weights_only=True)``."""
    best = dict(trainer.best)
    state = {key: value.contiguous() for key, value in best.pop("model").items()}
    extra = {"recipe": asdict(trainer.recipe), "test_acc": trainer.test_acc, **best}
    if trainer.data.info is not None:
        extra["data"] = trainer.data.info.to_dict()
    save({"model": state, "spec": trainer.spec.to_dict(), **extra}, path)


def plot(log: list[dict[str, Any]], path: Path) -> None:
    """Draw the learning curve of `log` into a PNG file."""
    from matplotlib.figure import Figure

    epochs = [r["epoch"] for r in log]
    figure = Figure(figsize=(10, 4), layout="constrained")  # without pyplot: no display, no state
    left, right = figure.subplots(1, 2)
    left.plot(epochs, [r["train_loss"] for r in log])
    left.set(xlabel="epoch", ylabel="training loss")
    for key, label in (
        ("train_acc", "training, augmented"),
        ("val_acc", "validation"),
        ("val_acc_ema", "validation, averaged weights"),
    ):
        right.plot(epochs, [100 * r[key] for r in log], label=label)
    right.set(xlabel="epoch", ylabel="accuracy, %")
    right.legend()
    with replacing(path) as file:
        figure.savefig(file, dpi=120, format="png")


def train(trainer: Trainer, out: Path, report: Callable[[str], None]) -> float:
    """Train to the last epoch, then measure the best network on the test split, once.

    Writes the files named at the top of this module into `out`; `report` gets a line an epoch.
    Returns the test accuracy, 0..1.
    """
    while trainer.epoch < trainer.recipe.epochs:
        record = trainer.run_epoch()
        save(trainer.state(), out / "checkpoint.pth")
        save_model(trainer, out / "model.pth")
        write_log(trainer.log, out / "log.jsonl")
        plot(trainer.log, out / "curve.png")
        tops = " ".join(f"{v:.2f}" for v in record["attention_top"].values())
        report(
            f"epoch {record['epoch']}/{trainer.recipe.epochs}: loss {record['train_loss']:.4f}, "
            f"train {record['train_acc']:.4f}, val {record['val_acc']:.4f} "
            f"(ema {record['val_acc_ema']:.4f}), attention at top {tops}, "
            f"mean level {record['mean_level']:.2f}, {record['seconds']:.0f} s"
        )
    if trainer.test_acc is None:  # the test split is used once, also when a finished run resumes
        network = QsdTransformer(trainer.spec)
        network.load_state_dict(trainer.best["model"])
        trainer.test_acc = evaluate(network, trainer.data.test)
        chosen = {k: trainer.best[k] for k in ("epoch", "weights", "val_acc")}
        write_log(
            [*trainer.log, {"test_acc": trainer.test_acc, "chosen": chosen}], out / "log.jsonl"
        )
        save_model(trainer, out / "model.pth")
        save(trainer.state(), out / "checkpoint.pth")
    return trainer.test_acc


def write_log(records: list[dict[str, Any]], path: Path) -> None:
    """Write one JSON object a line, atomically."""
    write_atomic(path, "".join(json.dumps(record) + "\n" for record in records))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `Trainer.restore` takes, of a file that `train` wrote. Raises ValueError or OSError."""
    if not path.exists():
        raise ValueError(f"--resume must find {path}: train without it first")
    try:
        state = unpickle(path)
        if not isinstance(state, dict) or not _RESUME.items() <= {
            key: type(value) for key, value in state.items()
        }.items():
            raise ValueError(f"its entries must be {', '.join(_RESUME)}")
    except ValueError as error:
        raise ValueError(
            f"{path}: must be a whole file that model.train wrote ({error}); train without --resume"
        ) from None
    return state


_RESUME = {"spec": dict, "recipe": dict, "model": OrderedDict, "average": OrderedDict,
           "optimiser": dict, "epoch": int, "best": dict, "log": list}
"""Entries of a checkpoint and their types."""
