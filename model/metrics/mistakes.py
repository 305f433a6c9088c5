"""What is wrong with the boxes found in one picture, and how good one picture is. NumPy only.

Kinds of mistakes after TIDE (Bolya et al., "TIDE: A General Toolbox for Identifying Object
Detection Errors", 2020), one for each box, with its overlaps of 0.5 and 0.1.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.data.objects import Found, IGNORED, Objects
from model.decode.boxes import areas, iou


__all__ = ["box_quality", "CLOSE", "judged", "Judged", "NAMED", "NEAR", "pixel_mistakes",
           "WRONG_CLASS"]


CLOSE, NEAR = 0.5, 0.1
"""Overlap (IoU) from which a box is an object's, and from which it has to do with it."""

RIGHT, WRONG_CLASS, MISPLACED, DOUBLE, FALSE, IN_CROWD = (
    "right", "wrong class", "misplaced", "double", "false", "in a crowd")

NAMED = {RIGHT: "", WRONG_CLASS: WRONG_CLASS, MISPLACED: MISPLACED, DOUBLE: DOUBLE, FALSE: FALSE,
         IN_CROWD: ""}
"""Every kind, and how a mistake is called."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """The boxes found in a picture and its objects.

    kinds, of every box: "right"; "wrong class", it lies close on an object of another; "double",
    its object has a surer box; "misplaced", it is near its object only; "false", nothing of its
    class is near; "in a crowd", neither right nor wrong. objects (n,), the true object that a box
    stands for, or -1; missed, the objects that no box is right, of the wrong class or misplaced
    for.
    """

    kinds: tuple[str, ...]
    objects: NDArray[np.int64]
    missed: tuple[int, ...]


def judged(truth: Objects, found: Found) -> Judged:
    """Compare the boxes of a picture with its objects, the surest box first; as in COCO's
    evaluation, a box takes the free object of its class that it overlaps most, from `CLOSE`."""
    count = len(found)
    overlap = np.array([iou(box, truth.boxes) * ~truth.crowd for box in found.boxes])
    same = found.classes[:, None] == truth.classes
    kinds, objects = [FALSE] * count, np.full(count, -1)
    free = np.ones(len(truth), bool)
    order = np.argsort(-found.scores, kind="stable")
    for box in order if len(truth) else ():
        best = int((overlap[box] * (same[box] & free)).argmax())
        if same[box, best] and free[best] and overlap[box, best] >= CLOSE:
            kinds[box], objects[box], free[best] = RIGHT, best, False
    for box in order if len(truth) else ():
        if kinds[box] != RIGHT:
            kinds[box], objects[box] = _mistake(overlap[box], same[box], free)
            if kinds[box] == FALSE and _in_crowd(found.boxes[box], truth, same[box]):
                kinds[box] = IN_CROWD
    told = {int(one) for one, kind in zip(objects, kinds, strict=True)
            if kind in (RIGHT, WRONG_CLASS, MISPLACED)}
    return Judged(kinds=tuple(kinds), objects=objects, missed=tuple(
        one for one in range(len(truth)) if one not in told and not truth.crowd[one]))


def _mistake(overlap: NDArray[np.float64], same: NDArray[np.bool_], free: NDArray[np.bool_]
             ) -> tuple[str, int]:
    own, any_ = int((overlap * same).argmax()), int(overlap.argmax())
    nearest = overlap[own] if same[own] else 0.0
    if nearest >= CLOSE:
        return DOUBLE, own
    if overlap[any_] >= CLOSE:
        return WRONG_CLASS, any_
    if nearest >= NEAR:
        return (MISPLACED if free[own] else DOUBLE), own
    return FALSE, -1


def _in_crowd(box: NDArray[np.float64], truth: Objects, same: NDArray[np.bool_]) -> bool:
    """Whether a share of `CLOSE` of a box lies in a crowd region of its class."""
    regions = truth.boxes[truth.crowd & same]
    low, high = np.maximum(box[:2], regions[:, :2]), np.minimum(box[2:], regions[:, 2:])
    inside = np.clip(high - low, 0, None).prod(1)
    return bool((inside >= CLOSE * areas(box[None])).any())


def box_quality(result: Judged) -> float:
    """Boxes that are right, of these, all mistakes and what was missed: 0..1, 1 of nothing."""
    wrong = sum(kind not in (RIGHT, IN_CROWD) for kind in result.kinds) + len(result.missed)
    right = result.kinds.count(RIGHT)
    return right / (right + wrong) if right + wrong else 1.0


def pixel_mistakes(truth: NDArray[np.uint8], mask: NDArray[np.uint8], names: Sequence[str]
                   ) -> Iterator[str]:
    """In words the share of a mask's pixels that are wrong, and the most frequent mistake; nothing
    if all are right. Ignored pixels do not count."""
    known = truth != IGNORED
    wrong = known & (truth != mask)
    if not wrong.any():
        return
    pairs, counts = np.unique(np.stack([mask[wrong], truth[wrong]]), axis=1, return_counts=True)
    said, true = pairs[:, counts.argmax()]
    yield (f"{100 * wrong.sum() / known.sum():.1f} % of pixels wrong, most: {names[said]} for "
           f"{names[true]}")
