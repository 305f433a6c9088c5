"""Proposals and detections of the published detector, against loops over single boxes."""

import math

import numpy as np
import pytest

from model.decode.anchors import anchors
from model.decode.boxes import iou
from model.decode.regions import AnchorMap, detections, proposals


def random_maps(rng, *, ties):
    found = []
    for side, stride in ((6, 8), (3, 16), (3, 16)):
        logits = rng.normal(size=(3, side, side))
        found.append(AnchorMap(np.round(logits) if ties else logits,
                               rng.normal(0, 0.5, (12, side, side)),
                               anchors((side, side), stride=stride, size=2 * stride)))
    return found


def decoded(anchor, delta, std=(1, 1, 1, 1)):
    dx, dy, dw, dh = (d * s for d, s in zip(delta, std, strict=True))
    w, h = anchor[2] - anchor[0], anchor[3] - anchor[1]
    x, y = (anchor[0] + anchor[2]) * 0.5 + w * dx, (anchor[1] + anchor[3]) * 0.5 + h * dy
    limit = math.log(1000 / 16)
    w, h = (s * math.exp(min(max(d, -limit), limit)) * 0.5 for s, d in ((w, dw), (h, dh)))
    return [min(max(v, 0), 48) for v in (x - w, y - h, x + w, y + h)]


def suppressed(candidates, threshold, limit):
    """Of (score, order, group, box), those that stay."""
    kept = []
    for found in sorted(candidates, key=lambda c: (-c[0], c[1])):
        if len(kept) < limit and all(found[2] != other[2]
                                     or iou(other[3], [found[3]])[0] <= threshold
                                     for other in kept):
            kept.append(found)
    return kept


@pytest.mark.parametrize("ties", [False, True])
def test_proposals_equal_a_loop_over_anchors(ties):
    maps = random_maps(np.random.default_rng(3), ties=ties)
    candidates = []
    for level, (logits, deltas, boxes) in enumerate(maps):
        own = []
        count, h, w = logits.shape
        for y in range(h):
            for x in range(w):
                for a in range(count):
                    at = (y * w + x) * count + a
                    box = decoded(boxes[at], deltas[4 * a : 4 * a + 4, y, x])
                    own.append((logits[a, y, x], (level, y, x, a), level, box))
        own.sort(key=lambda c: (-c[0], c[1]))
        candidates += [c for c in own[:40] if c[3][2] > c[3][0] and c[3][3] > c[3][1]]
    want = suppressed(candidates, 0.7, 50)
    found = proposals(maps, 48, 48, per_map=40, limit=50)
    np.testing.assert_allclose(found.boxes, [c[3] for c in want], rtol=0, atol=1e-12)
    assert found.classes.tolist() == [c[2] for c in want]
    assert found.scores.tolist() == [pytest.approx(1 / (1 + math.exp(-c[0]))) for c in want]


def test_proposals_outside_of_the_image_go():
    logits = np.zeros((3, 1, 2))
    maps = [AnchorMap(logits, np.zeros((12, 1, 2)), anchors((1, 2), stride=64, size=8))]
    found = proposals(maps, 32, 32)
    assert found.boxes.tolist() == [
        pytest.approx([0, 0, math.sqrt(32), math.sqrt(8)]), [0, 0, 4, 4],
        pytest.approx([0, 0, math.sqrt(8), math.sqrt(32)])]
    assert found.scores.tolist() == [0.5] * 3


def test_nothing_to_propose():
    empty = AnchorMap(np.zeros((3, 0, 4)), np.zeros((12, 0, 4)), np.zeros((0, 4)))
    for maps in ([], [empty]):
        found = proposals(maps, 32, 32)
        assert found.boxes.shape == (0, 4) and found.classes.dtype.kind == "i"


def test_maps_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"map 0 with logits \(3, 2, 2\) must have deltas "
                                         r"\(12, 2, 2\) and anchors \(12, 4\), not \(8, 2, 2\)"):
        proposals([AnchorMap(np.zeros((3, 2, 2)), np.zeros((8, 2, 2)), np.zeros((12, 4)))], 9, 9)


@pytest.mark.parametrize("ties", [False, True])
def test_detections_equal_a_loop_over_classes(ties):
    rng = np.random.default_rng(5)
    corners = rng.uniform(0, 48, (30, 2, 2))
    regions = np.hstack([corners.min(1), corners.max(1)])
    logits, deltas = rng.normal(0, 2, (30, 4)), rng.normal(0, 1, (30, 12))
    if ties:
        logits = np.round(logits)
    candidates = []
    for i, row in enumerate(logits):
        total = math.fsum(math.exp(v - max(row)) for v in row)
        for k in range(3):
            score = math.exp(row[k] - max(row)) / total
            if score > 0.05:
                box = decoded(regions[i], deltas[i, 4 * k : 4 * k + 4], (0.1, 0.1, 0.2, 0.2))
                candidates.append((score, (i, k), k, box))
    want = suppressed(candidates, 0.5, 20)
    found = detections(regions, logits, deltas, 48, 48, limit=20)
    np.testing.assert_allclose(found.boxes, [c[3] for c in want], rtol=0, atol=1e-12)
    assert found.classes.tolist() == [c[2] for c in want]
    assert found.scores.tolist() == [c[0] for c in want]


def test_no_regions_and_no_score():
    none = detections([], np.zeros((0, 4)), np.zeros((0, 12)), 9, 9)
    assert none.boxes.shape == (0, 4) and none.scores.shape == none.classes.shape == (0,)
    background = detections([[0, 0, 4, 4]], [[0, 0, 9]], np.zeros((1, 8)), 9, 9)
    assert not len(background.boxes)


def test_heads_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"logits and deltas of 1 regions must be of shapes \(1, "
                                         r"K\+1\) and \(1, 4K\), not \(1, 3\) and \(1, 12\)"):
        detections([[0, 0, 4, 4]], np.zeros((1, 3)), np.zeros((1, 12)), 9, 9)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused(bad):
    """Not taken for a score below the threshold, nor passed over with what is not among the best.
    """
    logits, deltas = np.array([[-9.0, 0, 9]]), np.zeros((1, 8))
    for array in (logits, deltas):
        array[0, 0], kept = bad, array[0, 0]
        with pytest.raises(ValueError, match="logits and deltas must be finite, but"):
            detections([[0, 0, 4, 4]], logits, deltas, 9, 9)
        array[0, 0] = kept
    one = AnchorMap(np.array([[[1.0, 0]]]), np.zeros((4, 1, 2)), np.array([[0, 0, 4, 4.0]] * 2))
    for array in one[:2]:
        array[0, 0, 1], kept = bad, array[0, 0, 1]
        with pytest.raises(ValueError, match="logits and deltas of map 0 must be finite, but"):
            proposals([one], 9, 9, per_map=1)
        array[0, 0, 1] = kept
    assert len(proposals([one], 9, 9).boxes) == 1
