"""What a network is trained for: classes of images, or boxes and classes of pixels.

A `Trainer` asks its task for batches, for the loss of the network's outputs, and for the figures by
which the best network is chosen.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor
from torch.nn import functional as F

from model.command import require
from model.data.augment import Augmentation, picture_mean
from model.data.dataset import batches, DataInfo, Dataset
from model.data.objects import Chosen, ObjectData
from model.data.pipeline import Batch, object_batches, steps_for
from model.families.base import NetworkSpec
from model.families.network import SpikingTransformer
from model.metrics.dense import DenseMeasure
from model.training.dense_loss import box_loss, LocationTargets, pixel_loss, targets_of
from model.training.measures import evaluate, to_input
from model.training.parallel import rank, world
from model.training.recipe import Recipe
from model.training.timm_parts import rand_augment


__all__ = ["augmentation", "ClassTask", "DenseTask", "outputs_in", "Task", "task_for"]


VALIDATED = 2000
"""Pictures of the validation part that a network with heads is measured on after an epoch: the
first ones. The test part is measured whole."""


def augmentation(recipe: Recipe, spec: NetworkSpec) -> Augmentation:
    """What the recipe does to training pictures. Raises ToolMissing without a timm it needs."""
    transform = None
    if recipe.rand_augment:
        transform = rand_augment(recipe.rand_augment, picture_mean(spec.norm_mean))
    return Augmentation(crop=recipe.crop, flip=recipe.flip, transform=transform)


class Task(Protocol):
    """Figures are 0..1, by name; `score` is the one that chooses. `info` is what a network keeps of
    the data, `source` what the pictures are, "" for data that needs no word."""

    score: str
    info: DataInfo | None
    source: str

    def __len__(self) -> int:
        """Pictures to train on."""
        ...

    def batches(self, rng: np.random.Generator) -> Iterator[tuple[NDArray[np.int8], Any]]:
        """Shuffled batches of an epoch, of each this process's part: image_q, and what is true."""
        ...

    def loss(self, outputs: Any, wanted: Any) -> tuple[Tensor, dict[str, float]]:
        """The loss of outputs in float32 or float64, and its parts for the log."""
        ...

    def measure(self, model: SpikingTransformer, part: str) -> dict[str, float]:
        """Figures of `model`, in evaluation mode, on "val" or "test"."""
        ...

    def some(self, count: int) -> NDArray[np.int8]:
        """image_q of the first `count` validation pictures."""
        ...


class ClassTask:
    """Classes of images; of `data` labels must be below the network's number of classes.

    What is true of a batch is its labels, or, of mixed images, (labels, shares of classes).
    Raises ValueError if data, spec and recipe do not fit together.
    """

    score = "acc"

    def __init__(self, spec: NetworkSpec, recipe: Recipe, data: Dataset) -> None:
        side = data.train.images.shape[-1]
        if side != spec.image_size:
            raise ValueError(f"images must be {spec.image_size} pixels wide, not {side}")
        most = max(int(part.labels.max()) for part in (data.train, data.val, data.test))
        if most >= spec.classes:
            raise ValueError(f"data set must have at most {spec.classes} classes for {spec.name}, "
                             f"not {most + 1}")
        if data.train.images.ndim == 5 and (recipe.rand_augment or recipe.crop == "resized"):
            raise ValueError("rand_augment and resized crops are for pictures, not for frames of "
                             "events: take another recipe")
        self.spec, self.recipe, self.data = spec, recipe, data
        self.info, self.source = data.info, data.train.source
        self._augment = augmentation(recipe, spec)

    def __len__(self) -> int:
        return len(self.data.train)

    def batches(self, rng: np.random.Generator) -> Iterator[tuple[NDArray[np.int8], Any]]:
        own = slice(rank(), None, world())
        return batches(self.data.train, self.spec, batch=self.recipe.batch, rng=rng,
                       augment=self._augment, part=own)

    def loss(self, outputs: Any, wanted: Any) -> tuple[Tensor, dict[str, float]]:
        labels, shares = wanted
        smoothing = 0.0 if shares.ndim > 1 else self.recipe.label_smoothing
        loss = F.cross_entropy(outputs, shares, label_smoothing=smoothing)
        right = (outputs.argmax(1) == labels).float().mean().item()
        return loss, {"train_loss": loss.item(), "train_acc": right}

    def measure(self, model: SpikingTransformer, part: str) -> dict[str, float]:
        return {"acc": evaluate(model, getattr(self.data, part))}

    def some(self, count: int) -> NDArray[np.int8]:
        return next(batches(self.data.val, self.spec, batch=count))[0]


class DenseTask:
    """Boxes, classes of pixels, or both, as the network has heads.

    What is true of a batch is (`LocationTargets` or None, masks or None). Pictures are fitted into
    the network's square and, as the recipe says, mirrored.

    Raises ValueError if data, spec and recipe do not fit together.
    """

    def __init__(self, spec: NetworkSpec, recipe: Recipe, data: ObjectData,
                 background: str = "black") -> None:
        heads = spec.dense_heads
        if heads is None:
            raise ValueError(f"{spec.name} has no heads for boxes or pixels; name a spec with "
                             "dense_heads, such as scenes_det")
        for head, names, what in ((heads.detector, data.train.classes, "boxes"),
                                  (heads.segmenter, data.train.mask_classes, "pixels")):
            if head is not None and len(names) != head.classes:
                have = f"{len(names)} classes of {what}" if names else f"no classes of {what}"
                raise ValueError(f"the data has {have}, {spec.name} {head.classes}; write a spec "
                                 "like model/specs/scenes_both.yaml and name it with --model")
        for name, usual in (("crop", "none"), ("rand_augment", ""), ("mixup", 0.0),
                            ("cutmix", 0.0), ("erase", 0.0), ("label_smoothing", 0.0)):
            if getattr(recipe, name) != usual:
                raise ValueError(f"{name} must be {usual or repr(usual)} for boxes and pixels: "
                                 "take a recipe such as scenes_dense")
        if recipe.needs_teacher:
            raise ValueError("fgd and distil are for classes of images, not for boxes and pixels")
        if heads.detector is not None:
            require("pycocotools", what="measures mAP")
        self.spec, self.recipe, self.data = spec, recipe, data
        self.strides = heads.strides(spec)
        self.pixels = heads.segmenter is not None
        self.score = ("mean" if self.strides and self.pixels else
                      "map50" if self.strides else "miou")
        self.source = ""
        names = data.train.classes if heads.detector is not None else data.train.mask_classes
        self.info: DataInfo | None = DataInfo(classes=names, background=background)

    def __len__(self) -> int:
        return len(self.data.train)

    def batches(self, rng: np.random.Generator) -> Iterator[tuple[NDArray[np.int8], Any]]:
        steps = steps_for(self.spec.image_size, train=self.recipe.flip)
        own = slice(rank(), None, world())
        for made in object_batches(self.data.train, self.spec, steps, batch=self.recipe.batch,
                                   rng=rng, part=own):
            yield made.image_q, self.truth(made)

    def truth(self, batch: Batch) -> tuple[LocationTargets | None, NDArray[np.uint8] | None]:
        """What is true of a batch."""
        side = batch.image_q.shape[-1]
        sizes = [(side // s, side // s) for s in self.strides]
        return (targets_of(batch.objects, sizes, self.strides) if self.strides else None,
                batch.masks if self.pixels else None)

    def loss(self, outputs: Any, wanted: Any) -> tuple[Tensor, dict[str, float]]:
        places, masks = wanted
        parts: dict[str, Tensor] = {}
        if places is not None:
            parts |= box_loss(outputs, self.strides, places)
        if masks is not None:
            parts["pixels"] = pixel_loss(outputs["seg"], masks)
        loss = torch.stack([*parts.values()]).sum()
        return loss, {"train_loss": loss.item(),
                      **{f"train_{name}": value.item() for name, value in parts.items()}}

    @torch.inference_mode()
    def measure(self, model: SpikingTransformer, part: str) -> dict[str, float]:
        """Every process measures all: the figures are of no sum over pictures."""
        model.eval()
        samples = getattr(self.data, part)
        if part != "test":
            samples = Chosen(samples, range(min(VALIDATED, len(samples))))
        measure = DenseMeasure(samples, self.strides, pixels=self.pixels)
        device = next(model.parameters()).device
        for batch in object_batches(samples, self.spec, steps_for(
                self.spec.image_size, train=False), batch=50):
            outputs = model(to_input(batch.image_q, self.spec, device))
            measure.add(batch, {name: x.float().cpu().numpy() for name, x in outputs.items()})
        made = measure.figures()
        if self.score == "mean":
            made["mean"] = (made["map50"] + made["miou"]) / 2
        return {name: value if np.isfinite(value) else 0.0 for name, value in made.items()}

    def some(self, count: int) -> NDArray[np.int8]:
        samples = Chosen(self.data.val, range(min(count, len(self.data.val))))
        return next(object_batches(samples, self.spec, steps_for(
            self.spec.image_size, train=False), batch=count)).image_q


def task_for(spec: NetworkSpec, recipe: Recipe, data: Dataset | ObjectData) -> Task:
    """The task of a network and data for it. Raises ValueError if they do not fit together."""
    if isinstance(data, ObjectData):
        return DenseTask(spec, recipe, data)
    if spec.dense_heads is not None:
        raise ValueError(f"{spec.name} is for boxes or pixels: name data with --data "
                         "fashion_scenes or coco:DIR, see docs/objects.md")
    return ClassTask(spec, recipe, data)


def outputs_in(outputs: Any, kind: torch.dtype) -> Any:
    """Logits, or a dictionary of maps, in another type."""
    if isinstance(outputs, Mapping):
        return {name: value.to(kind) for name, value in outputs.items()}
    return outputs.to(kind)
