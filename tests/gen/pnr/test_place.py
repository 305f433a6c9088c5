from collections import defaultdict
import copy

import pytest

from gen.pnr import place
from gen.pnr.place import place_detailed
from tests.gen.pnr.placed_netlist import (
    cells_of,
    COLUMNS,
    everything,
    FakePlacement,
    ROWS,
    where,
    wirelength,
)


@pytest.fixture(scope="module")
def before_and_after():
    before = everything()
    after = copy.deepcopy(before)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, "ROUNDS", 8)
        patch.setattr(place, "MOVES", 40_000)
        return before, after, place_detailed(after, {"clk": 100.0, "no such net": 1.0})


def test_less_wire(before_and_after):
    before, after, result = before_and_after
    assert result.wire < 0.8 * result.wire_before
    # RAMW's outputs and other wires within a tile have no length in either.
    assert result.wire_before == wirelength(before) and result.wire == wirelength(after)


def test_nothing_else_changes(before_and_after):
    before, after, _ = before_and_after
    for netlist in copy.deepcopy((before, after)):
        for cell in cells_of(netlist).values():
            del cell["attributes"]["NEXTPNR_BEL"]
        before, after = after, netlist
    assert before == after


def test_still_legal(before_and_after):
    _, after, _ = before_and_after
    cells = cells_of(after)
    places = [cell["attributes"]["NEXTPNR_BEL"] for cell in cells.values()]
    assert len(set(places)) == len(places)
    by_slice, by_tile = defaultdict(set), defaultdict(set)
    for cell in cells.values():
        if cell["type"] == "TRELLIS_FF":
            column, row, lc, kind = where(cell)
            assert kind == "FF"
            ports = cell["connections"]
            by_slice[column, row, lc // 2].add(str(ports.get("CE")))
            by_tile[column, row].add(str(ports.get("LSR")))
    assert all(len(one) == 1 for one in [*by_slice.values(), *by_tile.values()])
    # The multiplexer and what comes directly into a flip-flop use one wire.
    for name, cell in cells.items():
        if "M" in cell["connections"] and cell["type"] == "TRELLIS_COMB":
            bel = cell["attributes"]["NEXTPNR_BEL"].replace(".K", ".FF")
            assert not any(other["attributes"]["NEXTPNR_BEL"] == bel and "M" in other["connections"]
                           for other in cells.values()), name


def test_neighbours_stay_neighbours(before_and_after):
    before, after, _ = before_and_after
    moved = 0
    for name, cell in cells_of(after).items():
        old = cells_of(before)[name]
        if name in ("mine", "block"):
            assert cell == old
            continue
        column, row, lc, kind = where(cell)
        number = name.split("_")[1]
        if name.startswith("pair") and not name.endswith("_t"):
            assert where(cells_of(after)[f"{name}_t"]) == (column, row, lc, "K")
        elif name.startswith(("chain", "ram")):
            first = "chain_{}_0" if name.startswith("chain") else "ram_{}_w"
            there, was = where(cells_of(after)[first.format(number)]), where(old)
            start = where(cells_of(before)[first.format(number)])
            assert (column - there[0], row - there[1]) == (was[0] - start[0], was[1] - start[1])
            assert (lc, kind) == was[2:]
        elif name.startswith("mux"):
            assert where(cells_of(after)[f"mux_{number}_{1 - lc % 2}"])[:2] == (column, row)
            assert lc % 2 == int(name[-1])
        moved += cell != old
    for kind in ("pair", "alone", "chain", "ram", "mux", "lut"):
        assert any(cell != cells_of(before)[name] for name, cell in cells_of(after).items()
                   if name.startswith(kind)), kind
    assert moved > 300


def test_repeatable(short):
    one, other, third = everything(), everything(), everything()
    assert place_detailed(one, {"clk": 100.0}) == place_detailed(other, {"clk": 100.0})
    assert one == other
    place_detailed(third, {"clk": 100.0}, seed=2)
    assert third != one


def test_a_slow_path_becomes_short(short):
    """Two flip-flops that wires hold at two sides of the chip: with a clock to keep they come
    together."""
    found = {}
    for mhz in (1.0, 500.0):
        fake = FakePlacement()
        for x in COLUMNS:
            for y in ROWS:
                inputs = {4: {"A": "q_left"}, 23: {"A": "q_right"}}.get(x, {})
                fake.add(f"t{x}_{y}", "TRELLIS_COMB", f"X{x}/Y{y}/SLICED.K0", inputs, {},
                          strength=5)
        for side, x in (("left", 4), ("right", 23)):
            fake.add(f"held_{side}", "TRELLIS_COMB", f"X{x}/Y8/SLICEA.K0", {}, {"F": side},
                      strength=5)
        fake.flip_flop("left", "X4/Y8/SLICEB.FF0", "left", "q_left", port="M")
        fake.flip_flop("right", "X23/Y8/SLICEB.FF0", "q_left", "q_right", enable="right", port="M")
        netlist = fake.netlist()
        result = place_detailed(netlist, {"clk": mhz})
        ends = [where(cells_of(netlist)[side]) for side in ("left", "right")]
        found[mhz] = abs(ends[0][0] - ends[1][0])
    assert found[1.0] == 19 and found[500.0] < 10
    assert result.slowest["clk"] < result.slowest_before["clk"] - 0.8
