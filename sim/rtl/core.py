"""The core's RTL in Verilator: fill the memory, run, checkpoint, trace what is written."""

from dataclasses import dataclass
from functools import partial
from math import gcd
import os
from pathlib import Path
import struct
import subprocess
import tempfile

import numpy as np

from hw.register import Counter
from sim.rtl.top import CONTROLS, RtlTop
from sim.rtl.verilator import build_simulator, SIMULATORS
from sim.twin.memory import MemoryTwin
from sim.twin.storage import STORAGE_VERILOG


__all__ = ["EVERYTHING", "NOTHING", "RtlCore", "RtlProgress", "RtlRun", "RtlTimeout", "Waveform",
           "twin_memory"]


HARNESS = Path(__file__).with_name("rtl_harness.cpp")

CHUNK = 1 << 17
"""Cycles between two reports of progress; one or two seconds for 64x64 lanes."""

TRACE_OPTIONS = {"fst": "--trace-fst", "vcd": "--trace"}
"""Kinds of waveform, and Verilator's option for each."""

NOTHING, EVERYTHING = (0, 0), (0, 1 << 63)
"""What to trace of the neuron core, see :meth:`RtlCore.advance`."""


class RtlTimeout(Exception):
    """The core did not finish within its cycle budget; the message tells which unit is active."""


@dataclass(frozen=True)
class RtlProgress:
    """Where a run is: cycles since its start, counters, whether it is over.

    ``written`` counts the words that the neuron core has written since the start; ``violations``
    are the rules that an SDRAM saw broken (:func:`sim.twin.sdram_chip.broken_rules`);
    ``phase_changes`` counts those of the core's ``phase``.
    """

    cycles: int
    counters: dict
    finished: bool
    written: int
    violations: int
    phase_changes: int = 0

    @property
    def descriptors(self):
        """Completed ones."""
        return self.counters["DESCRIPTORS"]


@dataclass(frozen=True)
class RtlRun:
    """Result of one run: the state at its end, and the words that the neuron core wrote in the part
    of it that was traced, in order, with their addresses.
    """

    end: RtlProgress
    addresses: np.ndarray
    words: np.ndarray

    @property
    def cycles(self):
        return self.end.cycles

    @property
    def counters(self):
        return self.end.counters

    @property
    def written(self):
        return self.end.written


@dataclass(frozen=True)
class Waveform:
    """Where to record the signals of a run: a file of ``kind`` "fst" or "vcd", cycles ``first`` to
    ``last - 1`` of the run (None: to its end).

    A core's rising edges lie at even times, ``2 * cycle`` for a memory without a clock of its own;
    signals change there. A simulator that records is compiled apart from the one that does not.

    Raises
    ------
    ValueError
    """

    path: Path
    kind: str
    first: int = 0
    last: int | None = None

    def __post_init__(self):
        if self.kind not in TRACE_OPTIONS:
            raise ValueError(f"Waveforms are {' or '.join(TRACE_OPTIONS)}, not {self.kind!r}")
        if self.first < 0 or (self.last is not None and self.last <= self.first):
            raise ValueError(f"cycles must be A:B with 0 <= A < B, not {self.first}:{self.last}")


def twin_memory(words, **behaviour):
    """The memory twin for :class:`RtlCore`: 32 MB, or the ``words`` that are more than that;
    parameters of MemoryTwin. One size for most, so that they share a compiled simulator."""
    return partial(MemoryTwin, words=max(1 << 22, words), verilog=True, **behaviour)


class RtlCore:
    """Context manager around one simulator process.

    Parameters
    ----------
    config : CoreConfig
    memory : functools.partial
        Makes what is behind the core (:class:`sim.rtl.top.RtlTop`); its ``repr`` tells all its
        parameters. For example :func:`twin_memory`.
    clocks_hz : (int, int) or None
        Of the core and of a memory with a clock of its own.
    waveform : Waveform or None
        Record the first run. Such a simulator cannot :meth:`save` and :meth:`restore`.
    cache : Path
        Folder of compiled simulators.
    """

    def __init__(self, config, *, memory, clocks_hz=None, waveform=None, cache=SIMULATORS):
        self._waveform = waveform
        self._periods = [1, 0]
        if clocks_hz is not None:
            common = gcd(*clocks_hz)
            self._periods = [hz // common for hz in reversed(clocks_hz)]
        self._binary = build_simulator(partial(RtlTop, config, memory=memory), HARNESS, cache,
                                       sources=[STORAGE_VERILOG], options=[
                                           TRACE_OPTIONS[waveform.kind] if waveform
                                           else "--savable"])

    @property
    def identity(self):
        """What a state (:meth:`save`) belongs to: digest of the simulator, and its clocks."""
        return self._binary.parent.name, *self._periods

    def __enter__(self):
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen([self._binary, *map(str, self._periods)],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=self._errors)
        if self._waveform is not None:
            path = self._waveform.path.resolve()
            self._partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
            name, last = str(self._partial).encode(), self._waveform.last
            self._send(b"T" + struct.pack("<QQI", self._waveform.first,
                                          (1 << 64) - 1 if last is None else last, len(name))
                       + name)
            self._read(1)
        return self

    def __exit__(self, *exception):
        self._process.stdin.close()
        if exception[0] is not None:
            self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()
        if self._waveform is not None:
            if exception[0] is None:
                self._partial.replace(self._waveform.path)
            self._partial.unlink(missing_ok=True)
            # What the writer of .fst files leaves behind if it is killed.
            Path(f"{self._partial}.hier").unlink(missing_ok=True)

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

    def start(self, *, count=1, ring=0, **controls):
        """Start the program; controls are those of :data:`sim.rtl.top.CONTROLS`, ``ring`` is
        ``Register.RING``."""
        values = [controls.get(name, 0) for name in CONTROLS]
        self._send(b"G" + struct.pack("<6I2I", *values, count, ring))

    def advance(self, cycles, trace=NOTHING):
        """Run on for at most ``cycles``.

        Parameters
        ----------
        trace : (int, int)
            Words of the neuron core to return: number of the first one since the start, and how
            many.

        Returns
        -------
        (RtlProgress, (addresses, words))
            What was traced meanwhile.
        """
        self._send(b"C" + struct.pack("<3Q", cycles, *trace))
        finished, violations, phase_changes, total = struct.unpack("<IIIQ", self._read(20))
        counters = struct.unpack(f"<{len(Counter)}I", self._read(4 * len(Counter)))
        counters = {counter.name: counters[counter] for counter in Counter}
        written, size = struct.unpack("<2Q", self._read(16))
        addresses = np.frombuffer(self._read(2 * size), np.uint16)
        words = np.frombuffer(self._read(8 * size), np.uint64)
        return RtlProgress(total, counters, bool(finished), written, violations,
                           phase_changes), (addresses, words)

    def finish(self, *, limit, trace=NOTHING, watch=None):
        """Run on until the core is idle, at most until cycle ``limit`` of the run.

        ``watch`` is called with an :class:`RtlProgress` every :data:`CHUNK` cycles, and at the
        end; the run stops early if it returns True.

        Raises
        ------
        RtlTimeout
            At cycle ``limit``.
        """
        parts = []
        step = 1    # to see where a restored run is
        while True:
            state, traced = self.advance(step, trace)
            parts.append(traced)
            stop = watch is not None and watch(state)
            if state.finished or stop:
                break
            if state.cycles >= limit:
                raise RtlTimeout(f"core still busy after {state.cycles} cycles; completed "
                                 f"{state.descriptors} descriptors; counters: " + ", ".join(
                                     f"{k}={v}" for k, v in state.counters.items() if v))
            step = min(CHUNK, limit - state.cycles)
        return RtlRun(state, *(np.concatenate(x) for x in zip(*parts, strict=True)))

    def run(self, *, count=1, ring=0, limit=10_000_000, trace=EVERYTHING, watch=None, **controls):
        """:meth:`start` and :meth:`finish`."""
        self.start(count=count, ring=ring, **controls)
        return self.finish(limit=limit, trace=trace, watch=watch)

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
