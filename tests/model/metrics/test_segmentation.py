"""model.metrics.segmentation: cases counted by hand."""

import math

import numpy as np
import pytest

from model.data.objects import IGNORED
from model.metrics.segmentation import Confusion


def counted(classes, truth, said):
    confusion = Confusion(classes)
    confusion.add(np.array(truth, np.uint8), np.array(said, np.uint8))
    return confusion


def test_by_hand():
    """Six pixels; class 0: 2 of 3 right and one more said; 1: 1 of 2; 2: 1 of 1, none more."""
    confusion = counted(3, [[0, 0, 0], [1, 1, 2]], [[0, 0, 1], [0, 1, 2]])
    assert confusion.counts.tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert confusion.iou.tolist() == [2 / 4, 1 / 3, 1]
    assert confusion.mean_iou == pytest.approx((1 / 2 + 1 / 3 + 1) / 3)
    assert confusion.accuracy.tolist() == [2 / 3, 1 / 2, 1]
    assert confusion.pixel_accuracy == 4 / 6


def test_ignored_pixels_do_not_count():
    confusion = counted(2, [0, IGNORED, IGNORED, 1], [0, 1, 0, 0])
    assert confusion.counts.tolist() == [[1, 0], [1, 0]]
    assert confusion.iou.tolist() == [0.5, 0]
    nothing = counted(2, [IGNORED], [200])  # what is said there is not even looked at
    assert nothing.counts.sum() == 0
    assert math.isnan(nothing.mean_iou) and math.isnan(nothing.pixel_accuracy)


def test_absent_classes():
    """Class 2 is neither true nor said: no IoU. Class 3 is said once and never true: 0."""
    confusion = counted(4, [0, 0, 1], [0, 3, 1])
    np.testing.assert_array_equal(confusion.iou, [0.5, 1, np.nan, 0])
    assert confusion.mean_iou == 0.5
    np.testing.assert_array_equal(confusion.accuracy, [0.5, 1, np.nan, np.nan])


def test_counts_are_summed_before_they_are_divided():
    confusion = Confusion(2)
    confusion.add(np.zeros((1, 9), np.uint8), np.zeros((1, 9), np.uint8))
    confusion.add(np.zeros(3, np.uint8), np.ones(3, np.uint8))
    assert confusion.iou.tolist() == [9 / 12, 0]  # and not the mean of 1 and 0


def test_background_alone():
    """What is said is the background everywhere: the floor of docs/training.md's scenes."""
    truth = np.zeros((10, 10), np.uint8)
    truth[:4, :6] = 3
    confusion = counted(11, truth, np.zeros_like(truth))
    assert confusion.mean_iou == pytest.approx(0.76 / 2)


@pytest.mark.parametrize("truth, said, text", [
    ([0, 1], [0], r"one shape, not \(2,\) and \(1,\)"),
    ([0, 2], [0, 0], "truth must have classes 0 to 1, not 2"),
    ([0, 1], [0, 7], "predicted must have classes 0 to 1, not 7"),
])
def test_wrong_ones(truth, said, text):
    with pytest.raises(ValueError, match=text):
        counted(2, truth, said)


def test_number_of_classes():
    for classes in (0, 256):
        with pytest.raises(ValueError, match=f"classes must be 1 to 255, not {classes}"):
            Confusion(classes)
