"""Data sets in memory, and the int8 images that network and hardware receive. NumPy only."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.data.augment import Augmentation
from model.families.base import NetworkSpec


__all__ = ["batches", "class_title", "CLASS_NAME_MAX", "DataInfo", "Dataset", "PARTS", "Split",
           "to_image_q"]


PARTS = ("train", "val", "test")
"""Names of the three splits of a `Dataset`."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Images, uint8: (N, H, W), (N, 3, H, W) in colour, or (N, T, C, H, W), counts of events in T
    frames; their labels (N,) int64, the names of the N files that they were read from, if they
    were, and what they are, if that is said wherever they are used.

    Images may also be what stands for such an array, a `model.data.on_demand.OnDemand`.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    files: tuple[str, ...] = ()
    source: str = ""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A training, a validation (for every choice) and a test split (to be used once)."""

    train: Split
    val: Split
    test: Split
    info: "DataInfo | None" = None


CLASS_NAME_MAX = 100
"""Characters of a class name: a line of a terminal, and more than any folder is called."""


@dataclass(frozen=True, kw_only=True)
class DataInfo:
    """What a network must keep of the pictures that it was trained on.

    classes, their names in the order of the labels; fit and background, how pictures became
    squares (see `model.data.pictures.Fitting`). JSON-able by `to_dict`.

    Raises ValueError if a name is empty, too long, there twice or not printable.
    """

    classes: tuple[str, ...]
    fit: str = "auto"
    background: str = "black"

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))  # JSON gives lists
        for name in (*self.classes, self.fit, self.background):
            if not (isinstance(name, str) and name.isprintable()
                    and 0 < len(name) <= CLASS_NAME_MAX):
                raise ValueError(
                    f"class names must be 1 to {CLASS_NAME_MAX} printable characters, "
                    f"not {str(name)[:CLASS_NAME_MAX]!r}"
                )
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("class names must differ from each other")

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and texts; `from_dict` gives an equal object back."""
        return {**vars(self), "classes": list(self.classes)}

    @classmethod
    def from_dict(cls, values: object) -> "DataInfo":
        """Build from `to_dict`'s result. Raises ValueError if it is none."""
        if not isinstance(values, Mapping) or not isinstance(values.get("classes"), list | tuple):
            raise ValueError("what a network keeps of its data must be a mapping with classes")
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"what a network keeps of its data: {error}") from None


def class_title(label: int, info: DataInfo | None) -> str:
    """``3 (dress)``, or ``3`` where no names are known."""
    return f"{label}" + (f" ({info.classes[label]})" if info is not None else "")


def to_image_q(images: NDArray[np.uint8], spec: NetworkSpec) -> NDArray[np.int8]:
    """Normalise pixels and round them to the network's int8 input.

    image_q = floor(S*x + 0.5) clipped to -128..127, where x = (pixel/255 - mean)/std with the
    spec's constants and S is its image_scale, 48; the network's input is image_q/S. `images` is
    (N, C, H, W), (N, H, W) for a grey network, or (N, T, C, H, W) for T time steps; the result has
    channels in any case. Raises ValueError on another shape.
    """
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim == 5 and images.shape[1] != spec.time_steps:
        raise ValueError(f"images must have {spec.time_steps} time steps for {spec.name}, "
                         f"not {images.shape[1]}")
    if images.ndim not in (4, 5) or images.shape[-3] != spec.in_channels:
        raise ValueError(
            f"images must be (N, {spec.in_channels}, H, W) for {spec.name}, not {images.shape}"
        )
    pixels = np.arange(256) / 255
    mean, std = (np.array(v)[:, None] for v in (spec.norm_mean, spec.norm_std))
    steps = np.floor(spec.image_scale * ((pixels - mean) / std) + 0.5)
    table = np.clip(steps, -128, 127).astype(np.int8)  # (C, 256)
    return np.stack([table[c][images[..., c, :, :]] for c in range(spec.in_channels)], axis=-3)


def batches(
    split: Split,
    spec: NetworkSpec,
    *,
    batch: int,
    rng: np.random.Generator | None = None,
    augment: Augmentation | None = None,
    part: slice = slice(None),
) -> Iterator[tuple[NDArray[np.int8], NDArray[np.int64]]]:
    """Yield image_q (batch, C, H, W), or (batch, T, C, H, W), and labels (batch,).

    With `rng`: shuffled, augmented (default: shifted and mirrored), the incomplete last batch
    dropped, of every batch only what `part` picks. Without: in order, all.
    """
    augment = augment or Augmentation()
    count = len(split)
    order = np.arange(count) if rng is None else rng.permutation(count)
    stop = count if rng is None else count - count % batch
    for start in range(0, stop, batch):
        picked = order[start : start + batch]
        images = split.images[picked]
        if rng is not None:
            images, picked = augment(images, rng, part), picked[part]
        yield to_image_q(images, spec), split.labels[picked]
