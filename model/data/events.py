"""Events of pixels and their counts in frames, the input of a network. NumPy only.

Frames are made as published for CIFAR10-DVS (SpikingJelly, ``split_by="number"``): T slices of
equally many events, counted for each pixel and polarity, as exact integers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.families.base import NetworkSpec


__all__ = ["check_counts", "COUNT_MAX", "Events", "frames", "RecordingError", "slices", "stored"]


COUNT_MAX = 127
"""Largest count that a network sees: that of an int8 image. More events of a pixel in a frame
count as so many; `model.data.options` says how often that happens."""


class RecordingError(ValueError):
    """A recording cannot be used; the message names the file, the cause and what to do."""


@dataclass(frozen=True)
class Events:
    """Events of a sensor in the order of their times.

    x, y, columns from the left and rows from the top, and on, whether the light rose: each (E,),
    any integers. width and height of the sensor in pixels.

    Raises RecordingError if the lengths differ or an event lies outside of the sensor.
    """

    x: NDArray
    y: NDArray
    on: NDArray
    width: int
    height: int

    def __post_init__(self) -> None:
        if not len(self.x) == len(self.y) == len(self.on):
            raise RecordingError("events must have as many x, y and polarities, not "
                                 f"{len(self.x)}, {len(self.y)} and {len(self.on)}")
        for values, size, name in ((self.x, self.width, "x"), (self.y, self.height, "y")):
            if len(values) and not (values.min() >= 0 and values.max() < size):
                wrong = values.max() if values.max() >= size else values.min()
                raise RecordingError(f"{name} of an event must be 0 to {size - 1}, not {wrong}; "
                                     "copy it again")

    def __len__(self) -> int:
        return len(self.x)


def slices(count: int, steps: int) -> list[slice]:
    """Which of `count` events each of `steps` frames takes: floor(count/steps), the last the rest.

    Frame k has the events from k*floor(count/steps).
    """
    each = count // steps
    return [slice(k * each, (k + 1) * each if k + 1 < steps else count) for k in range(steps)]


def frames(events: Events, steps: int, size: int) -> NDArray[np.int64]:
    """Counts (steps, 2, size, size) of the slices of `events`, first those that fell (OFF).

    From a larger sensor the square in its middle is taken, and pixels of it are counted together:
    column x goes to floor(x*size/side), so that each event is counted once.

    Raises ValueError if the sensor is smaller than `size`.
    """
    side = min(events.width, events.height)
    if side < size:
        raise ValueError(f"the sensor has {events.width}x{events.height} pixels, fewer than the "
                         f"network's {size}x{size}: take a network with smaller images")
    counts = []
    for part in slices(len(events), steps):
        x = (events.x[part].astype(np.int64) - (events.width - side) // 2) * size // side
        y = (events.y[part].astype(np.int64) - (events.height - side) // 2) * size // side
        inside = (x >= 0) & (x < size) & (y >= 0) & (y < size)
        place = ((events.on[part] != 0) * size + y) * size + x
        counts.append(np.bincount(place[inside], minlength=2 * size * size))
    return np.stack(counts).reshape(steps, 2, size, size).astype(np.int64)


def stored(counts: NDArray[np.integer], channels: int) -> NDArray[np.uint8]:
    """Counts (..., 2, H, W) as the images of a data set, (..., channels, H, W).

    A third channel is the sum of the two, as published for networks trained on colours. Counts
    above 255 become 255: no network sees more than `COUNT_MAX`.
    """
    if channels == 3:
        counts = np.concatenate([counts, counts.sum(-3, keepdims=True)], -3)
    return np.minimum(counts, 255).astype(np.uint8)


def check_counts(name: str, spec: NetworkSpec) -> None:
    """Raise ValueError unless the network `spec` takes the counts of data set `name` unchanged."""
    if spec.in_channels not in (2, 3):
        raise ValueError(f"{name}: events have 2 channels, or 3 with their sum, but {spec.name} "
                         f"takes {spec.in_channels}: name a network for events, such as --model "
                         "small_events.yaml")
    if (spec.image_scale != 1 or any(spec.norm_mean)
            or any(abs(255 * std - 1) > 1e-6 for std in spec.norm_std)):
        raise ValueError(f"{name}: counts of events must go in as they are, but {spec.name} has "
                         f"image_scale {spec.image_scale}, norm_mean {spec.norm_mean[0]:g} and "
                         f"norm_std {spec.norm_std[0]:g}: its spec needs 1, 0 and 1/255")
