"""Scenes of Fashion-MNIST's items, drawn from fixed seeds when they are asked for. NumPy only."""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data.dataset import Dataset, Split
from model.data.mnist import fashion_mnist


__all__ = ["draw_scenes", "fashion_scenes", "LARGEST_SIDES", "OTHER_SIDES", "resize",
           "SCENE_SEEDS", "SCENE_SIZE"]


SCENE_SIZE = 64
SCENE_SEEDS = {"train": 11, "val": 12, "test": 13}
LARGEST_SIDES = (32, 44)
"""Smallest and largest side, in pixels, of the item that gives a scene its label."""
OTHER_SIDES = (12, 20)
"""The same of the up to three other items: at most 5/8 of the labelled item's side."""
_TRIES = 16

# Of the images and labels (int64, little-endian) of the scenes, in this order.
_SCENES_SHA256 = {
    "train": "56b626aaf8c567301858557556004088619a2e89b08ea0450eff474f06213042",
    "val": "9577ee8ee57656cdcfaf21451cf29b2fae7caab78a881d695b22c3b97eaedf69",
    "test": "f2e47b40b5b4cfcc5f13440b81f3cf4e14970e367e1db130670347c00a25573f",
}


def fashion_scenes(data_dir: Path | None = None) -> Dataset:
    """Draw 55,000 / 5,000 / 10,000 scenes (64, 64) of one to four Fashion-MNIST items, 10 classes.

    The label of a scene is the class of its largest item. Scene i of a split has item i of the
    same split of `fashion_mnist` as its largest, so that no item is in two splits and the classes
    are as frequent as there. Drawn from fixed seeds in integers, about three seconds for all.
    Raises as `fashion_mnist`, and ValueError if the scenes are not the ones of this project's
    results (another random generator in NumPy).
    """
    items = fashion_mnist(data_dir)
    splits = {
        part: Split(
            images=draw_scenes(getattr(items, part).images, np.random.default_rng(seed)),
            labels=getattr(items, part).labels,
        )
        for part, seed in SCENE_SEEDS.items()
    }
    for part, split in splits.items():
        found = hashlib.sha256(split.images.tobytes() + split.labels.astype("<i8").tobytes())
        if found.hexdigest() != _SCENES_SHA256[part]:
            raise ValueError(
                f"SHA-256 of the {part} scenes must be {_SCENES_SHA256[part]}, "
                f"not {found.hexdigest()}: NumPy {np.__version__} draws other random numbers"
            )
    return Dataset(train=splits["train"], val=splits["val"], test=splits["test"])


def draw_scenes(items: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one scene (64, 64) for each item (N, h, w), which is the scene's largest.

    Sides and places are uniform. Up to three other items, drawn from the same array, go where
    their box meets no earlier one; one that finds no place in 16 tries is left out.
    """
    count = len(items)
    side = rng.integers(LARGEST_SIDES[0], LARGEST_SIDES[1] + 1, count)
    boxes = [(*_places(rng, side), side)]
    scenes = np.zeros((count, SCENE_SIZE, SCENE_SIZE), np.uint8)
    _paste(scenes, items, np.arange(count), *boxes[0])
    others = rng.integers(0, 4, count)
    for number in range(3):
        side = rng.integers(OTHER_SIDES[0], OTHER_SIDES[1] + 1, count)
        item = rng.integers(0, count, count)
        top, left, wanted = np.zeros_like(side), np.zeros_like(side), others > number
        for _ in range(_TRIES):
            y, x = _places(rng, side)
            free = wanted & ~np.any([_meet((y, x, side), box) for box in boxes], axis=0)
            top[free], left[free] = y[free], x[free]
            wanted = wanted & ~free
        side = np.where((others > number) & ~wanted, side, 0)  # an absent item meets nothing
        boxes.append((top, left, side))
        _paste(scenes, items, item, top, left, side)
    return scenes


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
    items: NDArray[np.uint8],
    item: NDArray[np.int64],
    top: NDArray[np.int64],
    left: NDArray[np.int64],
    side: NDArray[np.int64],
) -> None:
    """Write ``items[item[i]]``, resized to a square of ``side[i]`` pixels, into scene i."""
    for size in filter(None, np.unique(side).tolist()):
        scene = np.flatnonzero(side == size)
        rows, cols = (first[scene, None] + np.arange(size) for first in (top, left))
        resized = resize(items[item[scene]], size)
        scenes[scene[:, None, None], rows[:, :, None], cols[:, None, :]] = resized


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
