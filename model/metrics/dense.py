"""mAP and mIoU of the outputs of a network's heads, batch after batch."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from model.data.coco import results_of, truth_of
from model.data.objects import Found, Samples
from model.data.pipeline import Batch
from model.decode.outputs import boxes_in
from model.decode.pixels import label_map
from model.metrics.detection import average_precision, Precision
from model.metrics.mistakes import box_quality, judged
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
    pixels and `pixel_qualities` the mean IoU of each picture's own classes.
    """

    def __init__(self, samples: Samples, strides: Sequence[int], *, pixels: bool) -> None:
        self.samples, self.strides = samples, tuple(strides)
        self.found: list[Found] = []
        self.confusion = Confusion(len(samples.mask_classes)) if pixels else None
        self.pixel_qualities: list[float] = []
        self._precision: Precision | None = None

    def add(self, batch: Batch, outputs: Mapping[str, NDArray]) -> None:
        """Outputs by name, (B, O, H, W) each, of the next B pictures.

        Raises ValueError if they are not finite.
        """
        height, width = batch.image_q.shape[-2:]
        for i, placed in enumerate(batch.placed):
            if self.strides:
                own = {name: value[i] for name, value in outputs.items()}
                self.found.append(boxes_in(own, placed, self.strides))
            if self.confusion is not None and batch.masks is not None:
                one = Confusion(len(self.confusion.counts))
                one.add(batch.masks[i], label_map(outputs["seg"][i], height, width))
                self.confusion.counts += one.counts
                self.pixel_qualities.append(one.mean_iou)

    @property
    def precision(self) -> Precision | None:
        """Average precision of the boxes, None without a detector. Raises ToolMissing without
        pycocotools."""
        if self._precision is None and self.strides:
            self._precision = average_precision(
                truth_of(self.samples), results_of(self.samples, self.found))
        return self._precision

    def qualities(self, least: float) -> NDArray[np.float64]:
        """How good each picture is, 0..1: the share of boxes of at least the score `least` that are
        right (`model.metrics.mistakes.box_quality`), the mean IoU of the picture's classes, or with
        both heads the mean of the two. A picture whose pixels are all ignored has IoU 1."""
        parts = []
        if self.strides:
            parts.append([box_quality(judged(self.samples.objects_of(i), one.at_least(least)))
                          for i, one in enumerate(self.found)])
        if self.confusion is not None:
            parts.append(list(np.nan_to_num(self.pixel_qualities, nan=1.0)))
        return np.mean(parts, axis=0)

    def figures(self) -> dict[str, float]:
        """Those of `FIGURES` that there are, each 0..1; NaN where there is nothing to find."""
        made: dict[str, float] = {}
        if (precision := self.precision) is not None:
            made |= {"map50": precision.at50, "map": precision.mean,
                     "map_small": precision.small, "map_medium": precision.medium}
        if self.confusion is not None:
            made |= {"miou": self.confusion.mean_iou, "pixel_acc": self.confusion.pixel_accuracy}
        return made
