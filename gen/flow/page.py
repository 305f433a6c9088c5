"""``report.html``: a report as one page that needs no network, from ``report.json`` and
``layout.json``.

What the page shows is computed here; templates/report.html says how it looks. Every figure keeps
its tag, and what has no data is left out with the command that makes it.
"""

from collections.abc import Iterable, Mapping, Sequence
import json
from pathlib import Path
from typing import Any, NamedTuple

from gen.flow.power_estimate import estimate_power, PowerEstimate
from gen.flow.report import check_report, LATER, META, STAGES, TITLES
from gen.flow.roofline import draw, planes_of, Point
from gen.pnr.ecp5 import crossing_limit
from model.error import InputError
from model.files import write_atomic


__all__ = ["page_environment", "read_json", "read_report", "render_page", "write_page"]


PALETTE = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#edc948", "#b07aa1", "#ff9da7",
           "#9c755f", "#86bcb6", "#d37295", "#a0cbe8", "#8cd17d", "#ffbe7d", "#b6992d", "#499894")
"""Colours of blocks; the same block has the same colour in every picture of a page."""

SMALL = 0.004
"""Blocks with a smaller share of the cells are drawn together, as "other"."""

TAG_TEXT = {
    "board": "measured on a board",
    "rtl-sim": "counted in a cycle-accurate simulation of the RTL",
    "routed": "printed by yosys, nextpnr or ecppack for this design",
    "cost-model": "computed from the program by the project's cost model",
    "paper": "taken from a publication",
}

WEIGHT = {"comb": 1.0, "ff": 0.25, "ebr": 40.0, "dsp": 60.0, "other": 0.0}
"""Area of a cell in the treemap, in LUTs: a slice has two LUTs and two flip-flops, a block RAM
takes the place of about 40 LUTs and a multiplier of 60 in the columns of the chip."""


class Box(NamedTuple):
    """A rectangle of a picture, with what stands in it."""

    x: float
    y: float
    width: float
    height: float
    name: str
    value: float


def read_report(folder: Path) -> tuple[dict, dict | None]:
    """(report, layout or None) of a build folder, or of a ``report.json``.

    Raises :class:`InputError` naming the file and what is wrong with it.
    """
    path = Path(folder)
    if path.is_dir():
        path = path / "report.json"
    report = read_json(path, "run gen.build first")
    try:
        check_report(report)
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: {error}; build again") from None
    place = path.with_name("layout.json")
    return report, read_json(place, "build again") if place.is_file() else None


def read_json(path: Path, remedy: str) -> dict:
    """A JSON object from a file; InputError with the remedy where there is none."""
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; {remedy}") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path}: not JSON, or not whole; {remedy}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: must hold an object, not {type(content).__name__}; {remedy}")
    return content


def _value(row: Mapping, *keys: str) -> float:
    """The first of ``keys`` that a row has, as a number; 0 without any."""
    return next((row[key]["value"] for key in keys if isinstance(row.get(key), Mapping)), 0)


def _layer_bars(report: Mapping) -> list[dict]:
    """Layers by their share of the cycles, the largest first; the last row sums up small ones."""
    rows = [{"name": layer["name"], "wall": layer.get("wall", ""),
             "cycles": _value(layer, "cycles in RTL", "cycles"),
             "tag": "rtl-sim" if "cycles in RTL" in layer else "cost-model"}
            for layer in report["layers"]]
    total = sum(row["cycles"] for row in rows) or 1
    for row in rows:
        row["share"] = row["cycles"] / total
    rows.sort(key=lambda row: -row["cycles"])
    shown, rest = rows[:30], rows[30:]
    if rest:
        shown.append({"name": f"{len(rest)} more", "wall": "", "tag": rest[0]["tag"],
                      "cycles": sum(row["cycles"] for row in rest),
                      "share": sum(row["share"] for row in rest)})
    return shown


def _lane_use(report: Mapping) -> list[dict]:
    """Cycles of the array by what its lanes do."""
    layers = report["layers"]
    if not layers or not any("full lanes" in layer for layer in layers):
        return []
    total = sum(_value(layer, "cycles in RTL", "cycles") for layer in layers)
    busy = min(total, sum(_value(layer, "array") for layer in layers))
    full = min(busy, sum(_value(layer, "full lanes") for layer in layers))
    parts = (("useful", full, "cycles that full lanes would take for every MAC and plane"),
             ("tables and lanes that are empty", busy - full,
              "table loads, tiles that do not fill the array"),
             ("other units' turn", total - busy,
              "the array waits for another unit, for memory or for the next descriptor"))
    return [{"name": name, "cycles": round(cycles), "share": cycles / total, "text": text}
            for name, cycles, text in parts]


def _roofline(report: Mapping) -> dict[str, Any] | None:
    """The roofline of a build; None without the work of its layers."""
    points = [Point(layer["name"], _value(layer, "MAC"),
                    sum(_value(layer, key) for key in ("weights B", "maps in B", "out B")),
                    _value(layer, "cycles in RTL", "cycles"), layer.get("wall", ""),
                    layer.get("group", ""))
              for layer in report["layers"]]
    rate = 8 * _value(report, "words_per_cycle")
    if not rate:
        return None
    return draw(points, lanes=report["lanes"]["value"], bytes_per_cycle=rate,
                clock_hz=report["core_clock_hz"], planes=planes_of(report["config"]),
                tag="rtl-sim" if any("cycles in RTL" in layer for layer in report["layers"])
                else "cost-model")


def _blocks(layout: Mapping) -> dict[str, dict[str, int]]:
    """Cells by kind of every block of a layout; small blocks together as "other"."""
    counts = {block: {kind: sum(places[2::3]) for kind, places in kinds.items()}
              for block, kinds in layout["blocks"].items()}
    total = sum(_area(kinds) for kinds in counts.values()) or 1
    result: dict[str, dict[str, int]] = {}
    for block, kinds in sorted(counts.items(), key=lambda item: -_area(item[1])):
        name = _drawn_as(block) if _area(kinds) >= SMALL * total else "other"
        into = result.setdefault(name, {})
        for kind, count in kinds.items():
            into[kind] = into.get(kind, 0) + count
    return dict(sorted(result.items(), key=lambda item: (item[0] == "other", -_area(item[1]))))


def _drawn_as(block: str) -> str:
    """The six queues of descriptors are drawn as one block."""
    return "queues" if block.endswith("_queue") else block


def _area(kinds: Mapping[str, int]) -> float:
    return sum(WEIGHT[kind] * count for kind, count in kinds.items())


def _treemap(items: Sequence[tuple[str, float]], x: float, y: float, width: float,
             height: float) -> list[Box]:
    """Rectangles with areas in proportion to values: halves of about equal sum, cut across the
    longer side."""
    items = [item for item in items if item[1] > 0]
    if not items:
        return []
    if len(items) == 1:
        return [Box(x, y, width, height, *items[0])]
    total, half, cut = sum(value for _, value in items), 0.0, 0
    while cut < len(items) - 1 and (cut == 0 or half + items[cut][1] / 2 <= total / 2):
        half += items[cut][1]
        cut += 1
    share = half / total
    if width >= height:
        return [*_treemap(items[:cut], x, y, width * share, height),
                *_treemap(items[cut:], x + width * share, y, width * (1 - share), height)]
    return [*_treemap(items[:cut], x, y, width, height * share),
            *_treemap(items[cut:], x, y + height * share, width, height * (1 - share))]


def _floorplan(layout: Mapping, names: Iterable[str]) -> list[dict]:
    """Tiles of the chip by block: where a block has most of a tile's cells."""
    known = set(names)
    tiles: dict[tuple[int, int], dict[str, float]] = {}
    for block, kinds in layout["blocks"].items():
        name = _drawn_as(block) if _drawn_as(block) in known else "other"
        for kind, places in kinds.items():
            for x, y, count in zip(places[::3], places[1::3], places[2::3], strict=True):
                tile = tiles.setdefault((x, y), {})
                weight = count * (1 + WEIGHT[kind])
                tile[name] = tile.get(name, 0) + weight
    drawn: dict[str, list[tuple[int, int]]] = {}
    for place, blocks in sorted(tiles.items()):
        drawn.setdefault(max(blocks, key=lambda name: blocks[name]), []).append(place)
    return [{"name": name, "tiles": places} for name, places in drawn.items()]


def _paths(layout: Mapping) -> list[dict]:
    """Slowest paths, each with the points to draw and a sentence for every step."""
    result = []
    for path in layout["paths"]:
        points: list[tuple[float, float]] = []
        lines, logic, wires = [], 0.0, 0.0
        for step in path["steps"]:
            point = step["x"] + 0.5, step["y"] + 0.5
            if not points or points[-1] != point:
                points.append(point)
            if step["type"] == "routing":
                wires += step["ns"]
                text = f"wire {step.get('net', '')}".strip()
            else:
                logic += step["ns"]
                text = {"clk-to-q": "leaves", "setup": "ends at"}.get(step["type"], "through")
                text += f" {step['port']} of {step['cell']}"
            lines.append({"ns": step["ns"], "text": text, "block": step["block"],
                          "x": step["x"], "y": step["y"]})
        blocks = list(dict.fromkeys(step["block"] for step in path["steps"]))
        result.append({**path, "points": points, "lines": lines, "logic": logic, "wires": wires,
                       "words": " to ".join(blocks)})
    return result


def _next_command(report: Mapping) -> str:
    board, model = report["board"], report["model"]
    if report["until"] == "bitstream":
        return f"qsdt run --board {board} --model {model} --program --port /dev/ttyUSB0"
    if report["skip_verify"]:
        return f"qsdt verify --board {board} --model {model}"
    return f"qsdt build --board {board} --model {model}"


def page_environment(package: str = "gen.flow") -> Any:
    """Jinja's environment for pages: templates of ``package``, and ours, with their style.css."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in dict.fromkeys([package, "gen.flow"])]),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = _number
    return environment


def render_page(report: Mapping, layout: Mapping | None = None,
                estimate: PowerEstimate | None = None) -> str:
    """The page of a checked report; ``layout`` is :mod:`gen.flow.floorplan`'s record, ``estimate``
    the power (by the report alone if not given)."""
    environment = page_environment()
    figures: dict[str, Any] = {key: value for key, value in report.items()
                               if key not in META | LATER and not key.startswith("seconds.")}
    blocks = _blocks(layout) if layout else {}
    colours = {name: PALETTE[k % len(PALETTE)] for k, name in enumerate(blocks)}
    colours["other"] = "#a8a8a8"
    tags = {value["tag"] for value in figures.values()}
    tags |= {cell["tag"] for layer in report["layers"] for cell in layer.values()
             if isinstance(cell, Mapping)}
    return environment.get_template("report.html").render(
        report=report, layout=layout, figures=figures, titles=TITLES, stages=STAGES,
        seconds={key.removeprefix("seconds."): value["value"] for key, value in report.items()
                 if key.startswith("seconds.")},
        bars=_layer_bars(report), lanes=_lane_use(report), roof=_roofline(report),
        blocks=blocks, colours=colours,
        treemap=_treemap([(name, _area(kinds)) for name, kinds in blocks.items()],
                         0, 0, 640, 300),
        floorplan=_floorplan(layout, blocks) if layout else [],
        paths=_paths(layout) if layout else [],
        tags={tag: text for tag, text in TAG_TEXT.items() if tag in tags},
        power=estimate or estimate_power(report),
        next_command=_next_command(report), crossing_limit=crossing_limit)


def _number(value: float) -> str:
    if value != int(value):
        return f"{value:,.2f}" if abs(value) >= 0.1 else f"{value:.3g}"
    return f"{int(value):,}"


def write_page(report: Mapping, folder: Path, layout: Mapping | None = None,
               estimate: PowerEstimate | None = None) -> Path:
    """Write ``report.html`` beside a report; returns its path."""
    path = Path(folder) / "report.html"
    write_atomic(path, render_page(report, layout, estimate))
    return path
