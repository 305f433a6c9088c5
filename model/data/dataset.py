"""Fashion-MNIST, scenes of its items, and the int8 images that network and hardware receive.

NumPy only. The data set (Xiao, Rasul, Vollgraf, arXiv 1708.07747; MIT licence) comes from the
Debian package ``dataset-fashion-mnist``; the scenes are drawn from it when they are asked for.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
import gzip
import hashlib
from pathlib import Path
from typing import Any
import zlib

import numpy as np
from numpy.typing import NDArray

from model.data.augment import Augmentation
from model.families.spec import QsdtSpec


DEBIAN_PACKAGE = "dataset-fashion-mnist"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
IMAGE_SCALE = 48
"""Steps of the int8 image per unit of the normalised one."""
SPLIT_SEED = 2024
VALIDATION_COUNT = 5_000
SCENE_SIZE = 64
SCENE_SEEDS = {"train": 11, "val": 12, "test": 13}
LARGEST_SIDES = (32, 44)
"""Smallest and largest side, in pixels, of the item that gives a scene its label."""
OTHER_SIDES = (12, 20)
"""The same of the up to three other items: at most 5/8 of the labelled item's side."""
_TRIES = 16

# Of the decompressed bytes: Debian's gzip headers differ from upstream's, the content does not.
_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}

_BYTES = {
    "train-images-idx3-ubyte": 16 + 60_000 * 28 * 28,
    "train-labels-idx1-ubyte": 8 + 60_000,
    "t10k-images-idx3-ubyte": 16 + 10_000 * 28 * 28,
    "t10k-labels-idx1-ubyte": 8 + 10_000,
}
"""Sizes of the unpacked files: header and one byte a pixel or label."""

# Of the images and labels (int64, little-endian) of the scenes, in this order.
_SCENES_SHA256 = {
    "train": "56b626aaf8c567301858557556004088619a2e89b08ea0450eff474f06213042",
    "val": "9577ee8ee57656cdcfaf21451cf29b2fae7caab78a881d695b22c3b97eaedf69",
    "test": "f2e47b40b5b4cfcc5f13440b81f3cf4e14970e367e1db130670347c00a25573f",
}


@dataclass(frozen=True, kw_only=True)
class Split:
    """Images (N, H, W), or (N, 3, H, W) in colour, uint8, their labels (N,) int64, and the names
    of the N files that they were read from, if they were."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    files: tuple[str, ...] = ()

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


def fashion_mnist(data_dir: Path | None = None) -> Dataset:
    """Read Fashion-MNIST: 55,000 / 5,000 / 10,000 images (28, 28), 10 classes.

    `data_dir` holds the four IDX files, as ``.gz`` or unpacked; the default is where the Debian
    package puts them. The validation images are drawn from the training ones with a fixed seed.
    Raises FileNotFoundError naming the package, and ValueError if a file's content is not the
    published one.
    """
    folder = DEBIAN_FOLDER if data_dir is None else Path(data_dir)
    images, labels = _read(folder, "train-images-idx3-ubyte"), _read_labels(folder, "train")
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    train, val = order[VALIDATION_COUNT:], order[:VALIDATION_COUNT]
    return Dataset(
        train=Split(images=images[train], labels=labels[train]),
        val=Split(images=images[val], labels=labels[val]),
        test=Split(
            images=_read(folder, "t10k-images-idx3-ubyte"), labels=_read_labels(folder, "t10k")
        ),
    )


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


DATASETS = {"fashion_mnist": fashion_mnist, "fashion_scenes": fashion_scenes}
"""Every known data set by name: a function of the folder that returns a `Dataset`."""


def parse_idx(content: bytes) -> NDArray[np.uint8]:
    """Decode an IDX file of unsigned bytes. Raises ValueError if `content` is not one."""
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise ValueError(f"IDX file must begin with bytes 0 0 8, not {list(content[:3])}")
    ndim = content[3]
    shape = tuple(int.from_bytes(content[4 + 4 * i : 8 + 4 * i]) for i in range(ndim))
    data = np.frombuffer(content, np.uint8, offset=4 + 4 * ndim)
    if data.size != np.prod(shape):
        raise ValueError(f"IDX file must have {np.prod(shape)} bytes of data, not {data.size}")
    return data.reshape(shape)


def _read(folder: Path, name: str) -> NDArray[np.uint8]:
    packed, plain = folder / f"{name}.gz", folder / name
    path = packed if packed.is_file() else plain
    if not path.is_file():
        raise FileNotFoundError(
            f"Fashion-MNIST must be in {folder}, but {name}[.gz] is not there: "
            f"apt-get install {DEBIAN_PACKAGE}, or name its folder with --data-dir"
        )
    try:
        # One byte more than the published file has shows that there is more: nothing is unpacked
        # beyond it, whatever the file says.
        with gzip.open(path) if path == packed else open(path, "rb") as file:
            content = file.read(_BYTES[name] + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{path}: cut off or damaged ({error}); copy it again, or apt-get install "
            f"--reinstall {DEBIAN_PACKAGE}"
        ) from None
    if len(content) > _BYTES[name]:
        raise ValueError(f"{path}: more than the {_BYTES[name]:,} bytes of the published file; "
                         "copy it again")
    found = hashlib.sha256(content).hexdigest()
    if found != _SHA256[name]:
        raise ValueError(f"{path}: SHA-256 of {name} must be {_SHA256[name]}, not {found}; "
                         "copy it again")
    return parse_idx(content)


def _read_labels(folder: Path, part: str) -> NDArray[np.int64]:
    return _read(folder, f"{part}-labels-idx1-ubyte").astype(np.int64)


def to_image_q(images: NDArray[np.uint8], spec: QsdtSpec) -> NDArray[np.int8]:
    """Normalise pixels and round them to the network's int8 input.

    image_q = floor(48*x + 0.5) clipped to -128..127, where x = (pixel/255 - mean)/std with the
    spec's constants; the network's input is image_q/48. `images` is (N, C, H, W), or (N, H, W)
    for a grey network; the result is (N, C, H, W). Raises ValueError on another shape.
    """
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4 or images.shape[1] != spec.in_channels:
        raise ValueError(
            f"images must be (N, {spec.in_channels}, H, W) for {spec.name}, not {images.shape}"
        )
    pixels = np.arange(256) / 255
    mean, std = (np.array(v)[:, None] for v in (spec.norm_mean, spec.norm_std))
    steps = np.floor(IMAGE_SCALE * ((pixels - mean) / std) + 0.5)
    table = np.clip(steps, -128, 127).astype(np.int8)  # (C, 256)
    return np.stack([table[c][images[:, c]] for c in range(spec.in_channels)], axis=1)


def batches(
    split: Split,
    spec: QsdtSpec,
    *,
    batch: int,
    rng: np.random.Generator | None = None,
    augment: Augmentation | None = None,
    part: slice = slice(None),
) -> Iterator[tuple[NDArray[np.int8], NDArray[np.int64]]]:
    """Yield image_q (batch, C, H, W) and labels (batch,).

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
