import numpy as np
import pytest

from gen.pnr import congestion
from gen.pnr.congestion import bounding_boxes, congestion_sums, net_cost, ranges, read_nets
from gen.pnr.graph import drivers_and_sinks
from gen.pnr.legal import read_layout
from tests.gen.pnr.placed_netlist import FakePlacement


def test_ranges():
    first, elements = ranges([[3, 4], [], [5]])
    assert first.tolist() == [0, 2, 2, 3] and elements.tolist() == [3, 4, 5]


def test_nets_and_boxes():
    place = FakePlacement()
    place.add("one", "TRELLIS_COMB", "X4/Y4/SLICEA.K0", {"A": "b"}, {"F": "a"})
    place.add("two", "TRELLIS_COMB", "X9/Y6/SLICEA.K0", {"A": "a"}, {"F": "b"})
    place.add("three", "TRELLIS_COMB", "X2/Y9/SLICEA.K0", {"A": "a"}, {"F": "unused"})
    place.add("gate", "DCCA", "X1/Y1/DCC0", {}, {"CLKO": "clk"})
    place.flip_flop("ff", "X5/Y5/SLICEB.FF0", "b", "q", port="M")
    cells = list(place.cells.values())
    driver, sinks = drivers_and_sinks(cells)
    layout = read_layout(cells, driver, sinks)
    nets = read_nets(layout, driver, sinks)
    # Neither the clock nor what nothing reads.
    pins = [nets.pins[nets.first[k]:nets.first[k + 1]].tolist() for k in range(2)]
    assert nets.weight.size == 2 and pins == [[0, 1, 2], [0, 1, 4]]
    assert bounding_boxes(layout, nets).tolist() == [[2, 9, 4, 9], [4, 9, 4, 6]]


def test_cost_grows_with_congestion(monkeypatch):
    boxes = np.array([[10, 70, 10, 70]] * 30)
    nets = congestion.Nets(2 * np.arange(31), None, None, None, None)
    free = congestion_sums(boxes, nets)
    assert not free.any()
    assert net_cost(10, 70, 10, 70, 2.0, free) == 2.0 * 120
    monkeypatch.setattr(congestion, "CONGESTED", 0.1)
    congested = congestion_sums(boxes, nets)
    # Far from the edges of 30 boxes of 61 x 61 tiles, each with a tree of 120.5 tiles.
    extra = congestion.EXTRA_COST * (30 * 120.5 / 61**2 / 0.1 - 1)
    assert net_cost(38, 42, 38, 42, 1.0, congested) == pytest.approx(8 * (1 + extra))
    # Tiles without wire cost nothing more.
    assert net_cost(0, 1, 110, 111, 1.0, congested) == pytest.approx(2.0)
