"""mIoU of class maps from counts of pixels. NumPy only.

As mmsegmentation's IoUMetric counts: pixels whose true class is `IGNORED` do not count, whatever is
predicted; counts are summed over all pictures before anything is divided; a class that is neither
true nor predicted anywhere has no IoU and is left out of the mean; one that is predicted but never
true has IoU 0.
"""

import numpy as np
from numpy.typing import NDArray

from model.data.objects import IGNORED


__all__ = ["Confusion"]


class Confusion:
    """Counts of pixels (K, K) int64: rows are true classes, columns predicted ones.

    Parameters
    ----------
    classes
        K, at most 255.

    Raises
    ------
    ValueError
        If there are none or more.
    """

    def __init__(self, classes: int) -> None:
        if not 0 < classes <= IGNORED:
            raise ValueError(f"classes must be 1 to {IGNORED}, not {classes}")
        self.counts = np.zeros((classes, classes), np.int64)

    def add(self, truth: NDArray[np.integer], predicted: NDArray[np.integer]) -> None:
        """Count pixels: two arrays of one shape, classes from 0; of `truth`, `IGNORED` too.

        Raises ValueError if shapes differ or a class is not known.
        """
        if truth.shape != predicted.shape:
            raise ValueError(f"truth and predicted must have one shape, not {truth.shape} and "
                             f"{predicted.shape}")
        classes = len(self.counts)
        known = truth != IGNORED
        pairs = []
        for name, array in (("truth", truth), ("predicted", predicted)):
            array = array[known].astype(np.int64)
            if array.size and not 0 <= array.min() <= array.max() < classes:
                worst = array.max() if array.max() >= classes else array.min()
                raise ValueError(f"{name} must have classes 0 to {classes - 1}, not {worst}")
            pairs.append(array)
        self.counts += np.bincount(classes * pairs[0] + pairs[1],
                                   minlength=classes * classes).reshape(classes, classes)

    @property
    def iou(self) -> NDArray[np.float64]:
        """Of each class (K,): pixels both true and predicted over those either; NaN without any."""
        both = np.diag(self.counts)
        either = self.counts.sum(0) + self.counts.sum(1) - both
        return _ratio(both, either)

    @property
    def mean_iou(self) -> float:
        """Mean over the classes that have an IoU; NaN if nothing was counted."""
        found = self.iou[~np.isnan(self.iou)]
        return float(found.mean()) if found.size else float("nan")

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Of each class (K,): the share of its pixels that are predicted as it; NaN without any."""
        return _ratio(np.diag(self.counts), self.counts.sum(1))

    @property
    def pixel_accuracy(self) -> float:
        """Share of all counted pixels that are predicted right; NaN if nothing was counted."""
        total = int(self.counts.sum())
        return int(np.trace(self.counts)) / total if total else float("nan")


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
