"""Records that can be compared: a measurement (measure.json) or a build (report.json)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
import json
import math
from pathlib import Path
from typing import Any

from gen.flow.page import read_json
from gen.flow.report import check_report, LATER, META
from model.error import InputError


__all__ = ["Figure", "Record", "flat", "read_record"]


NAMES = {"cycles": "cycles_per_image", "predicted_cycles": "cycles_per_image predicted"}
"""Figures of a build that a measurement has by another name."""


@dataclass(frozen=True)
class Figure:
    """A number, how it was obtained, and half of its 95 % interval where one is known."""

    value: float
    tag: str
    error: float | None = None


@dataclass(frozen=True)
class Record:
    """A measurement or a build.

    Parameters
    ----------
    path : Path
        The file that was read.
    kind : str
        ``measurement`` or ``build``.
    model, board, commit, created : str
    network : str
        Digest of the integer network; empty where the record does not have it.
    stamps : tuple of str
        What must be known with every number of it.
    settings : dict
        What it was done with: configuration, clocks wanted, tools, meter; by name.
    figures : dict of str to Figure
        For the whole.
    layers : dict of str to Figure
        Cycles for an image of each layer, in the order of the program.
    """

    path: Path
    kind: str
    model: str
    board: str
    commit: str
    created: str
    network: str
    stamps: tuple[str, ...]
    settings: dict[str, str]
    figures: dict[str, Figure]
    layers: dict[str, Figure] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        what = (f"{self.kind} of {self.model} on {self.board}"
                if self.kind == "build" else f"{self.model} measured on {self.board}")
        return f"{what}, {self.created[:10]}, commit {self.commit[:12]}"


def flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(dotted name, text) of every value inside a mapping."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


def read_record(place: Path) -> Record:
    """A measurement or build: its folder, its measure.json or its report.json.

    Raises
    ------
    InputError
        Naming the file and what is wrong with it.
    """
    path = Path(place)
    if path.is_dir():
        found = [path / name for name in ("measure.json", "report.json")
                 if (path / name).is_file()]
        if not found:
            raise InputError(f"{path}: holds neither measure.json nor report.json; name a folder "
                             "of qsdt measure or of qsdt build")
        if len(found) > 1:
            raise InputError(f"{path}: holds a measurement and a build; name measure.json or "
                             "report.json in it")
        path = found[0]
    content = read_json(path, "name a folder of qsdt measure or of qsdt build")
    if "figures" in content and "checks" in content:
        return _of_measurement(path, content)
    if "until" in content:
        return _of_build(path, content)
    if content.get("tag") == "estimate":
        raise InputError(f"{path}: is an estimate and has no place beside measurements; name a "
                         "measurement (measure.json) or a build (report.json)")
    raise InputError(f"{path}: is neither a measurement (measure.json) nor a build (report.json)")


def _figure(path: Path, name: str, value: Any) -> Figure:
    """A checked figure of a tagged value."""
    number = value.get("value") if isinstance(value, Mapping) else None
    if isinstance(number, bool) or not isinstance(number, int | float) \
            or not math.isfinite(number) or not isinstance(value.get("tag"), str):
        raise InputError(f'{path}: {name} must be {{"value", "tag"}} with a finite number; '
                         "measure or build again")
    return Figure(number, value["tag"])


def _of_build(path: Path, content: dict[str, Any]) -> Record:
    try:
        check_report(content)
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: {error}; build again") from None
    figures = {NAMES.get(key, key): _figure(path, key, value) for key, value in content.items()
               if key not in META | LATER}
    for clock in content["clocks"]:
        figures[f"MHz of {clock['name']}"] = Figure(clock["achieved"], "routed")
    layers = {}
    for row in content["layers"]:
        cycles = row.get("cycles in RTL", row.get("cycles"))
        if cycles is not None:
            layers[row["name"]] = _figure(path, f"layer {row['name']}", cycles)
    stamps = [f"{path}: {content['weights']}"] if content["weights"] else []
    if content["skip_verify"]:
        stamps.append(f"{path}: not verified, it was never compared with the integer model")
    settings = dict(flat({
        "board": content["board"], "part": content["part"], "built up to": content["until"],
        "seed": content["seed"], "clock_hz": content["core_clock_hz"],
        "tool": {name: f"{tool['version']} ({tool['origin']})"
                 for name, tool in content["tools"].items()}, **content["config"]}))
    return Record(path, "build", content["model"], content["board"],
                  content.get("commit", "unknown"), content["created"],
                  content["digests"].get("network") or "", tuple(stamps), settings, figures,
                  layers)


def _of_measurement(path: Path, content: dict[str, Any]) -> Record:
    try:
        figures = {name: _figure(path, name, value)
                   for name, value in content["figures"].items()}
        if content["accuracy"] is not None:
            figures["accuracy"] = _figure(path, "accuracy", content["accuracy"])
        for row in content["units"]:
            figures |= {f"{row['name']}: {key}": _figure(path, f"{row['name']}: {key}", value)
                        for key, value in row.items() if key != "name"}
        energy = content["energy"]
        if energy is not None:
            for name, phase in energy["phases"].items():
                figures[f"watts {name}"] = Figure(phase["watts"], energy["tag"],
                                                  phase["error_watts"])
            for name in ("joules_per_image", "joules_per_image_above_idle"):
                if energy[name] is not None:
                    figures[name] = Figure(energy[name], energy["tag"], energy[f"error_{name}"])
        layers = {row["name"]: _figure(path, f"layer {row['name']}", row["cycles"])
                  for row in content["layers"]}
        settings = dict(flat({"board": content["board"], "device": content["device"],
                              **({"instrument": energy["meter"]} if energy else {}),
                              **content["config"]}))
        return Record(path, "measurement", content["model"], content["device"],
                      content["commit"], content["created"], content.get("network", ""),
                      tuple(f"{path}: {stamp}" for stamp in content["stamps"]), settings, figures,
                      layers)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not whole ({error}); measure again") from None
