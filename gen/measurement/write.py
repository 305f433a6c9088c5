"""Files of a measurement: measure.json, layers.csv, runs.csv, power.csv and report.html."""

from collections.abc import Mapping, Sequence
import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from gen.flow.page import page_environment
from gen.measurement.runs import Run
from gen.meter.account import joules_text
from gen.meter.trace import Trace
from model.files import make_folder, write_atomic


__all__ = ["FILES", "power_picture", "write_measurement"]


FILES = ("measure.json", "layers.csv", "runs.csv", "power.csv", "report.html")

POINTS = 1200
"""Columns of the picture; each shows lowest and highest sample of its time."""

WIDTH, HEIGHT, LEFT, FOOT, TOP = 900, 260, 56, 30, 12

COLOURS = {"unconfigured": "#9aa3af", "idle": "#4e79a7", "running": "#59a14f"}


def power_picture(trace: Trace) -> dict[str, Any]:
    """The power over time, as places in a picture of :data:`WIDTH` x :data:`HEIGHT`.

    Returns
    -------
    dict
        ``path`` (SVG path of the band between lowest and highest samples), ``phases`` (shaded
        times), ``gaps``, ``marks`` (numbers at the axes).
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
    step = _round(top / 4)
    seconds = _round((end - start) / 6)
    return {
        "path": f"M{' L'.join([*there, *back])} Z", "width": WIDTH, "height": HEIGHT,
        "left": LEFT, "base": HEIGHT - FOOT, "right": WIDTH - 8, "top": TOP,
        "phases": [{"name": phase.name, "x": across(phase.start_s),
                    "width": across(phase.end_s) - across(phase.start_s),
                    "colour": COLOURS.get(phase.name, "#f28e2b")} for phase in trace.phases],
        "gaps": [{"x": across(gap.start_s), "width": max(1.0, across(gap.end_s)
                                                         - across(gap.start_s))}
                 for gap in trace.gaps],
        "watts": [{"y": up(step * i), "text": f"{step * i:g}"}
                  for i in range(int(top / step) + 1)],
        "seconds": [{"x": across(start + seconds * i), "text": f"{seconds * i:g}"}
                    for i in range(int((end - start) / seconds) + 1)],
    }


def _round(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * 0.999)


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV; a tagged value becomes two columns."""
    text = io.StringIO()
    flat = []
    for row in rows:
        line: dict[str, Any] = {}
        for key, value in row.items():
            if isinstance(value, Mapping):
                line[key], line[f"{key} (tag)"] = value["value"], value["tag"]
            else:
                line[key] = value
        flat.append(line)
    writer = csv.DictWriter(text, list(flat[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def write_measurement(folder: Path, content: Mapping[str, Any], runs: Sequence[Run], tag: str,
                      trace: Trace | None) -> None:
    """Write all files of a measurement; report.html last.

    Parameters
    ----------
    folder : path
    content : mapping
        Of measure.json.
    runs : sequence of Run
    tag : str
        ``board`` or ``rtl-sim``.
    trace : Trace or None
        Of the meter.
    """
    make_folder(folder)
    write_atomic(folder / "measure.json", json.dumps(content, indent=1) + "\n")
    write_atomic(folder / "layers.csv", _csv(content["layers"]))
    write_atomic(folder / "runs.csv", _csv([
        {"run": number, "images": run.images, "tag": tag, "busy_s": f"{run.busy_s:.6f}",
         "seconds": f"{run.seconds:.6f}", **run.counters}
        for number, run in enumerate(runs, 1)]))
    if trace is not None:
        trace.write_csv(folder / "power.csv")
    page = page_environment("gen.measurement").get_template("measure.html")
    write_atomic(folder / "report.html", page.render(
        m=content, runs=runs, tag=tag, joules=joules_text,
        picture=None if trace is None else power_picture(trace)))
