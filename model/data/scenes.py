"""Scenes of Fashion-MNIST's items, drawn from fixed seeds when they are asked for. NumPy only."""

from collections.abc import Iterator
from dataclasses import dataclass
import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data.dataset import Dataset, Split
from model.data.mnist import FASHION_CLASSES, fashion_mnist
from model.data.objects import BACKGROUND, InMemory, ObjectData, Objects, ObjectTable


__all__ = ["draw_placed", "draw_scenes", "fashion_objects", "fashion_scenes", "LARGEST_SIDES",
           "MASK_CLASSES", "OTHER_SIDES", "place_items", "Placing", "placed_objects", "resize",
           "SCENE_SEEDS", "SCENE_SIZE"]


SCENE_SIZE = 64
SCENE_SEEDS = {"train": 11, "val": 12, "test": 13}
LARGEST_SIDES = (32, 44)
"""Smallest and largest side, in pixels, of the item that gives a scene its label."""
OTHER_SIDES = (12, 20)
"""The same of the up to three other items: at most 5/8 of the labelled item's side."""
MASK_CLASSES = (BACKGROUND, *FASHION_CLASSES)
"""Classes of the scenes' pixels: that of an item's pixels is one above the item's class."""
_TRIES = 16
_TOGETHER = 1000

# Of the images and labels (int64, little-endian) of the scenes, in this order.
_SCENES_SHA256 = {
    "train": "56b626aaf8c567301858557556004088619a2e89b08ea0450eff474f06213042",
    "val": "9577ee8ee57656cdcfaf21451cf29b2fae7caab78a881d695b22c3b97eaedf69",
    "test": "f2e47b40b5b4cfcc5f13440b81f3cf4e14970e367e1db130670347c00a25573f",
}

# Of boxes (float64), classes (int64), areas (float64), each scene's first object (int64), masks.
_LABELS_SHA256 = {
    "train": "02dc8a5115f09bd3f6ba38eff81a7e373e3c6e641812a801076d860684a4ccb8",
    "val": "82579de4c94eefe051a98876e02610c14cf7aeb0e40c4a0d2522ac3db7b4c73b",
    "test": "a0f8a13f0dc05f217222444cd8fe7b554bec54dcf8a10ffbba4ff9fd6df11ffa",
}


def fashion_scenes(data_dir: Path | None = None) -> Dataset:
    """Draw 55,000 / 5,000 / 10,000 scenes (64, 64) of one to four Fashion-MNIST items, 10 classes.

    The label of a scene is the class of its largest item. Scene i of a split has item i of the
    same split of `fashion_mnist` as its largest, so that no item is in two splits and the classes
    are as frequent as there. Drawn from fixed seeds in integers, about three seconds for all.
    Raises as `fashion_mnist`, and ValueError if the scenes are not the ones of this project's
    results (another random generator in NumPy).
    """
    drawn = {part: split for part, split, _, _ in _drawn(data_dir)}
    return Dataset(train=drawn["train"], val=drawn["val"], test=drawn["test"])


def fashion_objects(data_dir: Path | None = None) -> ObjectData:
    """The scenes of `fashion_scenes` with boxes (10 classes) and masks (11, `MASK_CLASSES`) of all
    their items, which follow exactly from how they are drawn: see `placed_objects`. 500 MB.

    Raises as `fashion_scenes`; boxes, classes and masks are checked by their SHA-256, too.
    """
    parts = {}
    for part, split, owners, placing in _drawn(data_dir):
        objects, masks = placed_objects(owners, placing, split.labels)
        one = objects.objects
        _check(f"boxes and masks of the {part} scenes", _LABELS_SHA256[part],
               one.boxes.astype("<f8"), one.classes.astype("<i8"), one.areas.astype("<f8"),
               objects.first.astype("<i8"), masks)
        parts[part] = InMemory(images=split.images, objects=objects, masks=masks,
                               classes=FASHION_CLASSES, mask_classes=MASK_CLASSES)
    return ObjectData(**parts)


def _drawn(data_dir: Path | None
           ) -> Iterator[tuple[str, Split, NDArray[np.uint8], "Placing"]]:
    """Of every part its name, its scenes, whose their pixels are and where items lie."""
    items = fashion_mnist(data_dir)
    for part, seed in SCENE_SEEDS.items():
        split = getattr(items, part)
        placing = place_items(len(split), np.random.default_rng(seed))
        scenes, owners = draw_placed(split.images, placing)
        _check(f"{part} scenes", _SCENES_SHA256[part], scenes, split.labels.astype("<i8"))
        yield part, Split(images=scenes, labels=split.labels), owners, placing


def _check(what: str, wanted: str, *arrays: NDArray) -> None:
    """Raise ValueError unless the SHA-256 of the arrays' bytes is `wanted`."""
    state = hashlib.sha256()
    for array in arrays:
        state.update(np.ascontiguousarray(array).data)
    if state.hexdigest() != wanted:
        raise ValueError(f"SHA-256 of the {what} must be {wanted}, not {state.hexdigest()}: "
                         f"NumPy {np.__version__} draws other random numbers")


@dataclass(frozen=True, kw_only=True)
class Placing:
    """Where items lie in N scenes, in the order in which they are drawn: the largest, then up to
    three others, so that each array is (N, 4) int64.

    item, which of the items; top and left of its square in the scene, and side, in pixels: 0 where
    there is none.
    """

    item: NDArray[np.int64]
    top: NDArray[np.int64]
    left: NDArray[np.int64]
    side: NDArray[np.int64]


def place_items(count: int, rng: np.random.Generator) -> Placing:
    """Place the items of `count` scenes, of which scene i has item i as its largest.

    Sides and places are uniform. Up to three other items, any of the `count`, go where their
    square meets no earlier one; one that finds no place in 16 tries is left out.
    """
    side = rng.integers(LARGEST_SIDES[0], LARGEST_SIDES[1] + 1, count)
    item, boxes = [np.arange(count)], [(*_places(rng, side), side)]
    others = rng.integers(0, 4, count)
    for number in range(3):
        side = rng.integers(OTHER_SIDES[0], OTHER_SIDES[1] + 1, count)
        item.append(rng.integers(0, count, count))
        top, left, wanted = np.zeros_like(side), np.zeros_like(side), others > number
        for _ in range(_TRIES):
            y, x = _places(rng, side)
            free = wanted & ~np.any([_meet((y, x, side), box) for box in boxes], axis=0)
            top[free], left[free] = y[free], x[free]
            wanted = wanted & ~free
        side = np.where((others > number) & ~wanted, side, 0)  # an absent item meets nothing
        boxes.append((top, left, side))
    top, left, side = (np.stack(values, axis=1) for values in zip(*boxes, strict=True))
    return Placing(item=np.stack(item, axis=1), top=top, left=left, side=side)


def draw_scenes(items: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one scene (64, 64) for each item (N, h, w), which is the scene's largest: see
    `place_items`."""
    return draw_placed(items, place_items(len(items), rng))[0]


def draw_placed(items: NDArray[np.uint8], placing: Placing
                ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Scenes (N, 64, 64) and whose each of their pixels is, uint8: 0 nobody's, k the k-th item's.

    A pixel is the item's that was drawn over it last, if it is above 0 there: a later square covers
    an earlier one wholly, also with its own zeros, in the picture and in the map alike. So the map
    shows what is visible of each item, and is above 0 exactly where the picture is. Squares of
    `place_items` do not meet, and nothing is covered there.
    """
    scenes = np.zeros((len(placing.item), SCENE_SIZE, SCENE_SIZE), np.uint8)
    owners = np.zeros_like(scenes)
    for k in range(placing.item.shape[1]):
        _paste(scenes, owners, k + 1, items, *(
            getattr(placing, name)[:, k] for name in ("item", "top", "left", "side")))
    return scenes, owners


def placed_objects(owners: NDArray[np.uint8], placing: Placing, labels: NDArray[np.int64]
                   ) -> tuple[ObjectTable, NDArray[np.uint8]]:
    """Boxes and classes of the items that are visible, and the class of every pixel (N, 64, 64).

    owners and placing as of `draw_placed`; labels are the items' classes. A box is the smallest
    around the item's visible pixels and an area their number. An item without any is left out.
    Classes of pixels are 0 for the background, else one above the item's.
    """
    classes = labels[placing.item]
    table = np.insert(classes + 1, 0, 0, axis=1).astype(np.uint8)
    masks, extents = np.empty_like(owners), []
    for start in range(0, len(owners), _TOGETHER):
        part = slice(start, start + _TOGETHER)
        extents.append(_extents(owners[part], placing.item.shape[1]))
        scene = np.arange(len(owners[part]))[:, None, None]
        masks[part] = table[part][scene, owners[part]]
    boxes, areas = (np.concatenate(values) for values in zip(*extents, strict=True))
    visible = areas > 0
    return ObjectTable(
        Objects(boxes=boxes[visible], classes=classes[visible], areas=areas[visible]),
        np.concatenate([[0], np.cumsum(visible.sum(1))]),
    ), masks


def _extents(owners: NDArray[np.uint8], items: int) -> tuple[NDArray, NDArray]:
    """Smallest boxes (N, items, 4) around the pixels of each of the items, and how many there are
    (N, items)."""
    own = owners[:, None] == np.arange(1, items + 1, dtype=np.uint8)[:, None, None]
    first, last = [], []
    for axis in (2, 3):  # of columns, of rows
        seen = own.any(axis)
        first.append(seen.argmax(2))
        last.append(SCENE_SIZE - seen[:, :, ::-1].argmax(2))
    return np.stack([*first, *last], axis=2), own.sum((2, 3))


def _places(rng: np.random.Generator, side: NDArray) -> tuple[NDArray, NDArray]:
    """Uniform top and left (N,) of squares that lie in the scene."""
    top, left = rng.integers(0, SCENE_SIZE - side + 1, (2, len(side)))
    return top, left


def _meet(one: tuple[NDArray, ...], two: tuple[NDArray, ...]) -> NDArray[np.bool_]:
    """Which squares (top, left, side), each (N,), share a pixel."""
    (y1, x1, s1), (y2, x2, s2) = one, two
    return (y1 < y2 + s2) & (y2 < y1 + s1) & (x1 < x2 + s2) & (x2 < x1 + s1)


def _paste(
    scenes: NDArray[np.uint8],
    owners: NDArray[np.uint8],
    owner: int,
    items: NDArray[np.uint8],
    item: NDArray[np.int64],
    top: NDArray[np.int64],
    left: NDArray[np.int64],
    side: NDArray[np.int64],
) -> None:
    """Write ``items[item[i]]``, resized to a square of ``side[i]`` pixels, into scene i, and
    `owner` where it is above 0, else 0, into ``owners[i]``."""
    for size in filter(None, np.unique(side).tolist()):
        scene = np.flatnonzero(side == size)
        rows, cols = (first[scene, None] + np.arange(size) for first in (top, left))
        resized = resize(items[item[scene]], size)
        place = (scene[:, None, None], rows[:, :, None], cols[:, None, :])
        scenes[place], owners[place] = resized, np.where(resized > 0, owner, 0)


def resize(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize (N, h, w) to (N, size, size): each pixel the mean of the area it covers, rounded."""
    count, height, width = images.shape
    down, right = _overlaps(height, size), _overlaps(width, size)
    area = height * width
    # Every product and sum is an integer below 2^24, so float32 is exact on every machine.
    sums = down @ images.astype(np.float32) @ right.T
    return ((2 * sums.astype(np.int64) + area) // (2 * area)).astype(np.uint8)


def _overlaps(before: int, after: int) -> NDArray[np.float32]:
    """(after, before) lengths shared by new and old pixels, in units of 1/after of an old one."""
    new, old = np.arange(after)[:, None] * before, np.arange(before) * after
    return np.clip(np.minimum(new + before, old + after) - np.maximum(new, old), 0, None).astype(
        np.float32
    )
