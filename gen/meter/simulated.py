"""No instrument: a known waveform in real time, to rehearse a measurement. Never a result."""

from collections.abc import Callable
import threading
import time
from typing import ClassVar

import numpy as np

from gen.meter.base import Accuracy, Block, Meter, Option


__all__ = ["BusyLine", "Simulated"]


LEAST_S = 0.01
"""Samples are handed out when so much time has passed, as a USB meter does."""


class BusyLine:
    """Level of the busy pin over time, for a simulated meter beside a virtual board.

    Threads may set and read it at once.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._times: list[float] = []
        self._levels: list[int] = []

    def set(self, level: int) -> None:
        """The pin has `level` (0 or 1) from now on."""
        with self._lock:
            self._times.append(self._clock())
            self._levels.append(level)

    def __call__(self, time_s: np.ndarray) -> np.ndarray:
        """Levels at times of the past on the host's clock; 0 before the first."""
        with self._lock:
            levels = np.array([0, *self._levels])
            return levels[np.searchsorted(self._times, time_s, side="right")]


class Simulated(Meter):
    """Samples of a waveform, at the rate of the host's clock but on a clock of its own.

    Parameters
    ----------
    line : callable, optional
        Levels (0 or 1) of the busy pin at an array of host times, as :class:`BusyLine`; by
        default it is periodic.
    clock, sleep : callable, optional
        The host's monotonic clock, and how to wait.
    **options
        See :attr:`OPTIONS`.
    """

    name: ClassVar[str] = "simulated"
    simulated: ClassVar[bool] = True
    own_clock: ClassVar[bool] = True
    has_marker = True

    OPTIONS: ClassVar[dict[str, Option]] = {
        "rate": Option(float, 1000.0, "samples a second", 1, 1e6),
        "volts": Option(float, 5.0, "supply, in V", 0.1, 60),
        "idle": Option(float, 1.0, "power of an idle board, in W", 0, 1000),
        "busy": Option(float, 1.5, "power of a busy board, in W", 0, 1000),
        "period": Option(float, 1.0, "seconds from one busy time to the next", 1e-3, 1e6),
        "duty": Option(float, 0.5, "part of the period that is busy", 0, 1),
        "noise": Option(float, 0.002, "standard deviation of a sample, in W", 0, 100),
        "jitter": Option(float, 0.0, "random shift of samples, in periods of sampling", 0, 0.49),
        "ppm": Option(float, 0.0, "how much the meter's clock is slow", -1000, 1000),
        "gaps": Option(float, 0.0, "gaps a second", 0, 1000),
        "gap": Option(float, 0.02, "length of a gap, in s", 0, 10),
        "seed": Option(int, 1, "of noise, jitter and gaps", 0, 2**32 - 1),
    }

    def __init__(self, *, line: Callable[[np.ndarray], np.ndarray] | None = None,
                 clock: Callable[[], float] = time.monotonic,
                 sleep: Callable[[float], None] = time.sleep,
                 **options: float | str | None) -> None:
        super().__init__(**options)
        self._clock, self._sleep = clock, sleep
        self._busy = line or self._periodic
        self._o = {name: float(value) for name, value in self.options.items()
                   if value is not None}
        self.rate_hz = self._o["rate"]
        self.accuracy = Accuracy(0.0, 0.0, "simulated: its waveform is exact")

    def open(self) -> None:
        """Nothing to find."""

    def close(self) -> None:
        """Nothing to give back."""

    def start(self) -> None:
        """Begin at the host's present time."""
        self._random = np.random.default_rng(int(self._o["seed"]))
        self._start, self._next, self._level = self._clock(), 0, 0
        self._resume = -1.0

    def stop(self) -> None:
        """Nothing to end."""

    def _periodic(self, time_s: np.ndarray) -> np.ndarray:
        phase = (time_s - self._start) % self._o["period"]
        return (phase >= (1 - self._o["duty"]) * self._o["period"]).astype(int)

    def read(self, timeout_s: float) -> Block | None:
        """Samples due by now; waits for :data:`LEAST_S` of them."""
        slow = 1 + self._o["ppm"] * 1e-6
        wait = min(timeout_s, max(LEAST_S, 1 / self.rate_hz))
        due = int((self._clock() - self._start) / slow * self.rate_hz)
        if due <= self._next:
            self._sleep(wait)
            due = int((self._clock() - self._start) / slow * self.rate_hz)
        if due <= self._next:
            return None
        index = np.arange(self._next, due)
        self._next = due
        shift = self._o["jitter"] * self._random.uniform(-1, 1, len(index))
        at = (index + shift) / self.rate_hz
        host = self._start + at * slow
        level = self._busy(host)
        watts = (self._o["idle"] + (self._o["busy"] - self._o["idle"]) * level
                 + self._o["noise"] * self._random.standard_normal(len(index)))
        changes = np.flatnonzero(np.diff(np.concatenate([[self._level], level])))
        edges = [(float(at[i]), int(level[i])) for i in changes]
        self._level = int(level[-1])
        kept = self._kept(at)
        volts = np.full(int(kept.sum()), self._o["volts"])
        watts = watts[kept]
        return Block(at[kept], volts, watts / volts, watts, self._clock(), edges,
                     lost=int((~kept).sum()))

    def _kept(self, at: np.ndarray) -> np.ndarray:
        """Which samples are not in a gap."""
        kept = np.ones(len(at), bool)
        begins = self._random.random(len(at)) < self._o["gaps"] / self.rate_hz
        for i, time_s in enumerate(at):
            if begins[i] and time_s > self._resume:
                self._resume = time_s + self._o["gap"]
            kept[i] = time_s >= self._resume
        return kept

    def describe(self) -> str:
        """Says that it is simulated."""
        given = ", ".join(f"{name}={value}" for name, value in self.options.items()
                          if value != self.OPTIONS[name].default)
        return "SIMULATED meter: no instrument was read" + (f" ({given})" if given else "")
