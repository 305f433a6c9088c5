import copy
from itertools import combinations

import numpy as np
import pytest

from gen.pnr import replicate
from gen.pnr.graph import net_of
from gen.pnr.legal import control_sets
from gen.pnr.place import place_detailed, read_design
from tests.gen.pnr.placed_netlist import cells_of, FakePlacement, far_loads, where


def test_far_loads_have_a_flip_flop_of_their_own(monkeypatch, short):
    monkeypatch.setattr(replicate, "REPLICA_SPAN", 20)
    netlist = far_loads()
    before = copy.deepcopy(netlist)
    result = place_detailed(netlist, {"clk": 333.0})
    cells = cells_of(netlist)
    replicas = [name for name in cells if name not in cells_of(before)]
    assert len(replicas) == result.replicas == 1 and replicas[0].startswith("control$")
    bits = set()
    for name in ("control", *replicas):
        ports = dict(cells[name]["connections"])
        bits.update(ports.pop("Q"))
        assert ports | {"Q": []} == cells_of(before)["control"]["connections"] | {"Q": []}
        assert cells[name]["parameters"] == cells_of(before)["control"]["parameters"]
    assert len(bits) == 2
    assert bits <= {bit for net in netlist["modules"]["top"]["netnames"].values()
                    for bit in net["bits"]}
    # Each drives the eight of its side of the chip.
    sides = {name: {x for x in (4, 5, 22, 23) for y in (2, 3, 18, 19)
                    if cells[f"t{x}_{y}"]["connections"]["A"] == cells[name]["connections"]["Q"]}
             for name in ("control", *replicas)}
    assert sorted(map(sorted, sides.values())) == [[4, 5], [22, 23]]
    for name, side in sides.items():
        assert abs(where(cells[name])[0] - np.mean(list(side))) < 6
    monkeypatch.setattr(replicate, "REPLICATE_BELOW", -1e9)
    without = place_detailed(before, {"clk": 333.0})
    assert without.replicas == 0 and result.slowest["clk"] < without.slowest["clk"] - 0.1


@pytest.mark.parametrize("which", ["control", "before"])
def test_synchronisers_stay_alone(monkeypatch, short, which):
    """Neither a flip-flop that reads another clock's has replicas, nor the one behind it."""
    monkeypatch.setattr(replicate, "REPLICA_SPAN", 20)
    netlist = far_loads()
    cells = cells_of(netlist)
    place = {"control": "before", "before": "q23_2"}[which]
    cells[place]["connections"]["CLK"] = [9999]     # The enable of "control" is timed.
    assert place_detailed(netlist, {"clk": 333.0}).replicas == 0


def controls(seed):
    """A chain of flip-flops, each the enable or reset of slices all over the chip and of its
    neighbours in the chain; the tiles of many hold loads of several of them."""
    rng = np.random.default_rng(seed)
    place, count = FakePlacement(), 6
    place.flip_flop("first", "X13/Y10/SLICEA.FF0", "q5_3_A0", "c0", port="M")
    for number in range(1, count + 1):
        enable = f"c{rng.integers(count + 1)}" if number % 2 else None
        place.flip_flop(f"chain{number}", f"X{12 + number % 3}/Y{9 + number % 4}/SLICEC.FF0",
                        f"c{number - 1}", f"c{number}", enable=enable, port="M")
    for x in (*range(4, 8), *range(18, 22)):
        for y in (*range(2, 6), *range(15, 19)):
            reset = f"c{rng.integers(count + 1)}" if rng.random() < 0.5 else None
            for slice_ in "AB":
                enable = f"c{rng.integers(count + 1)}"
                for index in range(2):
                    place.flip_flop(f"q{x}_{y}_{slice_}{index}",
                                    f"X{x}/Y{y}/SLICE{slice_}.FF{index}",
                                    f"c{rng.integers(count + 1)}", f"q{x}_{y}_{slice_}{index}",
                                    enable=enable, reset=reset, port="M")
            for lc in range(2):
                place.add(f"ram{x}_{y}_{lc}", "TRELLIS_COMB", f"X{x}/Y{y}/SLICED.K{lc}",
                          {"A": f"c{rng.integers(count + 1)}", "WRE": f"c{x % (count + 1)}",
                           "WCK": "clk"}, {"F": f"ram{x}_{y}_{lc}_f"}, MODE="DPRAM")
    return place.netlist()


@pytest.mark.parametrize("seed", range(4))
def test_neighbours_share_their_wires(monkeypatch, seed):
    """Thresholds that force replicas of replicas: what shares a wire stays on one net, and with
    the replicas folded back it is the netlist of before."""
    for name, value in (("REPLICA_SPAN", 6), ("REPLICA_LOADS", 1), ("REPLICATE_BELOW", 1e9),
                        ("REPLICATE_GAIN", -1e9)):
        monkeypatch.setattr(replicate, name, value)
    netlist = controls(seed)
    before = cells_of(copy.deepcopy(netlist))
    module = netlist["modules"]["top"]
    count = replicate.replicate(module, read_design(module, {"clk": 100.0}))
    cells = cells_of(netlist)
    assert count == len(cells) - len(before) > 30

    # One wire for each slice's and tile's controls.
    at = {name: where(cell) for name, cell in cells.items()}
    assert len(set(at.values())) == len(at)
    for one, other in combinations(cells, 2):
        if at[one][:2] != at[other][:2]:
            continue
        a, b = cells[one], cells[other]
        if a["type"] == b["type"] == "TRELLIS_FF":
            assert control_sets(a)[1] == control_sets(b)[1]
            assert at[one][2] // 2 != at[other][2] // 2 or control_sets(a)[0] == control_sets(b)[0]
        elif a["type"] == b["type"] == "TRELLIS_COMB":
            assert net_of(a, "WRE") == net_of(b, "WRE")

    # Folded back.
    origin = {}
    for name in cells:
        if "$copy" in name:
            source = name[:name.index("$copy")]
            origin[cells[name]["connections"]["Q"][0]] = before[source]["connections"]["Q"][0]

    def folded(cell):
        return {port: [origin.get(bit, bit) for bit in bits]
                for port, bits in cell["connections"].items()}

    for name, cell in cells.items():
        assert folded(cell) == before[name.partition("$copy")[0]]["connections"] | (
            {"Q": folded(cell)["Q"]} if "$copy" in name else {})
