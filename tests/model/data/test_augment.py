"""model.data.augment: crops by hand, colours, and pictures that a process shares with others."""

import random

import numpy as np
from PIL import Image
import pytest

from model.data.augment import Augmentation, picture_mean, resized_crop


def pictures(count: int, *, colour: bool) -> np.ndarray:
    shape = (count, 3, 12, 12) if colour else (count, 12, 12)
    return np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)


def test_resized_crop_takes_a_part_and_keeps_the_size():
    ramp = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1)))
    spans = []
    for seed in range(50):
        made = np.asarray(resized_crop(ramp, random.Random(seed)))
        assert made.shape == (64, 64)
        assert np.abs(made.astype(int) - made[:1]).max() == 0  # rows stay equal
        spans.append(int(made[0, -1]) - int(made[0, 0]))
    assert min(spans) < 120 < 200 < max(spans)


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("crop", ["none", "shift", "resized"])
def test_parts_of_a_batch_are_those_of_the_whole(crop, colour):
    images = pictures(7, colour=colour)
    augment = Augmentation(crop=crop, transform=lambda picture: picture.rotate(90))
    whole = augment(images, np.random.default_rng(2), slice(None))
    assert whole.shape == images.shape and whole.dtype == np.uint8
    for first in range(3):
        part = augment(images, np.random.default_rng(2), slice(first, None, 3))
        assert np.array_equal(part, whole[first::3])


def test_nothing_is_done_if_nothing_is_asked_for():
    images = pictures(5, colour=True)
    plain = Augmentation(crop="none", flip=False)
    assert np.array_equal(plain(images, np.random.default_rng(0), slice(None)), images)
    mirrored = Augmentation(crop="none")(images, np.random.default_rng(0), slice(None))
    same = [np.array_equal(a, b) for a, b in zip(mirrored, images, strict=True)]
    turned = [np.array_equal(a, b[..., ::-1]) for a, b in zip(mirrored, images, strict=True)]
    assert all(a or b for a, b in zip(same, turned, strict=True)) and any(turned) and any(same)
    assert len(plain(images, np.random.default_rng(0), slice(9, None))) == 0


def test_picture_mean_fills_corners():
    assert picture_mean((0.5,)) == 128 and picture_mean((0.0, 1.0, 2.0)) == (0, 255, 255)
