"""Slack of a placed netlist, and how strongly each connection should become shorter.

Delays of cells are those of :mod:`gen.pnr.ecp5`; those of wires follow the distance, as routed
where their paths were critical (docs/decisions/0007).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from numba import njit
import numpy as np

from gen.pnr import ecp5
from gen.pnr.graph import net_of


__all__ = ["NEVER", "Paths", "pull_flow", "read_paths", "slacks"]


ENTRY_NS, LOAD_NS, NEAR_NS, FAR_NS, NEAR = 0.65, 0.0008, 0.10, 0.062, 8
"""Delay of a wire: its ends, each load of its net (which nextpnr's router does not see, and its
report does), each of the first ``NEAR`` tiles, and each further one."""

EVENLY_NS = 0.3
"""Slack by which the criticality led back through one input of a LUT is e times that of another."""

NEVER = 1e9
"""Slack where no path of the clock is, ns."""


class Paths(NamedTuple):
    """Timing graph: nodes are driven nets. Arcs lead through a LUT to the net that it drives, in
    topological order; ends are inputs of flip-flops and the like. A wire of less than 0 takes no
    time."""

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


def read_paths(cells: Sequence[Mapping], driver: Mapping, sinks: Mapping) -> tuple[Paths, dict]:
    """Timing graph, and a number for the net of every clock.

    ``driver`` and ``sinks`` are those of :func:`gen.pnr.graph.drivers_and_sinks`.
    """
    node = {bit: number for number, bit in enumerate(driver)}
    launch, launch_clock = np.zeros(len(node)), np.full(len(node), -1)
    outputs = defaultdict(list)
    for bit, (cell, port) in driver.items():
        outputs[cell].append((bit, port))
    domains: dict = {}
    arcs: list[tuple] = []
    ends: list[tuple] = []
    # Of the wire of every net, but for its length.
    entry = {bit: ENTRY_NS + LOAD_NS * len(sinks[bit]) for bit in driver}
    for number, cell in enumerate(cells):
        kind = cell["type"]
        if kind in ecp5.UNTIMED:
            continue
        inputs = [(bit, port) for port, bits in cell["connections"].items()
                  if cell["port_directions"][port] == "input" and port not in ecp5.CLOCK_PORTS
                  for bit in bits if bit in node]
        if kind == "TRELLIS_COMB":
            for bit, port in inputs:
                # A RAM's write port is a cell of its own.
                if port == "WRE":
                    domain = domains.setdefault(net_of(cell, "WCK"), len(domains))
                    ends.append((node[bit], number, 0.1, entry[bit], domain))
                elif not port.startswith("WAD") and port != "WD":
                    wire = -1.0 if port in ("FCI", "FXA", "FXB", "F1") else entry[bit]
                    arcs += [(node[bit], number, node[out], ecp5.comb_delay(port, of), wire)
                             for out, of in outputs[number]]
            continue
        if kind == "TRELLIS_RAMW":
            clock = next(net_of(cells[sink], "WCK") for out, _ in outputs[number]
                         for sink, _ in sinks[out])
        else:
            clock = next((bit for bit in (net_of(cell, port)
                                          for port in ("CLK", "CLKA", "CLK0", "CLKI"))
                          if bit is not None), None)
        if clock is None:
            # A multiplier without registers.
            delay = ecp5.CLOCK_TO_Q_NS.get(kind, 0.0)
            arcs += [(node[bit], number, node[out], delay, entry[bit])
                     for bit, _ in inputs for out, _ in outputs[number]]
            continue
        domain = domains.setdefault(clock, len(domains))
        for out, port in outputs[number]:
            launch[node[out]] = ecp5.launch_delay(kind, cell["parameters"], port)
            launch_clock[node[out]] = domain
        ends += [(node[bit], number, ecp5.SETUP_NS.get(port, 0.1),
                  -1.0 if port == "DI" and kind == "TRELLIS_FF" else entry[bit], domain)
                 for bit, port in inputs]
    drivers = np.array([driver[bit][0] for bit in node], np.int64)
    return Paths(drivers, launch, launch_clock,
                 *_columns(_ordered(arcs, len(node)), (np.int64, np.int64, np.int64, float, float)),
                 *_columns(ends, (np.int64, np.int64, float, float, np.int64))), domains


def _ordered(arcs, nodes):
    """Arcs in topological order; those of a loop have none, and are left out."""
    missing, users = np.zeros(nodes, np.int64), defaultdict(list)
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
    return ordered


def _columns(rows, kinds):
    """Rows of plain numbers as arrays, one for each column."""
    columns = zip(*rows, strict=True) if rows else [()] * len(kinds)
    return [np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]


@njit(cache=True)
def slacks(layout, paths, launch, capture, period):
    """Slack of every arc and every end, ns, from flip-flops of clock ``launch`` to those of
    ``capture``; ``NEVER``: none there. ``layout`` has the cells' ``x`` and ``y``."""
    x, y = layout.x, layout.y
    arrival = np.full(paths.launch.size, -NEVER)
    required = np.full(paths.launch.size, NEVER)
    for node in range(arrival.size):
        if paths.launch_clock[node] == launch:
            arrival[node] = paths.launch[node]
    arcs, ends = np.full(paths.arc_from.size, NEVER), np.full(paths.end_from.size, NEVER)
    for arc in range(arcs.size):
        node = paths.arc_from[arc]
        if arrival[node] > -NEVER:
            time = (arrival[node] + paths.arc_delay[arc] + _delay(
                x, y, paths.driver[node], paths.arc_cell[arc], paths.arc_wire[arc]))
            arrival[paths.arc_to[arc]] = max(arrival[paths.arc_to[arc]], time)
    for end in range(ends.size):
        node = paths.end_from[end]
        if paths.end_clock[end] == capture and arrival[node] > -NEVER:
            latest = (period - paths.end_setup[end] - _delay(
                x, y, paths.driver[node], paths.end_cell[end], paths.end_wire[end]))
            ends[end] = latest - arrival[node]
            required[node] = min(required[node], latest)
    for arc in range(arcs.size - 1, -1, -1):
        node, to = paths.arc_from[arc], paths.arc_to[arc]
        if arrival[node] > -NEVER and required[to] < NEVER:
            latest = (required[to] - paths.arc_delay[arc] - _delay(
                x, y, paths.driver[node], paths.arc_cell[arc], paths.arc_wire[arc]))
            arcs[arc] = latest - arrival[node]
            required[node] = min(required[node], latest)
    return arcs, ends


@njit(cache=True)
def pull_flow(paths, arc_slacks, ends):
    """Criticality of ends, led back to arcs: as much goes into a LUT as comes out of it, most of it
    through the input that arrives last."""
    whole, out = np.zeros(paths.launch.size), np.zeros(paths.launch.size)
    least = NEVER
    for slack in arc_slacks:
        least = min(least, slack)
    flow = np.exp((least - arc_slacks) / EVENLY_NS)
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
