"""Two records side by side: figures with their provenance and ratio, and what has no ratio."""

from collections.abc import Sequence
from dataclasses import dataclass
import re
from typing import Any

from gen.measurement.record import Figure, Record
from model.command import columns


__all__ = ["Comparison", "Row", "cells_of", "compare"]


HOST = ("images_per_s_host", "images_per_s_link", "host_difference_percent", "busy_percent")
"""Figures by the host's clock: those of a simulation are its own speed."""

ANY_NETWORK = re.compile(
    r"lanes|fmax_mhz|MHz of .*|comb|ff|ebr|ebr\..*|dsp|seconds\..*|words_per_cycle|peak_gsops|"
    r"dense_gsops|executed_gsops|memory_mb_per_s|busy_percent|watts .*")
"""Figures that two networks share: what the hardware has, reaches or draws. All others are those
of an image of this network."""

LAYERS = 10
"""Layers that differ most, in the text."""


@dataclass(frozen=True)
class Row:
    """A figure of both.

    Parameters
    ----------
    name : str
    a, b : Figure or None
        None where a record does not have it.
    why : str
        Why there is no ratio; empty where there is one.
    """

    name: str
    a: Figure | None
    b: Figure | None
    why: str = ""

    @property
    def ratio(self) -> float | None:
        """b / a; None where it would say nothing."""
        if self.why or self.a is None or self.b is None or not self.a.value:
            return None
        return self.b.value / self.a.value

    def to_json(self) -> dict[str, Any]:
        """A row of a table."""
        cells: dict[str, Any] = {"figure": self.name}
        for key, figure in (("A", self.a), ("B", self.b)):
            cells |= {key: "" if figure is None else figure.value,
                      f"{key} (tag)": "" if figure is None else figure.tag,
                      f"{key} +- (95 %)": "" if figure is None or figure.error is None
                      else figure.error}
        return cells | {"B/A": "" if self.ratio is None else self.ratio, "no ratio": self.why}


@dataclass(frozen=True)
class Comparison:
    """Two records.

    Parameters
    ----------
    a, b : Record
    settings : list of (str, str, str)
        (name, in A, in B) of those that differ.
    rows, layers : list of Row
    notes : list of str
        What must be known before any ratio is believed.
    """

    a: Record
    b: Record
    settings: list[tuple[str, str, str]]
    rows: list[Row]
    layers: list[Row]
    notes: list[str]

    def lines(self) -> list[str]:
        """The comparison for people."""
        lines = [f"A: {self.a.path}: {self.a.title}", f"B: {self.b.path}: {self.b.title}",
                 *(f"note: {note}" for note in self.notes)]
        lines += [f"differs: {name}: {a} | {b}" for name, a, b in self.settings]
        if not self.settings:
            lines.append("no setting differs")
        lines += ["", *_table(self.rows)]
        changed = sorted((row for row in self.layers if row.ratio not in (None, 1)),
                         key=lambda row: -abs(row.b.value - row.a.value)  # type: ignore[union-attr]
                         )
        if changed:
            lines += ["", f"cycles of layers that differ ({len(changed)} of "
                          f"{len(self.layers)}, the largest difference first):",
                      *_table(changed[:LAYERS])]
        reasons: dict[str, list[str]] = {}
        for row in self.rows:
            if row.why:
                reasons.setdefault(row.why, []).append(row.name)
        lines += [f"not compared, {why}: {', '.join(names)}" for why, names in reasons.items()]
        return lines


def compare(a: Record, b: Record) -> Comparison:
    """Put two records side by side.

    Nothing is left out: a figure that only one of them has, or whose ratio would say nothing, has
    a row without a ratio.
    """
    another = _other_network(a, b)
    notes = [*a.stamps, *b.stamps]
    if another:
        notes.append(f"{another}: what belongs to an image has no ratio")
    rows = [Row(name, a.figures.get(name), b.figures.get(name),
                _why(name, a.figures.get(name), b.figures.get(name), another))
            for name in dict.fromkeys([*a.figures, *b.figures])]
    layers = [] if another else [
        Row(name, a.layers.get(name), b.layers.get(name),
            "" if name in a.layers and name in b.layers else "only one has it")
        for name in dict.fromkeys([*a.layers, *b.layers])]
    names = dict.fromkeys([*a.settings, *b.settings])
    if a.kind != b.kind:    # a build has tools, a measurement has an instrument
        names = {name: None for name in names if name in a.settings and name in b.settings}
    absent = "not recorded"
    settings = [(name, a.settings.get(name, absent), b.settings.get(name, absent))
                for name in names
                if a.settings.get(name, absent) != b.settings.get(name, absent)]
    return Comparison(a, b, settings, rows, layers, notes)


def _other_network(a: Record, b: Record) -> str:
    """How the networks differ; empty if they do not."""
    if a.model != b.model:
        return f"another network ({a.model} | {b.model})"
    if a.network and b.network and a.network != b.network:
        return f"{a.model} with other weights ({a.network[:12]} | {b.network[:12]})"
    return ""


def _why(name: str, a: Figure | None, b: Figure | None, another: str) -> str:
    """Why two figures have no ratio; empty if they have one."""
    if a is None or b is None:
        return "only one has it"
    tags = {a.tag, b.tag}
    if tags == {"simulated"}:
        return "both made up by a simulated meter"
    if "simulated" in tags:
        return "simulated against measured"
    if name in HOST and tags != {"board"}:
        return "the host's clock beside a simulation"
    if another and not ANY_NETWORK.fullmatch(name):
        return "another network"
    if not a.value:
        return "" if not b.value else "0 in A"
    return ""


def _number(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    value = figure.value
    if value == int(value) and abs(value) < 1e15:
        text = f"{int(value):,}"
    else:
        text = f"{value:,.2f}" if abs(value) >= 100 else f"{value:.4g}"
    return text if figure.error is None else f"{text} +- {figure.error:.2g}"


def _ratio_text(row: Row) -> str:
    """The ratio of a row, "=" for equal figures, "-" without one."""
    if row.ratio is None:
        same = row.a is not None and row.b is not None and row.a.value == row.b.value
        return "=" if same and not row.why else "-"
    return "=" if row.ratio == 1 else f"{row.ratio:.4g}"


def cells_of(row: Row) -> list[str]:
    """Name, both figures with their tags, and the ratio, as text."""
    return [row.name, _number(row.a), row.a.tag if row.a else "", _number(row.b),
            row.b.tag if row.b else "", _ratio_text(row)]


def _table(rows: Sequence[Row]) -> list[str]:
    """Rows in columns."""
    cells = [["figure", "A", "", "B", "", "B/A"], *(cells_of(row) for row in rows)]
    return columns(cells, left=(0, 2, 4))
