"""Decoding of anchor-free maps: check (f), ties, and what is outside or missing."""

import math

import numpy as np
import pytest

from model.decode.boxes import iou
from model.decode.locations import location_detections, LocationMap, real


CLASSES = 3


def random_accumulators(rng):
    """Whole numbers of few values, so that scores are often equal."""
    return [(rng.integers(-6, 7, (CLASSES + 5, side, side)), stride)
            for side, stride in ((8, 8), (4, 16))]


def constants(rng):
    return rng.choice([0.25, 0.5], CLASSES + 5), rng.choice([-0.5, 0.0], CLASSES + 5)


def reference(maps, scale, offset, height, width, *, limit=100):
    """The same in plain Python, a box at a time."""
    candidates = []
    for level, (acc, stride) in enumerate(maps):
        for y in range(acc.shape[1]):
            for x in range(acc.shape[2]):
                v = [int(a) * s + o for a, s, o in zip(acc[:, y, x], scale, offset, strict=True)]
                d = [math.exp(min(max(e, -4), 4)) * stride for e in v[CLASSES : CLASSES + 4]]
                cx, cy = (x + 0.5) * stride, (y + 0.5) * stride
                box = [min(max(cx - d[0], 0), width), min(max(cy - d[1], 0), height),
                       min(max(cx + d[2], 0), width), min(max(cy + d[3], 0), height)]
                for k in range(CLASSES):
                    score = math.sqrt(logistic(v[k]) * logistic(v[-1]))
                    if score > 0.05:
                        candidates.append((score, (level, y, x, k), k, box))
    candidates.sort(key=lambda c: (-c[0], c[1]))
    kept = []
    for found in candidates:
        if len(kept) < limit and all(found[2] != o[2] or iou(o[3], [found[3]])[0] <= 0.5
                                     for o in kept):
            kept.append(found)
    return kept


def logistic(v):
    small = math.exp(-abs(v))
    return (small if v < 0 else 1.0) / (1.0 + small)


@pytest.mark.parametrize("seed", range(3))
def test_boxes_of_accumulators_equal_the_reference_bit_for_bit(seed):
    """Detection check (f): equal to a float64 reference, with ties."""
    rng = np.random.default_rng(seed)
    maps, (scale, offset) = random_accumulators(rng), constants(rng)
    want = reference(maps, scale, offset, 60, 64)
    decoded = [LocationMap(real(acc, scale, offset), stride) for acc, stride in maps]
    found = location_detections(decoded, 60, 64)
    assert found.boxes.tolist() == [c[3] for c in want]
    assert found.scores.tolist() == [c[0] for c in want]
    assert found.classes.tolist() == [c[2] for c in want]
    assert len(want) > 20 and len(set(found.scores.tolist())) < len(want)


def test_the_layout_of_maps_changes_nothing():
    """Detection check (f): independent of how accumulators lie in memory."""
    rng = np.random.default_rng(7)
    maps, (scale, offset) = random_accumulators(rng), constants(rng)
    plain = [LocationMap(real(acc, scale, offset), s) for acc, s in maps]
    other = []
    for acc, stride in maps:
        wide = np.zeros((*acc.shape[1:], 2 * len(acc) + 1), np.int16)
        wide[..., ::2][..., : len(acc)] = np.moveaxis(acc, 0, -1)
        moved = np.moveaxis(wide[..., ::2][..., : len(acc)], -1, 0)
        other.append(LocationMap(np.asfortranarray(real(moved, scale, offset)), stride))
    one, two = location_detections(plain, 64, 64), location_detections(other, 64, 64)
    for name in ("boxes", "scores", "classes"):
        assert np.array_equal(getattr(one, name), getattr(two, name)), name


@pytest.mark.parametrize("turn", ["x", "y", "class"])
def test_a_permutation_permutes_the_result(turn):
    """Detection check (f): without ties, mirrored maps give mirrored boxes of the same scores."""
    rng = np.random.default_rng(11)
    k = CLASSES
    maps = [LocationMap(rng.permutation(np.linspace(-3, 2, (k + 5) * side * side)).reshape(
        k + 5, side, side), stride) for side, stride in ((8, 8), (4, 16))]
    there = {"x": [0, 1, 2, 5, 4, 3, 6, 7], "y": [0, 1, 2, 3, 6, 5, 4, 7],
             "class": [2, 0, 1, 3, 4, 5, 6, 7]}[turn]
    flipped = []
    for values, stride in maps:
        new = values[there]
        new = new[:, :, ::-1] if turn == "x" else new[:, ::-1] if turn == "y" else new
        flipped.append(LocationMap(new, stride))
    one, two = (location_detections(m, 64, 64) for m in (maps, flipped))
    boxes = one.boxes.copy()
    if turn != "class":
        low = "xy".index(turn)
        boxes[:, [low, low + 2]] = 64 - boxes[:, [low + 2, low]]
    assert np.array_equal(two.scores, one.scores)
    np.testing.assert_allclose(two.boxes, boxes, rtol=0, atol=1e-12)
    labels = [there.index(k) for k in one.classes] if turn == "class" else one.classes.tolist()
    assert two.classes.tolist() == labels


def test_a_lone_object_is_found_where_it_is():
    """Position (2, 1) of stride 8 stands for pixel (20, 12)."""
    values = np.full((CLASSES + 5, 4, 4), -9.0)
    values[[1, -1], 1, 2] = 9
    values[CLASSES:-1, 1, 2] = [0, math.log(0.5), math.log(2), 0]
    found = location_detections([LocationMap(values, 8)], 32, 32)
    np.testing.assert_allclose(found.boxes, [[12, 8, 32, 20]], rtol=0, atol=1e-12)
    assert found.classes.tolist() == [1] and found.scores[0] > 0.99


def test_nothing_and_limits():
    values = np.full((CLASSES + 5, 4, 4), -9.0)
    none = location_detections([LocationMap(values, 8)], 32, 32)
    assert none.boxes.shape == (0, 4) and none.scores.shape == none.classes.shape == (0,)
    empty = location_detections([LocationMap(np.zeros((6, 0, 3)), 8)], 32, 32)
    assert empty.boxes.shape == (0, 4)
    many = [LocationMap(np.zeros((6, 4, 4)), 8)]
    assert len(location_detections(many, 32, 32, threshold=1.0).boxes) == 16
    few = location_detections(many, 32, 32, threshold=1.0, per_map=5)
    assert np.array_equal(few.boxes, location_detections(many, 32, 32, threshold=1, limit=5).boxes)
    assert len(location_detections(many, 32, 32, threshold=1, least=0).boxes) == 16
    assert few.boxes.tolist() == [[0, 0, 12, 12], [4, 0, 20, 12], [12, 0, 28, 12],
                                  [20, 0, 32, 12], [0, 4, 12, 20]]


def test_boxes_outside_of_the_image_go():
    values = np.zeros((6, 1, 5))
    found = location_detections([LocationMap(values, 8)], 8, 16)
    assert (found.boxes[:, 2] > found.boxes[:, 0]).all() and found.boxes[:, 2].max() <= 16


def test_bad_maps_are_named():
    with pytest.raises(ValueError, match=r"map 0 must be of shape \(K\+5, H, W\), not \(5, 2, 2\)"):
        location_detections([LocationMap(np.zeros((5, 2, 2)), 8)], 16, 16)
    with pytest.raises(ValueError, match="values of map 1 must be finite, but"):
        location_detections([LocationMap(np.zeros((6, 2, 2)), 8),
                             LocationMap(np.full((6, 2, 2), math.nan), 16)], 16, 16)
    with pytest.raises(ValueError, match="least must be at least 0 and below 1, not 1"):
        location_detections([LocationMap(np.zeros((6, 2, 2)), 8)], 16, 16, least=1)
    with pytest.raises(ValueError, match="maps must be at least one"):
        location_detections([], 16, 16)
    with pytest.raises(ValueError, match=r"accumulators must be integers of shape \(C, H, W\), not "
                                         r"float64"):
        real(np.zeros((6, 2, 2)), 1, 0)
