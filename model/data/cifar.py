"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009) from the user's folder, python or binary version.

The python version is a pickle, which may call anything: it is read by an unpickler that knows
nothing but NumPy's arrays of bytes, and those only as what they are made of.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
import io
from pathlib import Path
import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.data.dataset import DataInfo, Dataset, Split
from model.data.mnist import set_aside
from model.data.on_demand import on_demand, spread


__all__ = ["cifar10", "cifar100", "CIFAR10_CLASSES", "resized"]


CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship",
                   "truck")

SIDE = 32
_PIXELS = 3 * SIDE * SIDE

_FILE_BYTES_MAX = 1 << 28
"""More than any file of either version has."""


@dataclass(frozen=True)
class _Version:
    """One of the two forms that a data set is published in.

    archive and folder, what is fetched and what it unpacks to; train and test, names of the files
    of each part; names, the file of the class names; rows, images in a file of a part; labels,
    bytes of labels before the pixels of a row, of which the last is taken, 0 for pickles; key, of
    the labels and of the class names in pickles.
    """

    archive: str
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: str
    rows: Mapping[str, int]
    labels: int = 0
    key: tuple[str, str] = ("", "")


_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))

_CIFAR10 = (
    _Version("cifar-10-python.tar.gz", "cifar-10-batches-py", _BATCHES, ("test_batch",),
             "batches.meta", {"train": 10_000, "test": 10_000}, key=("labels", "label_names")),
    _Version("cifar-10-binary.tar.gz", "cifar-10-batches-bin",
             tuple(f"{name}.bin" for name in _BATCHES), ("test_batch.bin",), "batches.meta.txt",
             {"train": 10_000, "test": 10_000}, labels=1),
)

_CIFAR100 = (
    _Version("cifar-100-python.tar.gz", "cifar-100-python", ("train",), ("test",), "meta",
             {"train": 50_000, "test": 10_000}, key=("fine_labels", "fine_label_names")),
    _Version("cifar-100-binary.tar.gz", "cifar-100-binary", ("train.bin",), ("test.bin",),
             "fine_label_names.txt", {"train": 50_000, "test": 10_000}, labels=2),
)


def cifar10(data_dir: Path, size: int = SIDE) -> Dataset:
    """Read CIFAR-10: 45,000 / 5,000 / 10,000 images (3, size, size), 10 classes.

    `data_dir` holds the files of the python or the binary version, or the folder that their
    archive unpacks to. The validation images are drawn from the training ones with a fixed seed.
    Another size than 32 is made bicubically of the whole picture, as published for transfer.

    Raises ValueError naming the file, what is wrong with it and what to fetch.
    """
    return _dataset("CIFAR-10", 10, _CIFAR10, data_dir, size)


def cifar100(data_dir: Path, size: int = SIDE) -> Dataset:
    """Read CIFAR-100 with its 100 fine labels: as `cifar10`, in all ways."""
    return _dataset("CIFAR-100", 100, _CIFAR100, data_dir, size)


def resized(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """(N, 3, H, W) -> (N, 3, size, size), bicubic, made when indexed. Needs Pillow."""
    if images.shape[-2:] == (size, size):
        return images

    def resize(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        from PIL import Image

        picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
        return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC)).transpose(2, 0, 1)

    return on_demand(images, (3, size, size), partial(spread, resize), what=("resize", "pictures"))


def _dataset(
    title: str, classes: int, versions: tuple[_Version, ...], folder: Path, size: int
) -> Dataset:
    version, folder = _found(title, versions, folder)
    again = f"unpack {version.archive} again"
    try:
        names = _class_names(folder / version.names, version)
        if len(names) != classes:
            raise _Damaged(folder / version.names, f"must name {classes} classes, "
                                                   f"not {len(names)}")
        try:
            info = DataInfo(classes=names, fit="stretch")
        except ValueError as error:
            raise _Damaged(folder / version.names, str(error)) from None
        parts = {}
        for part, files in (("train", version.train), ("test", version.test)):
            read = [_read(folder / name, version, version.rows[part], classes) for name in files]
            images, labels = (np.concatenate(arrays) for arrays in zip(*read, strict=True))
            parts[part] = Split(images=images, labels=labels)
    except _Damaged as error:
        raise ValueError(f"{error}; {again}") from None
    train, val = set_aside(parts["train"], len(parts["train"]) // 10)
    made = {"train": train, "val": val, "test": parts["test"]}
    return Dataset(**{part: Split(images=resized(split.images, size), labels=split.labels)
                      for part, split in made.items()}, info=info)


class _Damaged(ValueError):
    """A file is not the published one; the message names it."""

    def __init__(self, path: Path, cause: str) -> None:
        super().__init__(f"{path}: {cause}")


def _found(
    title: str, versions: tuple[_Version, ...], folder: Path
) -> tuple[_Version, Path]:
    """The version that is in a folder, and the folder of its files."""
    for version in versions:
        for place in (folder, folder / version.folder):
            needed = (*version.train, *version.test, version.names)
            missing = [name for name in needed if not (place / name).is_file()]
            if not missing:
                return version, place
            if len(missing) < len(needed):
                raise ValueError(f"{place}: {missing[0]} of {title} is missing; "
                                 f"unpack {version.archive} again")
    archives = " or ".join(version.archive for version in versions)
    raise ValueError(f"{folder}: {title} is not there; unpack {archives} there, or name its folder "
                     "with --data-dir")


def _content(path: Path) -> bytes:
    if path.stat().st_size > _FILE_BYTES_MAX:
        raise _Damaged(path, f"more than {_FILE_BYTES_MAX >> 20} MB")
    return path.read_bytes()


def _class_names(path: Path, version: _Version) -> tuple[str, ...]:
    if version.labels:
        text = _content(path).decode("ascii", "replace")
        return tuple(filter(None, map(str.strip, text.splitlines())))
    names = _unpickled(path).get(version.key[1])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _Damaged(path, f"has no list of texts {version.key[1]}")
    return tuple(names)


def _read(
    path: Path, version: _Version, rows: int, classes: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (rows, 3, 32, 32) and labels (rows,) of a file."""
    if version.labels:
        width = version.labels + _PIXELS
        content = _content(path)
        if len(content) != rows * width:
            raise _Damaged(path, f"must have {rows * width:,} bytes, not {len(content):,}")
        table = np.frombuffer(content, np.uint8).reshape(rows, width)
        labels, pixels = table[:, version.labels - 1].astype(np.int64), table[:, version.labels:]
    else:
        found = _unpickled(path)
        pixels, labels = _array(path, found.get("data")), _labels(path, found, version.key[0])
        if pixels.shape != (rows, _PIXELS) or len(labels) != rows:
            raise _Damaged(path, f"must have {rows:,} rows of {_PIXELS} pixels and their labels, "
                                 f"not {pixels.shape} and {len(labels)}")
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise _Damaged(path, f"labels must be 0 to {classes - 1}, not {wrong[0]}")
    return pixels.reshape(rows, 3, SIDE, SIDE), labels


class _Array:
    """What an array's pickle says of it."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _DType:
    """What a data type's pickle says of it."""

    def __init__(self, name: Any = None, *rest: Any) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        """The byte order, of which bytes have none."""


def _reconstruct(*args: Any) -> _Array:
    return _Array()


_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): lambda text, how="latin1": text.encode("latin1"),
}
"""What a batch's pickle may name, and what stands for it."""


class _Unpickler(pickle._Unpickler):  # noqa: SLF001
    # Python's, not C's: a damaged number in a pickle may make C's one fill all of the memory.

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}"[:100])
        return _KNOWN[module, name]


def _unpickled(path: Path) -> dict[Any, Any]:
    content = _content(path)
    try:
        found = _Unpickler(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # damaged bytes can raise anything
        cause = f"{type(error).__name__} {error}".strip().splitlines()[0][:200]
        raise _Damaged(path, f"not a batch of CIFAR ({cause})") from None
    if not isinstance(found, dict):
        raise _Damaged(path, f"must hold a dictionary, not a {type(found).__name__}")
    return found


def _array(path: Path, found: object) -> NDArray[np.uint8]:
    """The array of bytes that a pickle described."""
    match found.state if isinstance(found, _Array) else None:
        case (1, (int() as rows, int() as columns), _DType(name="u1"), bool() | 0 | 1 as fortran,
              str() | bytes() as content):
            raw = content if isinstance(content, bytes) else content.encode("latin1", "replace")
            if rows >= 0 and columns >= 0 and rows * columns == len(raw):
                order = np.frombuffer(raw, np.uint8)
                return order.reshape(columns, rows).T if fortran else order.reshape(rows, columns)
    raise _Damaged(path, "its data are no table of bytes")


def _labels(path: Path, found: dict[Any, Any], key: str) -> NDArray[np.int64]:
    labels = found.get(key)
    if not isinstance(labels, list) or not all(type(x) is int and abs(x) < 1 << 31 for x in labels):
        raise _Damaged(path, f"has no list of numbers {key}")
    return np.array(labels, np.int64)
