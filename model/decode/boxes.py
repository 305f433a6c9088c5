"""Boxes in float64: made of deltas or distances, cut, ranked, and freed of those found twice.

A box is as in `model.data.objects`: left, top, right, bottom in pixels; arrays are (N, 4). Every
operation here is one that IEEE 754 defines exactly, or of `model.decode.elementary`, so that equal
numbers give equal boxes in equal order.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.decode.elementary import check_finite, exp


__all__ = ["DELTA_MAX", "areas", "as_boxes", "clip", "from_deltas", "from_distances", "iou", "nms",
           "ranking"]


DELTA_MAX = math.log(1000 / 16)
"""Largest |dw| and |dh| of a delta: a box is at most 62.5 times its anchor, and at least 1/62.5."""

Boxes = NDArray[np.float64]


def as_boxes(values: ArrayLike) -> Boxes:
    """(N, 4) in float64; an empty list is (0, 4).

    Raises ValueError on another shape, and on numbers that are not finite.
    """
    boxes = np.asarray(values, np.float64)
    boxes = boxes.reshape(0, 4) if not boxes.size else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes must be of shape (N, 4), not {boxes.shape}")
    check_finite("boxes", boxes)
    return boxes


def from_deltas(anchors: ArrayLike, deltas: ArrayLike, *,
                stds: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)) -> Boxes:
    """Boxes (N, 4) of anchors (N, 4) and deltas (dx, dy, dw, dh), (N, 4), in units of `stds`.

    The centre moves by dx and dy sides of the anchor; its sides are multiplied by e^dw and e^dh,
    with both at most `DELTA_MAX`. (Girshick et al., 2014, and mmdet's ``DeltaXYWHBBoxCoder``.)
    """
    start, moves = as_boxes(anchors), as_boxes(deltas) * np.array(stds)
    if start.shape != moves.shape:
        raise ValueError(f"there must be as many deltas as anchors, not {len(moves)} for "
                         f"{len(start)}")
    sides = start[:, 2:] - start[:, :2]
    centres = (start[:, :2] + start[:, 2:]) * 0.5 + sides * moves[:, :2]
    half = sides * exp(np.clip(moves[:, 2:], -DELTA_MAX, DELTA_MAX)) * 0.5
    return np.hstack([centres - half, centres + half])


def from_distances(centres: ArrayLike, distances: ArrayLike) -> Boxes:
    """Boxes (N, 4) whose left, top, right and bottom are `distances` (N, 4) from points (N, 2)."""
    at, sides = np.asarray(centres, np.float64).reshape(-1, 2), as_boxes(distances)
    return np.hstack([at - sides[:, :2], at + sides[:, 2:]])


def clip(boxes: ArrayLike, height: int, width: int) -> Boxes:
    """Boxes (N, 4) cut at the borders of an image; those outside of it lose their area."""
    return np.clip(as_boxes(boxes), 0, np.array([width, height, width, height], np.float64))


def areas(boxes: ArrayLike) -> NDArray[np.float64]:
    """Square pixels of boxes (N, 4); 0 where a corner lies on the wrong side of the other."""
    corners = as_boxes(boxes)
    sides = np.maximum(corners[:, 2:] - corners[:, :2], 0)
    return sides[:, 0] * sides[:, 1]


def iou(box: ArrayLike, boxes: ArrayLike) -> NDArray[np.float64]:
    """What one box (4,) and each of `boxes` (N, 4) share over what they cover together, 0..1; 0
    for boxes without area, even if they are equal."""
    one, others = as_boxes(np.asarray(box)[None]), as_boxes(boxes)
    shared = areas(np.hstack([np.maximum(others[:, :2], one[:, :2]),
                              np.minimum(others[:, 2:], one[:, 2:])]))
    covered = areas(one) + areas(others) - shared
    return np.divide(shared, covered, out=np.zeros_like(shared), where=covered > 0)


def ranking(scores: ArrayLike, *keys: ArrayLike) -> NDArray[np.int64]:
    """Indices of `scores` (N,) from the highest down; equal scores by the `keys` (N,), each from
    its lowest up, the first of them first, and then in their own order.

    Raises ValueError on scores that are not finite.
    """
    values = np.asarray(scores, np.float64)
    check_finite("scores", values)
    return np.lexsort([*map(np.asarray, reversed(keys)), -values])


def nms(boxes: ArrayLike, threshold: float, *, groups: ArrayLike | None = None,
        limit: int | None = None) -> NDArray[np.int64]:
    """Indices, in order, of the boxes that stay of `boxes` (N, 4), which come in order of rank.

    A box stays unless one before it stayed that is of the same group and whose `iou` with it is
    above the threshold (non-maximum suppression).

    Parameters
    ----------
    groups
        Of each box (N,), such as its class or the map that it is from; one group if not given.
    limit
        Boxes after which no more are looked for.
    """
    found = as_boxes(boxes)
    owner = np.zeros(len(found), np.int64) if groups is None else np.asarray(groups)
    if owner.shape != (len(found),):
        raise ValueError(f"groups must be of shape ({len(found)},), not {owner.shape}")
    left = np.ones(len(found), bool)
    kept: list[int] = []
    for i in range(len(found)):
        if not left[i]:
            continue
        if limit is not None and len(kept) >= limit:
            break
        kept.append(i)
        others = i + 1 + np.flatnonzero(left[i + 1 :] & (owner[i + 1 :] == owner[i]))
        left[others[iou(found[i], found[others]) > threshold]] = False
    return np.array(kept, np.int64)

