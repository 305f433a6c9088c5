"""Pretraining of a network without labels: steps, epochs, the state to resume, and its files.

What is learned and how is in `model.training.masked`.
"""

from collections.abc import Callable, Iterator
import copy
from dataclasses import asdict, replace
import math
from pathlib import Path
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

from model.data.dataset import batches, Dataset, Split
from model.families.base import NetworkSpec
from model.files import replacing
from model.progress import tracked
from model.training.checkpoint import PRETRAINED
from model.training.logbook import write_log
from model.training.masked import (
    draw_hidden,
    MaskedAutoencoder,
    normalised,
    patches,
    pixels,
)
from model.training.measures import to_input
from model.training.optimise import learning_rate, optimiser
from model.training.precision import autocast, choose
from model.training.recipe import Masking, Recipe
from model.training.session import save
from model.training.task import augmentation
from model.training.trainer import build, Penalty


__all__ = ["Pretrainer", "pretrain"]

_VALIDATED = 1000
"""Validation pictures that are filled in after an epoch."""

_SHOWN = 8


class Pretrainer:
    """A masked autoencoder and its optimiser, and what happens in one epoch.

    Parameters
    ----------
    spec, recipe, masking, data
        What is pretrained, how, what is hidden, and on which pictures.
    device
        Where it is computed.

    Raises ValueError if the parts do not fit together, ToolMissing if the recipe needs timm.
    """

    def __init__(self, spec: NetworkSpec, recipe: Recipe, masking: Masking, data: Dataset, *,
                 device: torch.device | str = "cpu") -> None:
        images = data.train.images
        if images.ndim == 5:
            raise ValueError("pretraining fills in pictures, not frames of events")
        if images.shape[-1] != spec.image_size:
            raise ValueError(f"images must be {spec.image_size} pixels wide, "
                             f"not {images.shape[-1]}")
        if recipe.batch > len(data.train):
            raise ValueError(f"batch must be at most {len(data.train)}, not {recipe.batch}")
        used = [name for name in ("mixup", "cutmix", "erase", "fgd", "distil")
                if getattr(recipe, name)]
        if used:
            raise ValueError(f"{used[0]} has no place in pretraining: leave it out of the recipe")
        self.spec, self.recipe, self.masking, self.data = spec, recipe, masking, data
        self.device = torch.device(device)
        self.model = MaskedAutoencoder(build(spec, recipe), masking).to(self.device)
        self.optimiser = optimiser(self.model, recipe)
        self._augment = augmentation(recipe, spec)
        self.precision = recipe.precision
        self.epoch = 0
        self.log: list[dict[str, Any]] = []

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, in types that ``weights_only`` loading accepts."""
        return {
            "spec": self.spec.to_dict(), "recipe": asdict(self.recipe),
            "masking": asdict(self.masking), "precision": self.precision,
            "autoencoder": self.model.state_dict(), "optimiser": self.optimiser.state_dict(),
            "epoch": self.epoch, "log": self.log,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned. Raises ValueError if it is not of this training."""
        try:
            self.model.load_state_dict(state["autoencoder"])
            self.optimiser.load_state_dict(state["optimiser"])
            replace(self.recipe, precision=state["precision"])
            if [record["epoch"] for record in state["log"]] != list(range(1, state["epoch"] + 1)):
                raise ValueError("its log must have one record an epoch")
            if state["epoch"] > self.recipe.epochs:
                raise ValueError(f"it has {state['epoch']} epochs")
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            cause = str(error).strip().splitlines()[0][:200]
            raise ValueError(f"checkpoint does not fit its own recipe and network ({cause}); "
                             "pretrain without --resume") from None
        self.epoch, self.log, self.precision = state["epoch"], state["log"], state["precision"]

    def backbone(self) -> dict[str, Any]:
        """The network so far, whose head is not trained: what ``qsdt train --init`` starts from."""
        weights = self.model.backbone.state_dict()
        return {
            "model": {key: value.contiguous() for key, value in weights.items()},
            "spec": self.spec.to_dict(),
            PRETRAINED: {"epoch": self.epoch, "recipe": asdict(self.recipe),
                         "masking": asdict(self.masking)},
        }

    def choose_precision(self, report: Callable[[str], object]) -> None:
        """Take the quicker number format, if the recipe leaves the choice, and say so."""
        if self.precision != "auto":
            return
        before = copy.deepcopy(self.model.state_dict())
        image_q, _ = next(self._batches(np.random.default_rng(0)))
        hidden = draw_hidden(np.random.default_rng(0), len(image_q), self.model.cells)

        def step(precision: str) -> None:
            self._loss(image_q, hidden, precision)[0].backward()
            self.optimiser.zero_grad()

        self.model.train()
        self.precision, seconds = choose(step, self.device)
        self.model.load_state_dict(before)  # running statistics
        report(f"trains in {self.precision}: a step of {len(image_q)} images takes "
               + ", ".join(f"{1e3 * s:.0f} ms in {name}" for name, s in seconds.items()))

    def run_epoch(self) -> dict[str, Any]:
        """Train one epoch, append the record to `log` and return it."""
        self.choose_precision(lambda text: None)
        started, used = time.monotonic(), time.process_time()
        loss = self._train_epoch()
        self.epoch += 1
        record = {
            "epoch": self.epoch, "train_loss": round(loss, 5),
            "val_loss": round(self.validate(), 5),
            "lr": learning_rate(self.recipe, self.epoch),
            "seconds": round(time.monotonic() - started, 1),
            "cpu_seconds": round(time.process_time() - used, 2),
        }
        self.log.append(record)
        return record

    @torch.inference_mode()
    def validate(self) -> float:
        """The loss on the first validation pictures, always with the same cells hidden."""
        self.model.eval()
        total = count = 0.0
        for x, hidden in self._validation(_VALIDATED):
            total += self.model.loss(x, self.model(x, hidden), hidden).item() * len(x)
            count += len(x)
        return total / count

    @torch.inference_mode()
    def guess(self) -> float:
        """The same loss of a decoder that tells the mean of each patch; flat ones cost nothing."""
        total = count = 0.0
        for x, hidden in self._validation(_VALIDATED):
            mean = torch.zeros_like(patches(x, self.spec.reduction))
            total += self.model.loss(x, mean, hidden).item() * len(x)
            count += len(x)
        return total / count

    @torch.inference_mode()
    def filled_in(self, count: int = _SHOWN) -> tuple[Tensor, Tensor, Tensor]:
        """The first validation pictures, what is visible of them, and with hidden tokens filled in.

        Each (N, C, H, W) in the network's units; hidden pixels of the second are the mean, 0. A
        filled-in patch has the mean and deviation of the true one, which are not predicted.
        """
        self.model.eval()
        x, hidden = next(self._validation(count))
        side, channels = self.spec.reduction, self.spec.in_channels
        true = patches(x, side)
        _, mean, deviation = normalised(true)
        where = self.model.hidden_tokens(hidden)[..., None]
        made = torch.where(where, self.model(x, hidden) * deviation + mean, true)
        return x, pixels(true * ~where, side, channels), pixels(made, side, channels)

    def _validation(self, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Pictures and hidden cells, in batches of 100."""
        rng = np.random.default_rng((self.recipe.seed, 0, 2))
        part = Split(images=self.data.val.images[:count], labels=self.data.val.labels[:count])
        for image_q, _ in batches(part, self.spec, batch=100):
            hidden = draw_hidden(rng, len(image_q), self.model.cells)
            yield (to_input(image_q, self.spec, self.device),
                   torch.from_numpy(hidden).to(self.device))

    def _batches(self, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return batches(self.data.train, self.spec, batch=self.recipe.batch, rng=rng,
                       augment=self._augment)

    def _train_epoch(self) -> float:
        recipe = self.recipe
        self.model.train()
        steps = len(self.data.train) // recipe.batch
        # Order, augmentation and masks of an epoch depend on nothing but the seed and its number.
        rng, masks = (np.random.default_rng((recipe.seed, self.epoch, stream))
                      for stream in (0, 1))
        total = 0.0
        bar = tracked(self._batches(rng), f"epoch {self.epoch + 1}", steps, "steps")
        for step, (image_q, _) in enumerate(bar):
            for group in self.optimiser.param_groups:
                progress = self.epoch + (step + 1) / steps
                group["lr"] = group["scale"] * learning_rate(recipe, progress)
            hidden = draw_hidden(masks, len(image_q), self.model.cells)
            loss, said = self._loss(image_q, hidden, self.precision)
            if not math.isfinite(loss.item()):
                raise ValueError(
                    f"the loss must stay finite, but is {loss.item()} in epoch {self.epoch + 1}, "
                    f"step {step + 1}; --resume goes on after epoch {self.epoch}; lower --lr")
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            total += said / steps
        return total

    def _loss(self, image_q: np.ndarray, hidden: NDArray[np.bool_], precision: str
              ) -> tuple[Tensor, float]:
        """The whole loss of a batch, and that of the hidden patches for the log."""
        x, where = to_input(image_q, self.spec, self.device), torch.from_numpy(hidden)
        where = where.to(self.device)
        with Penalty(self.model.backbone) as penalty:
            with autocast(self.device, precision):
                predicted = self.model(x, where)
        loss = self.model.loss(x, predicted.to(x.dtype), where)
        said = loss.item()
        if self.recipe.attention_penalty:
            loss = loss + self.recipe.attention_penalty * penalty.take()
        return loss, said


def pretrain(pretrainer: Pretrainer, out: Path, report: Callable[[str], object]) -> None:
    """Pretrain to the last epoch; writes the files that `model.pretrain` names into `out`, each
    atomically, and gives `report` a line an epoch."""
    pretrainer.choose_precision(report)
    report(f"to tell the mean of each patch would be a loss of {pretrainer.guess():.4f}")
    while pretrainer.epoch < pretrainer.recipe.epochs:
        record = pretrainer.run_epoch()
        save(pretrainer.state(), out / "checkpoint.pth")
        save(pretrainer.backbone(), out / "backbone.pth")
        write_log(pretrainer.log, out / "log.jsonl")
        draw_losses(pretrainer.log, out / "curve.png")
        draw_pictures(pretrainer.filled_in(), out / "pictures.png")
        report(f"epoch {record['epoch']}/{pretrainer.recipe.epochs}: loss "
               f"{record['train_loss']:.4f}, validation {record['val_loss']:.4f}, "
               f"{record['seconds']:.0f} s")


def draw_losses(log: list[dict[str, Any]], path: Path) -> None:
    """Draw both losses over the epochs into a PNG file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    panel = figure.subplots()
    for key, label in (("train_loss", "training, augmented"), ("val_loss", "validation")):
        panel.plot([r["epoch"] for r in log], [r[key] for r in log], marker=".", label=label)
    panel.set(xlabel="epoch", ylabel="squared error of hidden, normalised patches")
    panel.legend()
    with replacing(path) as file:
        figure.savefig(file, dpi=120, format="png")


def draw_pictures(rows: tuple[Tensor, Tensor, Tensor], path: Path) -> None:
    """Draw what `Pretrainer.filled_in` returns, a picture a column, into a PNG file."""
    from matplotlib.figure import Figure

    low, high = rows[0].min(), rows[0].max()
    count = len(rows[0])
    figure = Figure(figsize=(1.2 * count + 0.8, 3.8), layout="constrained")
    panels = figure.subplots(3, count, squeeze=False)
    for line, name, pictures in zip(panels, ("picture", "visible", "filled in"), rows,
                                    strict=True):
        shown = ((pictures - low) / (high - low)).clamp(0, 1).permute(0, 2, 3, 1).cpu()
        for panel, picture in zip(line, shown.numpy(), strict=True):
            panel.imshow(picture if picture.shape[2] == 3 else picture[..., 0], cmap="gray",
                         vmin=0, vmax=1)
            panel.set(xticks=[], yticks=[])
        line[0].set_ylabel(name)
    with replacing(path) as file:
        figure.savefig(file, dpi=120, format="png")
