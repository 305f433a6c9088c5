"""model.data.on_disk: pictures that stay files give what pictures in memory give."""

from dataclasses import replace

import numpy as np
from PIL import Image
import pytest

from model.data import picture_folder
from model.data.dataset import batches
from model.data.on_disk import PicturesOnDisk
from model.data.picture_folder import PictureFolder
from model.data.pictures import Fitting, PictureError
from tests.model.tiny import TINY


@pytest.fixture(params=["L", "RGB"])
def folder(tmp_path, request):
    """Ten pictures of each of two classes, and the spec and fitting for them."""
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
    return PictureFolder(tmp_path / "pictures"), spec, Fitting.of(spec, "auto", "black")


def test_the_same_batches(folder, monkeypatch):
    found, spec, fitting = folder
    memory = found.dataset(fitting).train
    monkeypatch.setattr(picture_folder, "PIXEL_BYTES_MAX", 16)
    disk = found.dataset(fitting).train
    assert isinstance(disk.images, PicturesOnDisk) and not isinstance(memory.images, PicturesOnDisk)
    assert disk.images.shape == memory.images.shape and disk.images.ndim == memory.images.ndim
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
    found, _, fitting = folder
    monkeypatch.setattr(picture_folder, "PIXEL_BYTES_MAX", 16)
    images = found.dataset(fitting).train.images
    (tmp_path / "pictures/train/b/3.png").write_bytes(b"no picture")
    with pytest.raises(PictureError, match=r"b/3\.png: is not a picture"):
        images[np.arange(20)]
