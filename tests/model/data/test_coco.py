"""model.data.coco: annotations as people have them, results as COCO's tools read them."""

import copy
import json
import logging

import numpy as np
import pytest

from model.data import coco
from model.data.objects import Found, IGNORED, InMemory, Objects
from model.data.pictures import Fitting, PictureError
from tests.model.data.coco_files import annotation, content, write


COLOUR = Fitting(size=32, channels=3)

TOLD = [
    annotation(11, 1, 7, [2, 2, 4, 4]),
    annotation(12, 1, 3, [-3, 4, 10, 20]),        # over two edges
    annotation(13, 2, 3, [30, 2, 4, 4]),          # outside
    annotation(14, 2, 3, [3, 3, 0.5, 4]),         # narrower than a pixel
    annotation(15, 2, 3, [3, 3, 2, 2], area=0),
    annotation(16, 2, 7, [3, 3, 2, 2], ignore=1),
    annotation(17, 1, 7, [10, 0, 8, 8], iscrowd=1,
               segmentation={"size": [10, 20], "counts": [100, 80, 20]}),
]


def read(folder, told, **options):
    file = write(folder, told)
    return coco.read_coco(file, file.parents[1] / "train2017", COLOUR, **options)


def test_gaps_edges_crowds_and_empty_pictures(tmp_path, caplog):
    caplog.set_level(logging.INFO, "model")
    data = read(tmp_path, content(TOLD))
    assert (data.classes, data.category_ids) == (("dog", "cat"), [3, 7])
    assert data.image_ids == [1, 2, 3] and data.mask_classes == ()
    first = data.objects_of(0)
    assert first.boxes.tolist() == [[2, 2, 6, 6], [0, 4, 7, 10], [10, 0, 18, 8]]
    assert first.classes.tolist() == [1, 0, 1] and first.crowd.tolist() == [False, False, True]
    assert first.areas.tolist() == [16, 200, 64]  # of the object, not of the clipped box
    assert len(data.objects_of(1)) == len(data.objects_of(2)) == 0
    lines = [record.getMessage().split(".json: ")[1] for record in caplog.records]
    assert lines == ["1 boxes reach over the edge of their picture and are clipped",
                     "3 boxes outside their picture or without area are not trained on",
                     "1 boxes that say ignore are not trained on"]
    # For evaluation everything is as the file has it.
    assert [one["bbox"] for one in coco.truth_of(data)["annotations"]] == [
        one["bbox"] for one in sorted(TOLD, key=lambda one: one["image_id"])]


def test_training_leaves_pictures_without_objects_out(tmp_path, caplog):
    """Evaluation does not, also where its pictures are set aside from those of training."""
    caplog.set_level(logging.INFO, "model")
    images = range(1, 34)
    objects = [annotation(number, number, 3, [0, 0, 5, 5], iscrowd=number % 2)
               for number in images if number % 4]
    write(tmp_path, content(objects, images=images))
    data = coco.coco_data(tmp_path, COLOUR)
    assert data.train.image_ids and all(number % 4 == 2 for number in data.train.image_ids)
    assert {number % 4 for number in data.val.image_ids} > {2}
    assert "pictures without objects are not trained on" in caplog.text


def test_samples(tmp_path):
    data = read(tmp_path, content(TOLD))
    one = data.sample(1)
    assert one.image.shape == (3, 10, 20) and (one.image == 2).all()
    assert (one.name, one.size, one.mask) == ("002.png", (10, 20), None)


def test_masks_of_outlines(tmp_path):
    pytest.importorskip("pycocotools")
    told = content([annotation(1, 1, 3, [2, 2, 4, 4]), annotation(2, 1, 7, [4, 2, 4, 4]),
                    annotation(3, 1, 7, [10, 0, 8, 8], iscrowd=1,
                               segmentation={"size": [10, 20], "counts": [40, 80, 80]}),
                    annotation(4, 2, 7, [1, 1, 2, 2], segmentation=[[1, 1, 3, 3]])])
    data = read(tmp_path, told, masks=True)
    assert data.mask_classes == ("background", "dog", "cat")
    want = np.zeros((10, 20), np.uint8)
    want[2:6, 2:4], want[2:6, 6:8] = 1, 2
    want[2:6, 4:6] = IGNORED           # of both
    crowd = np.zeros(200, bool)
    crowd[40:120] = True               # COCO counts down the columns
    want[crowd.reshape(20, 10).T & (want == 0)] = IGNORED
    np.testing.assert_array_equal(data.sample(0).mask, want)
    assert not data.sample(1).mask.any()  # two points have no pixels
    assert not data.sample(2).mask.any()
    # The same pixels as run lengths in COCO's short form.
    from pycocotools import mask

    short = mask.encode(np.asfortranarray(want == 2, np.uint8))
    told["annotations"] = [annotation(1, 1, 7, [6, 2, 2, 4], segmentation={
        "size": [10, 20], "counts": short["counts"].decode()})]
    np.testing.assert_array_equal(read(tmp_path, told, masks=True).sample(0).mask,
                                  2 * (want == 2))


def changed(change):
    told = copy.deepcopy(content(TOLD))
    change(told)
    return told


@pytest.mark.parametrize("change, text", [
    (lambda t: t.pop("images"), "must have a list of images"),
    (lambda t: t["annotations"].clear(), "has no annotations; nothing can be learned"),
    (lambda t: t.update(annotations=[5]), r"annotations\[0\] must be an object, not 5"),
    (lambda t: t["annotations"][0].update(category_id=4), "annotation 11: category_id 4 is not in"),
    (lambda t: t["annotations"][0].update(image_id=9), "annotation 11: image_id 9 is not in"),
    (lambda t: t["annotations"][0].update(id=12), "annotations: id 12 is there twice"),
    (lambda t: t["annotations"][0].update(id="11"), r"annotations\[0\]: id must be a whole number"),
    (lambda t: t["images"][1].update(id=1), "images: id 1 is there twice"),
    (lambda t: t["images"][1].update(id=True), r"images\[1\]: id must be a whole number, not True"),
    (lambda t: t["annotations"][0].update(bbox=[1, 2, 3]), "11: bbox must be four finite numbers"),
    (lambda t: t["annotations"][0].update(bbox=[1, 2, 3, float("nan")]), "11: bbox must be four"),
    (lambda t: t["annotations"][0].update(bbox=[1, 2, 3, -4]), "11: bbox has a negative width"),
    (lambda t: t["annotations"][0].update(area="big"), "11: area must be a number from 0"),
    (lambda t: t["annotations"][0].update(iscrowd=2), "11: iscrowd must be 0 or 1, not 2"),
    (lambda t: t["categories"][0].update(name="dog"), "categories: class names must differ"),
    (lambda t: t["categories"].clear(), "has no categories"),
    (lambda t: t["images"][0].update(file_name="../../secret.png"), "file_name must lie in"),
    (lambda t: t["images"][0].update(file_name="/secret.png"), "file_name must lie in"),
    (lambda t: t["images"][0].update(width=1 << 20, height=1 << 20), "at most 67,108,864 pixels"),
])
def test_what_cannot_be_meant(tmp_path, change, text):
    file = write(tmp_path, content(TOLD))
    told = changed(change)
    file.write_text(json.dumps(told))
    with pytest.raises(ValueError, match=text) as caught:
        coco.read_coco(file, tmp_path / "train2017", COLOUR)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("segmentation, text", [
    (None, "polygons or run lengths of size"),
    ([[1, 2, 3]], "lists of x, y in pixels"),
    ([[1, 2, 3, 1e9, 2, 2]], "lists of x, y in pixels"),
    ({"size": [20, 10], "counts": [200]}, r"run lengths of size \[10, 20\], not \[20, 10\]"),
    ({"size": [10, 20], "counts": [7]}, "counts must be 200 pixels"),
    ({"size": [10, 20], "counts": 7}, "counts must be run lengths, not 7"),
])
def test_outlines_that_cannot_be_meant(tmp_path, segmentation, text):
    pytest.importorskip("pycocotools")
    told = content([annotation(1, 1, 3, [1, 1, 2, 2], segmentation=segmentation)])
    with pytest.raises(ValueError, match=f"annotation 1: .*{text}"):
        read(tmp_path, told, masks=True)


@pytest.mark.parametrize("counts", ["", "0", "zzzz0", "d6 ", "\u1234", "\ud800", "l"])
def test_damaged_run_lengths(tmp_path, counts):
    pytest.importorskip("pycocotools")
    told = content([annotation(1, 1, 3, [1, 1, 2, 2],
                               segmentation={"size": [10, 20], "counts": counts})])
    with pytest.raises(ValueError, match="annotation 1: run lengths must be of 200 pixels"):
        read(tmp_path, told, masks=True).sample(0)


def test_short_run_lengths_are_pycocotools():
    """Fifty random masks of long and short runs: pixel for pixel."""
    mask = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(2)
    for _ in range(50):
        height, width = rng.integers(1, 60, 2)
        pixels = (rng.random((height, width)) < rng.random() ** 3).repeat(3, 0).repeat(3, 1)
        short = mask.encode(np.asfortranarray(pixels, np.uint8))
        outline = {"size": list(pixels.shape), "counts": short["counts"].decode()}
        np.testing.assert_array_equal(coco._pixels("", outline, *pixels.shape), pixels)


@pytest.mark.parametrize("text, message", [
    ("{", "is not JSON"), ("[" * 100_000, "is not JSON"), ("\xff", "is not JSON"),
    ("[]", "are these results"),
])
def test_no_json(tmp_path, text, message):
    file = tmp_path / "a.json"
    file.write_text(text, "latin-1")
    with pytest.raises(ValueError, match=f"a.json: .*{message}"):
        coco.read_coco(file, tmp_path, COLOUR)


def test_pictures_that_are_others(tmp_path):
    file = write(tmp_path, content(TOLD))
    told = changed(lambda t: t["images"][0].update(width=21))
    file.write_text(json.dumps(told))
    data = coco.read_coco(file, tmp_path / "train2017", COLOUR)
    with pytest.raises(PictureError, match="001.png: has 20x10 pixels, upright, but .* for 21x10"):
        data.sample(0)
    (tmp_path / "train2017" / "002.png").unlink()
    with pytest.raises(ValueError, match="002.png: is not there, but .*names it"):
        coco.read_coco(file, tmp_path / "train2017", COLOUR)


def test_folder(tmp_path, caplog):
    images = range(1, 31)
    told = content([annotation(n, n, 3, [1, 1, 5, 5]) for n in images], images=images)
    write(tmp_path, told)
    data = coco.coco_data(tmp_path, COLOUR)
    assert 0 < len(data.val) < 10 and data.val is data.test
    assert sorted([*data.train.image_ids, *data.val.image_ids]) == list(images)
    assert "no part test; val is used" in caplog.text
    write(tmp_path, content(TOLD), "val")
    data = coco.coco_data(tmp_path, COLOUR)
    assert (len(data.train), len(data.val), len(data.test)) == (30, 3, 3)
    told["categories"][0]["name"] = "bird"
    write(tmp_path, told, "test")
    with pytest.raises(ValueError, match="test has other classes than train"):
        coco.coco_data(tmp_path, COLOUR)


def test_folder_without_parts(tmp_path):
    with pytest.raises(ValueError, match="has no part for training"):
        coco.coco_data(tmp_path, COLOUR)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "train.json").write_text("{}")
    with pytest.raises(ValueError, match="has annotations for train, but no pictures in train2017"):
        coco.coco_data(tmp_path, COLOUR)


def found(*rows):
    rows = np.array(rows, float).reshape(-1, 6)
    return Found(boxes=rows[:, :4], classes=rows[:, 4].astype(np.int64), scores=rows[:, 5])


def test_results(tmp_path):
    data = read(tmp_path, content(TOLD))
    results = coco.results_of(data, [found((2, 2, 6, 7, 1, 0.5), (0, 0, 1.5, 1, 0, 0.25)), found(),
                                     found((1, 2, 3, 4, 0, 1))])
    coco.write_results(results, tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text()) == results == [
        {"image_id": 1, "category_id": 7, "bbox": [2, 2, 4, 5], "score": 0.5},
        {"image_id": 1, "category_id": 3, "bbox": [0, 0, 1.5, 1], "score": 0.25},
        {"image_id": 3, "category_id": 3, "bbox": [1, 2, 2, 2], "score": 1}]
    coco.write_results([], tmp_path / "none.json")
    assert json.loads((tmp_path / "none.json").read_text()) == []
    with pytest.raises(ValueError, match="one for each of 3 pictures, not 1"):
        coco.results_of(data, [found()])
    with pytest.raises(ValueError, match="picture 2 must be finite"):
        coco.results_of(data, [found(), found((0, 0, 1, np.inf, 0, 1)), found()])


def test_pycocotools_reads_both(tmp_path, capsys):
    tools = pytest.importorskip("pycocotools.coco")
    data = read(tmp_path, content(TOLD))
    coco.write_results(coco.results_of(data, [found((2, 2, 6, 7, 1, 0.5)), found(), found()]),
                       tmp_path / "results.json")
    truth = tools.COCO(str(tmp_path / "annotations/instances_train2017.json"))
    assert len(truth.loadRes(str(tmp_path / "results.json")).anns) == 1


def test_truth_in_memory():
    objects = [Objects(boxes=np.array([[1, 2, 4, 8.0]]), classes=[1], areas=[5.0]), Objects.none()]
    data = InMemory(images=np.zeros((2, 9, 9), np.uint8), objects=objects, masks=None,
                    classes=("a", "b"), mask_classes=())
    assert coco.truth_of(data) == {
        "images": [{"id": 1}, {"id": 2}],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 6], "area": 5,
                         "iscrowd": 0}]}
