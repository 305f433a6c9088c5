"""What heads see of a region: a map read at evenly spaced points, between its positions.

He et al., "Mask R-CNN", 2017, and mmcv's ``RoIAlign`` with aligned corners and as many points as a
bin is wide. In float64.
"""

from collections.abc import Sequence
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.decode.boxes import areas, as_boxes


__all__ = ["region_maps", "roi_align"]


_SIDE = 56
"""Root of the area, in pixels, of a region that lies one doubling below the second map."""


def region_maps(regions: ArrayLike, count: int) -> NDArray[np.int64]:
    """Which of `count` maps each region (N, 4) is read off, (N,): the finest, 0, if the root of its
    area is below 112 pixels, and the next one for each doubling. (Lin et al., "Feature Pyramid
    Networks for Object Detection", 2017.)"""
    roots = np.sqrt(areas(regions))
    steps = [math.floor(math.log2(root / _SIDE + 1e-6)) for root in roots.tolist()]
    return np.clip(np.array(steps, np.int64), 0, count - 1)


def roi_align(maps: Sequence[NDArray], strides: Sequence[int], regions: ArrayLike, side: int
              ) -> NDArray[np.float64]:
    """What is seen of regions (N, 4): (N, C, side, side).

    A region is cut into side by side bins; the value of one is the mean of ceil(its width) by
    ceil(its height) points, each interpolated between four positions of the map. Position (x, y)
    of a map stands for pixel (stride*(x+1/2), stride*(y+1/2)). Points more than one position
    outside of the map are 0; those nearer have the border's value. Raises ValueError on regions
    that are not finite.

    Args:
        maps: (C, H, W) each, the finest first.
        strides: Pixels from one position of each map to the next.
    """
    boxes = as_boxes(regions)
    found = np.zeros((len(boxes), len(maps[0]), side, side))
    for i, (box, level) in enumerate(zip(boxes, region_maps(boxes, len(maps)), strict=True)):
        image = np.asarray(maps[level], np.float64)
        scaled = box / strides[level] - 0.5
        columns = _weights(scaled[0], scaled[2], side, image.shape[2])
        rows = _weights(scaled[1], scaled[3], side, image.shape[1])
        found[i] = rows @ image @ columns.T
    return found


def _weights(low: float, high: float, side: int, size: int) -> NDArray[np.float64]:
    """How much each of `size` positions in a row counts in each of `side` bins: (side, size)."""
    bin_size = (high - low) / side
    count = math.ceil(bin_size)
    weights = np.zeros((side, size))
    if count <= 0:
        return weights
    at = low + bin_size * (np.arange(side)[:, None] + (np.arange(count) + 0.5) / count)
    there = (at >= -1) & (at <= size)
    at = np.clip(at, 0, size - 1)
    left = np.minimum(at.astype(np.int64), size - 1)
    right, share = np.minimum(left + 1, size - 1), at - left
    bins = np.broadcast_to(np.arange(side)[:, None], at.shape)
    np.add.at(weights, (bins, left), there * (1 - share))
    np.add.at(weights, (bins, right), there * share)
    return weights / count
