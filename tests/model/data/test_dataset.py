"""model.data.dataset: the IDX reader, the fixed split, the int8 image and the augmentation."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from model.data import dataset as data
from model.data.augment import shift_and_flip
from model.families.spec import spec


NANO = spec("qsdt_nano")

needs_fashion_mnist = pytest.mark.skipif(
    not data.DEBIAN_FOLDER.is_dir(), reason=f"needs the Debian package {data.DEBIAN_PACKAGE}"
)


def idx(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4) for n in array.shape)
    return head + array.astype(np.uint8).tobytes()


def test_parse_idx():
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    np.testing.assert_array_equal(data.parse_idx(idx(array)), array)
    with pytest.raises(ValueError, match="must have 24 bytes of data, not 23"):
        data.parse_idx(idx(array)[:-1])
    with pytest.raises(ValueError, match=r"must begin with bytes 0 0 8, not \[31, 139, 8\]"):
        data.parse_idx(gzip.compress(b"x"))


def test_absent_data_set_names_the_package(tmp_path):
    with pytest.raises(FileNotFoundError, match="apt-get install dataset-fashion-mnist"):
        data.fashion_mnist(tmp_path)


def test_changed_file_is_rejected(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((1, 2, 2))))
    with pytest.raises(ValueError, match="SHA-256 of train-images-idx3-ubyte must be c59f"):
        data.fashion_mnist(tmp_path)


@needs_fashion_mnist
def test_fashion_mnist_split():
    one, two = data.fashion_mnist(), data.fashion_mnist(Path(data.DEBIAN_FOLDER))
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


@needs_fashion_mnist
def test_fashion_scenes_split():
    items, scenes = data.fashion_mnist(), data.fashion_scenes()  # checks its own SHA-256
    small = spec("qsdt_s")
    for part in ("train", "val", "test"):
        one = getattr(scenes, part)
        assert one.images.shape == (len(one), small.image_size, small.image_size)
        np.testing.assert_array_equal(one.labels, getattr(items, part).labels)
    pixels = scenes.train.images / 255
    assert pixels.mean() == pytest.approx(small.norm_mean[0], abs=1e-4)
    assert pixels.std() == pytest.approx(small.norm_std[0], abs=1e-4)


@needs_fashion_mnist
def test_other_scenes_than_the_recorded_ones_are_refused(monkeypatch):
    monkeypatch.setitem(data.SCENE_SEEDS, "val", 99)
    with pytest.raises(ValueError, match="SHA-256 of the val scenes must be 9577ee.*NumPy"):
        data.fashion_scenes()


def test_scenes_hold_one_largest_and_up_to_three_other_items():
    # Item i is a full square of grey level i + 1, so that boxes can be read off a scene.
    items = np.arange(1, 201, dtype=np.uint8)[:, None, None].repeat(28, 1).repeat(28, 2)
    scenes = data.draw_scenes(items, np.random.default_rng(3))
    np.testing.assert_array_equal(scenes, data.draw_scenes(items, np.random.default_rng(3)))
    assert (scenes.shape, scenes.dtype) == ((200, 64, 64), np.uint8)
    sides, counts = [], []
    for level, scene in enumerate(scenes, 1):
        found = {grey: np.argwhere(scene == grey) for grey in np.unique(scene[scene > 0])}
        counts.append(len(found))
        for grey, pixels in found.items():
            height, width = np.ptp(pixels, axis=0) + 1
            if len(pixels) != height * width:
                continue  # the same item twice in a scene
            assert height == width
            if grey == level:
                sides.append(height)
            else:
                assert 12 <= height <= 20
    assert len(sides) > 190
    assert (min(sides), max(sides)) == data.LARGEST_SIDES
    assert set(counts) == {1, 2, 3, 4}


def test_a_scene_without_room_gets_fewer_items(monkeypatch):
    items = np.full((50, 28, 28), 7, np.uint8)
    monkeypatch.setattr(data, "LARGEST_SIDES", (64, 64))
    assert (data.draw_scenes(items, np.random.default_rng(0)) == 7).all()


def test_resize_takes_area_means():
    image = np.array([[[0, 100], [200, 255]]], np.uint8)
    np.testing.assert_array_equal(data.resize(image, 2), image)
    assert data.resize(image, 1).tolist() == [[[139]]]  # 138.75
    assert data.resize(image, 4)[0, :2].tolist() == [[0, 0, 100, 100]] * 2
    assert data.resize(image, 3)[0].tolist() == [[0, 50, 100], [100, 139, 178], [200, 228, 255]]
    noise = np.random.default_rng(0).integers(0, 256, (3, 28, 28)).astype(np.uint8)
    for size in (12, 20, 44):
        fine = noise.repeat(size, 1).repeat(size, 2).astype(float)  # 28*size on a side
        want = fine.reshape(3, size, 28, size, 28).mean((2, 4))
        np.testing.assert_array_equal(data.resize(noise, size), np.floor(want + 0.5))


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
