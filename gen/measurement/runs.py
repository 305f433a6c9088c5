"""Runs of images on a device, again and again, and when it was busy."""

from collections.abc import Callable
from dataclasses import dataclass
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen.device.device import Device
from gen.device.session import Session
from hw.config import RECORD_WORDS
from hw.register import Register
from model.error import VerificationFailed
from model.progress import track


__all__ = ["Run", "Runs", "Stopwatch", "measure_runs"]


class Stopwatch:
    """A device that notes when its core was busy, as the host saw it; otherwise the device.

    Parameters
    ----------
    device : Device
    line : callable, optional
        Called with 1 when a run begins and with 0 when it has ended.
    """

    def __init__(self, device: Device, line: Callable[[int], None] | None = None) -> None:
        self._device, self._line = device, line
        self.busy_s = 0.0
        """Seconds between starts and ends so far."""
        self._begun = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def start(self, **control: Any) -> None:
        """As :meth:`Device.start`."""
        self._begun = time.monotonic()
        self._device.start(**control)
        if self._line is not None:
            self._line(1)

    def wait(self, **options: Any) -> None:
        """As :meth:`Device.wait`."""
        try:
            self._device.wait(**options)
        finally:
            if self._line is not None:
                self._line(0)
            self.busy_s += time.monotonic() - self._begun


@dataclass(frozen=True)
class Run:
    """All images once.

    Parameters
    ----------
    images : int
    counters : dict
        Summed over the images, by :class:`hw.register.Counter`.
    busy_s : float
        From start to end of the core as the host saw it, s.
    seconds : float
        With images and results over the link, s.
    """

    images: int
    counters: dict[str, int]
    busy_s: float
    seconds: float

    @property
    def cycles(self) -> float:
        """Cycles for an image, by the board's counter."""
        return self.counters["CYCLES"] / self.images


@dataclass(frozen=True)
class Runs:
    """What was measured.

    Parameters
    ----------
    runs : tuple of Run
        Without the warm-up.
    classes : numpy.ndarray
        Int64 of shape (images,): the class of each.
    records : numpy.ndarray
        Uint64: the core's log of the last image, two words a descriptor.
    batch : int
        Images of one start of the core.
    link_errors : int
        Frames that the device dropped meanwhile, modulo 2**16.
    warm_up : int
        Images before the first run that counts.
    """

    runs: tuple[Run, ...]
    classes: NDArray[np.int64]
    records: NDArray[np.uint64]
    batch: int
    link_errors: int
    warm_up: int

    @property
    def images(self) -> int:
        """Of all runs."""
        return sum(run.images for run in self.runs)


def measure_runs(session: Session, device: Stopwatch, image: Any, images: NDArray[np.int8],
                 expected: NDArray[np.int64], *, repeats: int, seconds: float, warm_up_s: float,
                 timeout_s: float, begin: Callable[[], Any], look: Callable[[], None]) -> Runs:
    """Run all images at least `repeats` times and for at least `seconds`, after a warm-up.

    Every result of every run is compared.

    Parameters
    ----------
    session : Session
        Loaded and checked, on `device`.
    image : gen.compile.package.ProgramImage
        Of the session.
    images : int8 (N, C, H, W)
    expected : int64 (N, classes)
        Results by the integer model.
    timeout_s : float
        Of an image.
    begin : callable
        Gives the context of the measured runs.
    look : callable
        Called between runs; may raise, as for a meter that has gone.

    Raises
    ------
    VerificationFailed
        A result differs from the integer model.
    LinkError
        The device does not answer, or did not run to the end.
    """
    first = _link_errors(device)
    warm_up, deadline = 0, time.monotonic() + warm_up_s
    with track("warm-up", max(1, round(warm_up_s)), "s") as task:
        while True:
            run, classes = _once(session, device, images, expected, timeout_s)
            warm_up += run.images
            left = deadline - time.monotonic()
            task.reach(max(0, round(warm_up_s - max(0.0, left))))
            look()
            if left <= 0:
                break
    runs: list[Run] = []
    with begin(), track("measure", repeats, "runs") as task:
        deadline = time.monotonic() + seconds
        while len(runs) < repeats or time.monotonic() < deadline:
            run, classes = _once(session, device, images, expected, timeout_s)
            runs.append(run)
            task.reach(min(len(runs), repeats))
            look()
    records = device.read(image.log, RECORD_WORDS * image.descriptors)
    dropped = (_link_errors(device) - first) % (1 << 16)
    return Runs(tuple(runs), classes, records, session.batch, dropped, warm_up)


def _link_errors(device: Stopwatch) -> int:
    return int(device.read_registers(Register.LINK_ERRORS)[0])


def _once(session: Session, device: Stopwatch, images: NDArray[np.int8],
          expected: NDArray[np.int64], timeout_s: float) -> tuple[Run, NDArray[np.int64]]:
    before, started = device.busy_s, time.monotonic()
    totals: dict[str, int] = {}
    accs, logits = [], []
    for start in range(0, len(images), session.batch):
        part = images[start:start + session.batch]
        acc, scores, counters = session.run(part, timeout=timeout_s * len(part))
        accs.append(acc)
        logits.append(scores)
        for name, value in counters.items():
            totals[name] = totals.get(name, 0) + value
    found = np.concatenate(accs)
    different = np.flatnonzero((found != expected.reshape(found.shape)).any(axis=1))
    if len(different):
        raise VerificationFailed(
            f"{len(different)} of {len(images)} images have other results than in the integer "
            f"model, the first is image {different[0]}: nothing was measured; look for the cause "
            "with: qsdt run --check twice,host")
    return (Run(len(images), totals, device.busy_s - before, time.monotonic() - started),
            np.concatenate(logits).argmax(axis=1))

