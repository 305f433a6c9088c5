"""Maps of whole images in float64: grown between their positions, classes of pixels, and masks."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.decode.boxes import as_boxes
from model.decode.elementary import check_finite


__all__ = ["label_map", "paste", "resize"]


_ROWS = 256
"""Of an image whose logits are in memory at a time."""


def resize(maps: ArrayLike, height: int, width: int) -> NDArray[np.float64]:
    """Maps (C, H, W) at another size, (C, height, width), bilinear, the border repeated.

    Pixel x of W' is at (x + 1/2)*W/W' - 1/2. To twice the size a pixel is 9, 3, 3 and 1 sixteenths
    of the four positions around it. Raises ValueError on another shape, on empty
    maps and on values that are not finite.
    """
    return _grown(_grown(_checked(maps), 1, height), 2, width)


def label_map(logits: ArrayLike, height: int, width: int,
              share: tuple[float, float] = (1.0, 1.0)) -> NDArray[np.int64]:
    """The class of every pixel (height, width): the largest of its logits (K, H, W), which are
    grown to that size first; of equal ones the lowest class. Of the maps' height and width only a
    `share` from the upper left corner is the image. Raises ValueError as `resize`."""
    rows = _grown(_checked(logits), 1, height, share[0])
    made = np.empty((height, width), np.int64)
    for top in range(0, height, _ROWS):    # large pictures of many classes do not fit into memory
        band = slice(top, top + _ROWS)
        made[band] = _grown(rows[:, band], 2, width, share[1]).argmax(0)
    return made


def _checked(maps: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(maps, np.float64)
    if values.ndim != 3 or not values.size:
        raise ValueError(f"maps must be of shape (C, H, W), not {values.shape}")
    check_finite("maps", values)
    return values


def _grown(maps: NDArray[np.float64], axis: int, size: int, share: float = 1.0
           ) -> NDArray[np.float64]:
    """Maps (C, H, W) of which a share of one axis, 1 or 2, is grown to `size` pixels."""
    count = maps.shape[axis]
    at = np.clip((np.arange(size) + 0.5) * (count * share / size) - 0.5, 0, count - 1)
    left = np.floor(at).astype(np.int64)
    part = (at - left).reshape(-1, *[1] * (2 - axis))
    below, above = (maps.take(i, axis) for i in (left, np.minimum(left + 1, count - 1)))
    return below * (1 - part) + above * part


def paste(masks: ArrayLike, boxes: ArrayLike, height: int, width: int, *, threshold: float = 0.5
          ) -> NDArray[np.bool_]:
    """Masks (N, S, S) of 0..1 stretched over boxes (N, 4): which pixels of an image belong to each
    object, (N, height, width).

    A pixel belongs to it if the mask at its centre, bilinear and 0 outside, is at least
    `threshold`, as in mmdet. A box without area has none. Raises ValueError if there is not one
    mask for each box, or values are not finite.
    """
    parts, corners = np.asarray(masks, np.float64), as_boxes(boxes)
    if parts.ndim != 3 or len(parts) != len(corners):
        raise ValueError(f"masks of {len(corners)} boxes must be of shape ({len(corners)}, S, S), "
                         f"not {parts.shape}")
    check_finite("masks", parts)
    found = np.zeros((len(corners), height, width), bool)
    for i, (mask, box) in enumerate(zip(parts, corners, strict=True)):
        if box[2] <= box[0] or box[3] <= box[1]:
            continue
        rows = _weights(box[1], box[3], mask.shape[0], height)
        columns = _weights(box[0], box[2], mask.shape[1], width)
        found[i] = rows @ mask @ columns.T >= threshold
    return found


def _weights(low: float, high: float, count: int, size: int) -> NDArray[np.float64]:
    """How much each of `count` values between low and high counts for each of `size` pixels."""
    at = (np.arange(size) + 0.5 - low) / (high - low) * count - 0.5
    left = np.floor(at)
    weights = np.zeros((size, count + 2))     # one before and one behind, which are 0
    for index, share in ((left, 1 - (at - left)), (left + 1, at - left)):
        np.add.at(weights, (np.arange(size), np.clip(index, -1, count).astype(int) + 1), share)
    return weights[:, 1:-1]
