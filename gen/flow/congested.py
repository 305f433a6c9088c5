"""Place and route a design that takes most of a chip's wires.

nextpnr alone does not route one. Four parts, by their names in the report:

- ``block RAMs``: they get their sites (:mod:`gen.pnr.block_rams`);
- ``global placement``: nextpnr's, for wire length alone;
- ``detailed placement``: for wire length, congestion and clocks (:mod:`gen.pnr.place`);
- ``routing``: nextpnr's router2, asked for clocks a little faster than wanted.

nextpnr runs twice, with the netlist in a file between (:mod:`gen.pnr.handover`).
"""

from collections.abc import Callable, Mapping, Sequence
import json
from pathlib import Path
import re

from boards.spec import BoardSpec
from gen.flow.clocks import clock_margin, derived_clocks, port_clocks, read_clocks
from gen.pnr import block_rams, ecp5
from gen.pnr.handover import give_ports, prepare
from gen.pnr.place import place_detailed, Placement


__all__ = ["EFFORTS", "MARGIN", "PASSES", "ROUTER_SETTINGS", "Hopeless", "Watch",
           "place_congested", "route_congested"]


ROUTER_SETTINGS = {"router": "router2", "router2/currCongWeightMult": "2.0",
                   "router2/histCongWeight": "0.4", "router2/bbMargin/x": "10",
                   "router2/bbMargin/y": "10"}
"""Settings of nextpnr, mostly without an option; the netlist's ``settings``. router2 negotiates for
wires; router1, the default, gives a faster clock where there is room, and does not end where there
is little. Nets may leave their bounding box by 10 tiles instead of 3. What an overused wire costs
grows as it does without a setting; what it has cost before grows by less, or nets go far out of
each other's way and take more wire than there is (docs/decisions/0007)."""

WIRE_ONLY = ("--no-tmdriv", "--no-route")
"""Global placement does not look at clocks: detailed placement reaches them with less wire."""

EFFORTS = (1.06, 1.04, 1.02, 1.0, 0.96, 0.9)
"""Factors of the wanted clocks that the router may be asked for. It starts with 1.02, because the
clocks that nextpnr reports when it has finished are slower than those with which its router stops.
A larger factor follows where that was not enough for :data:`MARGIN`, a smaller one where the router
did not end. The smallest only tell how far the design is from what is wanted."""

MARGIN = 1.02
"""Share of every wanted clock at which no further factor is tried."""

PASSES = 150
"""Passes of router2 after which a connection that is too slow stays so: what it costs to be in the
way of others grows with each."""

MANY, PATIENCE_MANY, PATIENCE_FEW = 100, 15, 200
"""Overused wires that are many, and passes without fewer than ever before after which the router
will not make it: while they are many, and else. The last ones may take a hundred passes of a
second; a pass with thousands takes half a minute."""


def place_congested(board: BoardSpec, netlist: dict, folder: Path, nextpnr: Callable[..., None],
                    log_path: Path, seed: int, on_progress: Callable[[str], None],
                    lap: Callable[[str], None]) -> tuple[Placement, dict[str, float]]:
    """Place a netlist: ``placed.json``. Returns figures of the placement, and the clocks' MHz.

    Parameters
    ----------
    netlist : dict
        yosys' JSON; gets the settings of the router and the sites of the block RAMs.
    folder : Path
        Where nextpnr runs; it has ``top.lpf``.
    nextpnr : callable
        ``nextpnr(*arguments)`` runs its placer, with its output in ``log_path``.
    seed : int
        Also of the block RAMs' sites and of the detailed placement.
    lap : callable
        Called with the name of every part that is done.
    """
    on_progress("sites of the block RAMs")
    netlist["modules"]["top"]["settings"] = ROUTER_SETTINGS
    block_rams.place_block_rams(netlist, ecp5.BLOCK_RAM_SITES[board.device_option], seed=seed)
    (folder / "sited.json").write_text(json.dumps(netlist))
    lap("block RAMs")
    nextpnr("--json", "sited.json", *WIRE_ONLY, "--write", "placed.json")
    lap("global placement")
    placed = json.loads((folder / "placed.json").read_text())
    clocks = derived_clocks(log_path.read_text()) | port_clocks(
        (folder / "top.lpf").read_text(), placed)
    placement = place_detailed(placed, clocks, seed=seed, on_progress=on_progress)
    prepare(placed["modules"]["top"])
    (folder / "placed.json").write_text(json.dumps(placed))
    lap("detailed placement")
    return placement, clocks


class Hopeless(Exception):
    """The router will not make it."""


class Watch:
    """Reads the lines of a router's run; raises :class:`Hopeless`."""

    def __init__(self) -> None:
        self._fewest, self._since = 1 << 30, 0

    def __call__(self, line: str) -> None:
        found = re.search(r"iter=(\d+) .*overused=(\d+) .*tmgfail=(\d+)", line)
        if not found:
            return
        passes, overused, late = (int(text) for text in found.groups())
        if overused < self._fewest:
            self._fewest, self._since = overused, passes
        patience = PATIENCE_MANY if self._fewest > MANY else PATIENCE_FEW
        if passes - self._since > patience or (passes > PASSES and late):
            raise Hopeless


def route_congested(folder: Path, name: str, nextpnr: Callable[..., None],
                    clocks: Mapping[str, float], products: Sequence[str]) -> float:
    """Route ``placed.json`` so that connections that are too slow are ripped up again.

    Where that does not end with any factor, the design is routed without ripping up, to tell how
    fast it is.

    Parameters
    ----------
    name : str
        Of the report, ``<name>.json``: it gets the clocks that are wanted as constraints.
    clocks : mapping
        MHz wanted of each net.
    products : sequence of str
        Files that nextpnr writes: those of the best try stay.

    Returns
    -------
    float
        The factor of the clocks (one of ``EFFORTS``) that the router was asked for.
    """

    placed = json.loads((folder / "placed.json").read_text())["modules"]["top"]

    def route(effort: float, *arguments: str, **options: object) -> float:
        (folder / "route.lpf").write_text((folder / "top.lpf").read_text() + "".join(
            f'\nFREQUENCY NET "{net}" {mhz * effort:g} MHZ;' for net, mhz in clocks.items())
            + "\n")
        nextpnr("--json", "placed.json", "--lpf", "route.lpf", *arguments, **options)
        report = json.loads((folder / f"{name}.json").read_text())
        for clock in report["fmax"].keys() & clocks.keys():
            report["fmax"][clock]["constraint"] = clocks[clock]
        (folder / f"{name}.json").write_text(json.dumps(report, indent=2))
        routed = json.loads((folder / "routed.json").read_text())
        give_ports(placed, routed["modules"]["top"])
        (folder / "routed.json").write_text(json.dumps(routed))
        return clock_margin(read_clocks(report))

    def kept(product: str) -> Path:
        return folder / f"{product}.best"

    best = None
    index, tried = EFFORTS.index(1.02), set()
    while index in range(len(EFFORTS)) and index not in tried:
        tried.add(index)
        try:
            margin = route(EFFORTS[index], "--tmg-ripup", watch=Watch())
        except Hopeless:
            index += 1
            continue
        if best is None or margin > best[0]:
            best = margin, EFFORTS[index]
            for product in products:
                (folder / product).replace(kept(product))
        if margin >= MARGIN:
            break
        index -= 1
    if best is None:
        route(1.0)
        return 1.0
    for product in products:
        kept(product).replace(folder / product)
    return best[1]
