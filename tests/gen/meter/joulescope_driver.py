"""The public interface of ``pyjoulescope_driver.Driver`` with one instrument behind it.

Topics, message keys and packing are those of the driver's binding and of its programs ``record``
and ``gpi`` (github.com/jetperch/joulescope_driver).
"""

import threading
import time

import numpy as np


PATH = "u/js220/000415"

MESSAGE = {"i": 0.01, "v": 0.01, "gpi/0": 0.02}    # seconds of a message: they differ


class FakeDriver:
    """Streams ``volts``, ``amps`` and ``level`` (functions of seconds since the start).

    ``lose`` are (signal, number of the message) that never come; ``nan`` are ranges of samples at
    the full rate that arrive as NaN, as the driver marks what the instrument lost.
    """

    FULL = 2_000_000    # of the JS220

    def __init__(self, volts, amps, level, *, paths=(PATH,), lose=(), nan=(), rate=100_000):
        self.functions = {"v": volts, "i": amps, "gpi/0": level}
        self.paths, self.lose, self.nan, self.rate = list(paths), set(lose), list(nan), rate
        self.published, self.listeners = [], {}
        self.opened, self.finalized, self.fail = None, False, None
        self._ending = threading.Event()
        self._threads = []
        self.offset = 12_345_600    # the instrument has run for a while

    def device_paths(self):
        return list(self.paths)

    def open(self, path, mode=None, timeout=None):
        if self.fail:
            raise self.fail
        assert path in self.paths and mode == "defaults"
        self.opened = path

    def publish(self, topic, value, timeout=None):
        self.published.append((topic, value))
        signal = topic.removeprefix(f"{self.opened}/s/").removesuffix("/ctrl")
        if topic.endswith("/ctrl") and value == 1:
            thread = threading.Thread(target=self._stream, args=(signal,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def subscribe(self, topic, flags, fn, timeout=None):
        assert flags in ("pub", ["pub"])
        self.listeners[topic] = fn

    def unsubscribe(self, topic, fn, timeout=None):
        assert self.listeners[topic] is fn, "the driver wants the very same object"
        del self.listeners[topic]

    def silence(self):
        """As if the cable were pulled: no error, no message."""
        self._ending.set()

    def close(self, path, timeout=None):
        assert path == self.opened
        self.silence()

    def finalize(self, timeout=None):
        self.silence()
        for thread in self._threads:
            thread.join(2)
        self.finalized = True

    def _stream(self, signal):
        step = self.FULL // self.rate
        count = round(MESSAGE[signal] * self.rate)
        begun, number = time.monotonic(), 0
        while not self._ending.wait(max(0.0, begun + (number + 1) * MESSAGE[signal]
                                        - time.monotonic())):
            first = number * count
            data = self.functions[signal]((first + np.arange(count)) / self.rate)
            if signal == "gpi/0":
                data = np.packbits(data.astype(np.uint8), bitorder="little")
            else:
                data = data.astype(np.float32)
                for a, b in self.nan:
                    data[max(0, a - first):max(0, b - first)] = np.nan
            topic = f"{self.opened}/s/{signal}/!data"
            listener = self.listeners.get(topic)
            if listener is not None and (signal, number) not in self.lose:
                listener(topic, {"sample_id": self.offset + first * step, "utc": 0,
                                 "field_id": 0, "index": 0, "sample_rate": self.FULL,
                                 "decimate_factor": step, "time_map": {}, "data": data})
            number += 1
