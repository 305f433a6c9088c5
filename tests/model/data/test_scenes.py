"""model.data.scenes: drawn from fixed seeds, the same everywhere."""

import hashlib

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


@needs_fashion_mnist
def test_fashion_objects():
    """Pictures, boxes, classes and masks of the whole set are those of the recorded digests."""
    data = scenes.fashion_objects()
    assert [len(getattr(data, part)) for part in ("train", "val", "test")] == [55000, 5000, 10000]
    for part in (data.train, data.val, data.test):
        assert ((part.masks > 0) == (part.images > 0)).all()
        assert len(part.objects.objects) / len(part) == pytest.approx(2.09, abs=0.01)
    assert (data.test.masks > 0).mean() == pytest.approx(0.234, abs=5e-4)
    one = data.test.sample(1)  # of the ten thousand
    assert one.objects.boxes.tolist() == [[8, 7, 41, 50]] and one.objects.classes.tolist() == [2]
    with pytest.raises(ValueError, match="SHA-256 of the masks must be 0, not .*NumPy"):
        scenes._check("masks", "0", data.test.masks[:1])


@needs_fashion_mnist
def test_a_small_subset_by_its_digests():
    """Twenty scenes of the first test items: pictures, then boxes, classes, areas and masks."""
    items = mnist._read(mnist.DEBIAN_FOLDER, "t10k-images-idx3-ubyte", mnist._FASHION)[:20]
    labels = mnist._read(mnist.DEBIAN_FOLDER, "t10k-labels-idx1-ubyte", mnist._FASHION)[:20]
    placing = scenes.place_items(20, np.random.default_rng(13))
    drawn, owners = scenes.draw_placed(items, placing)
    np.testing.assert_array_equal(drawn, scenes.draw_scenes(items, np.random.default_rng(13)))
    objects, masks = scenes.placed_objects(owners, placing, labels)
    found = objects.objects
    digests = [hashlib.sha256(array.tobytes()).hexdigest()[:16] for array in
               (drawn, found.boxes, found.classes.astype("<i8"), found.areas, masks)]
    assert digests == ["b63c52a61385b1b9", "14bd128a59dcbfe6", "5c94602a032ca50a",
                       "49cecd1e79e3789e", "d7a638491968ca4c"]


def blocks(level):
    """Items that are full squares, of the grey levels `level`."""
    return np.array(level, np.uint8)[:, None, None].repeat(28, 1).repeat(28, 2)


def placed(*rows):
    """One scene of items (item, top, left, side)."""
    item, top, left, side = np.array(rows).T[:, None]
    return scenes.Placing(item=item, top=top, left=left, side=side)


def test_boxes_and_masks_of_placed_items():
    items = blocks([50, 60])
    items[1, :14] = 0  # its upper half shows nothing
    placing = placed((0, 2, 3, 32), (1, 40, 50, 12), (0, 0, 0, 0), (0, 0, 0, 0))
    drawn, owners = scenes.draw_placed(items, placing)
    objects, masks = scenes.placed_objects(owners, placing, np.array([7, 0]))
    assert len(objects) == 1
    assert objects[0].boxes.tolist() == [[3, 2, 35, 34], [50, 46, 62, 52]]
    assert objects[0].classes.tolist() == [7, 0] and objects[0].areas.tolist() == [1024, 72]
    assert not objects[0].crowd.any()
    assert (masks[0, 2:34, 3:35] == 8).all() and (masks[0, 46:52, 50:62] == 1).all()
    assert (masks > 0).sum() == 1024 + 72 == (drawn > 0).sum()


def test_a_later_item_covers_an_earlier_one():
    """The mask is what is visible: a covered part, also by an item's zeros, is nobody's."""
    items = blocks([50, 60])
    items[1, :14] = 0
    placing = placed((0, 0, 0, 40), (1, 20, 30, 20), (0, 62, 62, 1), (1, 61, 61, 3))
    drawn, owners = scenes.draw_placed(items, placing)
    objects, masks = scenes.placed_objects(owners, placing, np.array([7, 0]))
    np.testing.assert_array_equal(owners > 0, drawn > 0)
    # The first keeps what lies outside the second's square of rows 20..39 and columns 30..49.
    assert objects[0].boxes.tolist() == [[0, 0, 40, 40], [30, 30, 50, 40], [61, 62, 64, 64]]
    assert objects[0].areas.tolist() == [1600 - 200, 200, 6]
    assert objects[0].classes.tolist() == [7, 0, 0]  # the third is covered wholly
    assert (masks[0, 20:30, 30:50] == 0).all() and (masks[0, 30:40, 30:50] == 1).all()


def test_masks_follow_pictures_where_items_overlap(monkeypatch):
    """Thirty scenes of overlapping items: a pixel is its owner's, in picture, mask and box."""
    monkeypatch.setattr(scenes, "_meet", lambda one, two: np.zeros(len(one[0]), bool))
    rng = np.random.default_rng(5)
    items = rng.integers(0, 256, (30, 28, 28)).astype(np.uint8) * (rng.random((30, 28, 28)) < 0.3)
    labels = rng.integers(0, 10, 30)
    placing = scenes.place_items(30, rng)
    drawn, owners = scenes.draw_placed(items.astype(np.uint8), placing)
    objects, masks = scenes.placed_objects(owners, placing, labels)
    np.testing.assert_array_equal(masks > 0, drawn > 0)
    for scene in range(30):
        want = []
        for k in range(4):
            y, x, side = (getattr(placing, name)[scene, k] for name in ("top", "left", "side"))
            if side == 0:
                continue
            rows, columns = np.nonzero(owners[scene] == k + 1)
            assert ((rows >= y) & (rows < y + side) & (columns >= x) & (columns < x + side)).all()
            item = scenes.resize(items[placing.item[scene, k]][None].astype(np.uint8), side)[0]
            np.testing.assert_array_equal(drawn[scene, rows, columns], item[rows - y, columns - x])
            if len(rows):
                kind = labels[placing.item[scene, k]]
                assert (masks[scene, rows, columns] == kind + 1).all()
                want.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1, kind,
                             len(rows)])
        got = objects[scene]
        assert np.column_stack([got.boxes, got.classes, got.areas]).tolist() == want


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
