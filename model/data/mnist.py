"""Fashion-MNIST (Xiao, Rasul, Vollgraf, arXiv 1708.07747; MIT licence), from the Debian package
``dataset-fashion-mnist`` or from IDX files in a folder. NumPy only.
"""

import gzip
import hashlib
from pathlib import Path
import zlib

import numpy as np
from numpy.typing import NDArray

from model.data.dataset import Dataset, Split


__all__ = ["DEBIAN_FOLDER", "DEBIAN_PACKAGE", "fashion_mnist", "parse_idx", "SPLIT_SEED",
           "VALIDATION_COUNT"]


DEBIAN_PACKAGE = "dataset-fashion-mnist"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
SPLIT_SEED = 2024
VALIDATION_COUNT = 5_000

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
