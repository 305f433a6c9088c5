"""model.data.scenes: drawn from fixed seeds, the same everywhere."""

import numpy as np
import pytest

from model.data import mnist, scenes
from model.families.spec import spec


needs_fashion_mnist = pytest.mark.skipif(
    not mnist.DEBIAN_FOLDER.is_dir(), reason=f"needs the Debian package {mnist.DEBIAN_PACKAGE}"
)


@needs_fashion_mnist
def test_fashion_scenes_split():
    items, drawn = mnist.fashion_mnist(), scenes.fashion_scenes()  # checks its own SHA-256
    small = spec("qsdt_s")
    for part in ("train", "val", "test"):
        one = getattr(drawn, part)
        assert one.images.shape == (len(one), small.image_size, small.image_size)
        np.testing.assert_array_equal(one.labels, getattr(items, part).labels)
    pixels = drawn.train.images / 255
    assert pixels.mean() == pytest.approx(small.norm_mean[0], abs=1e-4)
    assert pixels.std() == pytest.approx(small.norm_std[0], abs=1e-4)


@needs_fashion_mnist
def test_other_scenes_than_the_recorded_ones_are_refused(monkeypatch):
    monkeypatch.setitem(scenes.SCENE_SEEDS, "val", 99)
    with pytest.raises(ValueError, match="SHA-256 of the val scenes must be 9577ee.*NumPy"):
        scenes.fashion_scenes()


def test_scenes_hold_one_largest_and_up_to_three_other_items():
    # Item i is a full square of grey level i + 1, so that boxes can be read off a scene.
    items = np.arange(1, 201, dtype=np.uint8)[:, None, None].repeat(28, 1).repeat(28, 2)
    drawn = scenes.draw_scenes(items, np.random.default_rng(3))
    np.testing.assert_array_equal(drawn, scenes.draw_scenes(items, np.random.default_rng(3)))
    assert (drawn.shape, drawn.dtype) == ((200, 64, 64), np.uint8)
    sides, counts = [], []
    for level, scene in enumerate(drawn, 1):
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
    assert (min(sides), max(sides)) == scenes.LARGEST_SIDES
    assert set(counts) == {1, 2, 3, 4}


def test_a_scene_without_room_gets_fewer_items(monkeypatch):
    items = np.full((50, 28, 28), 7, np.uint8)
    monkeypatch.setattr(scenes, "LARGEST_SIDES", (64, 64))
    assert (scenes.draw_scenes(items, np.random.default_rng(0)) == 7).all()


def test_resize_takes_area_means():
    image = np.array([[[0, 100], [200, 255]]], np.uint8)
    np.testing.assert_array_equal(scenes.resize(image, 2), image)
    assert scenes.resize(image, 1).tolist() == [[[139]]]  # 138.75
    assert scenes.resize(image, 4)[0, :2].tolist() == [[0, 0, 100, 100]] * 2
    assert scenes.resize(image, 3)[0].tolist() == [[0, 50, 100], [100, 139, 178], [200, 228, 255]]
    noise = np.random.default_rng(0).integers(0, 256, (3, 28, 28)).astype(np.uint8)
    for size in (12, 20, 44):
        fine = noise.repeat(size, 1).repeat(size, 2).astype(float)  # 28*size on a side
        want = fine.reshape(3, size, 28, size, 28).mean((2, 4))
        np.testing.assert_array_equal(scenes.resize(noise, size), np.floor(want + 0.5))
