"""model.data.mnist: the IDX reader, MNIST, and the fixed split of Fashion-MNIST."""

from dataclasses import replace
import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from model.data import mnist
from model.data.options import read_dataset
from model.families.spec import spec


NANO = spec("qsdt_nano")

needs_fashion_mnist = pytest.mark.skipif(
    not mnist.DEBIAN_FOLDER.is_dir(), reason=f"needs the Debian package {mnist.DEBIAN_PACKAGE}"
)


def idx(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4) for n in array.shape)
    return head + array.astype(np.uint8).tobytes()


def test_parse_idx():
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    np.testing.assert_array_equal(mnist.parse_idx(idx(array)), array)
    with pytest.raises(ValueError, match="must have 24 bytes of data, not 23"):
        mnist.parse_idx(idx(array)[:-1])
    with pytest.raises(ValueError, match=r"must begin with bytes 0 0 8, not \[31, 139, 8\]"):
        mnist.parse_idx(gzip.compress(b"x"))


def test_absent_data_set_names_the_package(tmp_path):
    with pytest.raises(FileNotFoundError, match="apt-get install dataset-fashion-mnist"):
        mnist.fashion_mnist(tmp_path)


def test_changed_file_is_rejected(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((1, 2, 2))))
    with pytest.raises(ValueError, match="SHA-256 of train-images-idx3-ubyte must be c59f"):
        mnist.fashion_mnist(tmp_path)


@needs_fashion_mnist
def test_fashion_mnist_split():
    one, two = mnist.fashion_mnist(), mnist.fashion_mnist(Path(mnist.DEBIAN_FOLDER))
    assert [len(part) for part in (one.train, one.val, one.test)] == [55_000, 5_000, 10_000]
    assert one.train.images.shape == (55_000, 28, 28)
    assert one.test.labels[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
    assert np.bincount(one.test.labels).tolist() == [1000] * 10
    whole = np.bincount(one.train.labels) + np.bincount(one.val.labels)
    assert whole.tolist() == [6000] * 10
    np.testing.assert_array_equal(one.val.images, two.val.images)
    pixels = np.concatenate([one.train.images, one.val.images]) / 255
    assert pixels.mean() == pytest.approx(NANO.norm_mean[0], abs=1e-4)
    assert pixels.std() == pytest.approx(NANO.norm_std[0], abs=1e-4)


def test_mnist_from_a_folder(tmp_path, monkeypatch):
    """Four small files in the place of the published ones, packed and not."""
    rng, sha = np.random.default_rng(0), {}
    held = {}
    for part, count in (("train", 50), ("t10k", 20)):
        held[part] = rng.integers(0, 256, (count, 28, 28)), rng.integers(0, 10, count)
        for kind, array in zip(("images-idx3", "labels-idx1"), held[part], strict=True):
            name, content = f"{part}-{kind}-ubyte", idx(array)
            sha[name] = hashlib.sha256(content).hexdigest()
            packed = part == "train"
            (tmp_path / (f"{name}.gz" if packed else name)).write_bytes(
                gzip.compress(content) if packed else content)
    monkeypatch.setattr(mnist, "_MNIST", replace(mnist._MNIST, sha256=sha))
    monkeypatch.setattr(mnist, "VALIDATION_COUNT", 5)
    monkeypatch.setattr(mnist.set_aside, "__defaults__", (5,))
    data = read_dataset("mnist", NANO, data_dir=tmp_path)
    images, labels = held["t10k"]
    np.testing.assert_array_equal(data.test.images, images)
    np.testing.assert_array_equal(data.test.labels, labels)
    assert [len(part) for part in (data.train, data.val)] == [45, 5]
    order = np.random.default_rng(mnist.SPLIT_SEED).permutation(50)
    np.testing.assert_array_equal(data.val.images, held["train"][0][order[:5]])


def test_mnist_that_is_not_there_or_another(tmp_path):
    with pytest.raises(ValueError, match="mnist comes with no package: name its folder with --dat"):
        read_dataset("mnist", NANO)
    with pytest.raises(FileNotFoundError, match="MNIST must be in .*: put its four published IDX"):
        read_dataset("mnist", NANO, data_dir=tmp_path)
    with gzip.open(tmp_path / "train-images-idx3-ubyte.gz", "wb") as file:
        file.write(idx(np.zeros((1, 28, 28))))
    with pytest.raises(ValueError, match="SHA-256 of train-images-idx3-ubyte must be ba89.*; fe"):
        read_dataset("mnist", NANO, data_dir=tmp_path)
