"""model.metrics.mistakes: what is wrong with each box, and what was missed."""

import numpy as np
import pytest

from model.data.objects import Found, IGNORED, Objects
from model.metrics.mistakes import box_quality, judged, NAMED, pixel_mistakes


TRUTH = Objects(boxes=np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10.0]]),
                classes=[0, 1, 0])


def found(*rows):
    """Rows of left, top, right, bottom, class, score."""
    values = np.array(rows, float).reshape(-1, 6)
    return Found(boxes=values[:, :4], classes=values[:, 4].astype(int), scores=values[:, 5])


def test_every_kind():
    boxes = found(
        (0, 0, 10, 10, 0, 0.9), (0, 0, 10, 9, 0, 0.8), (20, 0, 30, 10, 0, 0.7),
        (45, 0, 55, 10, 0, 0.6), (60, 60, 70, 70, 1, 0.5), (4, 0, 14, 10, 0, 0.4))
    result = judged(TRUTH, boxes)
    assert result.kinds == ("right", "double", "wrong class", "misplaced", "false", "double")
    assert result.objects.tolist() == [0, 0, 1, 2, -1, 0] and result.missed == ()
    assert set(result.kinds) <= set(NAMED) and box_quality(result) == 1 / 6


def test_the_surest_takes_the_object():
    """Whatever the order of the boxes; two boxes take two objects of a class."""
    result = judged(TRUTH, found((0, 0, 10, 8, 0, 0.5), (0, 0, 10, 10, 0, 0.6)))
    assert result.kinds == ("double", "right") and result.missed == (1, 2)
    assert box_quality(result) == 1 / 4
    close = Objects(boxes=np.array([[0, 0, 10, 10], [0, 0, 10, 8.0]]), classes=[0, 0])
    result = judged(close, found((0, 0, 10, 9.5, 0, 0.9), (0, 0, 10, 9.5, 0, 0.8)))
    assert result.kinds == ("right", "right") and result.objects.tolist() == [0, 1]


def test_nothing():
    nothing = judged(Objects.none(), found())
    assert nothing.kinds == () and nothing.missed == () and box_quality(nothing) == 1
    assert judged(Objects.none(), found((0, 0, 1, 1, 0, 0.5))).kinds == ("false",)
    missed = judged(TRUTH, found())
    assert missed.missed == (0, 1, 2) and box_quality(missed) == 0


def test_crowds_do_not_count():
    truth = Objects(boxes=np.array([[0, 0, 40, 40], [50, 0, 60, 10.0]]), classes=[0, 1],
                    crowd=[True, False])
    result = judged(truth, found((5, 5, 15, 15, 0, 0.9), (5, 5, 15, 15, 1, 0.9),
                                 (50, 0, 60, 10, 1, 0.5)))
    assert result.kinds == ("in a crowd", "false", "right") and result.missed == ()
    assert box_quality(result) == pytest.approx(1 / 2)


def test_pixels_in_words():
    truth = np.array([[0, 0, 1, 1], [2, 2, IGNORED, 0]], np.uint8)
    said = truth.copy()
    said[1, 2] = 2
    assert [*pixel_mistakes(truth, said, ("background", "cat", "dog"))] == []
    said[0, 2:], said[1, 0] = 2, 1
    assert [*pixel_mistakes(truth, said, ("background", "cat", "dog"))] == [
        "42.9 % of pixels wrong, most: dog for cat"]
