"""From the outputs of a network's heads to boxes and classes of pixels in the picture itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.data.objects import Found
from model.data.pipeline import Placed
from model.decode.boxes import areas
from model.decode.locations import location_detections, LocationMap
from model.decode.pixels import label_map


__all__ = ["boxes_in", "classes_in", "Seen", "seen"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What a network sees in a picture, in the picture's own pixels: found, its boxes, and mask
    (H, W) uint8, the class of every pixel; None without the head for it."""

    found: Found | None = None
    mask: NDArray[np.uint8] | None = None


def seen(outputs: Mapping[str, NDArray], placed: Placed, strides: Sequence[int]) -> Seen:
    """What one picture's outputs, (O, H, W) each by name, say of it: boxes with `strides` of the
    maps "cls<s>" and "reg<s>", from fine to coarse, and classes of pixels where there is "seg".

    Raises ValueError as `boxes_in` and `classes_in`.
    """
    return Seen(found=boxes_in(outputs, placed, strides) if strides else None,
                mask=classes_in(outputs["seg"], placed) if "seg" in outputs else None)


def boxes_in(outputs: Mapping[str, NDArray], placed: Placed, strides: Sequence[int]) -> Found:
    """Boxes of the maps "cls<s>" and "reg<s>" of one picture, clipped to it; those beside it, in
    the bars of the network's square, go. Raises ValueError if a value is not finite."""
    maps = [LocationMap(np.concatenate([outputs[f"cls{s}"], outputs[f"reg{s}"]]).astype(
        np.float64), s) for s in strides]
    found = location_detections(maps, *placed.sample.size)
    boxes = placed.to_picture(found.boxes)
    inside = areas(boxes) > 0
    return Found(boxes=boxes[inside], classes=found.classes[inside], scores=found.scores[inside])


def classes_in(logits: NDArray, placed: Placed) -> NDArray[np.uint8]:
    """The class of every pixel of a picture, whose part of the logits (K, H, W) is grown to its
    own size. The picture must lie in the upper left corner, as `model.data.pipeline.steps_for`
    puts it; raises ValueError if it does not, or a logit is not finite."""
    if placed.shift.any():
        raise ValueError("the picture must lie in the upper left corner of the network's square")
    inside = placed.scale[::-1] * placed.size / placed.sample.size
    return label_map(logits, *placed.size, share=(inside[0], inside[1])).astype(np.uint8)
