"""Replication: a flip-flop whose loads lie far apart gets replicas, each among its loads.

Only where the flip-flop is too slow for its loads, and what it reads comes early.
"""

from copy import deepcopy
from typing import TYPE_CHECKING

import numpy as np

from gen.pnr.congestion import SHARED_BY_ALL
from gen.pnr.ecp5 import FLIP_FLOP, LCS, LUT, ROWS, slot_bel, SLOTS
from gen.pnr.graph import net_of
from gen.pnr.legal import control_sets
from gen.pnr.slack import NEVER, slacks


if TYPE_CHECKING:
    from gen.pnr.place import Design


__all__ = ["replicate"]


REPLICATE_BELOW, REPLICATE_GAIN = 0.25, 0.25
"""Slack of a flip-flop's paths, in periods, below which it gets replicas, and how much more slack
its input must have."""

REPLICA_SPAN, REPLICA_LOADS = 40, 8
"""Half the perimeter, in tiles, around the loads of one, unless it has only so few."""

SHARED_PORTS = frozenset({"CE", "CLK", "LSR", "WCK", "WRE"})
"""Inputs that the cells of a slice, or of a tile, take from one wire."""

BLOCKS = ("IOLOGIC", "SIOLOGIC", "MULT", "ALU")
"""First letters of cells that share the wires of such inputs with cells elsewhere: they stay."""


def replicate(module: dict, design: "Design") -> int:
    """Add replicas to a placed netlist, in place. Returns their number.

    ``design`` is what was read from the module (:func:`gen.pnr.place.read_design`); it does not
    know of the replicas afterwards.
    """
    cells, layout = design.cells, design.layout
    names = list(module["cells"])
    new_net = 1 + max(net for of_name in module["netnames"].values() for net in of_name["bits"]
                      if not isinstance(net, str))
    # Flip-flops by their slots, replicas among them; tiles where a replica holds a net.
    placed = {int(slot): cells[cell] for cell, slot in enumerate(layout.slot)
              if cells[cell]["type"] == "TRELLIS_FF" and slot >= 0}
    held: set[tuple[int, int]] = set()
    replicas = 0
    # All candidates first: what a flip-flop reads may come from a replica later.
    for net, source in list(_candidates(design)):
        loads = [group for group in _together(design.sinks[net], layout)
                 if not any(cell == source or _in_block(cells[cell], port)
                            for cell, port in group)
                 and not (group[0][1] in SHARED_PORTS and (net, _tile(layout, group)) in held)]
        if not loads or sum(map(len, loads)) > SHARED_BY_ALL:
            continue
        places = np.array([(layout.x[group[0][0]], layout.y[group[0][0]]) for group in loads])
        parts = _split(places, [len(group) for group in loads])
        # The old one keeps those that are nearest to it.
        here = np.array([layout.x[source], layout.y[source]])
        parts.sort(key=lambda part: abs(np.median(places[part], axis=0) - here).sum())
        for part in parts[1:]:
            replica = _replica(cells[source], new_net)
            slot = _free_slot(layout, replica, placed, np.median(places[part], axis=0))
            if slot is None:
                continue
            replica["attributes"]["NEXTPNR_BEL"] = slot_bel(slot)
            placed[slot] = replica
            held |= {(bit, slot // (SLOTS * LCS)) for port in SHARED_PORTS
                     for bit in replica["connections"].get(port, ())}
            name = f"{names[source]}$copy{replicas}"
            module["cells"][name] = replica
            module["netnames"][f"{name}$q"] = {"hide_name": 0, "bits": [new_net], "attributes": {}}
            for index in part:
                for cell, port in loads[index]:
                    connection = cells[cell]["connections"][port]
                    connection[connection.index(net)] = new_net
            replicas += 1
            new_net += 1
    return replicas


def _data(cell):
    """Net that a flip-flop reads."""
    return net_of(cell, "DI") or net_of(cell, "M")


def _in_block(cell, port):
    """Whether an input shares its wire with cells that are elsewhere."""
    return cell["type"].startswith(BLOCKS) and port.startswith(("CE", "CLK", "LSR", "RST"))


def _tile(layout, group):
    """Tile of a group of loads that share a wire."""
    return int(layout.slot[group[0][0]]) // (SLOTS * LCS)


def _together(loads, layout):
    """Loads in groups that must stay on one net: those of a tile on wires that it shares."""
    groups: dict = {}
    for cell, port in loads:
        shared = port in SHARED_PORTS and layout.slot[cell] >= 0
        groups.setdefault(_tile(layout, [(cell, port)]) if shared else (cell, port),
                          []).append((cell, port))
    return list(groups.values())


def _candidates(design):
    """``(net, flip-flop)`` of those that are too slow and may be replicated."""
    cells, paths = design.cells, design.paths
    after, before = np.full(len(cells), NEVER), np.full(len(cells), NEVER)
    timed, nets = set(), list(design.driver)
    for domain, (_, ns) in design.periods.items():
        arcs, ends = slacks(design.layout, paths, domain, domain, ns)
        timed.update((nets[paths.end_from[end]], paths.end_cell[end])
                     for end in np.flatnonzero(ends < NEVER / 10))
        np.minimum.at(after, paths.driver[paths.arc_from], arcs / ns)
        np.minimum.at(after, paths.driver[paths.end_from], ends / ns)
        np.minimum.at(before, paths.end_cell, ends / ns)

    for net, (source, _) in design.driver.items():
        if (cells[source]["type"] != "TRELLIS_FF" or after[source] > REPLICATE_BELOW
                or before[source] < after[source] + REPLICATE_GAIN):
            continue
        value = _data(cells[source])
        if value is None:
            continue
        # Two flip-flops may read an input that nothing times, or one behind it, differently.
        reads = design.driver[value][0]
        if (value, source) in timed and (cells[reads]["type"] != "TRELLIS_FF"
                                         or (_data(cells[reads]), reads) in timed):
            yield net, source


def _replica(cell, output):
    """A flip-flop like another, not placed yet; it reads through M."""
    replica = deepcopy(cell)
    replica["parameters"]["SD"] = "0 "
    replica["port_directions"].pop("DI", None)
    replica["connections"].pop("DI", None)
    replica["port_directions"]["M"] = "input"
    replica["connections"] |= {"M": [_data(cell)], "Q": [output]}
    return replica


def _split(places, counts):
    """Indices of places, each of so many loads, in parts that are small or lie together."""
    counts = np.asarray(counts)
    parts, wanted = [], [np.arange(len(places))]
    while wanted:
        part = wanted.pop()
        spans = np.ptp(places[part], axis=0)
        if (len(part) == 1 or spans.sum() <= REPLICA_SPAN
                or counts[part].sum() < 2 * REPLICA_LOADS):
            parts.append(part)
            continue
        ordered = part[np.argsort(places[part, np.argmax(spans)], kind="stable")]
        half = len(part) // 2
        wanted += [ordered[:half], ordered[half:]]
    return parts


def _free_slot(layout, replica, placed, place):
    """Slot near ``place`` for a replica; None if there is none."""
    column, row = (int(value) for value in place)
    around = sorted((abs(right) + abs(up), right, up) for right in range(-12, 13)
                    for up in range(-12, 13))
    for _, right, up in around:
        if not 0 <= row + up < ROWS or column + right < 0:
            continue
        tile = (column + right) * ROWS + row + up
        for lc in range(tile * LCS, (tile + 1) * LCS):
            if lc < layout.exists.size and layout.exists[lc] and _fits(layout, replica, placed, lc):
                return lc * SLOTS + FLIP_FLOP
    return None


def _fits(layout, replica, placed, lc):
    """Whether a replica may lie in a logic cell, by what its neighbours are connected to now."""
    lut = layout.occupant[lc * SLOTS + LUT]
    if lc * SLOTS + FLIP_FLOP in placed or (lut >= 0 and layout.uses_m[lut]):
        return False
    of_slice, of_tile = control_sets(replica)
    first = lc // LCS * LCS
    for other in range(first, first + LCS):
        neighbour = placed.get(other * SLOTS + FLIP_FLOP)
        if neighbour is not None:
            slice_set, tile_set = control_sets(neighbour)
            if tile_set != of_tile or (other // 2 == lc // 2 and slice_set != of_slice):
                return False
    return True
