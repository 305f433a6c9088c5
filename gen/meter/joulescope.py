"""Joulescope JS110, JS220 and JS320 through pyjoulescope_driver.

Topics, rates and data are those of the driver's documentation and of its programs ``record`` and
``gpi`` (github.com/jetperch/joulescope_driver): each signal is a stream of messages with the number
of its first sample at full rate (``sample_id``), the samples between two given ones
(``decimate_factor``), and its data; digital inputs come as bits, eight in a byte, lowest first.
"""

from collections.abc import Callable
import logging
import queue
import time
from typing import Any, ClassVar

import numpy as np

from gen.meter.base import Accuracy, Block, Meter, MeterError, Option
from gen.meter.stream import Decimator


__all__ = ["Joulescope"]


log = logging.getLogger(__name__)

SIGNALS = {"i": "s/i", "v": "s/v", "gpi": "s/gpi/0"}

FULL_HZ = 100_000
"""Rate asked of the instrument; means of it are handed out."""

SILENT_S = 3.0
"""No message for so long: the instrument is gone."""


LONGEST_GAP = FULL_HZ
"""Samples that may be missing within a recording; more, and it begins anew."""

FAILURES = (RuntimeError, OSError, ValueError, MemoryError)
"""What the driver raises; a time-out is an OSError."""


class _Signal:
    """Samples of one signal that wait for those of the others."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.data = np.empty(0)

    @property
    def end(self) -> int:
        return (self.first or 0) + len(self.data)

    def put(self, index: int, data: np.ndarray) -> None:
        """Samples from number `index`; those known already are dropped, a gap becomes NaN."""
        if self.first is None or index > self.end + LONGEST_GAP:
            self.first, self.data = index, data
        else:
            gap = np.full(max(0, index - self.end), np.nan)
            self.data = np.concatenate([self.data, gap, data[max(0, self.end - index):]])

    def take(self, start: int, end: int) -> np.ndarray:
        """Samples `start` to `end`, and forget what lies before `end`."""
        first = self.first or 0
        taken = self.data[start - first:end - first]
        self.data, self.first = self.data[end - first:], end
        return taken


class Joulescope(Meter):
    """A Joulescope; its input 0 is the marker.

    Parameters
    ----------
    driver : callable, optional
        Makes a ``pyjoulescope_driver.Driver``.
    clock : callable, optional
        The host's monotonic clock.
    **options
        See :attr:`OPTIONS`.
    """

    name: ClassVar[str] = "joulescope"
    own_clock: ClassVar[bool] = True
    has_marker = True

    OPTIONS: ClassVar[dict[str, Option]] = {
        "serial": Option(str, None, "serial number, if there are several"),
        "rate": Option(int, 1000, "means a second", 1, FULL_HZ),
    }

    # Typical figures of power that are said of the JS220, +-(0.15 % + offset), and of the JS110,
    # 0.3 %; not compared with their user's guides. The larger is taken.
    accuracy = Accuracy(0.003, 0.0, "0.3 % of power, typical of the JS110; not checked")

    def __init__(self, *, driver: Callable[[], Any] | None = None,
                 clock: Callable[[], float] = time.monotonic,
                 **options: float | str | None) -> None:
        super().__init__(**options)
        self._make, self._clock = driver, clock
        self._driver: Any = None
        self._path = ""
        self._listener = self._hear    # the driver wants the very same object back
        self._messages: queue.SimpleQueue[tuple[str, Any, float]] = queue.SimpleQueue()
        self._factor = max(1, round(FULL_HZ / self.number("rate")))
        self.rate_hz = FULL_HZ / self._factor

    def open(self) -> None:
        """Find the instrument and configure it."""
        if self._make is None:
            from pyjoulescope_driver import Driver

            self._make = Driver
        driver = self._driver = self._make()
        wanted = self.options["serial"]
        paths = sorted(driver.device_paths())
        chosen = [path for path in paths if wanted is None or path.endswith(f"/{wanted}")]
        if len(chosen) != 1:
            self.close()
            names = ", ".join(path.rpartition("/")[2] for path in paths) or "none"
            raise MeterError(
                "joulescope: several are connected; choose one with --meter joulescope:serial=S "
                f"(S of {names})" if len(chosen) > 1 else
                "joulescope: none found" + (f" with serial number {wanted}" if wanted else "")
                + f" (connected: {names}); connect it, and install the maker's udev rule")
        self._path = chosen[0]
        try:
            driver.open(self._path, "defaults")
            driver.publish(f"{self._path}/s/i/range/mode", "auto")
            driver.publish(f"{self._path}/h/fs", FULL_HZ)
        except FAILURES as error:
            self._path = ""
            self.close()
            raise MeterError(f"joulescope: cannot open {chosen[0]}: {error}; close the other "
                             "program that uses it") from error

    def start(self) -> None:
        """Subscribe to current, voltage and input 0, and switch them on."""
        self._signals = {name: _Signal() for name in SIGNALS}
        self._decimator = Decimator(self._factor, FULL_HZ)
        self._origin: int | None = None
        self._heard = self._clock()
        for topic in SIGNALS.values():
            self._driver.subscribe(f"{self._path}/{topic}/!data", ["pub"], self._listener)
        for topic in SIGNALS.values():
            self._driver.publish(f"{self._path}/{topic}/ctrl", 1)

    def _hear(self, topic: str, value: Any) -> None:    # in the driver's thread
        self._messages.put((topic, value, self._clock()))

    def read(self, timeout_s: float) -> Block | None:
        """What all signals have in common since the last call."""
        try:
            topic, value, now = self._messages.get(timeout=timeout_s)
        except queue.Empty:
            if self._clock() - self._heard > SILENT_S:
                raise MeterError(f"joulescope: no data for {SILENT_S:g} s; connect the "
                                 "instrument again") from None
            return None
        self._heard = now
        step = int(value["decimate_factor"])
        rate = value["sample_rate"] / step
        if round(rate) != FULL_HZ:
            raise MeterError(f"joulescope: it gives {rate:g} samples a second, not {FULL_HZ}; "
                             "update its firmware and pyjoulescope_driver")
        data = np.asarray(value["data"])
        name = next(name for name, part in SIGNALS.items() if topic == f"{self._path}/{part}/!data")
        if name == "gpi":
            data = np.unpackbits(data.astype(np.uint8), bitorder="little")
        self._signals[name].put(int(value["sample_id"]) // step, data.astype(float))
        return self._common(now)

    def _common(self, now: float) -> Block | None:
        signals = list(self._signals.values())
        if not all(len(signal.data) for signal in signals):
            return None
        start = max(signal.first or 0 for signal in signals)
        end = min(signal.end for signal in signals)
        if end <= start:
            return None
        amps, volts, marker = (self._signals[name].take(start, end) for name in ("i", "v", "gpi"))
        if self._origin is None:
            self._origin = start
        # The driver marks samples that the instrument lost as NaN, too.
        good = np.isfinite(amps) & np.isfinite(volts) & np.isfinite(marker)
        if not good.all():
            return self._split(start - self._origin, volts, amps, marker, good, now)
        return self._decimator.put(start - self._origin, volts, amps, marker.astype(int), now)

    def _split(self, index: int, volts: np.ndarray, amps: np.ndarray, marker: np.ndarray,
               good: np.ndarray, now: float) -> Block:
        """The runs of good samples, as one block."""
        cuts = np.flatnonzero(np.diff(np.concatenate([[0], good.astype(int), [0]])))
        blocks = [self._decimator.put(index + int(a), volts[a:b], amps[a:b],
                                      marker[a:b].astype(int), now)
                  for a, b in zip(cuts[::2], cuts[1::2], strict=True)]
        time_s, volts, amps, watts = (
            np.concatenate([np.empty(0), *(getattr(block, name) for block in blocks)])
            for name in ("time_s", "volts", "amps", "watts"))
        return Block(time_s, volts, amps, watts, now,
                     [edge for block in blocks for edge in block.edges],
                     sum(block.lost for block in blocks))

    def stop(self) -> None:
        """Switch the signals off and unsubscribe."""
        for topic in SIGNALS.values():
            try:
                self._driver.publish(f"{self._path}/{topic}/ctrl", 0)
                self._driver.unsubscribe(f"{self._path}/{topic}/!data", self._listener)
            except FAILURES:
                return    # it is gone

    def close(self) -> None:
        """Close instrument and driver."""
        if self._driver is None:
            return
        try:
            if self._path:
                self._driver.close(self._path)
        except FAILURES as error:
            log.debug("closing the Joulescope: %s", error)
        self._driver.finalize()
        self._driver = None

    def describe(self) -> str:
        """Model, serial number and rate."""
        _, model, serial = self._path.split("/")
        return (f"Joulescope {model.upper()}, serial number {serial}, means of {self._factor} of "
                f"{FULL_HZ} samples/s; {self.accuracy.source}")
