"""From a region proposal network's maps to regions, and from a box head's numbers to detections.

For one image, in float64, as the published detector is tested (mmdet 3.1.0, ``mask-rcnn_r50_fpn``);
what that leaves open, the order of equal scores, is fixed here.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.data.objects import Found
from model.decode.boxes import areas, as_boxes, clip, from_deltas, nms, ranking
from model.decode.elementary import check_finite, sigmoid, softmax


__all__ = ["BOX_STDS", "AnchorMap", "detections", "proposals"]


BOX_STDS = (0.1, 0.1, 0.2, 0.2)
"""Units of the deltas of a box head."""


class AnchorMap(NamedTuple):
    """One map of a region proposal network: logits (A, H, W), deltas (4A, H, W), those of an anchor
    next to each other, and anchors (H*W*A, 4) of `model.decode.anchors.anchors`."""

    logits: NDArray
    deltas: NDArray
    anchors: NDArray


def proposals(maps: Sequence[AnchorMap], height: int, width: int, *, per_map: int = 1000,
              threshold: float = 0.7, limit: int = 1000) -> Found:
    """Regions of an image of `height` by `width`; their classes are indices of maps.

    The best `per_map` of every map are cut at the image's borders; those without area go; of those
    that overlap by more than `threshold` on the same map the best stays; `limit` are kept. Order:
    logit from the highest down, then map, y, x, anchor.

    Raises ValueError if the shapes of a map do not fit together, or values are not finite.
    """
    logits: list[NDArray[np.float64]] = []
    boxes: list[NDArray[np.float64]] = []
    for i, found in enumerate(maps):
        count, h, w = found.logits.shape
        if found.deltas.shape != (4 * count, h, w) or found.anchors.shape != (h * w * count, 4):
            raise ValueError(
                f"map {i} with logits {found.logits.shape} must have deltas {(4 * count, h, w)} "
                f"and anchors {(h * w * count, 4)}, not {found.deltas.shape} and "
                f"{found.anchors.shape}")
        check_finite(f"logits and deltas of map {i}", found.logits, found.deltas)
        values = np.moveaxis(np.asarray(found.logits, np.float64), 0, -1).ravel()
        deltas = np.moveaxis(np.asarray(found.deltas).reshape(count, 4, h, w), (0, 1), (2, 3))
        best = ranking(values)[:per_map]
        logits.append(values[best])
        boxes.append(clip(from_deltas(found.anchors[best], deltas.reshape(-1, 4)[best]),
                          height, width))
    owner = np.repeat(np.arange(len(maps)), [len(values) for values in logits])
    values, corners = np.concatenate([[], *logits]), np.concatenate([np.zeros((0, 4)), *boxes])
    keep = np.flatnonzero(areas(corners) > 0)
    keep = keep[ranking(values[keep])]      # stable: behind its logit by map, y, x, anchor
    keep = keep[nms(corners[keep], threshold, groups=owner[keep], limit=limit)]
    return Found(boxes=corners[keep], classes=owner[keep], scores=sigmoid(values[keep]))


def detections(regions: ArrayLike, logits: ArrayLike, deltas: ArrayLike, height: int, width: int,
               *, least: float = 0.05, threshold: float = 0.5, limit: int = 100) -> Found:
    """Objects in an image of `height` by `width`.

    Every class of every region is a candidate, with softmax as its score; those above `least` are
    cut at the image's borders; of those of a class that overlap by more than `threshold` the best
    stays; `limit` are kept. Order: score from the highest down, then region, class. Boxes that the
    image's borders leave no area stay, as published.

    Args:
        regions: Boxes (R, 4).
        logits: (R, K+1), the background last.
        deltas: (R, 4K), those of a class next to each other, in units of `BOX_STDS`.

    Raises ValueError if the shapes do not fit together, or values are not finite.
    """
    starts, values = as_boxes(regions), np.asarray(logits, np.float64)
    moves, number = np.asarray(deltas, np.float64), len(starts)
    count = values.shape[-1] - 1
    if values.shape != (number, count + 1) or moves.shape != (number, 4 * count):
        raise ValueError(f"logits and deltas of {number} regions must be of shapes ({number}, K+1) "
                         f"and ({number}, 4K), not {values.shape} and {moves.shape}")
    check_finite("logits and deltas", values, moves)
    scores = softmax(values)[:, :-1]
    region, label = np.nonzero(scores > least)
    found = scores[region, label]
    order = ranking(found, region, label)
    region, label, found = region[order], label[order], found[order]
    moves = moves.reshape(number, count, 4)[region, label]
    boxes = clip(from_deltas(starts[region], moves, stds=BOX_STDS), height, width)
    keep = nms(boxes, threshold, groups=label, limit=limit)
    return Found(boxes=boxes[keep], classes=label[keep], scores=found[keep])
