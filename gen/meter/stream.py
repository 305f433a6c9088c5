"""What streaming meters share: samples at full rate become means, edges stay exact."""

import numpy as np

from gen.meter.base import Block


__all__ = ["Decimator"]


class Decimator:
    """Means of `factor` samples each; what a gap cuts short is left out and counted.

    Parameters
    ----------
    factor : int
        Samples of a mean, at least 1.
    rate_hz : float
        Samples a second at full rate.
    """

    def __init__(self, factor: int, rate_hz: float) -> None:
        self._factor, self._rate = factor, rate_hz
        self._next: int | None = None    # index of the first sample that is not yet in a mean
        self._rest = np.empty((3, 0))
        self._level = 0

    def put(self, index: int, volts: np.ndarray, amps: np.ndarray, marker: np.ndarray,
            arrival_s: float, *, clipped: int = 0) -> Block:
        """Means of samples that follow each other.

        Parameters
        ----------
        index : int
            Number of the first sample at full rate since the start; behind a gap it is higher
            than the last one's by more than 1.
        volts, amps, marker : numpy.ndarray
            Of shape (n,); the marker's levels are 0 and 1.
        arrival_s : float
        clipped : int
            Samples among them at the end of the range.
        """
        if self._next is None:
            self._next = index
        here = self._next + self._rest.shape[1]
        lost = 0
        if index != here:
            lost = max(0, index - here) + self._rest.shape[1]
            self._next, self._rest = index, np.empty((3, 0))
        changes = np.flatnonzero(np.diff(np.concatenate([[self._level], marker])))
        edges = [((index + int(i)) / self._rate, int(marker[i])) for i in changes]
        if len(marker):
            self._level = int(marker[-1])
        samples = np.concatenate([self._rest, np.stack([volts, amps, volts * amps])],
                                 axis=1)
        count = samples.shape[1] // self._factor
        used = count * self._factor
        means = samples[:, :used].reshape(3, count, self._factor).mean(axis=2)
        middle = self._next + self._factor * np.arange(count) + (self._factor - 1) / 2
        self._next, self._rest = self._next + used, samples[:, used:]
        return Block(middle / self._rate, means[0], means[1], means[2], arrival_s, edges, lost,
                     clipped)
