"""mAP and mIoU of the outputs of a network's heads, batch after batch."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from model.data.coco import results_of, truth_of
from model.data.objects import Found, Samples
from model.data.pipeline import Batch
from model.decode.locations import location_detections, LocationMap
from model.decode.pixels import label_map
from model.metrics.detection import average_precision, Precision
from model.metrics.segmentation import Confusion


__all__ = ["DenseMeasure", "FIGURES"]


FIGURES = {"map50": "mAP@0.5", "map": "mAP", "map_small": "mAP of small objects",
           "map_medium": "mAP of medium objects", "miou": "mIoU", "pixel_acc": "pixel accuracy"}
"""Names of the figures, in logs and in texts."""


class DenseMeasure:
    """Decodes outputs of pictures in the order of `samples` and counts.

    Boxes are compared in the picture's own pixels, classes of pixels in the network's square.

    Parameters
    ----------
    samples
        All pictures that will be added.
    strides
        Of the maps "cls<s>" and "reg<s>", from fine to coarse; () without a detector.
    pixels
        Whether there is an output "seg".

    The attribute `found` has what was found in each picture so far, `confusion` the counts of
    pixels.
    """

    def __init__(self, samples: Samples, strides: Sequence[int], *, pixels: bool) -> None:
        self.samples, self.strides = samples, tuple(strides)
        self.found: list[Found] = []
        self.confusion = Confusion(len(samples.mask_classes)) if pixels else None
        self._precision: Precision | None = None

    def add(self, batch: Batch, outputs: Mapping[str, NDArray]) -> None:
        """Outputs by name, (B, O, H, W) each, of the next B pictures.

        Raises ValueError if they are not finite.
        """
        height, width = batch.image_q.shape[-2:]
        for i, placed in enumerate(batch.placed):
            if self.strides:
                maps = [LocationMap(np.concatenate(
                    [outputs[f"cls{s}"][i], outputs[f"reg{s}"][i]]).astype(np.float64), s)
                    for s in self.strides]
                one = location_detections(maps, height, width)
                self.found.append(Found(boxes=placed.to_picture(one.boxes), classes=one.classes,
                                        scores=one.scores))
            if self.confusion is not None and batch.masks is not None:
                made = label_map(outputs["seg"][i], height, width)
                self.confusion.add(batch.masks[i], made)

    @property
    def precision(self) -> Precision | None:
        """Average precision of the boxes, None without a detector. Raises ToolMissing without
        pycocotools."""
        if self._precision is None and self.strides:
            self._precision = average_precision(
                truth_of(self.samples), results_of(self.samples, self.found))
        return self._precision

    def figures(self) -> dict[str, float]:
        """Those of `FIGURES` that there are, each 0..1; NaN where there is nothing to find."""
        made: dict[str, float] = {}
        if (precision := self.precision) is not None:
            made |= {"map50": precision.at50, "map": precision.mean,
                     "map_small": precision.small, "map_medium": precision.medium}
        if self.confusion is not None:
            made |= {"miou": self.confusion.mean_iou, "pixel_acc": self.confusion.pixel_accuracy}
        return made
