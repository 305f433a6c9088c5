"""Many runs from images that lie in the device's memory, without the host."""

from dataclasses import dataclass, field
import time

import numpy as np
from numpy.typing import NDArray

from gen.compile.package import image_words, logits_of
from gen.device.check import CheckFailed
from gen.device.device import SATURATED
from gen.device.port import LinkError
from gen.device.session import WATCHDOG_FACTOR
from hw.config import RECORD_WORDS
from hw.register import CONTROL_BITS, Register


__all__ = ["Ring", "RingResult", "Totals", "ring_room", "run_ring"]


MOST_RUNS = (1 << CONTROL_BITS[Register.COUNT]) - 1
"""Runs that one start of the core can make."""

COUNTER_VALUES = 1 << 32

EVENTS = ("SPIKE_EVENTS", "EVENTS_DEPTHWISE", "EVENTS_ATTENTION", "EVENTS_NEURON")
"""Counters that may grow by more than one in a cycle."""

LEVELS = 4
"""Most that a lane adds to a counter of events in a cycle: the highest level."""


class Totals:
    """Counters of a long run: 32 bits on the device, without a limit here.

    The device's wrap, ``CYCLES`` within a minute. They are looked at again and again, and what
    they have grown by since the last look is added up.

    Parameters
    ----------
    before : dict
        The device's counters before the start, by name.
    lanes : int
        ``CoreConfig.rows``: bounds what counters of events grow by in a cycle.
    """

    def __init__(self, before, lanes):
        self.counters = dict.fromkeys(before, 0)
        """Sums since the start, by name; ``ERRORS`` the last value."""
        self.doubtful = set()
        """Counters that may have wrapped unseen, because two looks lay too far apart."""
        self._last = {name: before[name] if name in SATURATED else 0 for name in before}
        self._lanes = lanes

    def look(self, now):
        """Add up what the device's counters ``now`` tell."""
        for name, value in now.items():
            grown = (value - self._last[name]) % SATURATED.get(name, COUNTER_VALUES)
            self.counters[name] = value if name == "ERRORS" else self.counters[name] + grown
            if name == "CYCLES" and grown * LEVELS * self._lanes >= COUNTER_VALUES:
                self.doubtful.update(EVENTS)
        self._last = dict(now)


@dataclass(frozen=True, kw_only=True)
class RingResult:
    """Runs over a ring of images: the last of them, whose results are in memory; sums over all.

    Attributes
    ----------
    runs : array of int (K,)
        Numbers of the runs whose results were kept, from 1; in order, the last is the last run.
    pictures : array of int (K,)
        Which of the images each was of, from 0.
    acc, values : arrays int64, float64 (K, total)
        Results, as those of :meth:`gen.device.session.Session.run`.
    ends : array of int (K,)
        Core cycle at the end of each, counted from the start of the first and without a limit;
        a run's record is written after it, which the next one's cycles contain.
    counters : dict
        Sums over all runs by name (:class:`hw.register.Counter`).
    log : int
        Memory word of the core's log of the last run.
    doubtful : tuple of str
        Counters that may have wrapped unseen.
    seconds : float
        From the start to the end as the host saw it; the link's waiting is part of it.
    """

    runs: NDArray[np.int64]
    pictures: NDArray[np.int64]
    acc: NDArray[np.int64] = field(repr=False)
    values: NDArray[np.float64] = field(repr=False)
    ends: NDArray[np.int64] = field(repr=False)
    counters: dict
    log: int
    doubtful: tuple = ()
    seconds: float

    @property
    def cycles(self):
        """Cycles from the end of one run to that of the next, int (K - 1,), the first run's from
        the start: int (K,), if it was kept."""
        return np.diff(self.ends, prepend=[0] if self.runs[0] == 1 else [])

    def check(self, expected):
        """Raise :exc:`gen.device.check.CheckFailed` unless each result is that of its image:
        ``expected`` has the accumulators int (images, total), of the integer model."""
        wanted = np.asarray(expected)[self.pictures].reshape(self.acc.shape)
        wrong = np.flatnonzero((wanted != self.acc).any(axis=1))
        if len(wrong):
            raise CheckFailed(
                f"Run {self.runs[wrong[0]]}, of image {self.pictures[wrong[0]]}, gave another "
                f"result than the integer model, and so did {len(wrong) - 1} others of "
                f"{len(self.runs)}: add --check host to a run to learn where")


def run_ring(session, images, runs, *, timeout, results=None, progress=None, interval=0.05):
    """Load a ring of images and run them back to back, ``runs`` times in all.

    The device goes from one run to the next by itself; the host only looks at its counters. Run
    ``n`` (from 1) is of image ``(n - 1) % len(images)``: a ring of fewer images than runs is read
    again and again.

    Parameters
    ----------
    session : gen.device.session.Session
        With the program loaded.
    images : array int8 (N, C, H, W), or (N, T, C, H, W) for samples of T
        The ring, N at least 1.
    runs : int
        1..65535.
    timeout : float
        Seconds for all of it.
    results : int or None
        Results that are kept, those of the last runs; None: of all runs, or as many as the
        memory has room for.
    progress : callable or None
        Called with the number of finished runs.
    interval : float
        Seconds between two looks.

    Returns
    -------
    RingResult

    Raises
    ------
    LinkError
        The device restarted, was stopped after ``timeout``, has no rings or no room, or does not
        tell of every run to its end. No result comes back then.
    ValueError
        ``runs`` or ``results`` are out of range.
    """
    return Ring(session, images, runs, results=results).run(timeout=timeout, progress=progress,
                                                            interval=interval)


class Ring:
    """Images that lie in a device's memory, to be run again and again.

    After an error of the device, make another one: its memory may have lost them.

    Parameters
    ----------
    session, images, runs, results
        As for :func:`run_ring`; the images are written here.

    Raises
    ------
    LinkError, ValueError
        As :func:`run_ring` does.
    """

    def __init__(self, session, images, runs, *, results=None):
        if not 1 <= runs <= MOST_RUNS:
            raise ValueError(f"Runs must be 1..{MOST_RUNS}, not {runs!r}: start again for more")
        image = session.image
        self._session, self._count, self._runs = session, len(images), runs
        self._place = _Places.find(image, session.device.info(), len(images), runs, results)
        self._words = np.concatenate([image_words(image, one) for one in images])
        with session.running():
            session.device.write(self._place.images, self._words)

    @property
    def kept(self):
        """Results of a start that are kept, those of its last runs."""
        return self._place.slots

    def check(self):
        """Have the device compute the CRC of the images in its memory, and compare.

        Raises :exc:`gen.device.check.CheckFailed`.
        """
        self._session.check_memory(self._place.images, self._words)

    def run(self, *, timeout, progress=None, interval=0.05):
        """Start the core for all runs; a :class:`RingResult`. See :func:`run_ring`."""
        with self._session.running():
            return _run(self._session.image, self._session.device, self._count, self._runs,
                        self._place, timeout=timeout, progress=progress, interval=interval)


def ring_room(session):
    """Images that a ring may have on a device, each with its result and record: 0 where there are
    no rings, or no room for one."""
    info, image = session.device.info(), session.image
    if "rings" not in info.capabilities:
        return 0
    free = info.memory_words - image.memory_words - RECORD_WORDS * (image.descriptors + 1)
    each = image.image_words + image.result_words + RECORD_WORDS
    return min(MOST_RUNS, max(0, free // each))


def _run(image, device, images, runs, place, *, timeout, progress, interval):
    erased = place.slots * (image.result_words + RECORD_WORDS)
    device.write(place.results, np.zeros(erased, np.uint64))
    device.set_watchdog(WATCHDOG_FACTOR * image.predicted_cycles)
    totals = Totals(device.counters(), image.config.rows)

    def look(finished):
        totals.look(device.counters())
        if progress:
            progress(finished)

    started = time.monotonic()
    device.start(program=image.program, log=place.log, image=place.images,
                 image_stride=image.image_words, result=place.results,
                 result_stride=image.result_words, count=runs,
                 ring={"images": images, "results": place.slots})
    device.wait(timeout=timeout, progress=look, interval=interval)
    seconds = time.monotonic() - started
    totals.look(device.counters())
    _check_totals(totals.counters, runs, image.descriptors)
    words = device.read(place.results, erased)
    size = place.slots * image.result_words
    kept = np.arange(max(0, runs - place.slots), runs)
    slots = kept % place.slots
    records = words[size:].reshape(-1, RECORD_WORDS)[slots]
    ends = _ends(records, kept, runs, totals.counters["CYCLES"])
    outcome = [logits_of(image, part)
               for part in words[:size].reshape(-1, image.result_words)[slots]]
    acc, values = (np.stack(part) for part in zip(*outcome, strict=True))
    return RingResult(runs=kept + 1, pictures=kept % images, acc=acc, values=values,
                      ends=ends, counters=totals.counters, log=place.log,
                      doubtful=tuple(sorted(totals.doubtful)), seconds=seconds)


@dataclass(frozen=True)
class _Places:
    """Where images, results, records (right behind these) and log lie, behind the program's own
    memory, and the ``slots`` of results."""
    images: int
    results: int
    log: int
    slots: int

    @classmethod
    def find(cls, image, info, images, runs, results):
        if not 1 <= images <= MOST_RUNS:
            raise ValueError(f"Images must be 1..{MOST_RUNS}, not {images!r}")
        if results is not None and not 1 <= results <= MOST_RUNS:
            raise ValueError(f"Results must be 1..{MOST_RUNS}, not {results!r}")
        each = image.result_words + RECORD_WORDS
        # The records end two words before the log (hw.register.RING_BITS).
        fixed = images * image.image_words + RECORD_WORDS * (image.descriptors + 1)
        free = info.memory_words - image.memory_words
        room = max(0, (free - fixed) // each)
        least = 1 if results is None else min(runs, results)
        if room < least:
            raise LinkError(f"The device's memory has no room for a ring of {images} images: "
                            f"{fixed + each * least} words needed, {free} free; use fewer images, "
                            "or a build with memory: sdram")
        slots = min(runs, results or runs, room)
        place = image.memory_words + images * image.image_words
        return cls(image.memory_words, place,
                   place + slots * each + RECORD_WORDS, slots)


def _check_totals(counters, runs, descriptors):
    if counters["ERRORS"]:
        raise LinkError(f"The core reports memory collisions ({counters['ERRORS']:#x}): "
                        "the results are void")
    if counters["IMAGES"] != runs or counters["DESCRIPTORS"] != runs * descriptors:
        raise LinkError(
            f"The device did not make all runs to their end: {counters['IMAGES']} of {runs}, "
            f"{counters['DESCRIPTORS']} of {runs * descriptors} descriptors. The results are "
            "void; load the program again")


def _ends(records, kept, runs, cycles):
    """Cycle at the end of each kept run, from their records, which must be those of these runs.

    The device says the lower 32 bits; the last of them is before ``cycles``, the end of all."""
    left, status = records[:, 0] & np.uint64(0xFFFF), records[:, 0] >> np.uint64(32)
    ends = (records[:, 1] >> np.uint64(32)).astype(np.int64)
    wrong = np.flatnonzero((left != (runs - kept).astype(np.uint64)) | (status != 0))
    if len(wrong):
        raise LinkError(f"Run {kept[wrong[0]] + 1} of {runs} left no record of its own in the "
                        "device's memory, or one with an error: the results are void; load the "
                        "program again")
    # From the last one backwards: a run takes less than 2**32 cycles.
    ago = (cycles - ends[-1]) % COUNTER_VALUES
    between = np.diff(ends) % COUNTER_VALUES
    if (between == 0).any():
        raise LinkError("Two runs ended in the same cycle, as the device has it: the results are "
                        "void; load the program again")
    return cycles - ago - np.concatenate([np.cumsum(between[::-1])[::-1], [0]]).astype(np.int64)
