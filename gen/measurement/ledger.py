"""Figures of a ledger of claims: each is read from a committed record, by file and place in it.

A ledger is a YAML file (docs/results/claims.yaml) with the keys

``root``
    Folder that every path is relative to, from the ledger's own.
``figures``
    Name to where a number comes from: ``record`` (a JSON file, or the last line of a .jsonl) and
    ``at`` (keys, joined by dots; an item of a list by its ``name`` or number). What stands there is
    a number, a list of numbers with ``take`` (min, max, mean, median, sum, count), a tagged value,
    or an estimate with its range. Optional are ``scale`` (a factor), and ``tag`` and ``command``
    where the record does not say them. ``change: [new, old]`` in place of a record is new / old - 1
    of two figures. A figure with ``tag`` and ``command`` alone is stated without a record.
``agree``
    Rows of ``of`` (names; the first is what the others are compared with), ``within`` (per cent)
    and ``why``.
``texts``, ``complete``
    See :mod:`gen.measurement.claims`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
import json
import math
from pathlib import Path
import statistics
from typing import Any

from gen.flow.page import read_json
from model.error import InputError
from model.yaml_file import load, shown


__all__ = ["Claim", "Ledger", "TAGS"]


TAGS = ("board", "rtl-sim", "gate-sim", "routed", "cost-model", "estimate", "software", "paper")
"""How a number was obtained. ``software`` is a network's form that runs on a processor, or the
time that a command takes there."""

TAKE: dict[str, Callable[[list[float]], float]] = {
    "min": min, "max": max, "mean": statistics.fmean, "median": statistics.median, "sum": sum,
    "count": len}

KEYS = {"record", "at", "take", "scale", "tag", "command", "change"}


@dataclass(frozen=True)
class Claim:
    """A number that the project states.

    Parameters
    ----------
    name : str
    value : float or None
        None where no record has it.
    tag : str
    record : str
        Path from the root; empty without one.
    command : str
        Gives the record, or the number.
    low, high : float
        Range of an estimate; otherwise the value.
    """

    name: str
    value: float | None
    tag: str
    record: str
    command: str
    low: float = math.nan
    high: float = math.nan

    @property
    def source(self) -> str:
        """Where the number comes from, for messages."""
        return f"{self.name} of {self.record} ({self.tag})" if self.record else self.name


class Ledger:
    """A ledger and the records that it names.

    Parameters
    ----------
    path : path
        The YAML file.

    Raises
    ------
    InputError
        Naming the file, the figure and what is wrong.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        content = load(self.path)
        known = {"root", "figures", "agree", "texts", "complete"}
        for key in content:
            if key not in known:
                raise InputError(f"{path}: unknown key {shown(key)}; known are "
                                 f"{', '.join(sorted(known))}")
        self.root = (self.path.parent / str(content.get("root", "."))).resolve()
        self.agree = self._list(content, "agree")
        self.texts = self._mapping(content, "texts")
        self.complete = self._mapping(content, "complete")
        self._figures = self._mapping(content, "figures")
        self._records: dict[str, Any] = {}
        self.claims: dict[str, Claim] = {}
        for name in self._figures:
            self._claim(name, ())

    def _mapping(self, content: Mapping[str, Any], key: str) -> dict[str, Any]:
        value = content.get(key) or {}
        if not isinstance(value, dict):
            raise InputError(f"{self.path}: {key} must be a mapping, not {shown(value)}")
        return value

    def _list(self, content: Mapping[str, Any], key: str) -> list[Any]:
        value = content.get(key) or []
        if not isinstance(value, list):
            raise InputError(f"{self.path}: {key} must be a list, not {shown(value)}")
        return value

    def claim(self, name: str, where: str) -> Claim:
        """The figure of that name; `where` names the place that asks for it."""
        if name not in self.claims:
            raise InputError(f"{self.path}: {where} names the figure {shown(name)}, which is not "
                             "under figures")
        return self.claims[name]

    def parts(self, name: str) -> list[str]:
        """Figures that a figure is made of."""
        return [str(part) for part in self._figures[name].get("change", ())]

    def read(self, name: str) -> str:
        """A text of the project, by its path from the root."""
        try:
            return (self.root / name).read_text()
        except OSError as error:
            raise InputError(f"{self.path}: cannot read {name}: {error.strerror}") from None

    def differences(self) -> list[str]:
        """A sentence for each pair of figures that differs by more than the ledger allows."""
        found = []
        for row in self.agree:
            if not isinstance(row, dict) or not isinstance(row.get("of"), list) \
                    or len(row["of"]) < 2 or not isinstance(row.get("within"), int | float):
                raise InputError(f"{self.path}: agree must have rows of {{of: [two figures or "
                                 f"more], within: per cent}}, not {shown(row)}")
            first, *others = (self.claim(str(name), "agree") for name in row["of"])
            for other in others:
                text = _difference(first, other, float(row["within"]))
                if text:
                    found.append(text + (f": {row['why']}" if row.get("why") else ""))
        return found

    def _claim(self, name: str, asked: tuple[str, ...]) -> Claim:
        if name in self.claims:
            return self.claims[name]
        figure, where = self._figures[name], f"{self.path}: figure {name}"
        if not isinstance(figure, dict) or set(figure) - KEYS:
            raise InputError(f"{where} must be a mapping of {', '.join(sorted(KEYS))}, not "
                             f"{shown(figure)}")
        if "change" in figure:
            claim = self._change(name, figure, (*asked, name))
        elif "record" in figure:
            claim = self._recorded(name, figure, where)
        else:
            claim = Claim(name, None, str(figure.get("tag", "")), "",
                          str(figure.get("command", "")))
        if not set(claim.tag.split(" against ")) <= set(TAGS):
            raise InputError(f"{where}: tag must be one of {', '.join(TAGS)}, not "
                             f"{shown(claim.tag)}")
        if not claim.command:
            raise InputError(f"{where}: neither the record nor the ledger says which command "
                             "gives it")
        self.claims[name] = claim
        return claim

    def _change(self, name: str, figure: Mapping[str, Any], asked: tuple[str, ...]) -> Claim:
        of = figure["change"]
        if not isinstance(of, list) or len(of) != 2 \
                or any(part not in self._figures or part in asked for part in of):
            raise InputError(f"{self.path}: figure {name}: change must be [new, old] of two other "
                             f"figures, not {shown(of)}")
        new, old = (self._claim(part, asked) for part in of)
        if new.value is None or not old.value:
            raise InputError(f"{self.path}: figure {name}: change needs two figures with a record")
        tag = new.tag if new.tag == old.tag else f"{new.tag} against {old.tag}"
        record = " and ".join(dict.fromkeys((new.record, old.record)))
        command = " and ".join(dict.fromkeys((new.command, old.command)))
        return Claim(name, new.value / old.value - 1, tag, record, command)

    def _recorded(self, name: str, figure: Mapping[str, Any], where: str) -> Claim:
        record, at = str(figure["record"]), str(figure.get("at", ""))
        content = self._record(record)
        node = _find(content, at)
        if node is None:
            raise InputError(f"{where}: {record} has nothing at {shown(at)}")
        scale = figure.get("scale", 1)
        if isinstance(scale, bool) or not isinstance(scale, int | float):
            raise InputError(f"{where}: scale must be a number, not {shown(scale)}")
        tag = str(figure.get("tag", ""))
        low = high = math.nan
        if isinstance(node, dict):
            own = node.get("tag")
            if tag and own and own != tag:
                raise InputError(f"{where}: the record says {own}, the ledger {tag}")
            tag = str(own or tag)
            if {"low", "likely", "high"} <= set(node):
                low, high = scale * node["low"], scale * node["high"]
                node = node["likely"]
            else:
                node = node.get("value")
        if isinstance(node, list):
            take = figure.get("take")
            if take not in TAKE or not node:
                raise InputError(f"{where}: there is a list at {at}; take one of "
                                 f"{', '.join(TAKE)} of it, not {shown(take)}")
            node = TAKE[take](node)
        if isinstance(node, bool) or not isinstance(node, int | float) or not math.isfinite(node):
            raise InputError(f"{where}: {record} has no number at {shown(at)}")
        settings = content.get("settings")
        command = figure.get("command") or content.get("command") or (
            settings.get("command") if isinstance(settings, dict) else "")
        return Claim(name, scale * node, tag, record, str(command or ""), low, high)

    def _record(self, name: str) -> dict[str, Any]:
        if name not in self._records:
            path = self.root / name
            if path.suffix == ".jsonl":
                self._records[name] = _last_line(path, name)
            else:
                self._records[name] = read_json(path, f"named in {self.path}")
        return self._records[name]


def _last_line(path: Path, name: str) -> dict[str, Any]:
    try:
        lines = path.read_text().splitlines()
        content = json.loads(lines[-1])
    except (OSError, ValueError, IndexError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise InputError(f"{name}: the last line must hold an object")
    return content


def _find(node: Any, at: str) -> Any:
    """What stands at a place: keys may hold dots themselves, so the longest that fits is taken."""
    if not at:
        return node
    words = at.split(".")
    for count in range(len(words), 0, -1):
        key, rest = ".".join(words[:count]), ".".join(words[count:])
        below = None
        if isinstance(node, dict):
            below = node.get(key)
        elif isinstance(node, list):
            if key.isdigit() and int(key) < len(node):
                below = node[int(key)]
            else:
                below = next((item for item in node
                              if isinstance(item, dict) and item.get("name") == key), None)
        if below is not None:
            found = _find(below, rest)
            if found is not None:
                return found
    return None


def _difference(first: Claim, other: Claim, within: float) -> str:
    """How two figures differ by too much; empty if they do not."""
    if first.value is None or other.value is None:
        return (f"{first.name} and {other.name} cannot be compared: "
                f"{(other if other.value is None else first).name} has no record")
    for one, two in ((first, other), (other, first)):
        if two.tag == "estimate" and one.tag != "estimate":
            if two.low <= one.value <= two.high:    # type: ignore[operator]
                return ""
            return (f"{one.source} is {one.value:g}, outside of the range {two.low:g} to "
                    f"{two.high:g} of {two.source}")
    if abs(other.value - first.value) <= within / 100 * abs(first.value):
        return ""
    percent = 100 * (other.value / first.value - 1) if first.value else math.inf
    return (f"{other.source} is {other.value:g} and {first.source} is {first.value:g}: "
            f"{percent:+.3g} %, and {within:g} % are stated")
