"""Detailed placement: improve, by simulated annealing, what nextpnr has placed on an ECP5.

nextpnr's electrostatic placer finds where everything belongs. It then loses a seventh of the wire
when it makes that legal, and a faster clock costs it wire again. This module takes a legal
placement that was made for wire length alone, and exchanges LUTs, flip-flops, carry chains and RAMs
for less

- wire length (:mod:`gen.pnr.congestion`);
- congestion (:mod:`gen.pnr.congestion`);
- length of critical connections (:mod:`gen.pnr.slack`, :mod:`gen.pnr.criticality`).

What may move where: :mod:`gen.pnr.legal`. Replicas of flip-flops: :mod:`gen.pnr.replicate`. What it
gave: docs/decisions/0007.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gen.pnr.anneal import anneal
from gen.pnr.congestion import bounding_boxes, congestion_sums, Nets, read_nets
from gen.pnr.criticality import critical_pulls, timed_pairs, update_weights
from gen.pnr.ecp5 import slot_bel
from gen.pnr.graph import drivers_and_sinks, main_module
from gen.pnr.legal import FIXED, Layout, read_layout
from gen.pnr.replicate import replicate
from gen.pnr.slack import Paths, read_paths


__all__ = ["Design", "Placement", "place_detailed", "read_design"]


ROUNDS, MOVES = 80, 2_500_000
"""Analyses of timing and wire, and exchanges tried after each."""

HOT, COLD = 2.0, 0.03
"""Temperature, in tiles of wire, of the first and the last round."""

REACH = 12.0
"""Tiles that a cell may move in the first round; one in the last."""

FIRST_EXPONENT, LAST_EXPONENT, SHARPENED = 4.0, 16.0, 0.6
"""Exponent of criticality in the first round, and from the part ``SHARPENED`` of all rounds on.
While it is low, connections of the whole path weigh enough to move it; while it is high, only the
slowest paths count."""

CHOSEN_FROM = 0.2
"""Part of the rounds, at the end, of whose placements the fastest is the result."""

REPLICATED = 0.3
"""Part of the rounds after which flip-flops are replicated."""


@dataclass(frozen=True)
class Placement:
    """What :func:`place_detailed` did.

    Parameters
    ----------
    wire_before, wire : int
        Wire length: sum over nets of half the perimeter of their boxes, tiles.
    slowest_before, slowest : dict
        Longest path of each clock and between each two, ns, by the delays of
        :mod:`gen.pnr.slack`.
    replicas : int
        Flip-flops added.
    """

    wire_before: int
    wire: int
    slowest_before: dict[str, float]
    slowest: dict[str, float]
    replicas: int


class Design(NamedTuple):
    """A placed netlist, read."""

    cells: list
    driver: dict
    sinks: dict
    layout: Layout
    nets: Nets
    paths: Paths
    periods: dict           # name and ns of clocks, by their number in ``paths``
    weights: tuple          # of arcs and ends, now
    boxes: np.ndarray       # around every net, now
    movers: np.ndarray      # units that may move


def read_design(module: Mapping, clocks: Mapping[str, float]) -> Design:
    """Read a module of a placed netlist. Weights are 0.

    ``clocks`` are the MHz that the clock on a net must reach.
    """
    cells = list(module["cells"].values())
    driver, sinks = drivers_and_sinks(cells)
    layout = read_layout(cells, driver, sinks)
    nets = read_nets(layout, driver, sinks)
    paths, domains = read_paths(cells, driver, sinks)
    periods = {}
    for net, mhz in clocks.items():
        for bit in module["netnames"].get(net, {"bits": ()})["bits"]:
            if bit in domains:
                periods[domains[bit]] = net.removeprefix("$glbnet$"), 1e3 / mhz
    weights = np.zeros(paths.arc_from.size), np.zeros(paths.end_from.size)
    return Design(cells, driver, sinks, layout, nets, paths, periods, weights,
                  bounding_boxes(layout, nets), np.flatnonzero(layout.kind != FIXED))


def place_detailed(placed: dict, clocks: Mapping[str, float], *, seed: int = 1,
                   rounds: int | None = None, moves: int | None = None,
                   on_progress: Callable[[str], None] | None = None) -> Placement:
    """Improve a placement, in place (``NEXTPNR_BEL`` of its cells).

    Parameters
    ----------
    placed : dict
        What nextpnr-ecp5 wrote after it had placed a design.
    clocks : mapping
        MHz that the clock on a net must reach; other clocks are not looked at.
    seed : int
        Of the annealing.
    rounds, moves : int
        ``ROUNDS`` and ``MOVES`` unless given; a small design needs fewer.
    on_progress : callable
        Called with a line of text before each round.
    """
    rounds, moves = rounds or ROUNDS, moves or MOVES
    module = main_module(placed)
    design, replicas = read_design(module, clocks), 0
    first: tuple[int, dict[str, float]] | None = None
    best: tuple[float, int, dict[str, float], np.ndarray] | None = None
    for number in range(rounds + 1):
        part = number / rounds
        if number == int(REPLICATED * rounds):
            _put(design, design.layout.slot)
            replicas = replicate(module, design)
            design = read_design(module, clocks)
        boxes = design.boxes
        wire = int((boxes[:, 1] - boxes[:, 0] + boxes[:, 3] - boxes[:, 2]).sum())
        slowest = update_weights(design, FIRST_EXPONENT + (LAST_EXPONENT - FIRST_EXPONENT)
                                 * min(1, part / SHARPENED))
        first = first or (wire, slowest)
        # The slowest path of all, in periods.
        longest = max((slowest[name] / ns for _, _, name, ns in timed_pairs(design.periods)
                       if name in slowest), default=0.0)
        if part >= 1 - CHOSEN_FROM and (best is None or longest < best[0]):
            best = longest, wire, slowest, design.layout.slot.copy()
        if number == rounds:
            break
        if on_progress:
            on_progress(f"placement, round {number + 1} of {rounds}: wire length {wire}, "
                        + ", ".join(f"{name} {ns:.1f} ns" for name, ns in slowest.items()))
        ramp = part + np.array([0, 1 / rounds])
        anneal(design.layout, design.nets, critical_pulls(design), boxes,
               congestion_sums(boxes, design.nets), design.movers, moves,
               HOT * (COLD / HOT) ** ramp, REACH ** (1 - ramp), seed + number)
    if first is None or best is None:
        raise ValueError(f"there must be rounds, not {ROUNDS}")
    _, wire, slowest, slots = best
    _put(design, slots)
    return Placement(wire_before=first[0], wire=wire, slowest_before=first[1], slowest=slowest,
                     replicas=replicas)


def _put(design: Design, slots: np.ndarray) -> None:
    """Write slots into the netlist."""
    for cell, slot in zip(design.cells, slots, strict=True):
        if slot >= 0:
            cell["attributes"]["NEXTPNR_BEL"] = slot_bel(int(slot))
