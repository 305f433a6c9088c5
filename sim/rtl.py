"""The core's RTL in Verilator: load memory, run, read back, and trace what the units write."""

from dataclasses import dataclass
from pathlib import Path
import struct
import subprocess
import tempfile

import numpy as np

from hw.register import Counter
from sim.rtl_top import CONTROLS, RtlTop
from sim.verilator import build_simulator


__all__ = ["RtlCore", "RtlRun", "RtlTimeout"]


HARNESS = Path(__file__).with_name("rtl_harness.cpp")


class RtlTimeout(Exception):
    """The core did not finish within its cycle budget; the message tells which unit is active."""


@dataclass(frozen=True)
class RtlRun:
    """Result of one run: cycles, counters, and per unit (addresses, words) in write order."""

    cycles: int
    counters: dict
    neuron: tuple
    attention: tuple


class RtlCore:
    """Context manager around one simulator process.

    Parameters
    ----------
    config : CoreConfig
    memory_words : int
        Memory behind the core; rounded up to a power of two.
    latency, stall, seed
        Of the memory twin.
    cache : Path
        Folder of compiled simulators.
    """

    def __init__(self, config, *, memory_words, latency=2, stall=0.0, seed=1,
                 cache=Path("build/sim")):
        words = 1 << max(8, (memory_words - 1).bit_length())
        top = RtlTop(config, memory_words=words, latency=latency, stall=stall, seed=seed)
        self._binary = build_simulator(top, HARNESS, cache)

    def __enter__(self):
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen([self._binary], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, stderr=self._errors)
        return self

    def __exit__(self, *exception):
        self._process.stdin.close()
        if exception[0] is not None:
            self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def _read(self, size):
        data = self._process.stdout.read(size)
        if len(data) != size:
            self._errors.seek(0)
            raise RuntimeError("simulator ended: "
                               + self._errors.read().decode("utf-8", "replace")[-500:])
        return data

    def write(self, address, words):
        """Write uint64 words at a memory word address."""
        words = np.ascontiguousarray(words, np.uint64)
        self._process.stdin.write(b"W" + struct.pack("<II", address, len(words)))
        self._process.stdin.write(words.tobytes())
        self._process.stdin.flush()

    def read(self, address, count):
        """Read ``count`` uint64 words."""
        self._process.stdin.write(b"R" + struct.pack("<II", address, count))
        self._process.stdin.flush()
        return np.frombuffer(self._read(8 * count), np.uint64)

    def run(self, *, count=1, limit=10_000_000, **controls):
        """Run the program; controls are those of :data:`sim.rtl_top.CONTROLS`.

        Raises
        ------
        RtlTimeout
            After ``limit`` cycles.
        """
        values = [controls.get(name, 0) for name in CONTROLS]
        self._process.stdin.write(b"G" + struct.pack("<6IIQ", *values, count, limit))
        self._process.stdin.flush()
        finished, cycles = struct.unpack("<IQ", self._read(12))
        counters = struct.unpack(f"<{len(Counter)}I", self._read(4 * len(Counter)))
        counters = {counter.name: counters[counter] for counter in Counter}
        traces = []
        for _ in range(2):
            size, = struct.unpack("<Q", self._read(8))
            addresses = np.frombuffer(self._read(2 * size), np.uint16)
            traces.append((addresses, np.frombuffer(self._read(8 * size), np.uint64)))
        if not finished:
            raise RtlTimeout(f"core still busy after {cycles} cycles; completed "
                             f"{counters['DESCRIPTORS']} descriptors; counters: " + ", ".join(
                                 f"{k}={v}" for k, v in counters.items() if v))
        return RtlRun(cycles, counters, *traces)
