"""From the maps of an anchor-free head to detections: every position says what lies around it.

Tian et al., "FCOS", 2019. For one image, in float64. Whole accumulators come in and go through
operations that are defined exactly or computed number by number, and the order of equal scores is
fixed: two programs that get the same accumulators find the same boxes, bit for bit.
"""

from collections.abc import Sequence
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.data.objects import Found
from model.decode.boxes import areas, clip, from_distances, nms, ranking
from model.decode.elementary import check_finite, exp, sigmoid


__all__ = ["DISTANCE_MAX", "LocationMap", "location_detections", "real"]


DISTANCE_MAX = 4.0
"""Largest magnitude of the logarithm of a distance in strides."""

_SIDES = 4


class LocationMap(NamedTuple):
    """Values (K+5, H, W) of a map, and its stride in pixels: logits of K classes, then logarithms
    of the distances to the left, top, right and bottom side, in strides, then the logit of being
    in the middle of the object. Position (x, y) stands for pixel (stride*(x+1/2), stride*(y+1/2)).
    """

    values: NDArray
    stride: int


def real(accumulators: ArrayLike, scale: ArrayLike, offset: ArrayLike) -> NDArray[np.float64]:
    """scale*acc + offset of whole accumulators (C, H, W) and numbers of each channel (C,).

    Raises ValueError unless the accumulators are integers of this shape.
    """
    acc = np.asarray(accumulators)
    if acc.ndim != 3 or acc.dtype.kind not in "iu":
        raise ValueError(f"accumulators must be integers of shape (C, H, W), not {acc.dtype} of "
                         f"{acc.shape}")
    factor, added = (np.broadcast_to(np.asarray(v, np.float64), len(acc))[:, None, None]
                     for v in (scale, offset))
    return acc * factor + added


def location_detections(
    maps: Sequence[LocationMap], height: int, width: int, *, least: float = 0.05,
    per_map: int = 1000, threshold: float = 0.5, limit: int = 100,
) -> Found:
    """Objects in an image of `height` by `width`.

    The score of a class at a position is the root of the product of its probability and of that
    of being in the middle. Of those above `least` the best `per_map` of every map are cut at the
    image's borders; those without area go; of those of a class that overlap by more than
    `threshold` the best stays; `limit` are kept. Order: score from the highest down, then map, y,
    x, class.

    Raises ValueError without maps, if a map has no K+5 channels or values that are not finite, and
    unless `least` is at least 0 and below 1.
    """
    if not 0 <= least < 1:
        raise ValueError(f"least must be at least 0 and below 1, not {least}")
    parts: list[tuple[NDArray, ...]] = []
    for i, (values, stride) in enumerate(maps):
        values = np.asarray(values, np.float64)
        if values.ndim != 3 or len(values) <= _SIDES + 1:
            raise ValueError(f"map {i} must be of shape (K+{_SIDES + 1}, H, W), not {values.shape}")
        check_finite(f"values of map {i}", values)
        middle, logits = values[-1], values[: -_SIDES - 1]
        # Each of the two probabilities must exceed least^2; what is near it is computed.
        low = math.log(least**2) - math.log1p(-(least**2)) - 1e-6 if least > 0 else -math.inf
        label, y, x = np.nonzero((logits > low) & (middle > low))
        scores = np.sqrt(sigmoid(logits[label, y, x]) * sigmoid(middle[y, x]))
        above = np.flatnonzero(scores > least)
        best = above[ranking(scores[above], y[above], x[above], label[above])[:per_map]]
        label, y, x = label[best], y[best], x[best]
        logs = np.clip(values[-_SIDES - 1 : -1, y, x].T, -DISTANCE_MAX, DISTANCE_MAX)
        boxes = from_distances((np.stack([x, y], 1) + 0.5) * stride, exp(logs) * stride)
        parts.append((clip(boxes, height, width), scores[best], label, np.full(len(x), i), y, x))
    if not parts:
        raise ValueError("maps must be at least one")
    boxes, scores, label, owner, y, x = (np.concatenate(column) for column in zip(*parts,
                                                                               strict=True))
    keep = np.flatnonzero(areas(boxes) > 0)
    keep = keep[ranking(scores[keep], owner[keep], y[keep], x[keep], label[keep])]
    keep = keep[nms(boxes[keep], threshold, groups=label[keep], limit=limit)]
    return Found(boxes=boxes[keep], classes=label[keep], scores=scores[keep])
