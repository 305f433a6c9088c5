import numpy as np

from gen.pnr.anneal import anneal
from gen.pnr.congestion import bounding_boxes, net_cost
from gen.pnr.criticality import critical_pulls
from gen.pnr.place import read_design
from tests.gen.pnr.placed_netlist import everything


def annealed(temperature, moves=20_000):
    design = read_design(everything()["modules"]["top"], {"clk": 100.0})
    boxes, nets = design.boxes, design.nets
    free = np.zeros((boxes[:, 1].max() + 40, 130))
    before = total(boxes, nets, free)
    anneal(design.layout, nets, critical_pulls(design), boxes, free, design.movers, moves,
           np.array([temperature, temperature]), np.array([8.0, 8.0]), 1)
    return design, before, total(boxes, nets, free)


def total(boxes, nets, free):
    return sum(net_cost(*box, weight, free) for box, weight in zip(boxes, nets.weight, strict=True))


def test_cold():
    """Nothing that costs more is kept, and the books are right afterwards."""
    design, before, after = annealed(1e-9)
    assert after < 0.8 * before
    layout = design.layout
    np.testing.assert_array_equal(bounding_boxes(layout, design.nets), design.boxes)
    placed = np.flatnonzero(layout.slot >= 0)
    np.testing.assert_array_equal(layout.occupant[layout.slot[placed]], placed)
    assert (layout.occupant >= 0).sum() == placed.size
    tile = layout.slot[placed] // 24
    np.testing.assert_array_equal(layout.x[placed] * 128 + layout.y[placed], tile)


def test_hot():
    """At a high temperature what costs more is kept as well."""
    assert annealed(1e6)[2] > 1.2 * annealed(1e-9)[2]
