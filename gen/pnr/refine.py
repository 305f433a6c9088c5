"""Detailed placement: improve, by simulated annealing, what nextpnr has placed on an ECP5.

nextpnr's electrostatic placer finds where everything belongs, then loses a seventh of the wire when
it makes that legal, and a faster clock costs it wire again. This module takes a legal placement
made for wire alone and exchanges tables, flip-flops, carry chains and RAMs while there is less of

- wire: half the perimeter of the box around every net;
- crowds: a box that lies where more wire must be expected than tiles have costs more (RUDY:
  Spindler and Johannes, DATE 2007);
- slow paths: a connection costs its length times a weight, the larger the less slack its path has
  (T-VPlace: Marquardt, Betz and Rose, FPGA 2000) and the more such paths share it (Kong, ICCAD
  2002): as much weight leads to a table as away from it, so that whole paths move.

A flip-flop whose loads lie far apart is replicated where that is too slow for it.

What belongs together moves together: carry chains, RAMs and large multiplexers by whole tiles, a
multiplexer of two tables by slices, a table with the flip-flop that it feeds. Two flip-flops of a
slice share enable and options, those of a tile clock and reset, as nextpnr demands; what else there
is (block RAMs, multipliers, pins) stays where it is.

Delays are those of speed grade 6, of wires as routed where they were in a hurry; figures:
docs/decisions/0007.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
import re
from typing import NamedTuple

from numba import njit
import numpy as np
from scipy import ndimage

from gen.pnr.ecp5 import CLOCK_PORTS
from gen.pnr.estimate import CARRY, CLOCK_TO_Q, OUTPUT_REGISTER


__all__ = ["Refined", "refine"]


ROUNDS, MOVES = 80, 2_500_000
"""Analyses of timing and wire, and exchanges tried after each."""

HOT, COLD = 2.0, 0.03
"""Temperature, in tiles of wire, of the first and the last round."""

REACH = 12.0
"""Tiles that a cell may move in the first round; one in the last."""

CROWDED, CROWDING = 70.0, 4.0
"""Wire of a tile, in tiles, from which on it costs more, and how much more twice of it costs."""

HURRY, MARGIN = 60.0, 0.9
"""Weight, divided by the period in ns, of a connection whose path takes ``MARGIN`` of its period;
the margin is for what routing adds."""

BLUNT, SHARP, SHARPENED = 4.0, 16.0, 0.6
"""What takes less weighs less, by a power: that of the first round, and that from ``SHARPENED`` of
all rounds on. Whole paths move while it is low, their ends do not hold each other."""

SHARED = 8.0
"""Most that a connection of many paths weighs, in weights of one that has its slack alone."""

EVENLY_NS = 0.3
"""Slack by which the weight led back through one input of a table is e times that of another."""

INERTIA = 0.7
"""Part of its old weight that a connection keeps in a round: paths do not take turns then."""

JUMPS, LANDING = 0.1, 3
"""Part of the exchanges of a late cell that go to within so many tiles of one that it is connected
to, however far: tiles with its clock may be rare on the way."""

LAST = 0.2
"""Part of the rounds, at the end, the fastest of whose placements is the result."""

REPLICATED = 0.3
"""Part of the rounds after which late flip-flops with far loads are replicated."""

REPLICATE_BELOW, REPLICATE_GAIN = 0.25, 0.25
"""Slack, in periods, below which they are late, and how much more their input must have."""

REPLICA_SPAN, REPLICA_LOADS = 40, 8
"""Half the perimeter, in tiles, around the loads of one, unless it has only so few."""

SHARED_BY_ALL = 2500
"""Nets with more pins are everywhere."""

ENTRY_NS, LOAD_NS, NEAR_NS, FAR_NS, NEAR = 0.65, 0.0008, 0.10, 0.062, 8
"""Delay of a wire: its ends, each load of its net (which nextpnr's router does not see, and its
report does), each of the first ``NEAR`` tiles, and each further one."""

_ROWS, _LCS, _SLOTS = 128, 8, 3
"""Numbers: tile = column * rows + row, logic cell = tile * 8 + 0..7, slot = 3 * logic cell + ..."""
_TABLE, _FLIP_FLOP, _WRITE = range(3)

_FIXED, _SINGLE, _GROUP = range(3)

_BEL = re.compile(r"X(\d+)/Y(\d+)/(?:SLICE([A-D])\.(K[01]|FF[01]|RAMW)$)?")

_INSIDE = {"FCI", "F1", "FXA", "FXB", "WAD0", "WAD1", "WAD2", "WAD3", "WD", "DI"}
"""Inputs of tables and flip-flops with a wire of their own from their neighbour."""

_LAUNCH = {**CLOCK_TO_Q, "IOLOGIC": 0.5, "SIOLOGIC": 0.5, "MULT18X18D": 4.0}

_UNTIMED = {"TRELLIS_IO", "EHXPLLL", "DCCA"}


@dataclass(frozen=True)
class Refined:
    """What :func:`refine` did.

    Parameters
    ----------
    wire_before, wire : int
        Sum over nets of half the perimeter of their boxes, tiles.
    slowest_before, slowest : dict
        Longest path of each clock, ns, by the delays above.
    copies : int
        Flip-flops added.
    """

    wire_before: int
    wire: int
    slowest_before: dict[str, float]
    slowest: dict[str, float]
    copies: int


class _Layout(NamedTuple):
    """Where cells are, and what may not be torn apart. ``-1`` is nowhere, or nobody."""

    x: np.ndarray           # of every cell: column
    y: np.ndarray           # row
    slot: np.ndarray        # -1: not a table, flip-flop or RAM write port
    unit: np.ndarray        # of what it moves with
    control: np.ndarray     # flip-flops of a slice have the same
    shared: np.ndarray      # flip-flops of a tile have the same
    uses_m: np.ndarray      # a table and a flip-flop of one logic cell cannot both
    occupant: np.ndarray    # of every slot: cell
    exists: np.ndarray      # of every logic cell
    kind: np.ndarray        # of every unit: _FIXED, _SINGLE, _GROUP
    step: np.ndarray        # logic cells that it moves by: 1, 2 (slices), 8 (tiles)
    first: np.ndarray       # where its cells start in
    members: np.ndarray


class _Nets(NamedTuple):
    first: np.ndarray       # of every net: where its cells start in
    pins: np.ndarray
    weight: np.ndarray      # of its box
    cell_first: np.ndarray  # of every cell: where its nets start in
    cell_nets: np.ndarray


class _Paths(NamedTuple):
    """Timing: nodes are driven nets, arcs lead through a table to the net it drives, in order; ends
    are inputs of flip-flops and the like. A wire of less than 0 takes no time."""

    driver: np.ndarray      # of every node: cell
    launch: np.ndarray      # ns after the clock, of what a clock launches
    launch_clock: np.ndarray
    arc_from: np.ndarray
    arc_cell: np.ndarray
    arc_to: np.ndarray
    arc_delay: np.ndarray
    arc_wire: np.ndarray
    end_from: np.ndarray
    end_cell: np.ndarray
    end_setup: np.ndarray
    end_wire: np.ndarray
    end_clock: np.ndarray


class _Pulls(NamedTuple):
    """Connections in a hurry, from both their ends."""

    first: np.ndarray       # of every cell: where its pulls start in
    other: np.ndarray
    weight: np.ndarray


def refine(placed: dict, clocks: Mapping[str, float], *, seed: int = 1,
           on_progress: Callable[[str], None] | None = None) -> Refined:
    """Improve a placement, in place (``NEXTPNR_BEL`` of its cells).

    Parameters
    ----------
    placed : dict
        What nextpnr-ecp5 wrote after it had placed a design.
    clocks : dict
        MHz that the clock on a net must reach; other clocks are not looked at.
    seed : int
        Of the annealing.
    """
    module = max(placed["modules"].values(), key=lambda module: len(module["cells"]))
    design, first, best, copies = _design(module, clocks), None, None, 0
    for number in range(ROUNDS + 1):
        part = number / ROUNDS
        if number == int(REPLICATED * ROUNDS):
            _put(design, design.layout.slot)
            copies = _replicate(module, design)
            design = _design(module, clocks)
        boxes = design.boxes
        wire = int((boxes[:, 1] - boxes[:, 0] + boxes[:, 3] - boxes[:, 2]).sum())
        slowest = _hurry(design, BLUNT + (SHARP - BLUNT) * min(1, part / SHARPENED))
        first = first or (wire, slowest)
        late = max((slowest[name] / ns for name, ns in design.periods.values()), default=0.0)
        if part >= 1 - LAST and (best is None or late < best[0]):
            best = late, wire, slowest, design.layout.slot.copy()
        if number == ROUNDS:
            break
        if on_progress:
            on_progress(f"placement, round {number + 1} of {ROUNDS}: wirelength {wire}, "
                        + ", ".join(f"{name} {ns:.1f} ns" for name, ns in slowest.items()))
        ramp = part + np.array([0, 1 / ROUNDS])
        _anneal(design.layout, design.nets, _pulls(design), boxes, _crowding(boxes, design.nets),
                design.movers, MOVES, HOT * (COLD / HOT) ** ramp, REACH ** (1 - ramp),
                seed + number)
    _, wire, slowest, slots = best
    _put(design, slots)
    return Refined(wire_before=first[0], wire=wire, slowest_before=first[1], slowest=slowest,
                   copies=copies)


class _Design(NamedTuple):
    cells: list
    driver: dict
    sinks: dict
    layout: _Layout
    nets: _Nets
    paths: _Paths
    periods: dict           # name and ns of clocks, by their number in ``paths``
    weights: tuple          # of arcs and ends, now
    boxes: np.ndarray       # around every net, now
    movers: np.ndarray      # units that may move


def _design(module, clocks):
    """Read a placed netlist. Weights are 0."""
    cells = list(module["cells"].values())
    driver, sinks = _connections(cells)
    layout = _layout(cells, driver, sinks)
    nets = _nets(layout, driver, sinks)
    paths, domains = _paths(cells, driver, sinks)
    periods = {}
    for net, mhz in clocks.items():
        for bit in module["netnames"].get(net, {"bits": ()})["bits"]:
            if bit in domains:
                periods[domains[bit]] = net.removeprefix("$glbnet$"), 1e3 / mhz
    weights = np.zeros(paths.arc_from.size), np.zeros(paths.end_from.size)
    return _Design(cells, driver, sinks, layout, nets, paths, periods, weights,
                   _boxes(layout, nets), np.flatnonzero(layout.kind != _FIXED))


def _put(design, slots):
    for cell, slot in zip(design.cells, slots, strict=True):
        if slot >= 0:
            cell["attributes"]["NEXTPNR_BEL"] = _bel(int(slot))


def _replicate(module, design):
    """Give far loads of late flip-flops flip-flops of their own, each among its loads, where what
    they all read comes early. Returns their number."""
    cells, layout, paths = design.cells, design.layout, design.paths
    names = list(module["cells"])
    new_bit = 1 + max(bit for net in module["netnames"].values() for bit in net["bits"]
                      if not isinstance(bit, str))
    late, early = np.full(len(cells), 1e9), np.full(len(cells), 1e9)
    timed, bits = set(), list(design.driver)
    for domain, (_, ns) in design.periods.items():
        arcs, ends = _slacks(layout, paths, domain, ns)
        timed.update((bits[paths.end_from[end]], paths.end_cell[end])
                     for end in np.flatnonzero(ends < 1e8))
        np.minimum.at(late, paths.driver[paths.arc_from], arcs / ns)
        np.minimum.at(late, paths.driver[paths.end_from], ends / ns)
        np.minimum.at(early, paths.end_cell, ends / ns)

    def data(cell):
        return _bit(cells[cell], "DI") or _bit(cells[cell], "M")

    copies = 0
    for bit, (source, _) in design.driver.items():
        if (cells[source]["type"] != "TRELLIS_FF" or late[source] > REPLICATE_BELOW
                or early[source] < late[source] + REPLICATE_GAIN):
            continue
        value = data(source)
        loads = [load for load in design.sinks[bit] if load[0] != source]
        if value is None or len(loads) > SHARED_BY_ALL:
            continue
        # Two flip-flops may read an input that nothing times, or one behind it, differently.
        before = design.driver[value][0]
        if (value, source) not in timed or (cells[before]["type"] == "TRELLIS_FF"
                                            and (data(before), before) not in timed):
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
            copy = deepcopy(cells[source])
            name = f"{names[source]}$copy{copies}"
            copy["parameters"]["SD"] = "0 "
            copy["port_directions"].pop("DI", None)
            copy["connections"].pop("DI", None)
            copy["port_directions"]["M"] = "input"
            copy["connections"] |= {"M": [value], "Q": [new_bit]}
            copy["attributes"]["NEXTPNR_BEL"] = _bel(slot)
            layout.occupant[slot] = source      # As good as the copy for those that follow.
            module["cells"][name] = copy
            module["netnames"][f"{name}$q"] = {"hide_name": 0, "bits": [new_bit], "attributes": {}}
            for index in part:
                cell, port = loads[index]
                connection = cells[cell]["connections"][port]
                connection[connection.index(bit)] = new_bit
            copies += 1
            new_bit += 1
    return copies


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
    """Slot near ``place`` for a copy of a flip-flop; None if there is none."""
    column, row = (int(value) for value in place)
    around = sorted((abs(right) + abs(up), right, up) for right in range(-12, 13)
                     for up in range(-12, 13))
    for _, right, up in around:
        if not 0 <= row + up < _ROWS or column + right < 0:
            continue
        tile = (column + right) * _ROWS + row + up
        for lc in range(tile * _LCS, (tile + 1) * _LCS):
            slot = lc * _SLOTS + _FLIP_FLOP
            if lc >= layout.exists.size or not layout.exists[lc] or layout.occupant[slot] >= 0:
                continue
            layout.occupant[slot] = cell
            # Its input is M, whatever that of the cell is.
            table = layout.occupant[lc * _SLOTS + _TABLE]
            legal = (_is_legal(layout.occupant, layout.control, layout.shared, layout.uses_m, tile)
                     and not (table >= 0 and layout.uses_m[table]))
            layout.occupant[slot] = -1
            if legal:
                return slot
    return None


def _connections(cells):
    """Driver ``(cell, port)`` of every net that has one, and its sinks."""
    driver, sinks = {}, defaultdict(list)
    for number, cell in enumerate(cells):
        for port, bits in cell["connections"].items():
            output = cell["port_directions"][port] == "output"
            for bit in bits:
                if not isinstance(bit, str):
                    if output:
                        driver[bit] = number, port
                    else:
                        sinks[bit].append((number, port))
    return driver, sinks


def _bit(cell, port):
    """Net of a port of one bit; None if there is none."""
    bits = cell["connections"].get(port)
    return bits[0] if bits and not isinstance(bits[0], str) else None


def _bel(slot):
    cell, kind = divmod(slot, _SLOTS)
    tile, lc = divmod(cell, _LCS)
    column, row = divmod(tile, _ROWS)
    name = "RAMW" if kind == _WRITE else f"{'K' if kind == _TABLE else 'FF'}{lc % 2}"
    return f"X{column}/Y{row}/SLICE{'ABCD'[lc // 2]}.{name}"


def _layout(cells, driver, sinks):
    count = len(cells)
    x, y = np.zeros(count, np.int64), np.zeros(count, np.int64)
    slot = np.full(count, -1)
    fixed, tiles = set(), set()
    for number, cell in enumerate(cells):
        bel = _BEL.match(cell["attributes"].get("NEXTPNR_BEL", ""))
        if not bel:
            fixed.add(number)
            continue
        x[number], y[number] = int(bel[1]), int(bel[2])
        if not bel[3]:
            fixed.add(number)
            continue
        tile = x[number] * _ROWS + y[number]
        tiles.add(tile)
        lc = 2 * "ABCD".index(bel[3]) + (bel[4][-1] == "1")
        kind = {"K": _TABLE, "F": _FLIP_FLOP, "R": _WRITE}[bel[4][0]]
        slot[number] = (tile * _LCS + lc) * _SLOTS + kind
        # 3 and less is what a placer chose, not the user.
        if int(cell["attributes"].get("BEL_STRENGTH", "1"), 2) > 3:
            fixed.add(number)
    exists = np.zeros((max(tiles) + _ROWS) * _LCS, bool)
    for tile in tiles:
        exists[tile * _LCS:(tile + 1) * _LCS] = True
    occupant = np.full(exists.size * _SLOTS, -1)
    occupant[slot[slot >= 0]] = np.flatnonzero(slot >= 0)

    control, shared = np.zeros(count, np.int64), np.zeros(count, np.int64)
    uses_m = np.zeros(count, bool)
    controls, clocks = {}, {}
    for number, cell in enumerate(cells):
        uses_m[number] = _bit(cell, "M") is not None
        if cell["type"] == "TRELLIS_FF":
            options = cell["parameters"].get
            control[number] = controls.setdefault(
                (_bit(cell, "CE"), options("CEMUX"), options("GSR")), len(controls))
            shared[number] = clocks.setdefault(
                (_bit(cell, "CLK"), _bit(cell, "LSR"), options("SRMODE"), options("CLKMUX"),
                 options("LSRMUX")), len(clocks))

    group = _groups(cells, driver, sinks, slot, occupant)
    held = {group[number] for number in fixed}
    units = defaultdict(list)
    for number in range(count):
        units[group[number]].append(number)
    unit, kinds, steps, first, members = np.zeros(count, np.int64), [], [], [0], []
    for root, parts in units.items():
        unit[parts] = len(kinds)
        members += parts
        first.append(len(members))
        lcs = {slot[part] // _SLOTS for part in parts}
        kinds.append(_FIXED if root in held else _SINGLE if len(parts) == 1 else _GROUP)
        # A table alone, or with its flip-flop; a slice; whatever has to do with carry or RAM.
        whole = any(cells[part]["parameters"].get("MODE", "LOGIC") != "LOGIC" for part in parts)
        steps.append(8 if whole or len({lc // 2 for lc in lcs}) > 1 else min(len(lcs), 2))
    return _Layout(x, y, slot, unit, control, shared, uses_m, occupant, exists, np.array(kinds),
                   np.array(steps), np.array(first), np.array(members))


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
            if port in _INSIDE and slot[sink] >= 0:
                join(sink, source)
    for number, cell in enumerate(cells):
        lc = slot[number] // _SLOTS
        if cell["type"] == "TRELLIS_RAMW":
            join(number, occupant[lc * _SLOTS])
            join(number, occupant[(lc + 1) * _SLOTS])
        elif cell["parameters"].get("MODE") == "CCU2":
            join(number, occupant[(lc ^ 1) * _SLOTS])
    return [find(number) for number in range(len(cells))]


def _ranges(lists):
    """First index of each list, and one beyond the last; their elements."""
    first = np.concatenate([[0], np.cumsum([len(one) for one in lists], dtype=np.int64)])
    return first, np.array([element for one in lists for element in one], np.int64)


def _nets(layout, driver, sinks):
    nets = []
    for bit, (source, port) in driver.items():
        pins = {source, *(sink for sink, _ in sinks[bit])}
        if (port != "FCO" and 1 < len(pins) <= SHARED_BY_ALL
                and len({layout.unit[pin] for pin in pins}) > 1
                and not any(port in CLOCK_PORTS for _, port in sinks[bit])):
            nets.append(sorted(pins))
    of_cell = [[] for _ in range(layout.x.size)]
    for number, pins in enumerate(nets):
        for pin in pins:
            of_cell[pin].append(number)
    first, pins = _ranges(nets)
    # The tree of many pins is longer than half of its box, which does not see the pins inside.
    weight = np.sqrt([_tree(size) for size in np.diff(first)])
    return _Nets(first, pins, weight, *_ranges(of_cell))


def _paths(cells, driver, sinks):
    """Timing graph, and a number for the net of every clock."""
    node = {bit: number for number, bit in enumerate(driver)}
    launch, launch_clock = np.zeros(len(node)), np.full(len(node), -1)
    outputs = defaultdict(list)
    for bit, (cell, port) in driver.items():
        outputs[cell].append((bit, port))
    domains, arcs, ends = {}, [], []
    # Of the wire of every net, but for its length.
    entry = {bit: ENTRY_NS + LOAD_NS * len(sinks[bit]) for bit in driver}
    for number, cell in enumerate(cells):
        kind = cell["type"]
        if kind in _UNTIMED:
            continue
        inputs = [(bit, port) for port, bits in cell["connections"].items()
                  if cell["port_directions"][port] == "input" and port not in CLOCK_PORTS
                  for bit in bits if bit in node]
        if kind == "TRELLIS_COMB":
            for bit, port in inputs:
                # A RAM's write port is a cell of its own.
                if port == "WRE":
                    domain = domains.setdefault(_bit(cell, "WCK"), len(domains))
                    ends.append((node[bit], number, 0.1, entry[bit], domain))
                elif not port.startswith("WAD") and port != "WD":
                    wire = -1.0 if port in ("FCI", "FXA", "FXB", "F1") else entry[bit]
                    arcs += [(node[bit], number, node[out], _table_delay(port, of), wire)
                             for out, of in outputs[number]]
            continue
        if kind == "TRELLIS_RAMW":
            clock = next(_bit(cells[sink], "WCK") for out, _ in outputs[number]
                         for sink, _ in sinks[out])
        else:
            clock = next((bit for bit in (_bit(cell, port)
                                          for port in ("CLK", "CLKA", "CLK0", "CLKI"))
                          if bit is not None), None)
        if clock is None:
            # A multiplier without registers.
            arcs += [(node[bit], number, node[out], _LAUNCH.get(kind, 0.0), entry[bit])
                     for bit, _ in inputs for out, _ in outputs[number]]
            continue
        domain = domains.setdefault(clock, len(domains))
        for out, port in outputs[number]:
            registered = cell["parameters"].get(f"REGMODE_{port[2:3]}") == "OUTREG"
            launch[node[out]] = OUTPUT_REGISTER if registered else _LAUNCH.get(kind, 0.5)
            launch_clock[node[out]] = domain
        ends += [(node[bit], number, {"CE": 0.2, "LSR": 0.4}.get(port, 0.1),
                  -1.0 if port == "DI" and kind == "TRELLIS_FF" else entry[bit], domain)
                 for bit, port in inputs]

    # In topological order; arcs of a loop have none, and are left out.
    missing, users = np.zeros(len(node), np.int64), defaultdict(list)
    for arc in arcs:
        missing[arc[2]] += 1
        users[arc[0]].append(arc)
    ordered, ready = [], list(np.flatnonzero(missing == 0))
    while ready:
        for arc in users[ready.pop()]:
            ordered.append(arc)
            missing[arc[2]] -= 1
            if missing[arc[2]] == 0:
                ready.append(arc[2])
    kinds = np.int64, np.int64, np.int64, float, float
    arcs = [np.array(column, kind) for column, kind in
            zip(zip(*ordered, strict=True) if ordered else [()] * 5, kinds, strict=True)]
    kinds = np.int64, np.int64, float, float, np.int64
    ends = [np.array(column, kind) for column, kind in
            zip(zip(*ends, strict=True) if ends else [()] * 5, kinds, strict=True)]
    drivers = np.array([driver[bit][0] for bit in node], np.int64)
    return _Paths(drivers, launch, launch_clock, *arcs, *ends), domains


def _table_delay(port, output):
    if port == "FCI" and output == "FCO":
        return CARRY
    if port == "FCI" or output == "FCO":
        return 0.44
    return 0.2 if port in ("FXA", "FXB", "F1", "M") else 0.24


def _hurry(design, sharpness):
    """Update the weights by slack. Longest path of each clock, ns."""
    paths, weights = design.paths, design.weights
    now = np.zeros_like(weights[0]), np.zeros_like(weights[1])
    slowest = {}
    for domain, (name, ns) in design.periods.items():
        slacks = _slacks(design.layout, paths, domain, ns * MARGIN)
        hurry = [HURRY / ns * np.clip(1 - slack / (ns * MARGIN), 0, 1.5) ** sharpness
                 for slack in slacks]
        flow = _flow(paths, slacks[0], hurry[1])
        np.clip(flow, hurry[0], SHARED * hurry[0], out=hurry[0])
        for weight, new in zip(now, hurry, strict=True):
            np.maximum(weight, new, out=weight)
        slowest[name] = round(float(ns * MARGIN - slacks[1].min(initial=ns)), 2)
    for weight, new, wire in zip(weights, now, (paths.arc_wire, paths.end_wire), strict=True):
        weight *= INERTIA
        weight += (1 - INERTIA) * np.where(wire < 0, 0, new)
    return slowest


def _pulls(design):
    count, paths = len(design.cells), design.paths
    source = np.concatenate([paths.driver[paths.arc_from], paths.driver[paths.end_from]])
    sink = np.concatenate([paths.arc_cell, paths.end_cell])
    weight = np.concatenate(design.weights)
    some = (weight > 0.1) & (source != sink)
    source, sink, weight = source[some], sink[some], weight[some]
    # A table has an arc for each of its outputs; the heaviest counts.
    pair = source * count + sink
    order = np.lexsort((weight, pair))
    last = np.append(np.diff(pair[order]) != 0, True)[:order.size]
    source, sink, weight = (column[order][last] for column in (source, sink, weight))
    one, other = np.concatenate([source, sink]), np.concatenate([sink, source])
    order = np.argsort(one, kind="stable")
    first = np.concatenate([[0], np.cumsum(np.bincount(one, minlength=count))])
    return _Pulls(first, other[order], np.concatenate([weight, weight])[order])


def _crowding(boxes, nets):
    """What a tile adds to the cost of a box over it, summed over columns and rows before."""
    expected = ndimage.gaussian_filter(_expected_wire(boxes, nets.first), 3)
    extra = CROWDING * np.maximum(0, expected / CROWDED - 1)
    return np.pad(extra.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))


@njit(cache=True)
def _slacks(layout, paths, clock, period):
    """Slack of every arc and every end, ns, between flip-flops of one clock; 1e9: none there."""
    never = 1e9
    x, y = layout.x, layout.y
    arrival = np.full(paths.launch.size, -never)
    required = np.full(paths.launch.size, never)
    for node in range(arrival.size):
        if paths.launch_clock[node] == clock:
            arrival[node] = paths.launch[node]
    arcs, ends = np.full(paths.arc_from.size, never), np.full(paths.end_from.size, never)
    for arc in range(arcs.size):
        node = paths.arc_from[arc]
        if arrival[node] > -never:
            time = (arrival[node] + paths.arc_delay[arc] + _delay(
                x, y, paths.driver[node], paths.arc_cell[arc], paths.arc_wire[arc]))
            arrival[paths.arc_to[arc]] = max(arrival[paths.arc_to[arc]], time)
    for end in range(ends.size):
        node = paths.end_from[end]
        if paths.end_clock[end] == clock and arrival[node] > -never:
            latest = (period - paths.end_setup[end] - _delay(
                x, y, paths.driver[node], paths.end_cell[end], paths.end_wire[end]))
            ends[end] = latest - arrival[node]
            required[node] = min(required[node], latest)
    for arc in range(arcs.size - 1, -1, -1):
        node, to = paths.arc_from[arc], paths.arc_to[arc]
        if arrival[node] > -never and required[to] < never:
            latest = (required[to] - paths.arc_delay[arc] - _delay(
                x, y, paths.driver[node], paths.arc_cell[arc], paths.arc_wire[arc]))
            arcs[arc] = latest - arrival[node]
            required[node] = min(required[node], latest)
    return arcs, ends


@njit(cache=True)
def _flow(paths, slacks, ends):
    """Weight of ends, led back to arcs: what comes out of a table has come in, most of it where it
    came last."""
    whole, out = np.zeros(paths.launch.size), np.zeros(paths.launch.size)
    least = 1e9
    for slack in slacks:
        least = min(least, slack)
    flow = np.exp((least - slacks) / EVENLY_NS)
    for arc in range(flow.size):
        whole[paths.arc_to[arc]] += flow[arc]
    for end in range(ends.size):
        out[paths.end_from[end]] += ends[end]
    for arc in range(flow.size - 1, -1, -1):
        to = paths.arc_to[arc]
        if whole[to] > 0:
            flow[arc] *= out[to] / whole[to]
        out[paths.arc_from[arc]] += flow[arc]
    return flow


@njit(cache=True)
def _delay(x, y, source, sink, wire):
    if wire < 0:
        return 0.0
    tiles = abs(x[source] - x[sink]) + abs(y[source] - y[sink])
    return wire + NEAR_NS * min(tiles, NEAR) + FAR_NS * max(tiles - NEAR, 0)


@njit(cache=True)
def _tree(pins):
    """Length of a net's tree, in halves of the perimeter of its box."""
    if pins <= 3:
        return 1.0
    return 0.8 + 0.06 * pins if pins < 40 else 3.2 + 0.02 * (pins - 40)


@njit(cache=True)
def _box(x, y, first, pins, net):
    left, right, low, high = _ROWS * _ROWS, -1, _ROWS, -1
    for index in range(first[net], first[net + 1]):
        column, row = x[pins[index]], y[pins[index]]
        left, right = min(left, column), max(right, column)
        low, high = min(low, row), max(high, row)
    return left, right, low, high


@njit(cache=True)
def _boxes(layout, nets):
    """Left, right, low and high of every net."""
    boxes = np.empty((nets.weight.size, 4), np.int64)
    for net in range(nets.weight.size):
        boxes[net] = _box(layout.x, layout.y, nets.first, nets.pins, net)
    return boxes


@njit(cache=True)
def _expected_wire(boxes, first):
    """Wire of every tile, in tiles, if that of each net were spread evenly over its box."""
    wire = np.zeros((boxes[:, 1].max() + 2, _ROWS + 1))
    for net in range(boxes.shape[0]):
        left, right, low, high = boxes[net]
        width, height = right - left + 1, high - low + 1
        density = _tree(first[net + 1] - first[net]) * (width + height - 1.5) / (width * height)
        wire[left, low] += density
        wire[right + 1, low] -= density
        wire[left, high + 1] -= density
        wire[right + 1, high + 1] += density
    for column in range(1, wire.shape[0]):
        wire[column] += wire[column - 1]
    for row in range(1, wire.shape[1]):
        wire[:, row] += wire[:, row - 1]
    return wire


@njit(cache=True)
def _cost(left, right, low, high, weight, crowding):
    over = (crowding[right + 1, high + 1] - crowding[left, high + 1] - crowding[right + 1, low]
            + crowding[left, low])
    mean = over / ((right - left + 1) * (high - low + 1))
    return weight * (right - left + high - low) * (1 + mean)


@njit(cache=True)
def _is_legal(occupant, control, shared, uses_m, tile):
    of_tile = -1
    for slice_ in range(4 * tile, 4 * tile + 4):
        of_slice = -1
        for lc in range(2 * slice_, 2 * slice_ + 2):
            flip_flop = occupant[lc * _SLOTS + _FLIP_FLOP]
            if flip_flop < 0:
                continue
            if of_tile >= 0 and shared[flip_flop] != of_tile:
                return False
            if of_slice >= 0 and control[flip_flop] != of_slice:
                return False
            of_tile, of_slice = shared[flip_flop], control[flip_flop]
            table = occupant[lc * _SLOTS + _TABLE]
            if table >= 0 and uses_m[table] and uses_m[flip_flop]:
                return False
    return True


@njit(cache=True)
def _below(most):
    """A random number of 0..most-1."""
    return int(np.random.random() * most)


@njit(cache=True)
def _exchange_one(slot, occupant, unit, kind, cell, tile, moved, goal):
    """A table or a flip-flop, and what is on its new place if that is alone, too. Number of cells
    that move, 0 if none can."""
    here = slot[cell]
    there = (tile * _LCS + _below(_LCS)) * _SLOTS + here % _SLOTS
    other = occupant[there]
    if there == here or (other >= 0 and kind[unit[other]] != _SINGLE):
        return 0
    moved[0], goal[0] = cell, there
    if other < 0:
        return 1
    moved[1], goal[1] = other, here
    return 2


@njit(cache=True)
def _exchange_group(slot, occupant, unit, kind, step, first, members, exists, group, right, up,
                    moved, goal, seen_lc, seen_unit, tick):
    """All that is in the logic cells of a group, with all that is where it goes, if neither side
    tears something apart. Number of cells that move, 0 if none can.

    ``tick`` and ``tick + 1`` must not have been used before; the arrays ``seen`` are theirs.
    """
    shift = (right * _ROWS + up) * _LCS
    if step[group] < _LCS:
        start = slot[members[first[group]]] // _SLOTS % _LCS // step[group]
        shift += step[group] * (_below(_LCS // step[group]) - start)
    if shift == 0:
        return 0
    for index in range(first[group], first[group + 1]):
        seen_lc[slot[members[index]] // _SLOTS] = tick
    for index in range(first[group], first[group + 1]):
        lc = slot[members[index]] // _SLOTS + shift
        if lc < 0 or lc >= exists.size or not exists[lc] or seen_lc[lc] == tick:
            return 0
    for index in range(first[group], first[group + 1]):
        seen_lc[slot[members[index]] // _SLOTS + shift] = tick + 1
    count = 0
    for side in range(2):
        for index in range(first[group], first[group + 1]):
            lc = slot[members[index]] // _SLOTS + side * shift
            if seen_lc[lc] != tick + side:
                continue            # done: the group has another cell there
            seen_lc[lc] = -tick - side
            for place in range(lc * _SLOTS, (lc + 1) * _SLOTS):
                cell = occupant[place]
                if cell < 0:
                    continue
                other = unit[cell]
                if kind[other] == _FIXED:
                    return 0
                if seen_unit[other] != tick:
                    seen_unit[other] = tick
                    if step[other] > step[group]:
                        return 0
                    for part in range(first[other], first[other + 1]):
                        if abs(seen_lc[slot[members[part]] // _SLOTS]) != tick + side:
                            return 0
                moved[count] = cell
                goal[count] = place + (1 - 2 * side) * shift * _SLOTS
                count += 1
    return count


@njit(cache=True, nogil=True)
def _anneal(layout, nets, pulls, boxes, crowding, movers, moves, temperatures, reaches, seed):
    """Exchange; ``layout`` and ``boxes`` change."""
    # Names of their own: numba counts references of a tuple's arrays at every use.
    x, y, slot, unit, control, shared, uses_m, occupant, exists, kind, step, first, members = layout
    net_first, pins, weight, cell_first, cell_nets = nets
    pull_first, pull_other, pull_weight = pulls
    np.random.seed(seed)
    cost = np.empty(boxes.shape[0])
    for net in range(cost.size):
        cost[net] = _cost(boxes[net, 0], boxes[net, 1], boxes[net, 2], boxes[net, 3], weight[net],
                          crowding)
    most = 4 * np.max(np.diff(first)) + 16
    moved, goal, back = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64)
    seen_lc = np.zeros(exists.size, np.int64)
    seen_unit = np.zeros(kind.size, np.int64)
    seen_net = np.zeros(cost.size, np.int64)
    touched = np.empty(cost.size, np.int64)
    new_boxes, new_cost = np.empty_like(boxes), np.empty_like(cost)
    for move in range(moves):
        ramp = move / moves
        temperature = temperatures[0] * (temperatures[1] / temperatures[0]) ** ramp
        reach = reaches[0] * (reaches[1] / reaches[0]) ** ramp
        # A little aside, into the box of a net, or to where one is awaited.
        mover = movers[_below(movers.size)]
        cell = members[first[mover] + _below(first[mover + 1] - first[mover])]
        count = cell_first[cell + 1] - cell_first[cell]
        pull_count = pull_first[cell + 1] - pull_first[cell]
        if pull_count > 0 and np.random.random() < JUMPS:
            other = pull_other[pull_first[cell] + _below(pull_count)]
            right = x[other] + _below(2 * LANDING + 1) - LANDING - x[cell]
            up = y[other] + _below(2 * LANDING + 1) - LANDING - y[cell]
        elif count > 0 and np.random.random() < 0.5:
            net = cell_nets[cell_first[cell] + _below(count)]
            right = boxes[net, 0] + _below(boxes[net, 1] - boxes[net, 0] + 1) - x[cell]
            up = boxes[net, 2] + _below(boxes[net, 3] - boxes[net, 2] + 1) - y[cell]
            far = max(abs(right), abs(up))
            if far > 3 * reach:
                right, up = int(right * 3 * reach / far), int(up * 3 * reach / far)
        else:
            aside = int(reach + 0.5)
            right, up = _below(2 * aside + 1) - aside, _below(2 * aside + 1) - aside
        column, row = x[cell] + right, y[cell] + up
        tile = column * _ROWS + row
        if (column < 0 or row < 0 or row >= _ROWS or tile * _LCS >= exists.size
                or not exists[tile * _LCS]):
            continue
        tick = 2 * move + 2
        if kind[mover] == _SINGLE:
            count = _exchange_one(slot, occupant, unit, kind, cell, tile, moved, goal)
        else:
            count = _exchange_group(slot, occupant, unit, kind, step, first, members, exists, mover,
                                    right, up, moved, goal, seen_lc, seen_unit, tick)
        if count == 0:
            continue
        for index in range(count):
            back[index] = slot[moved[index]]
            occupant[back[index]] = -1
        for index in range(count):
            occupant[goal[index]] = moved[index]
        legal = True
        for index in range(count):
            # Neighbours of a group mostly share their tiles.
            for slots in (goal, back):
                tile = slots[index] // (_SLOTS * _LCS)
                if legal and (index == 0 or slots[index - 1] // (_SLOTS * _LCS) != tile):
                    legal = _is_legal(occupant, control, shared, uses_m, tile)
        if not legal:
            for index in range(count):
                occupant[goal[index]] = -1
            for index in range(count):
                occupant[back[index]] = moved[index]
            continue
        change = 0.0
        for index in range(count):
            cell = moved[index]
            for pull in range(pull_first[cell], pull_first[cell + 1]):
                other = pull_other[pull]
                change -= pull_weight[pull] * (abs(x[cell] - x[other]) + abs(y[cell] - y[other]))
        # Large nets whose box stays what it is are not looked at.
        nets_touched = 0
        for index in range(count):
            cell, tile = moved[index], goal[index] // (_SLOTS * _LCS)
            column, row, new_column, new_row = x[cell], y[cell], tile // _ROWS, tile % _ROWS
            if column == new_column and row == new_row:
                continue
            for one in range(cell_first[cell], cell_first[cell + 1]):
                net = cell_nets[one]
                if seen_net[net] != tick and not (
                        boxes[net, 0] < column < boxes[net, 1]
                        and boxes[net, 2] < row < boxes[net, 3]
                        and boxes[net, 0] <= new_column <= boxes[net, 1]
                        and boxes[net, 2] <= new_row <= boxes[net, 3]):
                    seen_net[net] = tick
                    touched[nets_touched] = net
                    nets_touched += 1
        for index in range(count):
            tile = goal[index] // (_SLOTS * _LCS)
            x[moved[index]], y[moved[index]] = tile // _ROWS, tile % _ROWS
            slot[moved[index]] = goal[index]
        for index in range(nets_touched):
            net = touched[index]
            left, right, low, high = _box(x, y, net_first, pins, net)
            new_boxes[index, 0], new_boxes[index, 1] = left, right
            new_boxes[index, 2], new_boxes[index, 3] = low, high
            new_cost[index] = _cost(left, right, low, high, weight[net], crowding)
            change += new_cost[index] - cost[net]
        for index in range(count):
            cell = moved[index]
            for pull in range(pull_first[cell], pull_first[cell + 1]):
                other = pull_other[pull]
                change += pull_weight[pull] * (abs(x[cell] - x[other]) + abs(y[cell] - y[other]))
        if change <= 0 or np.random.random() < np.exp(-change / temperature):
            for index in range(nets_touched):
                net = touched[index]
                for side in range(4):
                    boxes[net, side] = new_boxes[index, side]
                cost[net] = new_cost[index]
        else:
            for index in range(count):
                occupant[goal[index]] = -1
            for index in range(count):
                tile = back[index] // (_SLOTS * _LCS)
                x[moved[index]], y[moved[index]] = tile // _ROWS, tile % _ROWS
                slot[moved[index]] = back[index]
                occupant[back[index]] = moved[index]
