"""Where the cells of a placed netlist are, and which places are legal (ECP5).

Two flip-flops of a slice share enable and options, those of a tile clock and reset, as nextpnr
demands. What belongs together keeps its distances: carry chains, RAMs and large multiplexers move
by whole tiles, a multiplexer of two LUTs by slices, a LUT with the flip-flop that it feeds. What
else there is (block RAMs, multipliers, pins) stays where it is.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from numba import njit
import numpy as np

from gen.pnr.ecp5 import FLIP_FLOP, INSIDE_PORTS, LCS, LUT, parse_bel, ROWS, SLOTS
from gen.pnr.graph import net_of


__all__ = ["FIXED", "GROUP", "SINGLE", "Layout", "control_sets", "is_legal",
           "read_layout"]


FIXED, SINGLE, GROUP = range(3)
"""Kinds of units: one that stays, one cell, several cells."""


class Layout(NamedTuple):
    """Where cells are, and what may not be torn apart. ``-1`` is nowhere, or nobody."""

    x: np.ndarray           # of every cell: column
    y: np.ndarray           # row
    slot: np.ndarray        # -1: not a LUT, flip-flop or RAM write port
    unit: np.ndarray        # of what it moves with
    control: np.ndarray     # flip-flops of a slice have the same
    shared: np.ndarray      # flip-flops of a tile have the same
    uses_m: np.ndarray      # a LUT and a flip-flop of one logic cell cannot both
    occupant: np.ndarray    # of every slot: cell
    exists: np.ndarray      # of every logic cell
    kind: np.ndarray        # of every unit: FIXED, SINGLE, GROUP
    step: np.ndarray        # logic cells that it moves by: 1, 2 (slices), 8 (tiles)
    first: np.ndarray       # where its cells start in
    members: np.ndarray


def read_layout(cells: Sequence[Mapping], driver: Mapping, sinks: Mapping) -> Layout:
    """Places of a placed netlist's cells.

    ``driver`` and ``sinks`` are those of :func:`gen.pnr.graph.drivers_and_sinks`.
    """
    count = len(cells)
    x, y = np.zeros(count, np.int64), np.zeros(count, np.int64)
    slot = np.full(count, -1)
    fixed, tiles = set(), set()
    for number, cell in enumerate(cells):
        place = parse_bel(cell["attributes"].get("NEXTPNR_BEL", ""))
        if place is None:
            fixed.add(number)
            continue
        x[number], y[number], slot[number] = place
        if slot[number] < 0:
            fixed.add(number)
            continue
        tiles.add(slot[number] // (SLOTS * LCS))
        # 3 and less is what a placer chose, not the user.
        if int(cell["attributes"].get("BEL_STRENGTH", "1"), 2) > 3:
            fixed.add(number)
    exists = np.zeros((max(tiles) + ROWS) * LCS, bool)
    for tile in tiles:
        exists[tile * LCS:(tile + 1) * LCS] = True
    occupant = np.full(exists.size * SLOTS, -1)
    occupant[slot[slot >= 0]] = np.flatnonzero(slot >= 0)

    control, shared = np.zeros(count, np.int64), np.zeros(count, np.int64)
    uses_m = np.zeros(count, bool)
    controls: dict = {}
    clocks: dict = {}
    for number, cell in enumerate(cells):
        uses_m[number] = net_of(cell, "M") is not None
        if cell["type"] == "TRELLIS_FF":
            of_slice, of_tile = control_sets(cell)
            control[number] = controls.setdefault(of_slice, len(controls))
            shared[number] = clocks.setdefault(of_tile, len(clocks))

    group = _groups(cells, driver, sinks, slot, occupant)
    held = {group[number] for number in fixed}
    units = defaultdict(list)
    for number in range(count):
        units[group[number]].append(number)
    unit, first = np.zeros(count, np.int64), [0]
    kinds: list = []
    steps: list = []
    members: list = []
    for root, parts in units.items():
        unit[parts] = len(kinds)
        members += parts
        first.append(len(members))
        lcs = {slot[part] // SLOTS for part in parts}
        kinds.append(FIXED if root in held else SINGLE if len(parts) == 1 else GROUP)
        # A LUT alone, or with its flip-flop; a slice; whatever has to do with carry or RAM.
        whole = any(cells[part]["parameters"].get("MODE", "LOGIC") != "LOGIC" for part in parts)
        steps.append(8 if whole or len({lc // 2 for lc in lcs}) > 1 else min(len(lcs), 2))
    return Layout(x, y, slot, unit, control, shared, uses_m, occupant, exists, np.array(kinds),
                   np.array(steps), np.array(first), np.array(members))


def control_sets(cell: Mapping) -> tuple[tuple, tuple]:
    """What all flip-flops of a slice, and of a tile, have in common with this one."""
    options = cell["parameters"].get
    return ((net_of(cell, "CE"), options("CEMUX"), options("GSR")),
            (net_of(cell, "CLK"), net_of(cell, "LSR"), options("SRMODE"), options("CLKMUX"),
             options("LSRMUX")))


def _groups(cells, driver, sinks, slot, occupant):
    """A name for every cell, the same for those that must keep their distance."""
    parent = list(range(len(cells)))

    def find(one):
        while parent[one] != one:
            parent[one] = parent[parent[one]]
            one = parent[one]
        return one

    def join(one, other):
        if other >= 0:
            parent[find(one)] = find(int(other))

    for bit, (source, _) in driver.items():
        for sink, port in sinks[bit]:
            if port in INSIDE_PORTS and slot[sink] >= 0:
                join(sink, source)
    for number, cell in enumerate(cells):
        lc = slot[number] // SLOTS
        if cell["type"] == "TRELLIS_RAMW":
            join(number, occupant[lc * SLOTS])
            join(number, occupant[(lc + 1) * SLOTS])
        elif cell["parameters"].get("MODE") == "CCU2":
            join(number, occupant[(lc ^ 1) * SLOTS])
    return [find(number) for number in range(len(cells))]


@njit
def is_legal(occupant, control, shared, uses_m, tile):
    """Whether the flip-flops and LUTs of a tile may lie there together."""
    of_tile = -1
    for slice_ in range(4 * tile, 4 * tile + 4):
        of_slice = -1
        for lc in range(2 * slice_, 2 * slice_ + 2):
            flip_flop = occupant[lc * SLOTS + FLIP_FLOP]
            if flip_flop < 0:
                continue
            if of_tile >= 0 and shared[flip_flop] != of_tile:
                return False
            if of_slice >= 0 and control[flip_flop] != of_slice:
                return False
            of_tile, of_slice = shared[flip_flop], control[flip_flop]
            lut = occupant[lc * SLOTS + LUT]
            if lut >= 0 and uses_m[lut] and uses_m[flip_flop]:
                return False
    return True
