import numpy as np
import pytest

from gen.pnr.graph import drivers_and_sinks
from gen.pnr.legal import FIXED, GROUP, is_legal, read_layout, SINGLE
from tests.gen.pnr.placed_netlist import everything, FakePlacement


def layout_of(netlist):
    cells = netlist["modules"]["top"]["cells"]
    return list(cells), read_layout(list(cells.values()), *drivers_and_sinks(list(cells.values())))


def test_units():
    """What moves together, and by how many logic cells."""
    names, layout = layout_of(everything())

    def unit(name):
        return layout.unit[names.index(name)]

    def kind(name):
        return layout.kind[unit(name)], layout.step[unit(name)]

    assert unit("pair_0_0_t") == unit("pair_0_0") != unit("pair_0_1")
    assert len({unit(f"chain_3_{lc}") for lc in range(12)}) == 1
    assert unit("ram_2_w") == unit("ram_2_b0") == unit("ram_2_3")
    assert unit("mux_5_0") == unit("mux_5_1")
    assert kind("pair_0_0") == (GROUP, 1) and kind("mux_5_0") == (GROUP, 2)
    assert kind("chain_3_0") == kind("ram_2_w") == (GROUP, 8)
    assert kind("lut_7")[0] == SINGLE
    assert kind("mine")[0] == FIXED and kind("block")[0] == FIXED
    assert layout.slot[names.index("block")] == -1
    for cell, slot in enumerate(layout.slot):
        assert slot < 0 or layout.occupant[slot] == cell


@pytest.mark.parametrize(("second", "legal"), [
    ({}, True), ({"enable": "other"}, False), ({"reset": "r"}, False)])
def test_flip_flops_of_a_slice(second, legal):
    place = FakePlacement()
    place.flip_flop("one", "X4/Y4/SLICEA.FF0", "a", "b", port="M")
    place.flip_flop("two", "X4/Y4/SLICEA.FF1", "b", "c", port="M", **second)
    _, layout = layout_of(place.netlist())
    tile = 4 * 128 + 4
    assert is_legal(layout.occupant, layout.control, layout.shared, layout.uses_m, tile) == legal


def test_enables_of_two_slices_may_differ():
    place = FakePlacement()
    place.flip_flop("one", "X4/Y4/SLICEA.FF0", "a", "b", port="M")
    place.flip_flop("two", "X4/Y4/SLICEB.FF1", "b", "c", port="M", enable="other")
    _, layout = layout_of(place.netlist())
    arrays = layout.occupant, layout.control, layout.shared, layout.uses_m
    assert is_legal(*arrays, 4 * 128 + 4)
    layout.shared[1] = 7        # another clock
    assert not is_legal(*arrays, 4 * 128 + 4)


def test_input_m_is_one_wire():
    place = FakePlacement()
    place.add("mux", "TRELLIS_COMB", "X4/Y4/SLICEA.K0", {"M": "s"}, {"OFX": "o"})
    place.flip_flop("one", "X4/Y4/SLICEA.FF0", "o", "b", port="M")
    _, layout = layout_of(place.netlist())
    arrays = layout.occupant, layout.control, layout.shared
    assert not is_legal(*arrays, layout.uses_m, 4 * 128 + 4)
    assert is_legal(*arrays, np.zeros_like(layout.uses_m), 4 * 128 + 4)
