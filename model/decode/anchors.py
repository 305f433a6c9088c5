"""Boxes of fixed size around every position of a map, from which a region proposal network starts.

Ren et al., "Faster R-CNN", 2015; order and sizes are those of mmdet's ``AnchorGenerator``.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


__all__ = ["RATIOS", "anchors", "inside"]


RATIOS = (0.5, 1.0, 2.0)
"""Height over width of the anchors of a position."""


def anchors(shape: tuple[int, int], *, stride: int, size: float,
            ratios: Sequence[float] = RATIOS) -> NDArray[np.float64]:
    """Anchors (H*W*A, 4) of a map of `shape` (H, W), in order of y, x, ratio.

    Those of position (x, y) have their centre at (x*stride, y*stride) pixels and an area of size
    by size. They may reach out of the image.
    """
    roots = np.sqrt(np.asarray(ratios, np.float64))
    half = np.stack([size / roots, size * roots], 1) / 2
    base = np.hstack([-half, half])
    y, x = (values.ravel() for values in np.mgrid[: shape[0], : shape[1]])
    moved = (np.stack([x, y, x, y], 1) * float(stride))[:, None] + base
    return moved.reshape(-1, 4)


def inside(shape: tuple[int, int], *, stride: int, image: tuple[int, int],
           ratios: Sequence[float] = RATIOS) -> NDArray[np.bool_]:
    """Of which of the `anchors` the centre lies inside of an image (height, width)."""
    rows, columns = (np.arange(n) * stride < side for n, side in zip(shape, image, strict=True))
    return np.repeat((rows[:, None] & columns).ravel(), len(ratios))
