"""Runs of images on a device, again and again, and when it was busy.

Images lie in the device's memory as a ring (:mod:`gen.device.ring`), so that no host is in the
loop; where there is no room for one, the host starts the core for every batch, and that is said.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen.compile.results import classes_of
from gen.device.device import Device
from gen.device.ring import MOST_RUNS, Ring, ring_room
from gen.device.session import Session
from hw.config import RECORD_WORDS
from hw.register import Register
from model.error import VerificationFailed
from model.progress import Task, track


__all__ = ["TIMES", "UNCOUNTED", "Run", "Runs", "Stopwatch", "check_sums", "counted",
           "measure_runs"]


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


def counted(number: int, noun: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


@dataclass(frozen=True)
class Run:
    """All images once, or as often as a ring of them was read.

    Parameters
    ----------
    images : int
    counters : dict
        Summed over the images, by :class:`hw.register.Counter`.
    busy_s : float
        From start to end of the core as the host saw it, s.
    seconds : float
        With images and results over the link, s.
    compared : int
        Images whose results were read and compared; the others were overwritten.
    image_cycles : numpy.ndarray
        Int64 of shape (n,): cycles of images by their records, from the end of the one before.
    """

    images: int
    counters: dict[str, int]
    busy_s: float
    seconds: float
    compared: int
    image_cycles: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

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
    way : str
        How images came to the core, in a line.
    link_errors : int
        Frames that the device dropped meanwhile, modulo 2**16.
    warm_up : int
        Images before the first run that counts.
    doubtful : tuple of str
        Counters that may have wrapped unseen.
    """

    runs: tuple[Run, ...]
    classes: NDArray[np.int64]
    records: NDArray[np.uint64]
    way: str
    link_errors: int
    warm_up: int
    doubtful: tuple[str, ...] = ()

    @property
    def images(self) -> int:
        """Of all runs."""
        return sum(run.images for run in self.runs)

    @property
    def compared(self) -> int:
        """Of all runs."""
        return sum(run.compared for run in self.runs)

    @property
    def image_cycles(self) -> NDArray[np.int64]:
        """Of all runs."""
        return np.concatenate([run.image_cycles for run in self.runs])


@dataclass
class _Part:
    """A start of the core: sums of its counters, and of each kept result which image it is of, its
    accumulators and values; cycles of images."""

    images: int
    counters: dict[str, int]
    pictures: NDArray[np.int64]
    acc: NDArray[np.int64]
    values: NDArray[np.float64]
    image_cycles: NDArray[np.int64]
    doubtful: tuple[str, ...] = ()


class _FromRing:
    """Starts of the core over rings of images in the device's memory."""

    def __init__(self, session: Session, images: NDArray[np.int8], room: int, *, back_to_back: int,
                 timeout_s: float, interval: float) -> None:
        self._session, self._images, self.program = session, images, session.image
        self._timeout_s, self._interval = timeout_s, interval
        self._size = min(len(images), room)
        self._rounds = max(1, min(-(-back_to_back // len(images)), MOST_RUNS // self._size))
        self._ring: Ring | None = None
        self.begun: int | None
        """Cycle in which the last image began; None if that is not known."""
        self.images = len(images) * self._rounds
        """Of a run."""
        self.log, self.begun = session.image.log, 0
        start = self._size * self._rounds
        self.way = (f"{counted(start, 'image')} back to back for each start of the core, from a "
                    f"ring of {self._size} in the device's memory"
                    + (f" that is read again and again, {self._rounds} times"
                       if self._rounds > 1 else ""))

    def parts(self, progress: Callable[[int], None]) -> Iterator[_Part]:
        for first in range(0, len(self._images), self._size):
            part = self._images[first:first + self._size]
            runs = len(part) * self._rounds
            ring = self._ring or Ring(self._session, part, runs)
            if len(part) == len(self._images):      # it stays where it is
                self._ring = ring
            ring.check()
            done = first * self._rounds
            found = ring.run(timeout=self._timeout_s * runs, interval=self._interval,
                             progress=lambda n, done=done: progress(done + n))
            self.log = found.log
            self.begun = int(found.ends[-1] - found.cycles[-1]) if len(found.cycles) else None
            yield _Part(runs, found.counters, first + found.pictures, found.acc, found.values,
                        found.cycles, found.doubtful)


class _FromHost:
    """Starts of the core by the host, for every batch that the memory has room for."""

    def __init__(self, session: Session, images: NDArray[np.int8], timeout_s: float) -> None:
        self._session, self._all, self._timeout_s = session, images, timeout_s
        self.program = session.image
        self.images, self.log = len(images), session.image.log
        self.begun = 0 if session.batch == 1 else None
        batch = min(session.batch, len(images))
        self.way = (f"{counted(batch, 'image')} for each start of the core, by the host: the "
                    "device has no ring of images, or no room for one")

    def parts(self, progress: Callable[[int], None]) -> Iterator[_Part]:
        for first in range(0, len(self._all), self._session.batch):
            part = self._all[first:first + self._session.batch]
            acc, values, counters = self._session.run(part, timeout=self._timeout_s * len(part))
            progress(first + len(part))
            yield _Part(len(part), counters, first + np.arange(len(part)), acc, values,
                        np.array([counters["CYCLES"]] if len(part) == 1 else [], np.int64))


def measure_runs(session: Session, device: Stopwatch, images: NDArray[np.int8],
                 expected: NDArray[np.int64], *, back_to_back: int, repeats: int, seconds: float,
                 warm_up_s: float, timeout_s: float, interval: float, begin: Callable[[], Any],
                 look: Callable[[], None]) -> Runs:
    """Run all images at least `repeats` times and for at least `seconds`, after a warm-up.

    Every result that is still in memory when a start of the core has ended is compared: all of
    them, where memory has room for them.

    Parameters
    ----------
    session : Session
        Loaded and checked, on `device`.
    images : int8 (N, C, H, W)
    expected : int64 (N, total)
        Results by the integer model.
    back_to_back : int
        Least number of images of a run, >= 1: a ring of fewer is read again and again. More than
        65,535 cannot be.
    warm_up_s : float
        0: none.
    timeout_s : float
        Of an image.
    interval : float
        Seconds between two looks at a running core.
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
    room = ring_room(session)
    source = (_FromRing(session, images, room, back_to_back=back_to_back, timeout_s=timeout_s,
                        interval=interval) if room else _FromHost(session, images, timeout_s))
    warm_up, deadline = 0, time.monotonic() + warm_up_s
    with track("warm-up", max(1, round(warm_up_s)), "s") as task:
        while (left := deadline - time.monotonic()) > 0:
            task.reach(round(warm_up_s - left))
            run, _, _ = _once(source, device, expected, lambda _: None)
            warm_up += run.images
            look()
    runs: list[Run] = []
    doubtful: set[str] = set()
    with begin(), track("measure", repeats * source.images, "images") as task:
        deadline = time.monotonic() + seconds
        while len(runs) < repeats or time.monotonic() < deadline:
            most = max(repeats, len(runs) + 1) * source.images
            run, classes, unsure = _once(
                source, device, expected,
                partial(_reach, task, len(runs) * source.images, most))
            runs.append(run)
            doubtful.update(unsure)
            look()
    records = _since(device.read(source.log, RECORD_WORDS * session.image.descriptors),
                     source.begun)
    dropped = (_link_errors(device) - first) % (1 << 16)
    return Runs(tuple(runs), classes, records, source.way, dropped, warm_up,
                tuple(sorted(doubtful)))


def _since(records: NDArray[np.uint64], begun: int | None) -> NDArray[np.uint64]:
    """The core's log of an image that began in a cycle, as if that were 0. None: with its first
    descriptor, for want of something better."""
    low = np.uint64(0xFFFFFFFF)
    starts, ends = records[1::2] & low, records[1::2] >> np.uint64(32)
    first = starts[0] if begun is None else np.uint64(begun) & low
    found = records.copy()
    found[1::2] = ((starts - first) & low) | ((ends - first) & low) << np.uint64(32)
    return found


def _reach(task: Task, before: int, most: int, done: int) -> None:
    task.reach(before + done, most)


def _link_errors(device: Stopwatch) -> int:
    return int(device.read_registers(Register.LINK_ERRORS)[0])


def _once(source: _FromRing | _FromHost, device: Stopwatch, expected: NDArray[np.int64],
          progress: Callable[[int], None]) -> tuple[Run, NDArray[np.int64], set[str]]:
    before, started = device.busy_s, time.monotonic()
    wanted = expected.reshape(len(expected), -1)
    totals: dict[str, int] = {}
    classes = np.zeros(len(expected), np.int64)
    images = compared = 0
    cycles: list[NDArray[np.int64]] = []
    doubtful: set[str] = set()
    for part in source.parts(progress):
        _compare(part.acc, wanted[part.pictures], part.pictures)
        for name, value in part.counters.items():
            totals[name] = totals.get(name, 0) + value
        classes[part.pictures] = classes_of(source.program, part.values)
        images, compared = images + part.images, compared + len(part.pictures)
        cycles.append(part.image_cycles)
        doubtful.update(part.doubtful)
    return (Run(images, totals, device.busy_s - before, time.monotonic() - started, compared,
                np.concatenate(cycles)), classes, doubtful)


def _compare(found: NDArray[np.int64], wanted: NDArray[np.int64],
             pictures: NDArray[np.int64]) -> None:
    different = np.flatnonzero((found != wanted).any(axis=1))
    if len(different):
        raise VerificationFailed(
            f"{len(different)} of {len(found)} results differ from the integer model, the first is "
            f"of image {pictures[different[0]]}: nothing was measured; look for the cause with: "
            "qsdt run --check twice,host")


TIMES = ("CYCLES", "BUSY_", "STALL_")
"""Counters that depend on when the memory refreshes, and where the run before ended."""

UNCOUNTED = {"WRITE_WORDS": 2}
"""Counters that may lack so much at the end of a start: the last words written wait in the two
places of :class:`hw.memory.arbiter.MemoryArbiter` while the memory refreshes, and the core has
ended before they leave."""


def check_sums(session: Session, images: NDArray[np.int8], *, timeout_s: float) -> str:
    """Compare a ring of some images with as many single runs; says what was found, in a line.

    Results and all counters of work must be equal (but for :data:`UNCOUNTED`); those of times are
    told.

    Parameters
    ----------
    images : int8 (N, C, H, W)
        At most :func:`gen.device.ring.ring_room` of them.
    timeout_s : float
        Of an image.

    Raises
    ------
    VerificationFailed
        A result or a sum differs.
    LinkError
        The device does not answer, or did not run to the end.
    """
    def run(part: NDArray[np.int8]) -> Any:
        return Ring(session, part, len(part)).run(timeout=timeout_s * len(part))

    count = len(images)
    ring, singles = run(images), [run(images[[number]]) for number in range(count)]
    for number, single in enumerate(singles):
        if not np.array_equal(ring.acc[number], single.acc[0]):
            raise VerificationFailed(f"Image {number} has another result in a ring of {count} than "
                                     "by itself: nothing was measured; look for the cause with: "
                                     "qsdt run --check twice,host")
    sums = {name: sum(single.counters[name] for single in singles) for name in ring.counters}
    exact = [name for name in sums if not name.startswith(TIMES)]
    for name in exact:
        lack = UNCOUNTED.get(name, 0)
        if not -lack * count <= sums[name] - ring.counters[name] <= lack:
            raise VerificationFailed(
                f"{name} of a ring of {count} images is {ring.counters[name]}, and {sums[name]} in "
                "as many single runs: nothing was measured; look for the cause with: qsdt run "
                "--check twice,host")
    cycles, alone = ring.counters["CYCLES"], sums["CYCLES"]
    return (f"a ring of {counted(count, 'image')} against {counted(count, 'single run')}: the same "
            f"results, and the same sums of {len(exact)} counters of work; {cycles} cycles against "
            f"{alone} ({100 * (cycles / alone - 1):+.3f} %)")
