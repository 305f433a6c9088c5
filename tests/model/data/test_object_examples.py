"""The examples that write small sets in COCO's and ADE20K's layout."""

import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image
import pytest

from model.data.coco import coco_data, read_coco
from model.data.mask_folder import mask_data
from model.data.objects import InMemory, ObjectData
from model.data.pictures import Fitting
from model.data.scenes import draw_placed, MASK_CLASSES, place_items, placed_objects


def example(name):
    path = Path(__file__).parents[3] / "examples" / f"{name}.py"
    module = importlib.util.spec_from_file_location(name, path)
    made = importlib.util.module_from_spec(module)
    module.loader.exec_module(made)
    return made


def scenes(seed, count=6):
    rng = np.random.default_rng(seed)
    items = rng.integers(0, 256, (count, 28, 28)).astype(np.uint8)
    labels = rng.integers(0, 10, count)
    placing = place_items(count, rng)
    images, owners = draw_placed(items, placing)
    objects, masks = placed_objects(owners, placing, labels)
    return InMemory(images=images, objects=objects, masks=masks, classes=MASK_CLASSES[1:],
                    mask_classes=MASK_CLASSES)


def test_scenes_come_back_from_both_layouts(tmp_path):
    """Pixels, boxes, classes, areas and masks of what scenes_coco.py wrote, by the readers."""
    data = ObjectData(train=scenes(1), val=scenes(2), test=scenes(3))
    example("scenes_coco").write_scenes(tmp_path, data, 5)
    grey = Fitting(size=64, channels=1)
    boxes, masks = coco_data(tmp_path, grey), mask_data(tmp_path, grey, zero_ignored=False)
    assert boxes.train.classes == MASK_CLASSES[1:] and masks.train.mask_classes == MASK_CLASSES
    for part in ("train", "val", "test"):
        want = getattr(data, part)
        assert len(getattr(boxes, part)) == len(getattr(masks, part)) == 5
        for index in range(5):
            one, own = getattr(boxes, part).sample(index), want.sample(index)
            np.testing.assert_array_equal(one.image, own.image)
            for name in ("boxes", "classes", "areas", "crowd"):
                np.testing.assert_array_equal(getattr(one.objects, name),
                                              getattr(own.objects, name))
            assert getattr(boxes, part).annotations_of(index) == want.annotations_of(index)
            np.testing.assert_array_equal(getattr(masks, part).sample(index).mask, own.mask)


VOC = """<annotation><filename>a.png</filename><object><name>Tree</name>
<bndbox><xmin>4</xmin><ymin>5</ymin><xmax>14</xmax><ymax>15</ymax></bndbox></object>
<object><name>Tree</name><bndbox><xmin>28</xmin><ymin>2</ymin><xmax>42</xmax><ymax>12</ymax>
</bndbox></object></annotation>"""


def test_tiles_of_voc(tmp_path):
    """A picture of 70 x 40 gives two whole tiles of 32; the second box lies in both of them."""
    picture = np.arange(70 * 40, dtype=np.uint16).reshape(40, 70) % 251
    Image.fromarray(picture.astype(np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "a.xml").write_text(VOC)
    tiles = example("coco_tiles")
    for part in ("train", "test"):
        assert tiles.write_tiles(tmp_path / "out", part, [tmp_path / "a.xml"], 32,
                                 ["Dead", "Tree"]) == (2, 2)
    data = read_coco(tmp_path / "out/annotations/instances_test2017.json",
                     tmp_path / "out/test2017", Fitting(size=32, channels=1))
    one, two = data.sample(0), data.sample(1)
    np.testing.assert_array_equal(two.image, picture[:32, 32:64])
    assert data.classes == ("Dead", "Tree") and one.objects.classes.tolist() == [1, 1]
    assert one.objects.boxes.tolist() == [[4, 5, 14, 15], [28, 2, 32, 12]]
    assert one.objects.crowd.tolist() == [False, True]  # 4 of its 14 columns
    assert two.objects.boxes.tolist() == [[0, 2, 10, 12]] and not two.objects.crowd.any()


def test_tiles_of_nuclei(tmp_path):
    numbers = np.zeros((64, 64), np.uint16)
    numbers[:8, :8], numbers[40:, 40:] = 700, 3
    Image.fromarray(numbers).save(tmp_path / "mask2d.tif")
    Image.fromarray(np.where(numbers > 0, 200, 20).astype(np.uint16)).save(tmp_path / "img2d.tif")
    tiles = example("nuclei_tiles")
    assert tiles.write_tiles(tmp_path / "out", tmp_path, 16) == {"train": 8, "test": 8}
    data = mask_data(tmp_path / "out", Fitting(size=16, channels=1), zero_ignored=False)
    assert data.train.mask_classes == ("background", "nucleus")
    seen = {one.name: one for part in (data.train, data.val, data.test)
            for one in map(part.sample, range(len(part)))}
    assert len(seen) == 16
    for name, one in seen.items():
        top, left = map(int, Path(name).stem.split("_"))
        np.testing.assert_array_equal(one.mask, numbers[top:top + 16, left:left + 16] > 0)
        np.testing.assert_array_equal(one.image > 100, one.mask)


@pytest.mark.parametrize("name", ["coco_tiles", "nuclei_tiles", "scenes_coco"])
def test_help(name, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", [name, "--help"])
    with pytest.raises(SystemExit):
        example(name).main()
    assert capsys.readouterr().out.startswith("usage: ")
