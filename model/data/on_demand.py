"""Samples that are made whenever they are asked for, because all do not fit into memory."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
import math
import os
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from model.progress import track


__all__ = ["BYTES_MAX", "fits", "in_memory", "on_demand", "OnDemand", "spread"]


BYTES_MAX = 1 << 30
"""Bytes of all samples that are held in memory together, so that a command stays below 2 GB: 1.3
million pictures of 28x28 in grey, 7,100 of 224x224 in colour."""


class OnDemand:
    """Stands for an array of samples, uint8 (N, ...).

    An array of indices makes them; a slice gives another of these.

    Parameters
    ----------
    items
        What the samples are made of, one for each: files, or an array.
    shape
        Of one sample.
    make
        Turns some of the items into the array of their samples. What it raises, indexing raises.
    what
        The work in one word and what is counted, for the progress: ``("decode", "pictures")``.
    together
        How many `in_memory` makes at a time; 1 where one may need much memory.
    """

    def __init__(
        self, items: Sequence[Any] | NDArray, shape: tuple[int, ...],
        make: Callable[[Any], NDArray[np.uint8]], *, what: tuple[str, str], together: int = 64,
    ) -> None:
        self._items, self._shape, self._make = items, shape, make
        self.what, self.together = what, together

    def __len__(self) -> int:
        return len(self._items)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self._shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape)

    def __getitem__(self, index: slice | NDArray[np.integer]) -> "NDArray[np.uint8] | OnDemand":
        if isinstance(index, slice):
            return OnDemand(self._items[index], self._shape, self._make, what=self.what,
                            together=self.together)
        return self.samples(index)

    def samples(self, index: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Make those at the places `index` (n,)."""
        if isinstance(self._items, np.ndarray):
            return self._make(self._items[index])
        return self._make([self._items[int(place)] for place in index])


def on_demand(
    items: Sequence[Any] | NDArray, shape: tuple[int, ...],
    make: Callable[[Any], NDArray[np.uint8]], *, what: tuple[str, str], together: int = 64,
) -> NDArray[np.uint8]:
    """An `OnDemand`, in the type of the array that it stands for."""
    made = OnDemand(items, shape, make, what=what, together=together)
    return cast("NDArray[np.uint8]", made)


def fits(images: NDArray[np.uint8]) -> bool:
    """Whether all samples may be held in memory."""
    return images.nbytes <= BYTES_MAX


def in_memory(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """All samples as an array; what is one is returned as it is.

    Raises ValueError if they are too large.
    """
    found = cast("NDArray[np.uint8] | OnDemand", images)
    if not isinstance(found, OnDemand):
        return images
    verb, unit = found.what
    if not fits(images):
        size = "x".join(map(str, found.shape[1:]))
        raise ValueError(
            f"{len(found):,} {unit} of {size} need {found.nbytes >> 20:,} MB, more than "
            f"{BYTES_MAX >> 20:,}: give fewer, or a network with smaller images"
        )
    made = np.empty(found.shape, np.uint8)
    with track(verb, len(found), unit) as task:
        for start in range(0, len(found), found.together):
            places = np.arange(start, min(start + found.together, len(found)))
            made[places] = found.samples(places)
            task.update(len(places))
    return made


def spread(make: Callable[[Any], NDArray[np.uint8]], items: Sequence[Any]) -> NDArray[np.uint8]:
    """The samples of `items`, at least one, each made for itself, on as many threads as cores."""
    if len(items) == 1:
        return make(items[0])[None]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return np.stack(list(pool.map(make, items)))    # raises what a thread raised
