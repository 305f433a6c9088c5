"""model.metrics.detection: average precisions worked out by hand, and the parts pycocotools has."""

import math

import numpy as np
import pytest

from model.data.coco import results_of, truth_of
from model.data.objects import Found, InMemory, Objects
from model.error import ToolMissing
from model.metrics import detection


pytest.importorskip("pycocotools")


def data(*objects, classes=2):
    return InMemory(images=np.zeros((len(objects), 64, 64), np.uint8), objects=objects, masks=None,
                    classes=tuple("abcdef"[:classes]), mask_classes=())


def true(*rows, **more):
    rows = np.array(rows, float).reshape(-1, 5)
    return Objects(boxes=rows[:, :4], classes=rows[:, 4].astype(np.int64), **more)


def found(*rows):
    rows = np.array(rows, float).reshape(-1, 6)
    return Found(boxes=rows[:, :4], classes=rows[:, 4].astype(np.int64), scores=rows[:, 5])


def precision(samples, *boxes):
    """Every figure rounded to 12 digits: pycocotools divides by a sum and 2.2e-16."""
    got = detection.average_precision(truth_of(samples), results_of(samples, boxes))
    return detection.Precision(**{name: np.round(value, 12) for name, value in vars(got).items()})


BOX = (10, 10, 20, 20, 0)


def test_all_found():
    samples = data(true(BOX, (30, 30, 40, 50, 1)), true((0, 0, 50, 40, 0)))
    got = precision(samples, found((*BOX, 0.9), (30, 30, 40, 50, 1, 0.8)),
                    found((0, 0, 50, 40, 0, 0.3)))
    assert got.mean == got.at50 == got.at75 == got.small == got.medium == got.recall == 1
    assert math.isnan(got.large)  # no true box of more than 96 x 96
    assert got.of_class.tolist() == got.of_class_at50.tolist() == [1, 1]


def test_nothing_found():
    got = precision(data(true(BOX)), found())
    assert got.mean == got.at50 == got.recall == 0
    np.testing.assert_array_equal(got.of_class, [0, np.nan])  # no true box of class b


def test_overlap():
    """IoU 0.6: right at 0.50, 0.55 and 0.60 only, three of ten thresholds."""
    got = precision(data(true((0, 0, 10, 10, 0))), found((0, 0, 10, 6, 0, 1)))
    assert (got.at50, got.at75) == (1, 0) and got.mean == pytest.approx(0.3)


def test_a_wrong_box_before_and_after_the_right_one():
    """Recall 1 of 1 is reached with precision 1/2, or with 1 before the wrong one comes."""
    samples = data(true(BOX))
    wrong = (40, 40, 50, 50, 0)
    assert precision(samples, found((*wrong, 0.9), (*BOX, 0.5))).at50 == pytest.approx(0.5)
    assert precision(samples, found((*wrong, 0.4), (*BOX, 0.5))).at50 == 1
    # The second box on the same object is wrong, too.
    assert precision(samples, found((*BOX, 0.9), (*BOX, 0.8))).at50 == 1


def test_half_of_the_objects():
    """One of two found: precision 1 at recalls 0, 0.01, .. 0.50, 51 of 101 points."""
    samples = data(true(BOX, (40, 40, 50, 50, 0)))
    got = precision(samples, found((*BOX, 0.9)))
    assert got.at50 == pytest.approx(51 / 101) and got.recall == 0.5


def test_other_class_is_wrong():
    got = precision(data(true(BOX)), found((*BOX[:4], 1, 0.9)))
    assert got.at50 == 0 and math.isnan(got.of_class_at50[1])


def test_picture_without_objects():
    """Boxes found in it count against the class."""
    got = precision(data(true(BOX), Objects.none()), found((*BOX, 0.5)), found((*BOX, 0.9)))
    assert got.at50 == pytest.approx(0.5)


def test_crowd():
    """What is found in a crowd is neither right nor wrong, however little of it it covers."""
    crowd = true(BOX, (30, 30, 60, 60, 0), crowd=[False, True])
    got = precision(data(crowd), found((30, 30, 36, 36, 0, 0.9), (50, 50, 60, 60, 0, 0.8),
                                       (*BOX, 0.5)))
    assert got.at50 == got.recall == 1
    got = precision(data(crowd), found((0, 30, 36, 36, 0, 0.9), (*BOX, 0.5)))  # mostly outside
    assert got.at50 == pytest.approx(0.5)


def test_sizes_are_those_of_the_mask():
    """A box of 40 x 40 with a mask of 900 pixels is small."""
    got = precision(data(true((0, 0, 40, 40, 0), areas=[900.0])), found((0, 0, 40, 40, 0, 1)))
    assert got.small == 1 and math.isnan(got.medium)


def test_a_hundred_boxes_a_picture():
    """The 101st is not looked at."""
    wrong = [(40, 40, 50, 50, 0, 0.9 - i / 1000) for i in range(100)]
    assert precision(data(true(BOX)), found(*wrong, (*BOX, 0.1))).recall == 0
    assert precision(data(true(BOX)), found(*wrong[1:], (*BOX, 0.1))).recall == 1


def test_other_pictures_or_classes():
    truth = truth_of(data(true(BOX)))
    one = {"image_id": 2, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1.0}
    with pytest.raises(ValueError, match="results name the picture 2, which the annotations lack"):
        detection.average_precision(truth, [one])
    with pytest.raises(ValueError, match="results name the class 5, which"):
        detection.average_precision(truth, [{**one, "image_id": 1, "category_id": 5}])


def test_without_pycocotools(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ToolMissing, match=r"pip install 'qsdt-fpga\[detect\]'"):
        detection.average_precision(truth_of(data(true(BOX))), [])
