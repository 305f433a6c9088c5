"""The core's RTL in Verilator: fill the memory, run, checkpoint, trace what the units write."""

from dataclasses import dataclass
from math import gcd
from pathlib import Path
import struct
import subprocess
import tempfile

import numpy as np

from hw.register import Counter
from sim.memory_twin import MemoryTwin
from sim.rtl_top import CONTROLS, RtlTop
from sim.storage import STORAGE_VERILOG
from sim.verilator import build_simulator


__all__ = ["RtlCore", "RtlProgress", "RtlRun", "RtlTimeout", "twin_memory"]


HARNESS = Path(__file__).with_name("rtl_harness.cpp")

CHUNK = 1 << 17
"""Cycles between two reports of progress; one or two seconds for 64x64 lanes."""


class RtlTimeout(Exception):
    """The core did not finish within its cycle budget; the message tells which unit is active."""


@dataclass(frozen=True)
class RtlProgress:
    """Where a run is: cycles since its start, counters, whether it is over.

    ``violations`` are the rules that an SDRAM saw broken (:func:`sim.sdram_chip.broken_rules`).
    """

    cycles: int
    counters: dict
    finished: bool
    violations: int

    @property
    def descriptors(self):
        """Completed ones."""
        return self.counters["DESCRIPTORS"]


@dataclass(frozen=True)
class RtlRun:
    """Result of one run: cycles, counters, and per unit (addresses, words) in write order.

    The words are those of the part of the run that was traced; ``violations`` as in
    :class:`RtlProgress`.
    """

    cycles: int
    counters: dict
    violations: int
    neuron: tuple
    attention: tuple


def twin_memory(words, **behaviour):
    """The memory twin for :class:`RtlCore`: ``words`` at least, parameters of MemoryTwin."""
    return MemoryTwin(words=1 << max(8, (words - 1).bit_length()), verilog=True, **behaviour)


class RtlCore:
    """Context manager around one simulator process.

    Parameters
    ----------
    config : CoreConfig
    memory : Component
        Behind the core (:class:`sim.rtl_top.RtlTop`); for example :func:`twin_memory`.
    clock_hz : int or None
        Clock of the core, beside a memory with a clock of its own (``memory.config.clock_hz``).
    cache : Path
        Folder of compiled simulators.
    """

    def __init__(self, config, *, memory, clock_hz=None, cache=Path("build/sim")):
        self._periods = [1, 0]
        if clock_hz is not None:
            common = gcd(clock_hz, memory.config.clock_hz)
            self._periods = [memory.config.clock_hz // common, clock_hz // common]
        self._binary = build_simulator(RtlTop(config, memory=memory), HARNESS, cache,
                                       sources=[STORAGE_VERILOG], options=["--savable"])

    @property
    def binary(self):
        """Path of the compiled simulator; its folder is named by the digest of what it is."""
        return self._binary

    def __enter__(self):
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen([self._binary, *map(str, self._periods)],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=self._errors)
        return self

    def __exit__(self, *exception):
        self._process.stdin.close()
        if exception[0] is not None:
            self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def _send(self, *parts):
        try:
            for part in parts:
                self._process.stdin.write(part)
            self._process.stdin.flush()
        except BrokenPipeError:
            self._failed()

    def _read(self, size):
        data = self._process.stdout.read(size)
        if len(data) != size:
            self._failed()
        return data

    def _failed(self):
        self._process.wait()
        self._errors.seek(0)
        raise RuntimeError("simulator ended: "
                           + self._errors.read().decode("utf-8", "replace")[-500:].strip())

    def write(self, address, words):
        """Put uint64 words at a memory word address, in no simulated time."""
        words = np.ascontiguousarray(words, np.uint64)
        self._send(b"W" + struct.pack("<II", address, len(words)), words.tobytes())

    def read(self, address, count):
        """Get ``count`` uint64 words."""
        self._send(b"R" + struct.pack("<II", address, count))
        return np.frombuffer(self._read(8 * count), np.uint64)

    def start(self, *, count=1, **controls):
        """Start the program; controls are those of :data:`sim.rtl_top.CONTROLS`."""
        values = [controls.get(name, 0) for name in CONTROLS]
        self._send(b"G" + struct.pack("<6II", *values, count))

    def advance(self, cycles, *, trace=False):
        """Run on for at most ``cycles``.

        Returns
        -------
        (RtlProgress, list)
            Per unit (neuron, attention) the (addresses, words) written meanwhile; empty ones
            without ``trace``.
        """
        self._send(b"C" + struct.pack("<QB", cycles, trace))
        finished, violations, total = struct.unpack("<IIQ", self._read(16))
        counters = struct.unpack(f"<{len(Counter)}I", self._read(4 * len(Counter)))
        counters = {counter.name: counters[counter] for counter in Counter}
        traces = []
        for _ in range(2):
            size, = struct.unpack("<Q", self._read(8))
            addresses = np.frombuffer(self._read(2 * size), np.uint16)
            traces.append((addresses, np.frombuffer(self._read(8 * size), np.uint64)))
        return RtlProgress(total, counters, bool(finished), violations), traces

    def finish(self, *, limit, trace=False, progress=None):
        """Run on until the core is idle, at most until cycle ``limit`` of the run.

        ``progress`` is called with an :class:`RtlProgress` every :data:`CHUNK` cycles.

        Raises
        ------
        RtlTimeout
            At cycle ``limit``.
        """
        parts = []
        at = 0
        while True:
            state, traces = self.advance(min(CHUNK, limit - at) if at else 1, trace=trace)
            parts.append(traces)
            at = state.cycles
            if state.finished:
                break
            if at >= limit:
                counters = state.counters
                raise RtlTimeout(f"core still busy after {at} cycles; completed "
                                 f"{state.descriptors} descriptors; counters: " + ", ".join(
                                     f"{k}={v}" for k, v in counters.items() if v))
            if progress is not None:
                progress(state)
        joined = [tuple(np.concatenate(x) for x in zip(*unit, strict=True))
                  for unit in zip(*parts, strict=True)]
        return RtlRun(state.cycles, state.counters, state.violations, *joined)

    def run(self, *, count=1, limit=10_000_000, trace=True, progress=None, **controls):
        """:meth:`start` and :meth:`finish`."""
        self.start(count=count, **controls)
        return self.finish(limit=limit, trace=trace, progress=progress)

    def save(self, path):
        """Write the whole state (design, memory, cycles of the run) to a file, or nothing."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        self._file(b"S", partial)
        partial.replace(path)

    def restore(self, path):
        """Continue from a file that a simulator of the same design saved."""
        self._file(b"L", Path(path))

    def _file(self, command, path):
        name = str(path.resolve()).encode()
        self._send(command + struct.pack("<I", len(name)) + name)
        self._read(1)
