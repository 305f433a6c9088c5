"""Recordings of event cameras as frames of a data set, and CIFAR10-DVS from the user's folder."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data.aedat import read_recording
from model.data.cifar import CIFAR10_CLASSES
from model.data.dataset import DataInfo, Dataset, Split
from model.data.events import Events, frames, RecordingError, stored
from model.data.mnist import SPLIT_SEED
from model.data.on_demand import on_demand, spread
from model.families.base import NetworkSpec


__all__ = ["cifar10_dvs", "read_frames", "recordings_on_demand", "turned"]


PER_CLASS = 1000
"""Recordings of each class of CIFAR10-DVS."""

TEST_PER_CLASS = 100

VALIDATION_PER_CLASS = 90


def read_frames(file: Path, spec: NetworkSpec, *, turn: bool = False) -> NDArray[np.uint8]:
    """Counts (T, C, H, W) of a recording for `spec` (`model.data.events.frames`, `stored`).

    Raises RecordingError naming the file, or OSError.
    """
    events = read_recording(file)
    try:
        return stored(frames(turned(events) if turn else events, spec.time_steps, spec.image_size),
                      spec.in_channels)
    except ValueError as error:
        raise RecordingError(f"{file}: {error}") from None


def recordings_on_demand(
    files: Sequence[Path], spec: NetworkSpec, *, turn: bool = False
) -> NDArray[np.uint8]:
    """Frames (N, T, C, H, W) of recordings, read when they are indexed."""
    shape = (spec.time_steps, spec.in_channels, spec.image_size, spec.image_size)
    make = partial(spread, partial(read_frames, spec=spec, turn=turn))
    return on_demand(files, shape, make, what=("read", "recordings"), together=1)


def turned(events: Events) -> Events:
    """The events of a DVS128 as the readers of CIFAR10-DVS have them (SpikingJelly's, and those
    that use it): turned by a quarter, and with the polarities exchanged."""
    return Events(events.y, events.width - 1 - events.x, 1 - events.on, events.height,
                  events.width)


def cifar10_dvs(data_dir: Path, spec: NetworkSpec) -> Dataset:
    """CIFAR10-DVS (Li et al., Front. Neurosci. 11:309, 2017): 8,100 / 900 / 1,000 recordings.

    `data_dir` holds the ten folders of classes, with 1,000 recordings in AEDAT 2.0 each. As
    published by SpikingResformer, whose transfer the paper takes, the last hundred of a class by
    their names in plain order are the test set. Of the others, of which all are trained on there,
    90 of each class are set aside for validation, with a fixed seed.

    Raises ValueError naming what is missing; RecordingError and OSError when samples are indexed.
    """
    order = np.random.default_rng(SPLIT_SEED).permutation(PER_CLASS - TEST_PER_CLASS)
    chosen = {"train": np.sort(order[VALIDATION_PER_CLASS:]),
              "val": np.sort(order[:VALIDATION_PER_CLASS]),
              "test": np.arange(PER_CLASS - TEST_PER_CLASS, PER_CLASS)}
    found = {name: _listed(data_dir, name) for name in CIFAR10_CLASSES}
    splits = {}
    for part, places in chosen.items():
        # Classes in turn, so that the first samples are of all of them.
        files = [found[name][place] for place in places for name in CIFAR10_CLASSES]
        splits[part] = Split(
            images=recordings_on_demand(files, spec, turn=True),
            labels=np.tile(np.arange(len(CIFAR10_CLASSES)), len(places)),
            files=tuple(f"{file.parent.name}/{file.name}" for file in files))
    return Dataset(**splits, info=DataInfo(classes=CIFAR10_CLASSES))


def _listed(folder: Path, name: str) -> list[Path]:
    """The recordings of a class, in plain order of their names."""
    place = folder / name
    if not place.is_dir():
        raise ValueError(f"{place}: a class of CIFAR10-DVS is not there; unpack {name}.zip in "
                         f"{folder}, or name another folder with --data-dir")
    files = sorted(place.glob("*.aedat"), key=lambda file: file.name)
    if len(files) != PER_CLASS:
        raise ValueError(f"{place}: has {len(files):,} recordings of CIFAR10-DVS, not "
                         f"{PER_CLASS:,}; unpack {name}.zip again")
    return files
