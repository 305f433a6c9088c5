"""mAP of boxes, as COCO defines it, by pycocotools (the extra ``detect``)."""

from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.command import require


__all__ = ["Precision", "average_precision"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Precision:
    """Average precision of boxes, each 0..1, or NaN without a true box to find.

    mean over IoU 0.50, 0.55, .. 0.95 and classes ("mAP"); at50 and at75 at these IoU (at50 is
    "mAP@0.5"); small, medium and large as mean, of true boxes of less than 32², less than 96² and
    more pixels; of_class (K,) and of_class_at50 (K,) of every class in the order of its id; recall,
    the mean over IoU and classes of the share of true boxes found.
    """

    mean: float
    at50: float
    at75: float
    small: float
    medium: float
    large: float
    of_class: NDArray[np.float64]
    of_class_at50: NDArray[np.float64]
    recall: float


def average_precision(truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> Precision:
    """COCO's average precision of `results` (`model.data.coco.results_of`) against `truth`
    (`model.data.coco.truth_of`): the 100 best boxes of a picture, IoU by class.

    A box over a crowd region is neither right nor wrong, and its overlap is the share of the box
    that lies in it. Classes without a true box are left out of every mean. A picture without true
    boxes counts by what is found in it.

    Raises ToolMissing without pycocotools, ValueError if a result names a picture or a class that
    `truth` lacks.
    """
    require("pycocotools", what="computes mAP")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    _check_known(truth, results)
    with redirect_stdout(io.StringIO()):  # it prints what it does and its tables
        true, found = COCO(), COCO()
        # Objects are numbered from 1: COCOeval takes a match with number 0 for none.
        true.dataset = {**truth, "annotations": [
            {**one, "id": number} for number, one in enumerate(truth["annotations"], 1)]}
        found.dataset = {**truth, "annotations": [
            {**one, "id": number, "iscrowd": 0, "area": one["bbox"][2] * one["bbox"][3]}
            for number, one in enumerate(results, 1)]}
        true.createIndex()
        found.createIndex()
        evaluation = COCOeval(true, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    # (IoU, recall, class, size, most boxes): all sizes first, and at most 100 boxes last.
    precision = evaluation.eval["precision"][..., -1]
    recall = evaluation.eval["recall"][..., -1]
    every = precision[..., 0]
    return Precision(
        mean=_mean(every), at50=_mean(every[0]), at75=_mean(every[5]), recall=_mean(recall[..., 0]),
        small=_mean(precision[..., 1]), medium=_mean(precision[..., 2]),
        large=_mean(precision[..., 3]),
        of_class=np.array([_mean(every[:, :, k]) for k in range(every.shape[2])]),
        of_class_at50=np.array([_mean(every[0, :, k]) for k in range(every.shape[2])]),
    )


def _check_known(truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> None:
    for key, known, what in (("image_id", {one["id"] for one in truth["images"]}, "picture"),
                             ("category_id", {one["id"] for one in truth["categories"]}, "class")):
        strange = sorted({one[key] for one in results} - known)
        if strange:
            raise ValueError(f"results name the {what} {strange[0]}, which the annotations lack: "
                             "take the annotations of the same pictures")


def _mean(values: NDArray[np.float64]) -> float:
    """Of those that are defined; COCOeval marks others with -1."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else float("nan")
