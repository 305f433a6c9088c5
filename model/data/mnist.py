"""MNIST and Fashion-MNIST from IDX files. NumPy only.

MNIST: LeCun, Bottou, Bengio, Haffner, Proc. IEEE 86(11), 1998. Fashion-MNIST: Xiao, Rasul,
Vollgraf, arXiv 1708.07747 (MIT licence), also from the Debian package ``dataset-fashion-mnist``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
import gzip
import hashlib
from pathlib import Path
import zlib

import numpy as np
from numpy.typing import NDArray

from model.data.dataset import Dataset, Split


__all__ = ["DEBIAN_FOLDER", "DEBIAN_PACKAGE", "FASHION_CLASSES", "fashion_mnist", "mnist",
           "parse_idx", "set_aside", "SPLIT_SEED", "VALIDATION_COUNT"]


DEBIAN_PACKAGE = "dataset-fashion-mnist"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FASHION_CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt",
                   "Sneaker", "Bag", "Ankle boot")
SPLIT_SEED = 2024
VALIDATION_COUNT = 5_000

_BYTES = {
    "train-images-idx3-ubyte": 16 + 60_000 * 28 * 28,
    "train-labels-idx1-ubyte": 8 + 60_000,
    "t10k-images-idx3-ubyte": 16 + 10_000 * 28 * 28,
    "t10k-labels-idx1-ubyte": 8 + 10_000,
}
"""Sizes of the unpacked files: header and one byte a pixel or label."""


@dataclass(frozen=True)
class _Published:
    """A data set of those four files: what it is called, the SHA-256 of each unpacked file, and
    how to get it and to get it again."""

    title: str
    sha256: Mapping[str, str]
    get: str
    again: str


# Of the decompressed bytes: Debian's gzip headers differ from upstream's, the content does not.
_FASHION = _Published("Fashion-MNIST", {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}, f"apt-get install {DEBIAN_PACKAGE}, or name its folder with --data-dir",
    f"copy it again, or apt-get install --reinstall {DEBIAN_PACKAGE}")

_MNIST = _Published("MNIST", {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cb351222c34898ecbeaf847f06e48f7ec33f2",
}, "put its four published IDX files there, packed or not, or name their folder with --data-dir",
    "fetch it again")


def fashion_mnist(data_dir: Path | None = None) -> Dataset:
    """Read Fashion-MNIST: 55,000 / 5,000 / 10,000 images (28, 28), 10 classes.

    `data_dir` holds the four IDX files, as ``.gz`` or unpacked; the default is where the Debian
    package puts them. The validation images are drawn from the training ones with a fixed seed.
    Raises FileNotFoundError naming the package, and ValueError if a file's content is not the
    published one.
    """
    return _dataset(DEBIAN_FOLDER if data_dir is None else Path(data_dir), _FASHION)


def mnist(data_dir: Path) -> Dataset:
    """Read MNIST from a folder of its four IDX files: as `fashion_mnist`, in all ways."""
    return _dataset(data_dir, _MNIST)


def _dataset(folder: Path, published: _Published) -> Dataset:
    def read(part: str) -> Split:
        images = _read(folder, f"{part}-images-idx3-ubyte", published)
        labels = _read(folder, f"{part}-labels-idx1-ubyte", published)
        return Split(images=images, labels=labels.astype(np.int64))

    train, val = set_aside(read("train"))
    return Dataset(train=train, val=val, test=read("t10k"))


def set_aside(split: Split, count: int = VALIDATION_COUNT) -> tuple[Split, Split]:
    """`split` without `count` samples, drawn with a fixed seed, and those, for validation."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(split))
    train, val = (Split(images=split.images[part], labels=split.labels[part])
                  for part in (order[count:], order[:count]))
    return train, val


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


def _read(folder: Path, name: str, published: _Published) -> NDArray[np.uint8]:
    packed, plain = folder / f"{name}.gz", folder / name
    path = packed if packed.is_file() else plain
    if not path.is_file():
        raise FileNotFoundError(f"{published.title} must be in {folder}, but {name}[.gz] is not "
                                f"there: {published.get}")
    try:
        # One byte more than the published file has shows that there is more: nothing is unpacked
        # beyond it, whatever the file says.
        with gzip.open(path) if path == packed else open(path, "rb") as file:
            content = file.read(_BYTES[name] + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{path}: cut off or damaged ({error}); {published.again}"
        ) from None
    if len(content) > _BYTES[name]:
        raise ValueError(f"{path}: more than the {_BYTES[name]:,} bytes of the published file; "
                         f"{published.again}")
    found, wanted = hashlib.sha256(content).hexdigest(), published.sha256[name]
    if found != wanted:
        raise ValueError(f"{path}: SHA-256 of {name} must be {wanted}, not {found}; "
                         f"{published.again}")
    return parse_idx(content)
