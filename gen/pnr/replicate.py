"""Replication: a flip-flop whose loads lie far apart gets replicas, each among its loads.

Only where the flip-flop is too slow for its loads, and what it reads comes early.
"""

from copy import deepcopy
from typing import TYPE_CHECKING

import numpy as np

from gen.pnr.congestion import SHARED_BY_ALL
from gen.pnr.ecp5 import FLIP_FLOP, LCS, LUT, ROWS, slot_bel, SLOTS
from gen.pnr.graph import net_of
from gen.pnr.legal import is_legal
from gen.pnr.slack import NEVER, slacks


if TYPE_CHECKING:
    from gen.pnr.place import Design


__all__ = ["replicate"]


REPLICATE_BELOW, REPLICATE_GAIN = 0.25, 0.25
"""Slack of a flip-flop's paths, in periods, below which it gets replicas, and how much more slack
its input must have."""

REPLICA_SPAN, REPLICA_LOADS = 40, 8
"""Half the perimeter, in tiles, around the loads of one, unless it has only so few."""


def replicate(module: dict, design: "Design") -> int:
    """Add replicas to a placed netlist, in place. Returns their number.

    ``design`` is what was read from the module (:func:`gen.pnr.place.read_design`); it does not
    know of the replicas afterwards.
    """
    cells, layout = design.cells, design.layout
    names = list(module["cells"])
    new_net = 1 + max(net for of_name in module["netnames"].values() for net in of_name["bits"]
                      if not isinstance(net, str))
    replicas = 0
    for net, source, value in _candidates(design):
        loads = [load for load in design.sinks[net] if load[0] != source]
        if len(loads) > SHARED_BY_ALL:
            continue
        places = np.array([(layout.x[cell], layout.y[cell]) for cell, _ in loads])
        parts = _split(places)
        # The old one keeps those that are nearest to it.
        here = np.array([layout.x[source], layout.y[source]])
        parts.sort(key=lambda part: abs(np.median(places[part], axis=0) - here).sum())
        for part in parts[1:]:
            slot = _free_slot(layout, source, np.median(places[part], axis=0))
            if slot is None:
                continue
            name = f"{names[source]}$copy{replicas}"
            module["cells"][name] = _replica(cells[source], slot, value, new_net)
            module["netnames"][f"{name}$q"] = {"hide_name": 0, "bits": [new_net], "attributes": {}}
            layout.occupant[slot] = source      # As good as the replica for those that follow.
            for index in part:
                cell, port = loads[index]
                connection = cells[cell]["connections"][port]
                connection[connection.index(net)] = new_net
            replicas += 1
            new_net += 1
    return replicas


def _candidates(design):
    """``(net, flip-flop, net that it reads)`` of those that are too slow and may be replicated."""
    cells, paths = design.cells, design.paths
    after, before = np.full(len(cells), NEVER), np.full(len(cells), NEVER)
    timed, nets = set(), list(design.driver)
    for domain, (_, ns) in design.periods.items():
        arcs, ends = slacks(design.layout, paths, domain, ns)
        timed.update((nets[paths.end_from[end]], paths.end_cell[end])
                     for end in np.flatnonzero(ends < NEVER / 10))
        np.minimum.at(after, paths.driver[paths.arc_from], arcs / ns)
        np.minimum.at(after, paths.driver[paths.end_from], ends / ns)
        np.minimum.at(before, paths.end_cell, ends / ns)

    def data(cell):
        return net_of(cells[cell], "DI") or net_of(cells[cell], "M")

    for net, (source, _) in design.driver.items():
        if (cells[source]["type"] != "TRELLIS_FF" or after[source] > REPLICATE_BELOW
                or before[source] < after[source] + REPLICATE_GAIN):
            continue
        value = data(source)
        if value is None:
            continue
        # Two flip-flops may read an input that nothing times, or one behind it, differently.
        reads = design.driver[value][0]
        if (value, source) in timed and (cells[reads]["type"] != "TRELLIS_FF"
                                         or (data(reads), reads) in timed):
            yield net, source, value


def _replica(cell, slot, value, output):
    """A flip-flop like another, in a slot of its own; it reads through M."""
    replica = deepcopy(cell)
    replica["parameters"]["SD"] = "0 "
    replica["port_directions"].pop("DI", None)
    replica["connections"].pop("DI", None)
    replica["port_directions"]["M"] = "input"
    replica["connections"] |= {"M": [value], "Q": [output]}
    replica["attributes"]["NEXTPNR_BEL"] = slot_bel(slot)
    return replica


def _split(places):
    """Indices of places, in parts that are small or lie together."""
    parts, wanted = [], [np.arange(len(places))]
    while wanted:
        part = wanted.pop()
        spans = np.ptp(places[part], axis=0)
        if spans.sum() <= REPLICA_SPAN or len(part) < 2 * REPLICA_LOADS:
            parts.append(part)
            continue
        ordered = part[np.argsort(places[part, np.argmax(spans)], kind="stable")]
        wanted += [ordered[:len(part) // 2], ordered[len(part) // 2:]]
    return parts


def _free_slot(layout, cell, place):
    """Slot near ``place`` for a replica of a flip-flop; None if there is none."""
    column, row = (int(value) for value in place)
    around = sorted((abs(right) + abs(up), right, up) for right in range(-12, 13)
                     for up in range(-12, 13))
    for _, right, up in around:
        if not 0 <= row + up < ROWS or column + right < 0:
            continue
        tile = (column + right) * ROWS + row + up
        for lc in range(tile * LCS, (tile + 1) * LCS):
            slot = lc * SLOTS + FLIP_FLOP
            if lc >= layout.exists.size or not layout.exists[lc] or layout.occupant[slot] >= 0:
                continue
            layout.occupant[slot] = cell
            # Its input is M, whatever that of the cell is.
            lut = layout.occupant[lc * SLOTS + LUT]
            legal = (is_legal(layout.occupant, layout.control, layout.shared, layout.uses_m, tile)
                     and not (lut >= 0 and layout.uses_m[lut]))
            layout.occupant[slot] = -1
            if legal:
                return slot
    return None
