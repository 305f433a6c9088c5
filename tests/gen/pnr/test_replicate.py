import copy

import numpy as np
import pytest

from gen.pnr import replicate
from gen.pnr.place import place_detailed
from tests.gen.pnr.placed_netlist import cells_of, far_loads, where


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
