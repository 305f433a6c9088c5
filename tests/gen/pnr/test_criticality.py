import pytest

from gen.pnr.criticality import critical_pulls, timed_pairs, update_weights
from gen.pnr.ecp5 import CROSSING_NS
from gen.pnr.place import read_design
from tests.gen.pnr.placed_netlist import FakePlacement


def test_paths_that_share_a_lut_move_with_it():
    """What all of a LUT's loads pull at it, pulls it towards what it waits for as well."""
    place = FakePlacement()
    place.flip_flop("start", "X2/Y2/SLICEA.FF0", "x", "q", port="M")
    place.flip_flop("near", "X9/Y3/SLICEA.FF0", "x", "n", port="M")
    place.add("lut", "TRELLIS_COMB", "X9/Y2/SLICEA.K0", {"A": "q", "B": "n"}, {"F": "f"})
    for number in range(5):
        place.flip_flop(f"end{number}", f"X{9 + number}/Y6/SLICEA.FF0", "f", f"e{number}", port="M")
    design = read_design(place.netlist()["modules"]["top"], {"clk": 300.0})
    for _ in range(30):
        update_weights(design, 4.0)
    arcs, ends = design.weights
    lut = list(design.cells).index(place.cells["lut"])
    weights = dict(zip(design.paths.driver[design.paths.arc_from], arcs, strict=True))
    to_lut = design.paths.end_from == list(design.driver).index(place.nets["f"])
    late, early = (weights[design.cells.index(place.cells[name])] for name in ("start", "near"))
    assert (design.paths.arc_cell == lut).all()
    assert late + early == pytest.approx(ends[to_lut].sum(), rel=0.02) and late > 3 * early
    assert ends[to_lut].size == 5 and ends[to_lut].min() > 0.1


def test_pulls_from_both_ends():
    place = FakePlacement()
    place.flip_flop("start", "X2/Y2/SLICEA.FF0", "x", "q", port="M")
    place.flip_flop("end", "X20/Y2/SLICEA.FF0", "q", "e", port="M")
    design = read_design(place.netlist()["modules"]["top"], {"clk": 400.0})
    assert critical_pulls(design).other.size == 0       # no weight yet
    slowest = update_weights(design, 1.0)
    path = 0.52 + 0.65 + 0.0008 + 8 * 0.1 + 10 * 0.062 + 0.1
    assert slowest == {"clk": pytest.approx(path, abs=0.01)}
    pulls = critical_pulls(design)
    assert pulls.first.tolist() == [0, 1, 2] and pulls.other.tolist() == [1, 0]
    assert pulls.weight[0] == pulls.weight[1] == pytest.approx(design.weights[1].max())


def test_paths_between_clocks_weigh():
    """A path from a flip-flop of one clock to one of another is held to the limit."""
    place = FakePlacement()
    place.flip_flop("start", "X2/Y2/SLICEA.FF0", "x", "q", port="M")
    place.flip_flop("end", "X62/Y2/SLICEA.FF0", "q", "e", port="M")
    place.flip_flop("last", "X63/Y2/SLICEA.FF0", "e", "l", port="M")
    for name in ("end", "last"):
        place.cells[name]["connections"]["CLK"] = [place.net("other")]
    design = read_design(place.netlist()["modules"]["top"], {"clk": 80.0, "other": 130.0})
    assert [(name, ns) for *_, name, ns in timed_pairs(design.periods)] == [
        ("clk", 12.5), ("other", pytest.approx(7.69, abs=0.01)), ("clk to other", CROSSING_NS),
        ("other to clk", CROSSING_NS)]
    slowest = update_weights(design, 1.0)
    path = 0.52 + 0.65 + 0.0008 + 8 * 0.1 + 52 * 0.062 + 0.1
    assert slowest["clk to other"] == pytest.approx(path, abs=0.01)
    assert slowest["other"] < 2 and "other to clk" not in slowest
    pulls = critical_pulls(design)
    assert pulls.other[pulls.first[0]:pulls.first[1]].tolist() == [1]
    assert pulls.weight[0] > 3 * pulls.weight[-1]
