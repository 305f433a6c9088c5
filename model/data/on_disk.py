"""Pictures that do not fit into memory: decoded whenever they are asked for."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data.pictures import Fitting, read_picture


__all__ = ["PicturesOnDisk"]


class PicturesOnDisk:
    """Stands for an array of pictures, (N, H, W) or (N, 3, H, W) uint8.

    An array of indices decodes them, on as many threads as there are cores; a slice gives another
    of these. Raises PictureError or OSError where a file cannot be read.
    """

    def __init__(self, files: Sequence[Path], fitting: Fitting) -> None:
        self._files, self._fitting = files, fitting

    def __len__(self) -> int:
        return len(self._files)

    @property
    def shape(self) -> tuple[int, ...]:
        side = self._fitting.size
        return (len(self), side, side) if self._fitting.channels == 1 else (
            len(self), 3, side, side)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, index: slice | NDArray[np.integer]) -> "NDArray | PicturesOnDisk":
        if isinstance(index, slice):
            return PicturesOnDisk(self._files[index], self._fitting)
        pixels = np.empty((len(index), *self.shape[1:]), np.uint8)

        def decode(place: int) -> None:
            picture = read_picture(self._files[int(index[place])], self._fitting)
            pixels[place] = picture if picture.ndim == 2 else picture.transpose(2, 0, 1)

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for _ in pool.map(decode, range(len(index))):    # raises what a thread raised
                pass
        return pixels
