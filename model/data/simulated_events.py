"""Simulated events: what an event camera would see of a Fashion-MNIST item that moves. NumPy only.

Not a recording: all of it is computed, in integers, so that every machine gets the same counts. The
item moves on a triangle of three saccades, as the camera of N-MNIST did before the digits (Orchard
et al., Front. Neurosci. 9:437, 2015). A pixel fires whenever the logarithm of its intensity has
changed by its threshold since it fired last (Lichtsteiner et al., JSSC 43(2), 2008; ESIM, Rebecq
et al., CoRL 2018), once for every threshold that is crossed.
"""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data.dataset import DataInfo, Dataset, PARTS, Split
from model.data.events import stored
from model.data.mnist import FASHION_CLASSES, fashion_mnist
from model.data.on_demand import on_demand


__all__ = ["PATH", "simulate", "simulated_events", "SOURCE", "thresholds"]


SOURCE = "simulated events of Fashion-MNIST"

REACH = 2
"""Pixels that an item moves to each side of the middle."""

_QUARTERS = 4
"""Places of an item in a pixel, each way; between pixels intensities are interpolated."""


def _path() -> tuple[tuple[int, int], ...]:
    corners = [(-8, -8), (0, 8), (8, -8), (-8, -8)]
    steps = 8
    places = [corners[0]]
    for (x0, y0), (x1, y1) in zip(corners, corners[1:], strict=False):
        places += [(x0 + (x1 - x0) * k // steps, y0 + (y1 - y0) * k // steps)
                   for k in range(1, steps + 1)]
    return tuple(places)


PATH = _path()
"""Places (x, y) of an item in quarters of a pixel: three saccades of eight steps, and back."""

STEPS = len(PATH) - 1

_UNIT = 1024
"""Steps of a logarithm for 1."""

_DARK = 0.1
"""Added to an intensity of 0..1, since the logarithm of 0 is none."""

_LOG = np.array([round(_UNIT * math.log1p(value / (255 * _QUARTERS**2 * _DARK)))
                 for value in range(255 * _QUARTERS**2 + 1)], np.int16)
"""Of every interpolated intensity, 0 at 0."""

THRESHOLD = 205
"""Mean threshold of a pixel: 0.2 in natural logarithm."""

MISMATCH = 6
"""Thresholds differ by so much at most, 3 %, as those of a sensor's pixels do."""

SENSOR_SEED = 31


def thresholds(size: int) -> NDArray[np.int16]:
    """Threshold (size, size) of each pixel of the sensor: one sensor, from a fixed seed."""
    rng = np.random.default_rng(SENSOR_SEED)
    return (THRESHOLD + rng.integers(-MISMATCH, MISMATCH + 1, (size, size))).astype(np.int16)


def simulate(pictures: NDArray[np.uint8], *, steps: int, size: int) -> NDArray[np.int64]:
    """Counts (N, steps, 2, size, size) of the events of pictures (N, h, w), OFF before ON.

    The picture moves in the middle of the sensor along `PATH`; frame k has the events of the steps
    k*24/steps to (k+1)*24/steps.

    Raises ValueError if the sensor has no room for that, or there are more frames than steps.
    """
    count, height, width = pictures.shape
    smallest = max(height, width) + 2 * REACH
    if size < smallest:
        raise ValueError(f"simulated events need a network with images of at least "
                         f"{smallest}x{smallest} pixels, not {size}x{size}")
    if steps > STEPS:
        raise ValueError(f"simulated events have at most {STEPS} time steps, not {steps}")
    margin = REACH + 1
    top, left = (margin + (size - side) // 2 for side in (height, width))
    canvas = np.zeros((count, size + 2 * margin, size + 2 * margin), np.int16)
    canvas[:, top:top + height, left:left + width] = pictures

    def logarithm(place: tuple[int, int]) -> NDArray[np.int16]:
        (x, right), (y, down) = (divmod(-value, _QUARTERS) for value in place)
        rows = [canvas[:, margin + y + k:margin + y + k + size] for k in (0, 1)]
        mixed = (_QUARTERS - down) * rows[0] + down * rows[1]
        columns = [mixed[:, :, margin + x + k:margin + x + k + size] for k in (0, 1)]
        return _LOG[(_QUARTERS - right) * columns[0] + right * columns[1]]

    threshold, counts = thresholds(size), np.zeros((count, steps, 2, size, size), np.int64)
    fired = logarithm(PATH[0])    # at which each pixel fired last
    for number, place in enumerate(PATH[1:]):
        change = logarithm(place) - fired
        crossed = np.abs(change) // threshold
        rose = change > 0
        fired += np.where(rose, crossed, -crossed) * threshold
        frame = counts[:, number * steps // STEPS]
        frame[:, 0] += np.where(rose, 0, crossed)
        frame[:, 1] += np.where(rose, crossed, 0)
    return counts


def simulated_events(data_dir: Path | None, *, steps: int, size: int, channels: int = 2) -> Dataset:
    """55,000 / 5,000 / 10,000 samples (steps, channels, size, size) of `fashion_mnist`'s items.

    The same split and labels as there; `channels` as of `model.data.events.stored`. Made when
    indexed, about half a millisecond a sample. Raises as `fashion_mnist` and `simulate`.
    """
    def make(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return stored(simulate(pictures, steps=steps, size=size), channels)

    items = fashion_mnist(data_dir)
    make(items.val.images[:1])    # what cannot be simulated is said at once
    return Dataset(
        **{part: Split(
            images=on_demand(getattr(items, part).images, (steps, channels, size, size), make,
                             what=("simulate", "samples")),
            labels=getattr(items, part).labels, source=SOURCE,
        ) for part in PARTS},
        info=DataInfo(classes=FASHION_CLASSES),
    )
