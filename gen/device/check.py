"""Checks of a run on a device, beside those that every answer undergoes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
import time

import numpy as np
from numpy.typing import NDArray

from gen.device.port import LinkError
from hw.descriptor import UnitKind


__all__ = ["CHECKS", "CheckFailed", "Checks"]


CHECKS = {
    "crc": "before and after every run the board computes the CRC-32 of program, weights, "
           "constants and images in its memory",
    "twice": "every image runs twice, and each instruction must do the same again",
    "host": "each instruction must do what the instruction-set simulator does for this image",
}
"""The checks of ``--check``, and what each does."""


class CheckFailed(LinkError):
    """The device does not hold what was written, or does not compute what it should."""


@dataclass
class Checks:
    """Which checks a run undergoes, and what came of them.

    Parameters
    ----------
    crc, twice : bool
        See :data:`CHECKS`.
    signatures : callable or None
        The check ``host``: gives the signature of every descriptor for an image int8 (C, H, W).
    results : callable or None
        With it: gives the accumulators int64 (classes,), which lie in the board's memory until
        the host reads them.
    """

    crc: bool = False
    twice: bool = False
    signatures: Callable[[NDArray[np.int8]], Sequence[int]] | None = None
    results: Callable[[NDArray[np.int8]], NDArray[np.int64]] | None = None
    images: int = 0
    words: int = 0
    """Memory words whose CRC was compared."""
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CHECKS, 0.0))

    @property
    def each(self) -> bool:
        """Whether every image needs a run of its own: the log holds one image's records."""
        return self.twice or self.signatures is not None

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] += time.monotonic() - started

    def compare_twice(self, image, first, second):
        """Raise :exc:`CheckFailed` unless two runs left the same signatures, int (descriptors,)."""
        index = _first_difference(first, second)
        if index is not None:
            raise CheckFailed(
                f"Image {self.images}: two runs differ, first in {_descriptor(image, index)}: "
                f"signature {first[index]:#010x}, then {second[index]:#010x}; the board computes "
                "unreliably: look at its supply, or build with a lower clock_mhz or sdram_mhz")

    def compare_host(self, image, values, found, acc):
        """Raise :exc:`CheckFailed` unless a run of image ``values`` left the simulator's signatures
        ``found`` and accumulators ``acc``."""
        wanted = np.asarray(self.signatures(values), np.int64)
        index = _first_difference(found, wanted)
        if index is not None:
            raise CheckFailed(
                f"Image {self.images}: {_descriptor(image, index)} differs from the "
                f"instruction-set simulator: signature {found[index]:#010x}, not "
                f"{wanted[index]:#010x}; add --check twice to learn whether it is the same each "
                "time (a wrong bitstream) or not (an unreliable board)")
        if self.results is not None and not np.array_equal(acc, self.results(values)):
            raise CheckFailed(
                f"Image {self.images}: every instruction did what the instruction-set simulator "
                "does, but the result that was read is another: the memory is unreliable; build "
                "with a lower sdram_mhz")

    def lines(self, descriptors: int) -> list[str]:
        """What was checked, a line for each check, with the seconds that it took."""
        found = []
        if self.crc:
            found.append(f"check crc: {self.words} words of memory had the CRC of what was "
                         f"written, before and after each run; {self.seconds['crc']:.2f} s")
        if self.twice:
            found.append(f"check twice: {self.images} images run twice, {descriptors} signatures "
                         f"each and all results equal; {self.seconds['twice']:.2f} s")
        if self.signatures is not None:
            found.append(f"check host: {self.images} images, {descriptors} signatures each as in "
                         f"the instruction-set simulator; {self.seconds['host']:.2f} s")
        return found


def _first_difference(left, right):
    if len(left) != len(right):
        raise ValueError(f"Signatures must be as many as descriptors: {len(left)}, {len(right)}")
    other = np.flatnonzero(left != right)
    return int(other[0]) if len(other) else None


def _descriptor(image, index):
    return f"descriptor {index} ({UnitKind(image.units[index]).name}, {image.layers[index]})"
