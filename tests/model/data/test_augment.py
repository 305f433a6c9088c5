"""model.data.augment: crops by hand, colours, and pictures that a process shares with others."""

import math
import random

import numpy as np
from PIL import Image
import pytest

from model.data.augment import Augmentation, moved, picture_mean, resized_crop


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
@pytest.mark.parametrize("crop", ["none", "shift", "resized", "nda"])
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


def kind_of(image: np.ndarray, made: np.ndarray) -> str:
    """rolled, turned or cut, of an image whose pixels all differ from 0 and from each other."""
    if sorted(made.ravel()) == sorted(image.ravel()):
        return "rolled"
    return "cut" if ((made == image) | (made == 0)).all() else "turned"


def test_events_are_rolled_turned_or_cut():
    """Frames (T, C, H, W) of 30x30, whose channels tell each pixel's place."""
    rows, columns = np.mgrid[1:31, 1:31].astype(np.uint8)
    image = np.stack([rows, columns])[None].repeat(2, 0)
    seen = {"rolled": set(), "cut": set(), "turned": set()}
    for seed in range(300):
        made = moved(image, random.Random(seed))
        assert made.shape == image.shape and made.dtype == np.uint8
        np.testing.assert_array_equal(made[0], made[1])
        one = made[0].astype(int)
        gone = one[0] == 0
        np.testing.assert_array_equal(gone, one[1] == 0)    # both channels alike
        places = np.where(gone, 0, 100 * one[0] + one[1])
        kind = kind_of(100 * rows.astype(int) + columns, places)
        if kind == "rolled":
            down, right = 1 - one[0, 0, 0], 1 - one[1, 0, 0]
            np.testing.assert_array_equal(made, np.roll(image, (down, right), (-2, -1)))
            seen[kind].add(((down + 15) % 30 - 15, (right + 15) % 30 - 15))
        elif kind == "cut":
            places = np.argwhere(gone)
            height, width = np.ptp(places, axis=0) + 1
            assert len(places) == height * width and height <= 10 and width <= 10
            seen[kind].add((height, width))
        else:    # the middle stays, and each pixel is near to where a turn by 30 degrees brings it
            angle = math.atan2(one[0, 15, 25] - one[0, 15, 5], one[1, 15, 25] - one[1, 15, 5])
            assert abs(math.degrees(angle)) < 33 and not gone[13:17, 13:17].any()
            y, x = np.argwhere(~gone).T - 14.5
            from_y = math.sin(angle) * x + math.cos(angle) * y + 15.5
            from_x = math.cos(angle) * x - math.sin(angle) * y + 15.5
            assert np.hypot(from_y - one[0][~gone], from_x - one[1][~gone]).max() < 1.8
            seen[kind].add(round(math.degrees(angle)))
    assert all(len(found) > 8 for found in seen.values())
    reach = {value for pair in seen["rolled"] for value in pair}
    assert (min(reach), max(reach)) == (-10, 10) and (10, 10) in seen["cut"]
    assert min(seen["turned"]) < -24 and max(seen["turned"]) > 24


def test_events_are_mirrored_without_pillow():
    """Frames have more channels than a picture."""
    images = np.random.default_rng(0).integers(0, 9, (12, 5, 2, 8, 8)).astype(np.uint8)
    made = Augmentation(crop="none")(images, np.random.default_rng(1), slice(None))
    turned = [np.array_equal(a, b[..., ::-1]) for a, b in zip(made, images, strict=True)]
    assert 0 < sum(turned) < 12
    changed = Augmentation(crop="nda")(images, np.random.default_rng(1), slice(None))
    assert changed.shape == images.shape and not np.array_equal(changed, images)
