"""model.data.mask_folder: ADE20K's layout, and masks that do not fit."""

import logging

import numpy as np
from PIL import Image
import pytest

from model.data.mask_folder import mask_data, read_names
from model.data.objects import IGNORED
from model.data.pictures import Fitting, PictureError


GREY = Fitting(size=32, channels=1)


def put(folder, part, name, mask, *, size=(6, 4), mode=None):
    for kind in ("images", "annotations"):
        (folder / kind / part).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (9, 9, 9)).save(folder / "images" / part / f"{name}.jpg")
    picture = Image.fromarray(np.array(mask, np.uint16 if mode == "I;16" else np.uint8))
    if mode == "P":
        picture.putpalette([5, 6, 7] * 256)
    elif mode == "RGB":
        picture = picture.convert(mode)
    picture.save(folder / "annotations" / part / f"{name}.png")


def ade(folder, mask, **options):
    put(folder, "training", "a", mask, **options)
    put(folder, "validation", "b", mask, **options)
    (folder / "classes.txt").write_text("wall\nsky\n\nfloor\n")
    return folder


MASK = [[0, 1, 2, 3, 255, 0]] * 4


@pytest.mark.parametrize("mode", [None, "P", "I;16"])
def test_ade20k(tmp_path, mode):
    data = mask_data(ade(tmp_path, MASK, mode=mode), GREY)
    assert data.train.mask_classes == ("wall", "sky", "floor") and data.train.classes == ()
    one = data.train.sample(0)
    assert one.mask.dtype == np.uint8 and one.image.shape == (4, 6) and len(one.objects) == 0
    assert one.mask.tolist() == [[IGNORED, 0, 1, 2, IGNORED, IGNORED]] * 4
    assert data.val is data.test and data.val.sample(0).name == "b.jpg"


def test_zero_as_a_class(tmp_path):
    folder = ade(tmp_path, [[0, 1, 2, 2, 255, 0]] * 4)
    one = mask_data(folder, GREY, zero_ignored=False).train.sample(0)
    assert one.mask.tolist() == [[0, 1, 2, 2, IGNORED, 0]] * 4


@pytest.mark.parametrize("zero, number, text", [
    (True, 4, "class number 4, but 1 to 3 have names"),
    (False, 3, "class number 3, but 0 to 2 have names"),
])
def test_numbers_without_a_class(tmp_path, zero, number, text):
    folder = ade(tmp_path, [[0, 1, number, 2, 255, 0]] * 4)
    with pytest.raises(PictureError, match=f"annotations/training/a.png: has {text}"):
        mask_data(folder, GREY, zero_ignored=zero).train.sample(0)


def test_masks_of_another_size(tmp_path):
    folder = ade(tmp_path, MASK, size=(6, 5))
    with pytest.raises(PictureError, match="a.png: has 6x4 pixels, its picture 6x5"):
        mask_data(folder, GREY).train.sample(0)


def test_masks_in_colour(tmp_path):
    folder = ade(tmp_path, MASK, mode="RGB")
    with pytest.raises(PictureError, match="a.png: has pixels of mode RGB, not one number each"):
        mask_data(folder, GREY).train.sample(0)


def test_masks_without_pictures_and_pictures_without_masks(tmp_path, caplog):
    caplog.set_level(logging.INFO, "model")
    folder = ade(tmp_path, MASK)
    put(folder, "training", "c", MASK)
    (folder / "images/training/c.jpg").unlink()
    assert len(mask_data(folder, GREY).train) == 1
    assert "1 masks without a picture were passed over" in caplog.text
    (folder / "annotations/training/a.png").unlink()
    with pytest.raises(ValueError, match="a.jpg: has no mask .*training/a.png"):
        mask_data(folder, GREY)


def test_names(tmp_path):
    with pytest.raises(ValueError, match=r"has no classes\.txt; write the class names there"):
        read_names(tmp_path)
    long = ", ".join(["computer", *["electronic data processor"] * 5])
    (tmp_path / "objectInfo150.txt").write_text(
        f"Idx\tRatio\tTrain\tVal\tName\n1\t0.1\t5\t5\twall\n2\t0.1\t5\t5\t{long}\n")
    assert read_names(tmp_path) == ("wall", long[:89])
    (tmp_path / "classes.txt").write_text("wall\nwall\n")
    with pytest.raises(ValueError, match=r"classes\.txt: class names must differ"):
        read_names(tmp_path)
    (tmp_path / "classes.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="is not UTF-8"):
        read_names(tmp_path)
    (tmp_path / "classes.txt").write_text("")
    with pytest.raises(ValueError, match="must name 1 to 255 classes, not 0"):
        read_names(tmp_path)


def test_no_folders(tmp_path):
    (tmp_path / "classes.txt").write_text("wall\n")
    with pytest.raises(ValueError, match="has no part for training"):
        mask_data(tmp_path, GREY)
