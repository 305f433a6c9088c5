"""``layout.json``: where a routed design lies on its chip, small enough to be drawn in a report.

Format (version 1), a JSON object:

``schema``
    1; grows when a key changes its meaning.
``grid``
    ``[columns, rows]`` of the chip's tiles. Column 0 is at the left, row 0 at the top.
``blocks``
    ``{block: {kind: [x, y, n, x, y, n, ...]}}``: the tile at column x and row y holds n cells of
    this kind that belong to the block. Kinds are ``comb`` (LUTs), ``ff``, ``ebr`` (block RAMs),
    ``dsp`` (multipliers) and ``other`` (pins, PLLs, clock gates, write ports of LUT-RAM). A block
    is the first component of a cell's hierarchical name below the wrappers ``shell`` and
    ``core``, e.g. ``array`` or ``link``. What lies directly in a wrapper has its name; what lies
    beside the shell (pins, PLLs) is ``board``.
``paths``
    The slowest path of each clock, the one with the least margin first. Each has ``clock``,
    ``achieved`` and ``constraint`` (MHz), ``ns`` (its whole delay) and ``steps``.
    A step has ``type`` (``clk-to-q``, ``routing``, ``logic`` or ``setup``), ``ns``, ``cell``,
    ``block``, ``x``, ``y`` and ``port`` of the cell at which it ends, and ``net`` for ``routing``.
    The first step (``clk-to-q``) ends at the cell where the path starts.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
import re

from gen.pnr import ecp5


__all__ = ["SCHEMA", "WRAPPERS", "extract_layout"]


SCHEMA = 1

WRAPPERS = ("shell", "core")
"""Modules that hold the blocks: they are no blocks themselves."""

FEW_PINS = 16
"""A cell without a name of its own belongs to the block of its neighbours on nets of at most so
many pins: larger nets connect blocks."""

_PLACE = re.compile(r"X(\d+)/Y(\d+)/")


def extract_layout(placed: Mapping, report: Mapping, grid: tuple[int, int]) -> dict:
    """The record that the module's docstring describes.

    Parameters
    ----------
    placed : mapping
        What nextpnr-ecp5 writes with ``--write`` when it has placed or routed.
    report : mapping
        What it writes with ``--report``.
    grid : (int, int)
        Columns and rows of the chip.
    """
    module = max(placed["modules"].values(), key=lambda module: len(module["cells"]))
    cells = module["cells"]
    block_of = _blocks(cells)
    tiles: dict = defaultdict(lambda: defaultdict(Counter))
    for name, cell in cells.items():
        found = _PLACE.match(cell["attributes"].get("NEXTPNR_BEL", ""))
        if found:
            place = int(found[1]), int(found[2])
            tiles[block_of[name]][ecp5.RESOURCES.get(cell["type"], "other")][place] += 1
    blocks = {block: {kind: [number for place, count in sorted(places.items())
                             for number in (*place, count)]
                      for kind, places in sorted(kinds.items())}
              for block, kinds in sorted(tiles.items())}
    return {"schema": SCHEMA, "grid": list(grid), "blocks": blocks,
            "paths": _paths(report, block_of)}


def _named_block(name: str) -> str | None:
    """Block of a cell by its hierarchical name; None for a name that a tool has made up."""
    if name.startswith("$"):
        return None
    block = "board"
    for part in name.split(".")[:-1]:
        if part not in WRAPPERS:
            # Beside the shell, or a field of a signal (Amaranth joins their names like this).
            return block if block == "board" or "__" in part else part
        block = part
    return block


def _blocks(cells: Mapping) -> dict[str, str]:
    """Block of every cell; nameless ones take that of most of their neighbours."""
    block_of = {name: _named_block(name) for name in cells}
    pins = defaultdict(list)
    for name, cell in cells.items():
        for bits in cell["connections"].values():
            for bit in bits:
                if not isinstance(bit, str):
                    pins[bit].append(name)
    nameless = [name for name, block in block_of.items() if block is None]
    # Chains of nameless cells are named from their ends.
    while nameless:
        found = {}
        for name in nameless:
            votes = Counter(block_of[other] for bits in cells[name]["connections"].values()
                            for bit in bits if len(pins.get(bit, ())) <= FEW_PINS
                            for other in pins.get(bit, ()) if block_of[other] is not None)
            if votes:
                found[name] = min(votes, key=lambda block: (-votes[block], block))
        if not found:
            break
        block_of.update(found)
        nameless = [name for name in nameless if name not in found]
    return {name: block or "board" for name, block in block_of.items()}


def _paths(report: Mapping, block_of: Mapping[str, str]) -> list[dict]:
    """The slowest path within each clock, that with the least margin first."""
    paths = []
    for path in report.get("critical_paths", ()):
        clock = path["from"].removeprefix("posedge ").removeprefix("negedge ")
        if clock not in report["fmax"] or not path["to"].endswith(f" {clock}"):
            continue
        steps = []
        for step in path["path"]:
            end = step["to"]
            x, y = end["loc"]
            steps.append({"type": step["type"], "ns": round(step["delay"], 3),
                          "cell": end["cell"], "block": block_of.get(end["cell"], "board"),
                          "x": x, "y": y, "port": end["port"]}
                         | ({"net": step["net"]} if "net" in step else {}))
        frequency = report["fmax"][clock]
        paths.append({"clock": clock.removeprefix("$glbnet$"),
                      "achieved": round(frequency["achieved"], 2),
                      "constraint": round(frequency["constraint"], 2),
                      "ns": round(sum(step["ns"] for step in steps), 3), "steps": steps})
    return sorted(paths, key=lambda path: (path["achieved"] / path["constraint"], path["clock"]))
