"""Boxes: made, cut, ranked, and those found twice taken away, ties and boxes without area included.
"""

from fractions import Fraction
import math

import numpy as np
import pytest

from model.decode.boxes import (
    areas,
    as_boxes,
    clip,
    DELTA_MAX,
    from_deltas,
    from_distances,
    iou,
    nms,
    ranking,
)


def test_deltas_move_and_stretch_an_anchor():
    anchors = [[10, 20, 30, 60], [0, 0, 8, 8]]
    assert from_deltas(anchors, np.zeros((2, 4))).tolist() == anchors
    moved = from_deltas(anchors, [[0.5, -0.25, math.log(2), 0], [0, 0, 0, 0]])
    assert moved.tolist() == [[10, 10, 50, 50], [0, 0, 8, 8]]
    halved = from_deltas(anchors, [[5, -2.5, 5 * math.log(2), 0], [0] * 4],
                         stds=(0.1, 0.1, 0.2, 0.2))
    np.testing.assert_allclose(halved, moved, rtol=0, atol=1e-12)


def test_deltas_stretch_by_625_at_most():
    wide = from_deltas([[0, 0, 16, 16]] * 2, [[0, 0, 50, 50], [0, 0, -50, -50]])
    sides = wide[:, 2:] - wide[:, :2]
    np.testing.assert_allclose(sides, [[1000, 1000], [0.256, 0.256]], rtol=1e-12)
    assert math.exp(DELTA_MAX) == pytest.approx(62.5)


def test_distances_reach_from_a_point():
    assert from_distances([[4, 6]], [[1, 2, 3, 4]]).tolist() == [[3, 4, 7, 10]]


def test_clip_cuts_at_the_borders():
    boxes = [[-5, -5, 50, 20], [70, 1, 90, 9], [1, 2, 3, 4]]
    cut = clip(boxes, 10, 60)
    assert cut.tolist() == [[0, 0, 50, 10], [60, 1, 60, 9], [1, 2, 3, 4]]
    assert areas(cut).tolist() == [500, 0, 4]


def test_iou_of_boxes_without_area_is_0():
    point, turned, box = [3, 3, 3, 3], [5, 5, 1, 1], [0, 0, 4, 4]
    assert iou(point, [point, box]).tolist() == [0, 0]
    assert iou(box, [turned, point, box, [2, 0, 6, 4], [4, 0, 8, 4]]).tolist() == [
        0, 0, 1, 8 / 24, 0]
    assert areas([turned]).tolist() == [0]


def test_no_boxes_at_all():
    assert as_boxes([]).shape == (0, 4)
    assert from_deltas([], []).shape == clip([], 5, 5).shape == (0, 4)
    assert areas([]).shape == ranking([]).shape == nms([], 0.5).shape == (0,)


@pytest.mark.parametrize("boxes, message", [
    ([[1, 2, 3]], r"boxes must be of shape \(N, 4\), not \(1, 3\)"),
    ([[1, 2, math.nan, 4]], "boxes must be finite, but have NaN"),
    ([[1, 2, math.inf, 4]], "boxes must be finite, but have NaN"),
])
def test_what_is_no_box_is_named(boxes, message):
    with pytest.raises(ValueError, match=message):
        nms(boxes, 0.5)


def test_bad_numbers_are_named():
    with pytest.raises(ValueError, match="scores must be finite, but have NaN"):
        ranking([0.5, math.nan])
    with pytest.raises(ValueError, match=r"groups must be of shape \(1,\), not \(2,\)"):
        nms([[0, 0, 1, 1]], 0.5, groups=[1, 2])
    with pytest.raises(ValueError, match="as many deltas as anchors, not 2 for 1"):
        from_deltas([[0, 0, 1, 1]], [[0] * 4] * 2)


def test_equal_scores_go_by_keys_then_by_place():
    scores, first, second = [0.5, 0.9, 0.5, 0.5, 0.9], [1, 0, 0, 0, 0], [0, 5, 7, 7, 4]
    assert ranking(scores).tolist() == [1, 4, 0, 2, 3]
    assert ranking(scores, first, second).tolist() == [4, 1, 2, 3, 0]
    assert ranking([0.0, -0.0]).tolist() == [0, 1]


def test_the_best_of_overlapping_boxes_stays():
    boxes = [[0, 0, 10, 10], [0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30], [0, 0, 10, 20]]
    assert nms(boxes, 0.5).tolist() == [0, 3, 4]          # the last has exactly a half
    assert nms(boxes, 0.49).tolist() == [0, 3]
    assert nms(boxes, 1.0).tolist() == [0, 1, 2, 3, 4]
    assert nms(boxes, 0.5, limit=2).tolist() == [0, 3]
    assert nms(boxes, 0.5, limit=0).tolist() == []
    assert nms(boxes, 0.5, groups=[0, 1, 1, 0, 0]).tolist() == [0, 1, 3, 4]


def test_a_box_that_went_takes_none_with_it():
    """A overlaps B, B overlaps C, A does not overlap C."""
    assert nms([[0, 0, 10, 1], [4, 0, 14, 1], [8, 0, 18, 1]], 0.3).tolist() == [0, 2]


def test_boxes_without_area_stay():
    assert nms([[3, 3, 3, 3]] * 3 + [[0, 0, 9, 9]], 0.5).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("seed", range(5))
def test_nms_equals_the_rule_on_exact_rationals(seed):
    """Whole corners on a small grid: equal boxes and overlaps of just the threshold occur."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 6, (60, 2, 2))
    boxes = np.hstack([corners.min(1), corners.max(1)])
    groups = rng.integers(0, 3, 60)

    def overlap(a, b):
        sides = [max(0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1)]
        shared = sides[0] * sides[1]
        covered = sum((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)) - shared
        return Fraction(int(shared), int(covered)) if covered else Fraction(0)

    kept = []
    for i, box in enumerate(boxes):
        if all(groups[i] != groups[j] or overlap(boxes[j], box) <= Fraction(1, 2) for j in kept):
            kept.append(i)
    assert nms(boxes, 0.5, groups=groups).tolist() == kept
    assert 0 < len(kept) < 60
