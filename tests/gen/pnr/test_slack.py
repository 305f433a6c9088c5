import pytest

from gen.pnr.graph import drivers_and_sinks
from gen.pnr.legal import read_layout
from gen.pnr.slack import read_paths, slacks
from tests.gen.pnr.placed_netlist import FakePlacement


def test_slack():
    """Flip-flop, two LUTs with a multiplexer and a carry, flip-flop: by hand."""
    place = FakePlacement()
    place.flip_flop("start", "X2/Y2/SLICEA.FF0", "x", "q", port="M")
    place.add("lut", "TRELLIS_COMB", "X5/Y6/SLICEA.K0", {"A": "q"}, {"F": "f"})
    place.add("carry", "TRELLIS_COMB", "X9/Y6/SLICEA.K0", {"A": "f"}, {"FCO": "c"}, MODE="CCU2")
    place.add("sum", "TRELLIS_COMB", "X9/Y6/SLICEA.K1", {"FCI": "c"}, {"F": "s"}, MODE="CCU2")
    place.flip_flop("end", "X9/Y6/SLICEA.FF1", "s", "e")
    place.flip_flop("held", "X9/Y9/SLICEB.FF0", "e", "h", enable="q", port="M")
    cells = list(place.cells.values())
    driver, sinks = drivers_and_sinks(cells)
    layout = read_layout(cells, driver, sinks)
    paths, domains = read_paths(cells, driver, sinks)
    arcs, ends = slacks(layout, paths, *[domains[place.nets["clk"]]] * 2, 10.0)
    path = (0.52 + (0.65 + 2 * 0.0008 + 7 * 0.1) + 0.24 + (0.65 + 0.0008 + 4 * 0.1)
            + 0.44 + 0.44 + 0.1)
    assert min(ends) == pytest.approx(10 - path)
    assert sorted(arcs[arcs < 1e8]) == pytest.approx([10 - path] * 3)
    enable = 0.52 + (0.65 + 2 * 0.0008 + 8 * 0.1 + 6 * 0.062) + 0.2
    assert sorted(ends)[1] == pytest.approx(10 - enable)
