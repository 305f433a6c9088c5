"""Recording of any instrument as a CSV file: ``--meter file:PATH``.

Columns are found by the names that instruments give them, units by what stands behind the name:
``Current (mA)``, ``current_mA``, ``Current [mA]``. What cannot be told is asked for, never guessed.
"""

from collections.abc import Callable, Sequence
import csv
import datetime as dt
from pathlib import Path
import re
import time
from typing import ClassVar, NamedTuple

import numpy as np

from gen.meter.base import Accuracy, Block, Meter, MeterError, Option, Phase
from gen.meter.clock import Clock, from_events
from gen.meter.trace import RUNNING, SLACK_S
from model.error import os_error_text


__all__ = ["File"]


class _Quantity(NamedTuple):
    names: tuple[str, ...]
    units: dict[str, float]


_TIME = {"s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9,
         "min": 60.0, "h": 3600.0}
_SI = {"": 1.0, "m": 1e-3, "u": 1e-6, "µ": 1e-6, "n": 1e-9}

QUANTITIES = {
    "time": _Quantity(("time", "timestamp", "t", "elapsed", "elapsed time", "date"), _TIME),
    "voltage": _Quantity(("voltage", "volts", "volt", "v", "u", "vbus", "vout"),
                         {prefix + "v": factor for prefix, factor in _SI.items()}),
    "current": _Quantity(("current", "amps", "ampere", "amperes", "a", "i", "ibus"),
                         {prefix + "a": factor for prefix, factor in _SI.items()}),
    "power": _Quantity(("power", "watts", "watt", "w", "p"),
                       {prefix + "w": factor for prefix, factor in _SI.items()}),
}
"""Names and units of each quantity, in small letters; factors to s, V, A, W."""

MARKERS = ("marker", "trigger", "busy", "d0", "gpi0", "in0", "current_gpi", "logic", "d0-d7")

EPOCH_S = 1e9
"""Times above this are seconds since 1970."""


class File(Meter):
    """A recorded file; it is read when the recording ends.

    It is placed on the host's clock by the marker's edges, by the given time of the beginning
    (``start``), or by dates in the file.

    Parameters
    ----------
    **options
        See :attr:`OPTIONS`.
    """

    name: ClassVar[str] = "file"

    OPTIONS: ClassVar[dict[str, Option]] = {
        "path": Option(str, None, "the file"),
        "time": Option(str, None, "column of the time, COLUMN or COLUMN:UNIT (s, ms, us)"),
        "current": Option(str, None, "column of the current, COLUMN or COLUMN:UNIT (A, mA, uA)"),
        "voltage": Option(str, None, "column of the voltage, COLUMN or COLUMN:UNIT (V, mV)"),
        "power": Option(str, None, "column of the power, COLUMN or COLUMN:UNIT (W, mW)"),
        "marker": Option(str, None, "column of the marker; 0 is low, anything above half is high"),
        "volts": Option(float, None, "supply in V where the file has no voltage", 0.1, 60),
        "start": Option(float, None, "time in the file, in s, at which the run began", -1e12, 1e12),
        "error": Option(float, 0.0, "standard error of the instrument's power, in %", 0, 100),
    }

    def __init__(self, *, clock: Callable[[], float] = time.monotonic,
                 wall: Callable[[], float] = time.time,
                 **options: float | str | None) -> None:
        super().__init__(**options)
        if not self.options["path"]:
            raise MeterError("--meter file: name the file: --meter file:PATH")
        self._path = Path(str(self.options["path"]))
        self._clock, self._wall = clock, wall
        self._begun, self._tag = False, "board"
        self._block: Block | None = None
        error = self.number("error")
        self.accuracy = Accuracy(error / 100, 0.0, f"as given: {error:g} %" if error else
                                 "not given (error=PERCENT): gain errors are left out")

    @property
    def tag(self) -> str:
        """``simulated`` where the file says so in its first line, as those of ``qsdt meter`` do."""
        return self._tag

    def open(self) -> None:
        """Read and check the whole file."""
        rows = self._rows()
        names, lines = self._header(rows)
        columns = {quantity: self._column(quantity, names) for quantity in QUANTITIES}
        if columns["time"] is None:
            raise self._missing("time", names)
        if columns["power"] is None and columns["current"] is None:
            raise self._missing("current or power", names, option="current")
        if columns["power"] is None and columns["voltage"] is None and (
                self.options["volts"] is None):
            raise MeterError(f"{self._path}: there is current, but no voltage; add the supply's, "
                             f"as in --meter file:{self._path},volts=5.0")
        marker = self._marker(names)
        self.has_marker = marker is not None
        values = self._values(lines, names, columns, marker)
        at = values["time"]
        self._absolute = bool(at[0] > EPOCH_S)
        volts = values.get("voltage", np.full(len(at), float(self.options["volts"] or np.nan)))
        watts = values["power"] if "power" in values else values["current"] * volts
        amps = values["current"] if "current" in values else watts / volts
        edges = []
        if marker is not None:
            raw = values["marker"]
            level = (raw > (raw.max() + min(0.0, raw.min())) / 2).astype(int) if raw.max() > 0 \
                else np.zeros(len(raw), int)
            changes = np.flatnonzero(np.diff(np.concatenate([[0], level])))
            edges = [(float(at[i]), int(level[i])) for i in changes]
        self._block = Block(at, volts, amps, watts, self._clock(), edges)
        self.rate_hz = float(1 / np.median(np.diff(at)))
        self._columns = ", ".join(names[column[0]] for column in columns.values() if column)

    def _rows(self) -> list[tuple[int, list[str]]]:
        """(number of the line, its fields) without empty lines and comments."""
        try:
            text = self._path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise MeterError(os_error_text(error, self._path)) from error
        except UnicodeDecodeError as error:
            raise MeterError(f"{self._path}: is no text in UTF-8 (byte {error.start}); export it "
                             "as CSV") from error
        lines = text.splitlines()
        self._tag = "simulated" if text.startswith("# simulated") else "board"
        first = next((i for i, line in enumerate(lines)
                      if line.strip() and not line.startswith("# ")), None)
        if first is None:
            raise MeterError(f"{self._path}: is empty")
        self._separator = max(";\t,", key=lambda one: (lines[first].count(one) > 0,
                                                       -";\t,".index(one)))
        if not lines[first].count(self._separator):
            self._separator = " "
        lines[first] = lines[first].lstrip("#")
        rows = csv.reader(lines[first:], delimiter=self._separator,
                          skipinitialspace=self._separator == " ")
        return [(first + number, [field.strip() for field in row])
                for number, row in enumerate(rows, 1) if any(row)]

    def _header(self, rows: list[tuple[int, list[str]]]
                ) -> tuple[list[str], list[tuple[int, list[str]]]]:
        names = rows[0][1]
        if all(re.fullmatch(r"[-+\d.,eE:]*", name) for name in names):
            raise MeterError(f"{self._path}: the first line has no names of columns but "
                             f"{', '.join(names[:4])}; write them there, with units: "
                             "time_s,voltage_V,current_mA")
        if len(rows) < 3:
            raise MeterError(f"{self._path}: has {len(rows) - 1} samples; at least two are needed")
        return names, rows[1:]

    def _column(self, quantity: str, names: Sequence[str]) -> tuple[int, float] | None:
        """(index, factor to s, V, A or W) of the column of a quantity."""
        asked = self.options[quantity]
        known = QUANTITIES[quantity]
        if asked is None:
            found = [i for i, name in enumerate(names) if _split(name)[0] in known.names]
            if not found:
                return None
            if len(found) > 1:
                raise MeterError(f"{self._path}: columns "
                                 f"{' and '.join(names[i] for i in found)} may both be the "
                                 f"{quantity}; choose with {quantity}=COLUMN")
            index, unit = found[0], _split(names[found[0]])[1]
        else:
            name, _, unit = str(asked).partition(":")
            if name not in names and str(asked) in names:
                name, unit = str(asked), ""
            if name not in names:
                raise MeterError(f"{self._path}: has no column {name!r}; it has "
                                 f"{', '.join(names)}")
            index = names.index(name)
            unit = unit.lower() or _split(name)[1]
        if quantity == "time" and not unit:
            return index, 0.0    # dates, or it is asked for when the values are known
        if unit not in known.units:
            raise MeterError(f"{self._path}: column {names[index]!r} "
                             + (f"has the unknown unit {unit!r}" if unit else "names no unit")
                             + f"; say it: {quantity}={names[index]}:UNIT with "
                             + " or ".join(list(known.units)[:4]))
        return index, known.units[unit]

    def _marker(self, names: Sequence[str]) -> int | None:
        asked = self.options["marker"]
        if asked is not None:
            if asked not in names:
                raise MeterError(f"{self._path}: has no column {asked!r}; it has "
                                 f"{', '.join(names)}")
            return list(names).index(str(asked))
        return next((i for i, name in enumerate(names) if name.lower() in MARKERS), None)

    def _missing(self, what: str, names: Sequence[str], option: str = "") -> MeterError:
        return MeterError(f"{self._path}: no column of {what} found among {', '.join(names)}; "
                          f"name it: {option or what}=COLUMN:UNIT")

    def _values(self, lines: Sequence[tuple[int, list[str]]], names: Sequence[str],
                columns: dict[str, tuple[int, float] | None], marker: int | None
                ) -> dict[str, np.ndarray]:
        wanted = {name: column for name, column in columns.items() if column is not None}
        if marker is not None:
            wanted["marker"] = (marker, 1.0)
        values: dict[str, np.ndarray] = {}
        for quantity, (index, factor) in wanted.items():
            column = [self._number(line, row, index, names[index], quantity, factor)
                      for line, row in lines]
            if quantity == "time" and factor == 0.0:
                if column[0] < EPOCH_S:
                    raise MeterError(f"{self._path}: column {names[index]!r} names no unit; say "
                                     f"it: time={names[index]}:UNIT with s or ms or us")
                factor = 1.0
            values[quantity] = np.array(column) * factor
        back = np.flatnonzero(np.diff(values["time"]) <= 0)
        if len(back):
            raise MeterError(f"{self._path}: line {lines[back[0] + 1][0]}: time does not increase "
                             f"({lines[back[0]][1][wanted['time'][0]]}, then "
                             f"{lines[back[0] + 1][1][wanted['time'][0]]})")
        return values

    def _number(self, line: int, row: Sequence[str], index: int, name: str, quantity: str,
                factor: float) -> float:
        text = row[index] if index < len(row) else ""
        if self._separator in ";\t":
            text = text.replace(",", ".")    # the decimal point of half of Europe
        try:
            value = float(text)
            if np.isfinite(value):
                return value
        except ValueError:
            if quantity == "time" and factor == 0.0:
                try:
                    return _date(text)
                except ValueError:
                    pass
            if quantity == "marker" and re.fullmatch("[01]{2,8}", text):
                return float(text[0])    # D0 first, as nRF Connect writes D0-D7
        raise MeterError(f"{self._path}: line {line}: {name} is {text!r}, not a number")

    def start(self) -> None:
        """Nothing: the instrument records by itself."""
        self._begun = False

    def read(self, timeout_s: float) -> Block | None:
        """The whole file, once."""
        if self._begun:
            time.sleep(timeout_s)
            return None
        self._begun = True
        return self._block

    def stop(self) -> None:
        """Nothing to end."""

    def close(self) -> None:
        """Forget the samples."""
        self._block = None

    def place(self, time_s: np.ndarray, edges: Sequence[tuple[float, int]],
              phases: Sequence[Phase]) -> Clock:
        """By the given beginning, the marker, or dates; without a run the end is now."""
        running = next((phase for phase in reversed(phases) if phase.name == RUNNING), None)
        ups = [at for at, level in edges if level]
        downs = [at for at, level in edges if not level]
        if running is not None and self.options["start"] is not None:
            return from_events([float(self.options["start"])], [running.start_s],
                               what="the given beginning")
        if running is not None and ups and downs:
            return from_events([ups[0], downs[-1]], [running.start_s, running.end_s],
                               slack_s=max(SLACK_S, 2 / self.rate_hz),
                               what=f"the marker in {self._path}")
        if self._absolute:
            return Clock(self._clock() - self._wall(), 1.0, 0.1, "dates in the file")
        if running is None:
            return Clock(self._clock() - float(time_s[-1]), 1.0, 0.0, "nothing: no run")
        raise MeterError(f"{self._path}: nothing tells when the run began: it has no marker that "
                         "rises and falls and no dates; name the column (marker=COLUMN), or the "
                         "time (start=SECONDS)")

    def describe(self) -> str:
        """File and columns."""
        return f"file {self._path.name} (columns {self._columns}); {self.accuracy.source}"


def _split(name: str) -> tuple[str, str]:
    """Name and unit of a column's heading, in small letters: ``Current (mA)``, ``current_mA``."""
    text = name.strip().lower()
    found = re.fullmatch(r"(.+?)\s*[(\[]\s*(\S*?)\s*[)\]]", text) or (
        re.fullmatch(r"([a-z ]+)[_ /](\w+)", text))
    if found and (found[2] in _UNITS or "(" in text or "[" in text):
        return found[1].strip(), found[2]
    return text, ""


_UNITS = {unit for quantity in QUANTITIES.values() for unit in quantity.units}


def _date(text: str) -> float:
    """Seconds since 1970 of a date and time in ISO form; without a zone it is local."""
    return dt.datetime.fromisoformat(text).timestamp()
