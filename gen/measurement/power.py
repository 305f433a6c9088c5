"""Pictures of power: over a recording with its phases, and over an image with its layers."""

from collections.abc import Sequence
from dataclasses import dataclass
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen.measurement.timeline import Turn
from gen.meter.trace import RUNNING, Trace


__all__ = ["ImagePower", "image_picture", "image_power", "power_picture"]


POINTS = 1200
"""Columns of the picture; each shows lowest and highest sample of its time."""

WIDTH, HEIGHT, LEFT, FOOT, TOP = 900, 260, 56, 30, 12

COLOURS = {"unconfigured": "#9aa3af", "idle": "#4e79a7", RUNNING: "#59a14f"}

SHADES = ("#4e79a7", "#f28e2b")
"""Turns of layers, one after the other."""

BINS = 100
"""Parts of an image in which power is told."""

LEAST_SAMPLES = 10
"""Samples in the time of an image, at least: with fewer, no layer would be told from the next."""

NEAR = 32
"""Images behind the begin, and before the end, of a start of the core whose times are known well
enough: those between drift away, since images do not take exactly the same cycles."""

LENGTH_ERROR = 0.05
"""By how much the length of a start, divided by that of an image, may miss a whole number of
images, for each of them."""


def _round(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * 0.999)


def _axis(end: float, parts: int) -> list[float]:
    """Round numbers from 0 to `end`."""
    step = _round(end / parts)
    return [step * i for i in range(int(end / step * 1.000001) + 1)]


def power_picture(trace: Trace) -> dict[str, Any]:
    """The power over time, as places in a picture of :data:`WIDTH` x :data:`HEIGHT`.

    Returns
    -------
    dict
        ``path`` (SVG path of the band between lowest and highest samples), ``phases`` (shaded
        times), ``busy`` (times at which the marker was 1), ``gaps``, ``watts`` and ``seconds``
        (numbers at the axes).
    """
    start, end = float(trace.time_s[0]), float(trace.time_s[-1])
    top = 1.08 * float(np.quantile(trace.watts, 0.9999)) or 1.0

    def across(time_s: float) -> float:
        return LEFT + (time_s - start) / (end - start) * (WIDTH - LEFT - 8)

    def up(watts: float) -> float:
        return HEIGHT - FOOT - min(watts, top) / top * (HEIGHT - FOOT - TOP)

    column = np.minimum((POINTS * (trace.time_s - start) / (end - start)).astype(int), POINTS - 1)
    first = np.flatnonzero(np.diff(np.concatenate([[-1], column])))
    low, high = np.minimum.reduceat(trace.watts, first), np.maximum.reduceat(trace.watts, first)
    at = [across(float(time)) for time in trace.time_s[first]]
    there = [f"{x:.1f} {up(float(y)):.1f}" for x, y in zip(at, high, strict=True)]
    back = [f"{x:.1f} {up(float(y)) + 0.8:.1f}" for x, y in zip(at[::-1], low[::-1], strict=True)]
    return {
        "path": f"M{' L'.join([*there, *back])} Z", "width": WIDTH, "height": HEIGHT,
        "left": LEFT, "base": HEIGHT - FOOT, "right": WIDTH - 8, "top": TOP,
        "phases": [{"name": phase.name, "x": across(phase.start_s),
                    "width": across(phase.end_s) - across(phase.start_s),
                    "colour": COLOURS.get(phase.name, "#f28e2b")} for phase in trace.phases],
        "busy": _busy([(across(begin), across(finish)) for begin, finish in trace.pulses]),
        "gaps": [{"x": across(gap.start_s), "width": max(1.0, across(gap.end_s)
                                                         - across(gap.start_s))}
                 for gap in trace.gaps],
        "watts": [{"y": up(watts), "text": f"{watts:g}"} for watts in _axis(top, 4)],
        "seconds": [{"x": across(start + seconds), "text": f"{seconds:g}"}
                    for seconds in _axis(end - start, 6)],
    }


def _busy(pulses: Sequence[tuple[float, float]]) -> list[dict[str, float]]:
    """Pulses as they can be drawn: those less than half a pixel apart are one."""
    drawn: list[list[float]] = []
    for begin, end in pulses:
        if drawn and begin - drawn[-1][1] < 0.5:
            drawn[-1][1] = end
        else:
            drawn.append([begin, end])
    return [{"x": begin, "width": max(0.5, end - begin)} for begin, end in drawn]


@dataclass(frozen=True)
class ImagePower:
    """Mean power over the time of an image, from many images laid above each other.

    Parameters
    ----------
    watts : numpy.ndarray
        Float64 of shape (BINS,): mean of the samples in each part of an image; NaN without one.
    image_s : float
        Time of an image.
    images : int
        Laid above each other.
    turns : tuple of (Turn, float, int)
        Each turn, its mean power in watts (NaN without a sample), and how many samples it has.
    period_s : float
        Time between samples: shorter turns are smeared.
    """

    watts: NDArray[np.float64]
    image_s: float
    images: int
    turns: tuple[tuple[Turn, float, int], ...]
    period_s: float

    def rows(self, tag: str) -> list[dict[str, Any]]:
        """The turns as a table: times in ms, mean power in W, energy in J, each with `tag`."""
        total = self.turns[-1][0].end
        rows = []
        for turn, watts, samples in self.turns:
            begin, end = (at / total * self.image_s for at in (turn.start, turn.end))
            seconds = end - begin
            rows.append({
                "layers": " ".join(turn.layers), "start_ms": begin * 1e3,
                "ms": seconds * 1e3, "samples": samples, "tag": tag,
                "watts": watts if samples else "", "joules": watts * seconds if samples else "",
                "resolved": "yes" if seconds > self.period_s else "no: shorter than a sample"})
        return rows


def image_power(trace: Trace, turns: Sequence[Turn], image_s: float) -> ImagePower | str:
    """Power over an image: all samples near the marker's edges, at their place in their image.

    Parameters
    ----------
    trace : Trace
        With a marker that is high while the core runs.
    turns : sequence of Turn
        Of an image.
    image_s : float
        Time of an image.

    Returns
    -------
    ImagePower, or str
        Why there is none: a sentence for the report.
    """
    phase = trace.phase(RUNNING)
    window = None if phase is None else trace.window(phase)
    if window is None:
        return ("Layers are not told apart: the recording has no marker, so nobody knows when an "
                "image began.")
    if trace.period_s * LEAST_SAMPLES > image_s:
        return (f"Layers are not told apart: the meter samples every {trace.period_s * 1e3:.3g} "
                f"ms and an image takes {image_s * 1e3:.3g} ms; {LEAST_SAMPLES} samples an image "
                "are the least.")
    places, watts, images = [], [], 0
    for begin, end in trace.pulses:
        count = round((end - begin) / image_s)
        if begin < window[0] or end > window[1] or count < 1 \
                or abs((end - begin) / count - image_s) > LENGTH_ERROR * image_s:
            continue
        length = (end - begin) / count
        inside = slice(*np.searchsorted(trace.time_s, [begin, end]))
        number = (trace.time_s[inside] - begin) / length
        near = (number < NEAR) | (number >= count - NEAR)
        places.append(number[near] % 1)
        watts.append(trace.watts[inside][near])
        images += min(count, 2 * NEAR)
    if not images:
        return (f"Layers are not told apart: no pulse of the marker is as long as some images of "
                f"{image_s * 1e3:.3g} ms.")
    place, power = np.concatenate(places), np.concatenate(watts)
    edges = np.array([0, *(turn.end for turn in turns)]) / turns[-1].end
    means, _ = _means(place, power, np.linspace(0, 1, BINS + 1))
    of_turn, counts = _means(place, power, edges)
    return ImagePower(means, image_s, images, tuple(
        (turn, float(mean), int(n)) for turn, mean, n in zip(turns, of_turn, counts, strict=True)),
        trace.period_s)


def _means(place: NDArray[np.float64], power: NDArray[np.float64], edges: NDArray[np.float64]
           ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(mean of the power, number of samples) between every two edges."""
    part = np.clip(np.searchsorted(edges, place, side="right") - 1, 0, len(edges) - 2)
    counts = np.bincount(part, minlength=len(edges) - 1)
    sums = np.bincount(part, power, minlength=len(edges) - 1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan), counts


def image_picture(power: ImagePower) -> dict[str, Any]:
    """Power over an image as places in a picture, with the turns of layers shaded."""
    known = power.watts[np.isfinite(power.watts)]
    low, high = float(known.min()), float(known.max())
    room = 0.15 * (high - low) or 0.05 * high or 1.0
    low, high = max(0.0, low - room), high + room
    total = power.turns[-1][0].end

    def across(share: float) -> float:
        return LEFT + share * (WIDTH - LEFT - 8)

    def up(watts: float) -> float:
        return HEIGHT - FOOT - (watts - low) / (high - low) * (HEIGHT - FOOT - TOP)

    step = _round((high - low) / 4)
    marks = [step * i for i in range(math.ceil(low / step), int(high / step) + 1)]
    return {
        "width": WIDTH, "height": HEIGHT, "left": LEFT, "base": HEIGHT - FOOT, "right": WIDTH - 8,
        "top": TOP, "images": power.images,
        "line": " ".join(f"{across((i + 0.5) / BINS):.1f},{up(float(watts)):.1f}"
                         for i, watts in enumerate(power.watts) if math.isfinite(watts)),
        "turns": [{"name": turn.name, "x": across(turn.start / total),
                   "width": (turn.end - turn.start) / total * (WIDTH - LEFT - 8),
                   "colour": SHADES[i % 2], "watts": watts, "samples": samples}
                  for i, (turn, watts, samples) in enumerate(power.turns)],
        "watts": [{"y": up(watts), "text": f"{watts:.4g}"} for watts in marks],
        "ms": [{"x": across(ms / (power.image_s * 1e3)), "text": f"{ms:g}"}
               for ms in _axis(power.image_s * 1e3, 6)],
    }
