"""A recording on the host's clock: samples, marker, gaps, jitter."""

from collections.abc import Sequence
import csv
from dataclasses import dataclass, replace
from functools import cached_property
import io
import os

import numpy as np

from gen.meter.base import Accuracy, Block, Meter, MeterError, Phase
from gen.meter.clock import Clock, from_arrivals, from_events
from model.files import write_atomic


__all__ = ["GAP_FACTOR", "Gap", "Trace", "build"]


GAP_FACTOR = 1.75
"""An interval of more than this many periods is a gap: at least a sample is missing."""

ARRIVAL_LIMIT_PPM = 10_000.0
"""No meter's clock is so wrong: samples were lost, and the meter did not tell."""

SLACK_S = 0.05
"""How late the host may know of begin and end of a run: serial ports gather bytes for 16 ms."""

RUNNING = "running"
"""Name of the phase that the marker stands for."""


@dataclass(frozen=True)
class Gap:
    """Time without a sample, between two that there are, in s."""

    start_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        """Length in s."""
        return self.end_s - self.start_s


@dataclass(frozen=True)
class Trace:
    """Samples of a recording.

    Parameters
    ----------
    time_s, volts, amps, watts : numpy.ndarray
        Float64 of shape (n,); times on the host's monotonic clock, increasing, n >= 2.
    edges : tuple
        (time in s on the host's clock, level) of each change of the marker.
    phases : tuple of Phase
        What was done when.
    meter : str
        Instrument and settings.
    tag : str
        ``board`` or ``simulated``.
    accuracy : Accuracy
    clock : Clock
        How times came to the host's clock.
    lost, clipped : int
        Samples that the meter itself says are missing, or at the end of its range.
    """

    time_s: np.ndarray
    volts: np.ndarray
    amps: np.ndarray
    watts: np.ndarray
    edges: tuple[tuple[float, int], ...]
    phases: tuple[Phase, ...]
    meter: str
    tag: str
    accuracy: Accuracy
    clock: Clock
    lost: int = 0
    clipped: int = 0

    @cached_property
    def period_s(self) -> float:
        """Usual time between samples (median), in s."""
        return float(np.median(np.diff(self.time_s)))

    @property
    def gaps(self) -> list[Gap]:
        """Intervals longer than :data:`GAP_FACTOR` periods."""
        step = np.diff(self.time_s)
        return [Gap(float(self.time_s[i]), float(self.time_s[i + 1]))
                for i in np.flatnonzero(step > GAP_FACTOR * self.period_s)]

    @property
    def jitter_s(self) -> float:
        """Standard deviation of the intervals that are no gaps, in s."""
        step = np.diff(self.time_s)
        return float(step[step <= GAP_FACTOR * self.period_s].std())

    @property
    def pulses(self) -> list[tuple[float, float]]:
        """(start, end) of every time that the marker was 1 from edge to edge, in s."""
        found, up = [], None
        for time, level in self.edges:
            if level and up is None:
                up = time
            elif not level and up is not None:
                found.append((up, time))
                up = None
        return found

    def phase(self, name: str) -> Phase | None:
        """The phase of that name, the last one if there are several."""
        return next((phase for phase in reversed(self.phases) if phase.name == name), None)

    def quality(self) -> str:
        """Rate, gaps, jitter and clock in a line."""
        gaps = self.gaps
        text = (f"{len(self.time_s)} samples, {1 / self.period_s:.4g} a second, jitter "
                f"{self.jitter_s * 1e3:.3g} ms, {len(gaps)} gaps")
        if gaps:
            text += (f" ({sum(gap.seconds for gap in gaps):.3g} s, the longest "
                     f"{max(gap.seconds for gap in gaps):.3g} s)")
        if self.lost:
            text += f", {self.lost} samples lost by the meter's count"
        if self.clipped:
            text += f", {self.clipped} SAMPLES AT THE END OF THE METER'S RANGE"
        return f"{text}; clock by {self.clock.method}, {self.clock.ppm:+.0f} ppm"

    def window(self, phase: Phase) -> tuple[float, float] | None:
        """First rising and last falling edge of the marker in a phase, in s; None without a
        pulse there."""
        slack = max(SLACK_S, 2 * self.period_s)
        inside = [pulse for pulse in self.pulses if pulse[0] >= phase.start_s - slack
                  and pulse[1] <= phase.end_s + slack]
        return (inside[0][0], inside[-1][1]) if inside else None

    def by_marker(self, *, slack_s: float = SLACK_S) -> "Trace":
        """The trace with its clock corrected by the marker's edges in the phase ``running``.

        Unchanged without that phase or a pulse in it. For a meter whose samples do not tell the
        time of their arrival, or where the phase comes from the board's cycle counter, which
        knows its length better than the host (then with a small `slack_s`).

        Raises :class:`InputError` where marker and phase do not belong together.
        """
        phase = self.phase(RUNNING)
        edges = None if phase is None else self.window(phase)
        if phase is None or edges is None:
            return self
        return self.mapped(from_events(edges, [phase.start_s, phase.end_s], slack_s=slack_s))

    def mapped(self, clock: Clock) -> "Trace":
        """The trace with `clock` behind its present one."""
        return replace(self, time_s=clock.host(self.time_s),
                       edges=tuple((float(clock.host(time)), level) for time, level in self.edges),
                       clock=clock.after(self.clock))

    def write_csv(self, path: str | os.PathLike) -> None:
        """Write a file that ``--meter file:PATH`` reads: time since the first sample, marker and
        the phase of each sample; the first line says what was measured and how."""
        columns = {"time_s": [f"{at:.6f}" for at in self.time_s - self.time_s[0]]}
        for name, values in (("voltage_V", self.volts), ("current_A", self.amps),
                             ("power_W", self.watts)):
            if np.isfinite(values).all():
                columns[name] = [f"{value:.7g}" for value in values]
        columns["marker"] = [str(level) for level in _levels(self.time_s, self.edges)]
        names = np.full(len(self.time_s), "", dtype=object)
        for phase in self.phases:
            names[(self.time_s >= phase.start_s) & (self.time_s <= phase.end_s)] = phase.name
        columns["phase"] = list(names)
        text = io.StringIO()
        text.write(f"# {self.tag}; {self.meter}; {self.quality()}\n")
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(columns)
        rows.writerows(zip(*columns.values(), strict=True))
        write_atomic(path, text.getvalue())


def _levels(time_s: np.ndarray, edges: Sequence[tuple[float, int]]) -> np.ndarray:
    """The marker's level at each time; 0 before the first edge."""
    if not edges:
        return np.zeros(len(time_s), int)
    times, levels = zip(*edges, strict=True)
    return np.concatenate([[1 - levels[0]], levels])[
        np.searchsorted(times, time_s, side="right")]


def build(meter: Meter, blocks: Sequence[Block], phases: Sequence[Phase]) -> Trace:
    """The trace of all blocks that a meter gave.

    Raises
    ------
    MeterError
        Fewer than two samples, or times that do not increase.
    """
    count = sum(len(block.time_s) for block in blocks)
    if count < 2:
        raise MeterError(f"{meter.name} gave {count} samples: too few; measure longer, or look at "
                         "its wiring with: qsdt meter")
    time, volts, amps, watts = (
        np.concatenate([getattr(block, name) for block in blocks]).astype(float)
        for name in ("time_s", "volts", "amps", "watts"))
    back = np.flatnonzero(np.diff(time) <= 0)
    if len(back):
        raise MeterError(f"{meter.name}: time does not increase at sample {back[0] + 1} "
                         f"({time[back[0]]:.6f} s, then {time[back[0] + 1]:.6f} s)")
    edges = tuple(edge for block in blocks for edge in block.edges)
    clock = meter.place(time, edges, phases)
    if clock is None:
        clock = Clock()
        full = [block for block in blocks if len(block.time_s)]
        if meter.own_clock:
            clock = from_arrivals([float(block.time_s[-1]) for block in full],
                                  [block.arrival_s for block in full])
            if abs(clock.ppm) > ARRIVAL_LIMIT_PPM:
                raise MeterError(
                    f"{meter.name}: its samples cover {time[-1] - time[0]:.4g} s, but "
                    f"{clock.rate * (time[-1] - time[0]):.4g} s went by: many were lost unseen; "
                    "record at a lower rate, or with less beside it on the host")
    return Trace(clock.host(time), volts, amps, watts,
                 tuple((float(clock.host(at)), level) for at, level in edges), tuple(phases),
                 meter.describe(), meter.tag, meter.accuracy, clock,
                 sum(block.lost for block in blocks), sum(block.clipped for block in blocks))
