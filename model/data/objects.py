"""Pictures with what is in them: boxes and their classes, and the class of every pixel. NumPy only.

Boxes are left, top, right, bottom in pixels from the picture's upper left corner, where right and
bottom are the first column and row behind: a box over columns 3, 4, 5 has left 3 and right 6, as in
COCO's x and x + width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


__all__ = ["BACKGROUND", "Chosen", "Found", "IGNORED", "InMemory", "ObjectData", "Objects",
           "ObjectTable", "Sample", "Samples", "to_bbox"]


BACKGROUND = "background"
"""Name of class 0 of masks made of objects, of the pixels of none."""

IGNORED = 255
"""Class of pixels that are neither trained on nor counted, as in Cityscapes and mmsegmentation."""


def to_bbox(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes (n, 4) as COCO's ``bbox``: x and y of the upper left corner, width, height."""
    return np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])


@dataclass(frozen=True, kw_only=True, eq=False)
class Objects:
    """The n objects of a picture.

    boxes (n, 4) float64; classes (n,) int64, from 0; areas (n,) float64, pixels of each object,
    COCO's ``area``; crowd (n,) bool, regions with many objects that nobody told apart. By default
    areas are those of the boxes and nothing is a crowd.

    Raises ValueError if a shape is another, a number is not finite, or a box has no area.
    """

    boxes: NDArray[np.float64]
    classes: NDArray[np.int64]
    areas: NDArray[np.float64] = None  # type: ignore[assignment]
    crowd: NDArray[np.bool_] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        boxes = np.asarray(self.boxes, np.float64)
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise ValueError(f"boxes must be of shape (n, 4), not {boxes.shape}")
        sides = boxes[:, 2:] - boxes[:, :2]
        if not (np.isfinite(boxes).all() and (sides > 0).all()):
            raise ValueError("boxes must be finite, with left below right and top below bottom")
        values = {
            "boxes": boxes, "classes": np.asarray(self.classes, np.int64),
            "areas": sides.prod(1) if self.areas is None else np.asarray(self.areas, np.float64),
            "crowd": (np.zeros(len(boxes), bool) if self.crowd is None
                      else np.asarray(self.crowd, bool)),
        }
        for name, value in values.items():
            if len(value) != len(boxes) or (name != "boxes" and value.ndim != 1):
                raise ValueError(f"{name} must be one for each of {len(boxes)} boxes, "
                                 f"not {value.shape}")
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: slice | NDArray) -> "Objects":
        """Some of them: a slice, or an array of places or of truth values."""
        return Objects(boxes=self.boxes[index], classes=self.classes[index],
                       areas=self.areas[index], crowd=self.crowd[index])

    @classmethod
    def none(cls) -> "Objects":
        """Of a picture without objects."""
        return cls(boxes=np.zeros((0, 4)), classes=np.zeros(0, np.int64))


class ObjectTable(Sequence[Objects]):
    """The objects of N pictures as one: those of picture i are ``[first[i], first[i + 1])``.

    Parameters
    ----------
    objects
        Of all pictures, one picture after the other.
    first
        (N + 1,) int64.
    """

    def __init__(self, objects: Objects, first: NDArray[np.int64]) -> None:
        self.objects, self.first = objects, first

    def __len__(self) -> int:
        return len(self.first) - 1

    def __getitem__(self, index):
        """The `Objects` of a picture, or the table of a slice of them without steps."""
        if isinstance(index, slice):
            start, stop, _ = index.indices(len(self))
            first = self.first[start : max(start, stop) + 1]
            return ObjectTable(self.objects[first[0] : first[-1]], first - first[0])
        index = range(len(self))[index]
        return self.objects[self.first[index] : self.first[index + 1]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """What a detector found in a picture: boxes (n, 4), classes (n,), and scores (n,), the higher
    the surer."""

    boxes: NDArray[np.float64]
    classes: NDArray[np.int64]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.boxes)

    def at_least(self, score: float) -> "Found":
        """Those of at least this score."""
        kept = self.scores >= score
        return Found(boxes=self.boxes[kept], classes=self.classes[kept], scores=self.scores[kept])


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """A picture with what is in it.

    image, uint8 (H, W) or (3, H, W); objects, or none if only the mask is known; mask (H, W) uint8,
    the class of every pixel or `IGNORED`, or None; name, of its file.
    """

    image: NDArray[np.uint8]
    objects: Objects
    mask: NDArray[np.uint8] | None = None
    name: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.image.shape[-2:]
        return height, width


class Samples(Protocol):
    """N pictures of a part of a data set, which may be read when they are asked for.

    classes are the names of the boxes' classes, and mask_classes those of the pixels', () where
    there are no masks. image_ids and category_ids are what COCO's files call pictures and classes.
    """

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def mask_classes(self) -> tuple[str, ...]: ...

    @property
    def image_ids(self) -> Sequence[int]: ...

    @property
    def category_ids(self) -> Sequence[int]: ...

    def __len__(self) -> int: ...

    def objects_of(self, index: int) -> Objects:
        """The objects of a picture, to train on, without reading it."""
        ...

    def annotations_of(self, index: int) -> Sequence[dict[str, Any]]:
        """All that is true of a picture, as COCO writes it: image_id, category_id, bbox (x, y,
        width, height), area and iscrowd, for evaluation."""
        ...

    def sample(self, index: int) -> Sample:
        """A picture. Raises ValueError or OSError naming its file."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class InMemory:
    """`Samples` in memory: images (N, H, W) or (N, 3, H, W) and masks (N, H, W) or None, uint8.

    Pictures are called 1 to N and classes 1 to K.
    """

    images: NDArray[np.uint8]
    objects: Sequence[Objects]
    masks: NDArray[np.uint8] | None
    classes: tuple[str, ...]
    mask_classes: tuple[str, ...]

    @property
    def image_ids(self) -> Sequence[int]:
        return range(1, len(self) + 1)

    @property
    def category_ids(self) -> Sequence[int]:
        return range(1, len(self.classes) + 1)

    def __len__(self) -> int:
        return len(self.images)

    def objects_of(self, index: int) -> Objects:
        return self.objects[index]

    def annotations_of(self, index: int) -> Sequence[dict[str, Any]]:
        one = self.objects[index]
        return [{"image_id": index + 1, "category_id": kind + 1, "bbox": box, "area": area,
                 "iscrowd": int(crowd)}
                for box, kind, area, crowd in zip(
                    to_bbox(one.boxes).tolist(), one.classes.tolist(), one.areas.tolist(),
                    one.crowd.tolist(), strict=True)]

    def sample(self, index: int) -> Sample:
        mask = None if self.masks is None else self.masks[index]
        return Sample(image=self.images[index], objects=self.objects[index], mask=mask)


class Chosen:
    """Some of `Samples`, in the order of their `places`."""

    def __init__(self, samples: Samples, places: Sequence[int]) -> None:
        self.samples, self.places = samples, places

    @property
    def classes(self) -> tuple[str, ...]:
        return self.samples.classes

    @property
    def mask_classes(self) -> tuple[str, ...]:
        return self.samples.mask_classes

    @property
    def image_ids(self) -> Sequence[int]:
        return [self.samples.image_ids[place] for place in self.places]

    @property
    def category_ids(self) -> Sequence[int]:
        return self.samples.category_ids

    def __len__(self) -> int:
        return len(self.places)

    def objects_of(self, index: int) -> Objects:
        return self.samples.objects_of(self.places[index])

    def annotations_of(self, index: int) -> Sequence[dict[str, Any]]:
        return self.samples.annotations_of(self.places[index])

    def sample(self, index: int) -> Sample:
        return self.samples.sample(self.places[index])


@dataclass(frozen=True, kw_only=True, eq=False)
class ObjectData:
    """A training, a validation (for every choice) and a test part (to be used once)."""

    train: Samples
    val: Samples
    test: Samples

    def first(self, count: int | None) -> "ObjectData":
        """At most `count` pictures of each part; None for all."""
        if count is None:
            return self
        return ObjectData(**{part: Chosen(samples, range(min(count, len(samples))))
                             for part, samples in vars(self).items()})
