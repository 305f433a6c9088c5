"""How strongly each connection should become shorter: weights by slack.

A connection costs its length times a weight, the larger the less slack its path has (T-VPlace:
Marquardt, Betz and Rose, FPGA 2000) and the more such paths share it (Kong, ICCAD 2002): as much
weight leads to a LUT as away from it, so that whole paths move.
"""

from collections.abc import Iterator, Mapping
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np

from gen.pnr.anneal import Pulls
from gen.pnr.ecp5 import crossing_limit
from gen.pnr.slack import NEVER, pull_flow, slacks


if TYPE_CHECKING:
    from gen.pnr.place import Design


__all__ = ["critical_pulls", "timed_pairs", "update_weights"]


WEIGHT, MARGIN = 60.0, 0.9
"""Weight, divided by the period in ns, of a connection whose path takes ``MARGIN`` of its period;
the margin is for what routing adds."""

SHARED = 8.0
"""Most that a connection of many paths weighs, in weights of one that has its slack alone."""

INERTIA = 0.7
"""Part of its old weight that a connection keeps in an update: paths do not take turns then."""

LEAST = 0.1
"""Weight up to which a connection is not looked at."""


def update_weights(design: "Design", exponent: float) -> dict[str, float]:
    """Update the weights of all connections. Returns the longest path of each clock, ns, and of
    each pair of clocks that has one.

    A path that takes the part p of its period weighs p to the power of ``exponent``.
    """
    paths, weights = design.paths, design.weights
    now = np.zeros_like(weights[0]), np.zeros_like(weights[1])
    slowest = {}
    for launch, capture, name, ns in timed_pairs(design.periods):
        of_arcs, of_ends = slacks(design.layout, paths, launch, capture, ns * MARGIN)
        if launch != capture and of_ends.min(initial=NEVER) == NEVER:
            continue
        critical = [WEIGHT / ns * np.clip(1 - slack / (ns * MARGIN), 0, 1.5) ** exponent
                    for slack in (of_arcs, of_ends)]
        flow = pull_flow(paths, of_arcs, critical[1])
        np.clip(flow, critical[0], SHARED * critical[0], out=critical[0])
        for weight, new in zip(now, critical, strict=True):
            np.maximum(weight, new, out=weight)
        slowest[name] = round(float(ns * MARGIN - of_ends.min(initial=ns)), 2)
    for weight, new, wire in zip(weights, now, (paths.arc_wire, paths.end_wire), strict=True):
        weight *= INERTIA
        weight += (1 - INERTIA) * np.where(wire < 0, 0, new)
    return slowest


def timed_pairs(periods: Mapping) -> Iterator[tuple[int, int, str, float]]:
    """``(launching clock, capturing clock, name, ns)`` that paths are held to: the period of each
    clock, and the limit between two of them. ``periods`` are a :class:`Design`'s."""
    for domain, (name, ns) in periods.items():
        yield domain, domain, name, ns
    for (launch, (name, _)), (capture, (other, _)) in permutations(periods.items(), 2):
        yield launch, capture, f"{name} to {other}", crossing_limit(name)


def critical_pulls(design: "Design") -> Pulls:
    """The connections with a weight, from both their ends."""
    count, paths = len(design.cells), design.paths
    source = np.concatenate([paths.driver[paths.arc_from], paths.driver[paths.end_from]])
    sink = np.concatenate([paths.arc_cell, paths.end_cell])
    weight = np.concatenate(design.weights)
    some = (weight > LEAST) & (source != sink)
    source, sink, weight = source[some], sink[some], weight[some]
    # A LUT has an arc for each of its outputs; the heaviest counts.
    pair = source * count + sink
    order = np.lexsort((weight, pair))
    last = np.append(np.diff(pair[order]) != 0, True)[:order.size]
    source, sink, weight = (column[order][last] for column in (source, sink, weight))
    one, other = np.concatenate([source, sink]), np.concatenate([sink, source])
    order = np.argsort(one, kind="stable")
    first = np.concatenate([[0], np.cumsum(np.bincount(one, minlength=count))])
    return Pulls(first, other[order], np.concatenate([weight, weight])[order])
