"""``report.json`` and ``report.md`` of a build: every number with how it was obtained."""

from collections.abc import Iterable, Mapping
from datetime import datetime, UTC
import json
import math
from pathlib import Path
from typing import Any, TYPE_CHECKING

from boards.spec import BoardSpec
from gen.flow.step import StepResult
from gen.flow.toolchain import Toolchain
from gen.pnr.ecp5 import crossing_limit
from hw.register import identity_text
from model.command import columns
from model.files import digest_of, write_atomic


if TYPE_CHECKING:
    from gen.flow.route import RouteResult


__all__ = ["SCHEMA", "STAGES", "TAGS", "check_report", "headline", "layer_lines", "make_report",
           "measured", "render", "report_digest", "write_report"]


SCHEMA = 2
"""Version of the keys; grows when a key changes its meaning or goes away."""

TAGS = ("board", "rtl-sim", "routed", "cost-model", "paper")
"""How a number was obtained, the most trustworthy first. ``routed`` is anything that came out of
the real tools (frequency, resources, and the seconds that they took)."""

STAGES = ("config", "rtl", "synth", "route", "bitstream")
"""How far a build went (``--until``)."""

REQUIRED = {
    "config": ("lanes", "cycles", "images_per_s"),
    "rtl": ("seconds.rtl",),
    "synth": ("seconds.synth",),
    "route": ("fmax_mhz", "comb", "ff", "ebr", "dsp", "seconds.route"),
    "bitstream": ("seconds.pack",),
}
"""Measured keys that each stage adds."""

META: dict[str, Any] = {
    "schema": int, "board": str, "part": str, "model": str, "weights": str, "until": str,
    "created": str,
    "command": str, "seed": (int, type(None)), "skip_verify": bool, "core_clock_hz": int,
    "tools": dict, "digests": dict, "config": dict, "clocks": list, "seeds": list,
    "resources": list, "layers": list, "peak_mb": dict,
}
"""Keys that are not measured values, with their types. All are always present."""

LATER: dict[str, Any] = {"crossings": list, "identity": str, "commit": str,
                         "digest": str, "outputs": list}
"""Such keys that reports of earlier versions do not have."""

TITLES = {"comb": "LUTs (TRELLIS_COMB)", "ff": "flip-flops", "ebr": "block RAMs (DP16KD)",
          "dsp": "multipliers (MULT18X18D)"}


def measured(value: float, tag: str) -> dict:
    """One number and how it was obtained."""
    if tag not in TAGS:
        raise ValueError(f"Tag must be one of {', '.join(TAGS)}, not {tag!r}")
    return {"value": value, "tag": tag}


def make_report(*, board: BoardSpec, model: str, until: str, command: str, core_clock_hz: int,
                lanes: int, cycles: Mapping, digests: Mapping[str, str | None],
                skip_verify: bool, commit: str = "unknown", weights: str = "",
                config: Mapping | None = None,
                layers: Iterable[Mapping] = (), outputs: Iterable[Mapping] = (),
                toolchain: Toolchain | None = None,
                rtl: StepResult | None = None, synth: StepResult | None = None,
                routed: "RouteResult | None" = None, packed: StepResult | None = None,
                extra: Mapping[str, Mapping] | None = None) -> dict:
    """Put a report together.

    Parameters
    ----------
    until : str
        The last stage that ran, one of ``STAGES``.
    command : str
        The command line, to be run again.
    cycles : mapping
        Cycles per image, ``measured(n, "cost-model" | "rtl-sim" | "board")``.
    digests : mapping
        Whatever identifies the inputs and products: ``config``, ``network``, ``image``,
        ``verify`` (of the passing verification, None without one), ``bitstream``.
    skip_verify : bool
        The design was built without a passing verification; stamped on both files.
    commit : str
        Of the code (:func:`model.code.commit`).
    weights : str
        What the weights are if they were not trained; stamped as well.
    layers : iterable of mapping
        Per-layer table: rows with ``name`` (str), other strings, and measured values.
    outputs : iterable of mapping
        Rows of :func:`gen.flow.layers.output_rows`, of a network that does not only classify.
    extra : mapping
        More measured values, by key.
    """
    report: dict[str, Any] = {
        "schema": SCHEMA, "board": board.name, "part": board.part, "model": model,
        "weights": weights, "until": until,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command, "commit": commit, "core_clock_hz": core_clock_hz,
        "skip_verify": skip_verify,
        "seed": routed.seed if routed else None,
        "tools": toolchain.versions() if toolchain else {},
        "digests": dict(digests), "config": dict(config or {}),
        "clocks": [], "seeds": routed.seeds if routed else [], "resources": [],
        "layers": [dict(layer) for layer in layers], "peak_mb": {},
        "lanes": measured(lanes, "routed" if routed else "cost-model"),
        "cycles": dict(cycles),
        "images_per_s": measured(round(core_clock_hz / cycles["value"], 3), cycles["tag"]),
    }
    if rows := [dict(row) for row in outputs]:
        report["outputs"] = rows
    if rtl is not None:
        report["identity"] = identity_text(rtl.data["identity"])
    for name, step in (("rtl", rtl), ("synth", synth), ("route", routed), ("pack", packed)):
        if step is not None:
            report[f"seconds.{name}"] = measured(round(step.seconds, 2), "routed")
            report["peak_mb"][name] = round(step.data["peak_mb"])
    if routed:
        report["fmax_mhz"] = measured(routed.fmax_mhz(core_clock_hz), "routed")
        report["clocks"] = [{"name": name, **clock} for name, clock in routed.clocks.items()]
        report["crossings"] = routed.crossings
        for name, used in routed.used.items():
            report[name] = measured(used, "routed")
            available = getattr(board, name)
            report["resources"].append({"name": name, "used": used, "available": available,
                                        "share": round(used / available, 4)})
    for name, value in (extra or {}).items():
        report[name] = dict(value)
    return report


def _check_measured(value: object, where: str) -> None:
    if not isinstance(value, Mapping) or set(value) != {"value", "tag"}:
        raise ValueError(f'Report key {where!r} must be {{"value", "tag"}}, not {value!r}')
    if value["tag"] not in TAGS:
        raise ValueError(f"Report key {where!r} must have a tag of {', '.join(TAGS)}, "
                         f"not {value['tag']!r}")
    number = value["value"]
    if isinstance(number, bool) or not isinstance(number, int | float) \
            or not math.isfinite(number):
        raise ValueError(f"Report key {where!r} must have a finite number, not {number!r}")


def check_report(report: Mapping) -> None:
    """Raise :class:`ValueError` naming the first key that breaks the schema."""
    for key, kind in META.items():
        if key not in report:
            raise ValueError(f"Report key {key!r} is missing")
        if not isinstance(report[key], kind):
            raise ValueError(f"Report key {key!r} has the wrong type: {report[key]!r}")
    if report["schema"] != SCHEMA:
        raise ValueError(f"Report schema must be {SCHEMA}, not {report['schema']!r}")
    if report["until"] not in STAGES:
        raise ValueError(f"Report key 'until' must be one of {', '.join(STAGES)}, "
                         f"not {report['until']!r}")
    for stage in STAGES[:STAGES.index(report["until"]) + 1]:
        for key in REQUIRED[stage]:
            if key not in report:
                raise ValueError(f"Report key {key!r} is missing after stage {stage!r}")
    for key, kind in LATER.items():
        if key in report and not isinstance(report[key], kind):
            raise ValueError(f"Report key {key!r} has the wrong type: {report[key]!r}")
    for key, value in report.items():
        if key not in META | LATER:
            _check_measured(value, key)
    for index, layer in enumerate(report["layers"]):
        if not isinstance(layer.get("name"), str):
            raise ValueError(f"Report key 'layers' row {index} has no name")
        for key, value in layer.items():
            if not isinstance(value, str):
                _check_measured(value, f"layers.{layer['name']}.{key}")
    if STAGES.index(report["until"]) >= STAGES.index("synth"):
        if not report["tools"]:
            raise ValueError("Report key 'tools' is empty after stage 'synth'")
        if not report["skip_verify"] and not report["digests"].get("verify"):
            raise ValueError("Report key 'digests' has no 'verify' and 'skip_verify' is not set")


def _number(value: float) -> str:
    if value != int(value):
        return f"{value:,.2f}" if abs(value) >= 0.1 else f"{value:.3g}"
    return f"{int(value):,}"


def _table(header: list[str], rows: Iterable[Iterable[str]]) -> list[str]:
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows] + [""]


def _layer_cells(layers: list[Mapping]) -> tuple[list[str], list[list[str]]]:
    """Header (each column with how it was obtained) and rows of the per-layer table, as text."""
    columns = list(dict.fromkeys(key for layer in layers for key in layer))
    tags = {column: sorted({layer[column]["tag"] for layer in layers
                            if isinstance(layer.get(column), Mapping)}) for column in columns}
    header = [column + (f" ({', '.join(tags[column])})" if tags[column] else "")
              for column in columns]
    return header, [[_number(cell["value"]) if isinstance(cell, Mapping) else cell
                     for cell in (layer.get(column, "") for column in columns)]
                    for layer in layers]


def layer_lines(report: Mapping) -> list[str]:
    """The per-layer table for a terminal; every column is as in the Markdown file."""
    if not report["layers"]:
        return []
    _, rows = _layer_cells(report["layers"])
    header = list(dict.fromkeys(key for layer in report["layers"] for key in layer))
    first = [next((layer[key] for layer in report["layers"] if key in layer), "") for key in header]
    return columns([header, *rows], left=[k for k, cell in enumerate(first)
                                          if isinstance(cell, str)])


def headline(report: Mapping) -> str:
    """The report in one line."""
    parts = [f"{report['model']} on {report['board']}"]
    for key, unit in (("fmax_mhz", "MHz"), ("comb", "LUTs"), ("ebr", "block RAMs"),
                      ("dsp", "multipliers"), ("cycles", "cycles"),
                      ("images_per_s", "images/s")):
        if key in report:
            parts.append(f"{_number(report[key]['value'])} {unit} ({report[key]['tag']})")
    return (", ".join(parts) + (", NOT VERIFIED" if report["skip_verify"] else "")
            + (f" ({report['weights']})" if report["weights"] else ""))


def render(report: Mapping) -> str:
    """The report for people, in Markdown."""
    target = report["core_clock_hz"] / 1e6
    lines = [f"# {report['model']} on {report['board']} ({report['part']})", ""]
    if report["weights"]:
        lines += [f"**Weights: {report['weights']}.**", ""]
    if report["skip_verify"]:
        how = (": built with `--skip-verify`" if STAGES.index(report["until"]) >= 2
               else " yet")
        lines += [f"**NOT VERIFIED{how}; this hardware was never compared with the golden "
                  "model.**", ""]
    lines += [f"Built {report['created']} up to `{report['until']}`, core clock {target:g} MHz"
              + (f", seed {report['seed']}" if report["seed"] is not None else "") + ":",
              "", f"    {report['command']}", ""]
    if "commit" in report:
        lines += [f"Commit `{report['commit']}`"
                  + (f"; the bitstream's identity is `{report['identity']}`"
                     if "identity" in report else "") + ".", ""]
    lines += ["## Figures", "", "Each with how it was obtained.", ""]
    lines += _table(["figure", "value", "how"], [
        [key, _number(value["value"]), value["tag"]]
        for key, value in report.items()
        if key not in META | LATER and not key.startswith("seconds.")])
    if report.get("outputs"):
        lines += ["## Outputs", ""]
        lines += _table(["output", "shape", "what is read out", "bytes an image"], [
            [row["name"], " x ".join(map(str, row["shape"])), row["reads"],
             _number(row["bytes"])] for row in report["outputs"]])
    if report["clocks"]:
        lines += ["## Clocks", ""]
        lines += _table(["clock", "reached, MHz", "required, MHz"], [
            [clock["name"], _number(clock["achieved"]), _number(clock["constraint"])]
            for clock in report["clocks"]])
    if report.get("crossings"):
        lines += ["Longest paths between clocks:", ""]
        lines += _table(["from", "to", "ns", "at most, ns"], [
            [crossing["from"], crossing["to"], _number(crossing["ns"]),
             _number(crossing_limit(crossing["from"]))]
            for crossing in report["crossings"]])
    if report["resources"]:
        lines += ["## Resources", ""]
        lines += _table(["resource", "used", "available", "share"], [
            [TITLES.get(row["name"], row["name"]), _number(row["used"]),
             _number(row["available"]), f"{100 * row['share']:.1f} %"]
            for row in report["resources"]])
    if len(report["seeds"]) > 1 or any("parts" in seed for seed in report["seeds"]):
        lines += ["## Seeds", ""]
        lines += _table(["seed", "slowest clock against its requirement", "seconds", "of these"], [
            [str(seed["seed"]), f"{100 * seed['margin']:.1f} %", _number(seed["seconds"]),
             ", ".join(f"{part} {_number(seconds)}"
                       for part, seconds in seed.get("parts", {}).items())]
            for seed in report["seeds"]])
    if report["layers"]:
        lines += ["## Layers", ""]
        lines += _table(*_layer_cells(report["layers"]))
    seconds = {key.removeprefix("seconds."): value["value"] for key, value in report.items()
               if key.startswith("seconds.")}
    if seconds:
        lines += ["## Build", ""]
        lines += _table(["step", "seconds", "peak memory, MB"], [
            [name, _number(value), _number(report["peak_mb"][name])
             if name in report["peak_mb"] else ""] for name, value in seconds.items()])
    if report["tools"]:
        lines += _table(["tool", "version", "origin"], [
            [name, tool["version"], tool["origin"]] for name, tool in report["tools"].items()])
    digests = {name: digest for name, digest in report["digests"].items() if digest}
    if digests:
        lines += _table(["digest of", "SHA-256"],
                        [[name, f"`{digest}`"] for name, digest in digests.items()])
    return "\n".join(lines).rstrip() + "\n"


def report_digest(report: Mapping) -> str:
    """SHA-256 of all of a report but its key ``digest``, which says whether it was changed since it
    was written."""
    return digest_of({key: value for key, value in report.items() if key != "digest"})


def write_report(report: Mapping, folder: Path) -> tuple[Path, Path]:
    """Check a report and write ``report.json`` (with its digest) and ``report.md``; returns their
    paths."""
    check_report(report)
    report = {**report, "digest": report_digest(report)}
    folder = Path(folder)
    paths = folder / "report.json", folder / "report.md"
    write_atomic(paths[0], json.dumps(report, indent=1) + "\n")
    write_atomic(paths[1], render(report))
    return paths
