"""model.data.cifar: both published versions, emulated with few rows; damaged and hostile files."""

from dataclasses import replace
import os
import pickle

import numpy as np
from PIL import Image
import pytest

from model.data import cifar
from model.data.on_demand import in_memory, OnDemand
from model.data.options import read_dataset, read_split
from model.families.spec import spec
from model.families.spec_file import read_spec
from tests.model.data.cifar_files import FINE, python2, python3, ROWS, write


T = replace(spec("qsdt_t"), image_size=32, classes=10)


@pytest.fixture(autouse=True)
def few_rows(monkeypatch):
    for name in ("_CIFAR10", "_CIFAR100"):
        monkeypatch.setattr(cifar, name, tuple(replace(version, rows=ROWS)
                                               for version in getattr(cifar, name)))


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("version, dump", [("python", python2), ("python", python3),
                                           ("binary", None)])
@pytest.mark.parametrize("inside", [False, True])
def test_every_pixel_and_label(tmp_path, classes, version, dump, inside):
    """Of both versions, in the folder itself or in the one that the archive unpacks to."""
    names = {(10, "python"): "cifar-10-batches-py", (10, "binary"): "cifar-10-batches-bin",
             (100, "python"): "cifar-100-python", (100, "binary"): "cifar-100-binary"}
    place = tmp_path / names[classes, version] if inside else tmp_path
    held = write(place, classes=classes, version=version, dump=dump)
    data = read_dataset(f"cifar{classes}", replace(T, classes=classes), data_dir=tmp_path)
    train, val, test = (getattr(data, part) for part in ("train", "val", "test"))
    *batches, (images, labels) = held.values()
    np.testing.assert_array_equal(test.images, images)
    assert test.labels.tolist() == labels and test.labels.dtype == np.int64
    count = ROWS["train"] * len(batches)
    assert (len(train), len(val)) == (count - count // 10, count // 10)
    wanted = sorted((image.tobytes(), label) for images, labels in batches
                    for image, label in zip(images, labels, strict=True))
    assert sorted((image.tobytes(), label) for split in (train, val)
                  for image, label in zip(split.images, split.labels.tolist(), strict=True)
                  ) == wanted
    assert data.info.classes == (cifar.CIFAR10_CLASSES if classes == 10 else tuple(FINE))


def test_the_split_is_fixed(tmp_path):
    write(tmp_path, classes=10, version="binary")
    one, two = (cifar.cifar10(tmp_path) for _ in range(2))
    np.testing.assert_array_equal(one.val.images, two.val.images)
    assert [len(part) for part in (one.train, one.val)] == [18, 2]


def test_other_sizes_are_bicubic_as_published(tmp_path):
    write(tmp_path, classes=10, version="binary")
    images = cifar.cifar10(tmp_path).test.images
    larger = cifar.cifar10(tmp_path, 128).test.images
    assert isinstance(larger, OnDemand) and larger.shape == (3, 3, 128, 128)
    for one, two in zip(images, in_memory(larger), strict=True):
        picture = Image.fromarray(one.transpose(1, 2, 0)).resize((128, 128), Image.BICUBIC)
        np.testing.assert_array_equal(two, np.asarray(picture).transpose(2, 0, 1))
    split = read_split("cifar10", "val", replace(T, image_size=64), data_dir=tmp_path, count=1)
    assert split.images.shape == (1, 3, 64, 64)


class Evil:
    def __reduce__(self):
        return os.system, ("touch pwned",)


@pytest.mark.parametrize("content, message", [
    (pickle.dumps({"data": Evil()}), r"not a batch of CIFAR .*asks for posix.system"),
    (pickle.dumps(np.zeros((4, 3072), np.uint8), protocol=2), "must hold a dictionary, not a _Arr"),
    (python3({"data": np.zeros((4, 3072), np.uint8)}), "has no list of numbers labels"),
    (python3({"data": np.zeros((4, 3072)), "labels": [0] * 4}), "its data are no table of bytes"),
    (python3({"data": np.zeros((3, 3072), np.uint8), "labels": [0] * 4}),
     r"must have 4 rows of 3072 pixels and their labels, not \(3, 3072\) and 4"),
    (python3({"data": np.zeros((4, 3072), np.uint8), "labels": [0, 1, 2, 10]}),
     "labels must be 0 to 9, not 10"),
    (python3({"data": np.zeros((4, 3072), np.uint8), "labels": [0, 1, 2, 1 << 90]}),
     "has no list of numbers labels"),
    # A memo at place 2^31 fills 32 GB in C's unpickler.
    (b"\x80\x02}r\x00\x00\x00\x80.", "its data are no table of bytes"),
    (b"", "not a batch of CIFAR .EOFError"),
])
def test_hostile_and_wrong_pickles(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, classes=10, version="python")
    (tmp_path / "data_batch_3").write_bytes(content)
    with pytest.raises(ValueError, match=f"data_batch_3: {message}.*; unpack cifar-10-python.tar"):
        cifar.cifar10(tmp_path)
    assert not (tmp_path / "pwned").exists()


def test_damaged_pickles_are_one_line(tmp_path):
    """Cut and changed at random: an error of one line, or the same kind of data."""
    write(tmp_path, classes=10, version="python")
    path, rng = tmp_path / "test_batch", np.random.default_rng(0)
    whole = path.read_bytes()
    head = len(whole) - ROWS["test"] * 3072
    seen = set()
    for _ in range(400):
        content = bytearray(whole)
        for place in rng.integers(0, 300, rng.integers(1, 4)):
            content[place if rng.random() < 0.5 else -place - 1] = rng.integers(256)
        path.write_bytes(content[: rng.integers(head)] if rng.random() < 0.1 else content)
        try:
            test = cifar.cifar10(tmp_path).test
            assert test.images.shape == (3, 3, 32, 32) and test.labels.max() < 10
            seen.add("read")
        except ValueError as error:
            text = str(error)
            assert text.endswith("; unpack cifar-10-python.tar.gz again") and "\n" not in text
            seen.add("refused")
    assert seen == {"read", "refused"}


def test_missing_and_partial(tmp_path):
    place = r"or name its folder with --data-dir"
    with pytest.raises(ValueError, match=f"CIFAR-10 is not there; unpack cifar-10-python.*{place}"):
        cifar.cifar10(tmp_path)
    with pytest.raises(ValueError, match="cifar100 comes with no package: name its folder with"):
        read_split("cifar100", "test", T)
    write(tmp_path, classes=10, version="binary")
    (tmp_path / "data_batch_2.bin").unlink()
    with pytest.raises(ValueError, match=r"data_batch_2\.bin of CIFAR-10 is missing; unpack cifar"):
        cifar.cifar10(tmp_path)
    (tmp_path / "data_batch_2.bin").write_bytes(b"\0" * 3072)
    with pytest.raises(ValueError, match="must have 12,292 bytes, not 3,072; unpack cifar-10-bin"):
        cifar.cifar10(tmp_path)
    (tmp_path / "batches.meta.txt").write_text("a\nb\n")
    with pytest.raises(ValueError, match="must name 10 classes, not 2"):
        cifar.cifar10(tmp_path)
    (tmp_path / "batches.meta.txt").write_text("a\n" * 10)
    with pytest.raises(ValueError, match="meta.txt: class names must differ.*; unpack"):
        cifar.cifar10(tmp_path)
    (tmp_path / "fine_label_names.txt").write_text("\n".join(FINE))
    (tmp_path / "train.bin").write_bytes(b"\x63" * 4 * 3074)
    (tmp_path / "test.bin").write_bytes(b"\x64" * 3 * 3074)
    with pytest.raises(ValueError, match=r"test\.bin: labels must be 0 to 99, not 100"):
        cifar.cifar100(tmp_path)


def test_specs_as_published():
    ten, hundred = (read_spec(f"qsdt_t_cifar{n}.yaml") for n in (10, 100))
    for found, classes in ((ten, 10), (hundred, 100)):
        assert found == replace(spec("qsdt_t"), name=f"qsdt_t_cifar{classes}", image_size=128,
                                classes=classes, norm_mean=found.norm_mean,
                                norm_std=found.norm_std)
    assert hundred.norm_mean == tuple(x / 255 for x in (129.3, 124.1, 112.4))
    assert hundred.norm_std == tuple(x / 255 for x in (68.2, 65.4, 70.4))
