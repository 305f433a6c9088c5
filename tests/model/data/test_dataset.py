"""model.data.dataset: the int8 image, batches and their augmentation."""

import numpy as np
import pytest

from model.data import dataset as data
from model.data.augment import shift_and_flip
from model.families.spec import spec


NANO = spec("qsdt_nano")


def test_to_image_q_rounds_the_normalised_pixel():
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    image_q = data.to_image_q(images, NANO)
    assert (image_q.shape, image_q.dtype) == ((1, 1, 16, 16), np.int8)
    x = (images[0] / 255 - 0.2860) / 0.3530
    np.testing.assert_array_equal(image_q[0, 0], np.floor(48 * x + 0.5))
    assert (image_q.min(), image_q.max()) == (-39, 97)


def test_to_image_q_in_colour():
    images = np.stack([np.full((3, 4, 5), value, np.uint8) for value in (0, 255)])
    image_q = data.to_image_q(images, spec("qsdt_t"))
    assert image_q[0, :, 0, 0].tolist() == [-102, -98, -87]
    assert image_q[1, :, 0, 0].tolist() == [108, 117, 127]
    with pytest.raises(ValueError, match=r"images must be \(N, 1, H, W\) for qsdt_nano"):
        data.to_image_q(images, NANO)


def test_augment_shifts_over_black_and_mirrors():
    image = np.zeros((28, 28), np.uint8)
    image[10:12, 5:9] = [[1, 2, 3, 4], [5, 6, 7, 8]]
    many = shift_and_flip(np.repeat(image[None], 500, 0), np.random.default_rng(0))
    assert many.shape == (500, 28, 28)
    assert (many.sum((1, 2)) == image.sum()).all(), "nothing may leave an image this empty"
    kinds = {array.tobytes() for array in many}
    wanted = {
        np.roll(source, (down, right), (0, 1)).tobytes()
        for source in (image, image[:, ::-1])
        for down in range(-2, 3)
        for right in range(-2, 3)
    }
    assert kinds == wanted
    full = shift_and_flip(np.full((100, 4, 4), 9, np.uint8), np.random.default_rng(0), flip=False)
    assert set(np.unique(full)) == {0, 9}, "what comes in from outside is pixel 0"


def test_batches():
    images = np.arange(10, dtype=np.uint8)[:, None, None].repeat(28, 1).repeat(28, 2)
    split = data.Split(images=images, labels=np.arange(10))
    parts = list(data.batches(split, NANO, batch=4))
    assert [len(labels) for _, labels in parts] == [4, 4, 2]
    assert np.concatenate([labels for _, labels in parts]).tolist() == list(range(10))
    np.testing.assert_array_equal(parts[0][0], data.to_image_q(images[:4], NANO))
    shuffled = list(data.batches(split, NANO, batch=4, rng=np.random.default_rng(1)))
    again = list(data.batches(split, NANO, batch=4, rng=np.random.default_rng(1)))
    assert [len(labels) for _, labels in shuffled] == [4, 4]
    for (x, labels), (x2, labels2) in zip(shuffled, again, strict=True):
        np.testing.assert_array_equal(labels, labels2)
        np.testing.assert_array_equal(x, x2)
        centre = data.to_image_q(images[labels], NANO)[:, 0, 14, 14]
        np.testing.assert_array_equal(x[:, 0, 14, 14], centre)
