"""model.data.on_demand: what is made when it is asked for equals what is held in memory."""

from dataclasses import replace

import numpy as np
from PIL import Image
import pytest

from model.data import on_demand
from model.data.dataset import batches
from model.data.on_demand import in_memory, OnDemand
from model.data.options import read_dataset, read_split
from model.data.pictures import PictureError
from tests.model.tiny import TINY


@pytest.fixture(params=["L", "RGB"])
def folder(tmp_path, request):
    """A data set's name, of ten pictures of each of two classes and parts, and the spec for it."""
    colour = request.param == "RGB"
    spec = TINY if not colour else replace(
        TINY, in_channels=3, norm_mean=(0.3,) * 3, norm_std=(0.3,) * 3)
    rng = np.random.default_rng(1)
    for part in ("train", "val", "test"):
        for name in ("a", "b"):
            place = tmp_path / "pictures" / part / name
            place.mkdir(parents=True)
            for i in range(10):
                shape = (20, 17, 3) if colour else (20, 17)
                pixels = rng.integers(0, 256, shape).astype(np.uint8)
                Image.fromarray(pixels).save(place / f"{i}.png")
    return f"folder:{tmp_path / 'pictures'}", spec


def test_the_same_batches(folder, monkeypatch):
    name, spec = folder
    memory = read_dataset(name, spec).train
    monkeypatch.setattr(on_demand, "BYTES_MAX", 16)
    disk = read_dataset(name, spec).train
    assert isinstance(disk.images, OnDemand) and isinstance(memory.images, np.ndarray)
    for name in ("shape", "ndim", "nbytes"):
        assert getattr(disk.images, name) == getattr(memory.images, name)
    assert len(disk.images[3:9:2]) == 3
    np.testing.assert_array_equal(disk.images[1::3][np.arange(2)], memory.images[1:5:3])
    for rng in (None, 7):
        one, two = (list(batches(split, spec, batch=8,
                                 rng=None if rng is None else np.random.default_rng(rng)))
                    for split in (memory, disk))
        assert len(one) == len(two) > 1
        for (x, labels), (y, others) in zip(one, two, strict=True):
            np.testing.assert_array_equal(x, y)
            np.testing.assert_array_equal(labels, others)


def test_a_damaged_file_is_named_when_it_is_read(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(on_demand, "BYTES_MAX", 16)
    images = read_dataset(*folder).train.images
    (tmp_path / "pictures/train/b/3.png").write_bytes(b"no picture")
    with pytest.raises(PictureError, match=r"b/3\.png: is not a picture"):
        images[np.arange(20)]


def test_a_part_that_is_read_whole_must_fit(folder, monkeypatch):
    name, spec = folder
    assert len(read_split(name, "val", spec, count=3).images) == 3
    monkeypatch.setattr(on_demand, "BYTES_MAX", 16)
    with pytest.raises(ValueError, match="20 pictures of .*16x16 need .* give fewer"):
        read_split(name, "val", spec)


def test_an_array_as_items():
    """Portions of two: what `make` gets, and in which order."""
    asked = []

    def make(part):
        asked.append(part.tolist())
        return part[:, None].astype(np.uint8)

    images = OnDemand(np.arange(5), (1,), make, what=("make", "numbers"), together=2)
    np.testing.assert_array_equal(in_memory(images), np.arange(5)[:, None])
    assert asked == [[0, 1], [2, 3], [4]]
    np.testing.assert_array_equal(images[::-2][np.array([2, 0])], [[0], [4]])
    assert in_memory(images[:0]).shape == (0, 1)
