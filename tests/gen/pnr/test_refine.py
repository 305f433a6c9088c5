from collections import defaultdict
import copy
import re

import numpy as np
import pytest

from gen.pnr import refine as module
from gen.pnr.refine import _connections, _design, _hurry, _layout, _paths, _slacks, refine


COLUMNS, ROWS = range(4, 24), range(2, 20)


class Placement:
    """What nextpnr writes: cells on places, and nets by name."""

    def __init__(self):
        self.cells, self.nets, self.used = {}, {}, set()

    def net(self, name):
        return self.nets.setdefault(name, len(self.nets) + 2)

    def add(self, name, kind, place, inputs, outputs, strength=1, **parameters):
        assert place not in self.used
        self.used.add(place)
        self.cells[name] = {
            "type": kind, "parameters": parameters,
            "attributes": {"NEXTPNR_BEL": place, "BEL_STRENGTH": f"{strength:032b}"},
            "port_directions": {**dict.fromkeys(inputs, "input"),
                                **dict.fromkeys(outputs, "output")},
            "connections": {port: [net if net == "0" else self.net(net)]
                            for port, net in {**inputs, **outputs}.items()}}

    def flip_flop(self, name, place, data, out, *, enable=None, reset=None, port="DI"):
        inputs = {port: data, "CLK": "clk"}
        if enable:
            inputs["CE"] = enable
        if reset:
            inputs["LSR"] = reset
        self.add(name, "TRELLIS_FF", place, inputs, {"Q": out}, GSR="DISABLED",
                 CEMUX="CE" if enable else "1 ", SD="1 " if port == "DI" else "0 ")

    def netlist(self):
        return {"modules": {"top": {
            "cells": self.cells, "settings": {},
            "netnames": {name: {"bits": [bit]} for name, bit in self.nets.items()}}}}


def tiles(rng):
    """Tiles in a random order, as names."""
    return iter([f"X{x}/Y{y}" for x, y in
                 rng.permutation([(x, y) for x in COLUMNS for y in ROWS])])


def everything(seed=0):
    """Every kind of cell and of neighbourhood, connected and placed at random."""
    rng = np.random.default_rng(seed)
    place, tile = Placement(), tiles(rng)
    signals = [f"s{number}" for number in range(500)]

    def some():
        return signals[rng.integers(len(signals))]

    out = iter(signals)
    for number in range(60):        # a table with its flip-flop, four pairs in two slices
        here = next(tile)
        for lc in range(4):
            name = f"pair_{number}_{lc}"
            slice_ = f"{here}/SLICE{'AB'[lc // 2]}"
            place.add(f"{name}_t", "TRELLIS_COMB", f"{slice_}.K{lc % 2}",
                      {"A": some(), "B": some(), "C": "0"}, {"F": f"{name}_f"})
            place.flip_flop(name, f"{slice_}.FF{lc % 2}", f"{name}_f", next(out))
    for number in range(30):        # flip-flops by twos with enables, some with a reset
        here = next(tile)
        reset = "reset" if number % 3 == 0 else None
        for slice_ in "ABC":
            enable = f"enable{rng.integers(4)}"
            for index in range(2):
                place.flip_flop(f"alone_{number}_{slice_}_{index}",
                                f"{here}/SLICE{slice_}.FF{index}", some(), next(out),
                                enable=enable, reset=reset, port="M")
    for number in range(8):         # carry chains over one tile and a half
        column, row = 4 + 2 * number, 25
        for lc in range(12):
            slice_ = f"X{column + lc // 8}/Y{row}/SLICE{'ABCD'[lc % 8 // 2]}"
            name = f"chain_{number}_{lc}"
            place.add(name, "TRELLIS_COMB", f"{slice_}.K{lc % 2}",
                      {"A": some(), "FCI": f"chain_{number}_{lc - 1}_c"} if lc else {"A": some()},
                      {"F": f"{name}_f", "FCO": f"{name}_c"}, MODE="CCU2")
            if lc % 3 == 0:
                place.flip_flop(f"{name}_q", f"{slice_}.FF{lc % 2}", f"{name}_f", f"{name}_q")
    for number in range(8):         # RAMs of 16 words and their write ports
        here = f"X{4 + 2 * number}/Y26"
        place.add(f"ram_{number}_w", "TRELLIS_RAMW", f"{here}/SLICEC.RAMW", {"A0": some()},
                  {"WDO0": f"ram_{number}_d", "WADO0": f"ram_{number}_a"})
        for half in range(2):
            place.add(f"ram_{number}_b{half}", "TRELLIS_COMB", f"{here}/SLICEC.K{half}", {}, {},
                      MODE="RAMW_BLOCK")
        for lc in range(4):
            bel = f"{here}/SLICE{'AB'[lc // 2]}.K{lc % 2}"
            place.add(f"ram_{number}_{lc}", "TRELLIS_COMB", bel,
                      {"A": some(), "WD": f"ram_{number}_d", "WAD0": f"ram_{number}_a",
                       "WRE": some(), "WCK": "clk"}, {"F": f"ram_{number}_{lc}_f"}, MODE="DPRAM")
    for number in range(20):        # two tables and a multiplexer
        here = next(tile)
        place.add(f"mux_{number}_1", "TRELLIS_COMB", f"{here}/SLICED.K1", {"A": some()},
                  {"F": f"mux_{number}_f"})
        place.add(f"mux_{number}_0", "TRELLIS_COMB", f"{here}/SLICED.K0",
                  {"A": some(), "M": some(), "F1": f"mux_{number}_f"}, {"OFX": f"mux_{number}_o"})
    for number in range(60):        # tables
        place.add(f"table_{number}", "TRELLIS_COMB", f"{next(tile)}/SLICEC.K1",
                  {"A": some(), "B": some()}, {"F": f"table_{number}_f"})
    place.add("mine", "TRELLIS_COMB", f"{next(tile)}/SLICEA.K0", {"A": some()}, {"F": next(out)},
              strength=5)
    place.add("block", "DP16KD", "X10/Y22/EBR0", {"ADA0": some(), "CLKA": "clk"},
              {"DOA0": next(out)})
    return place.netlist()


def cells_of(netlist):
    return netlist["modules"]["top"]["cells"]


def where(cell):
    """Column, row, logic cell of the tile, kind."""
    bel = re.fullmatch(r"X(\d+)/Y(\d+)/SLICE(.)\.(K|FF|RAMW)(\d?)",
                       cell["attributes"]["NEXTPNR_BEL"])
    return int(bel[1]), int(bel[2]), 2 * "ABCD".index(bel[3]) + int(bel[5] or 0), bel[4]


def wirelength(netlist):
    """Half the perimeter of all nets that somebody drives, but for carry."""
    pins = defaultdict(set)
    driven = {bit for cell in cells_of(netlist).values()
              for port, bits in cell["connections"].items()
              if cell["port_directions"][port] == "output" and port != "FCO" for bit in bits}
    for cell in cells_of(netlist).values():
        bel = re.match(r"X(\d+)/Y(\d+)", cell["attributes"]["NEXTPNR_BEL"])
        for bits in cell["connections"].values():
            for bit in bits:
                pins[bit].add((int(bel[1]), int(bel[2])))
    return sum(int(np.ptp(np.array(sorted(pins[bit])), axis=0).sum()) for bit in driven)


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(module, "ROUNDS", 8)
    monkeypatch.setattr(module, "MOVES", 40_000)


@pytest.fixture(scope="module")
def before_and_after():
    before = everything()
    after = copy.deepcopy(before)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROUNDS", 8)
        patch.setattr(module, "MOVES", 40_000)
        return before, after, refine(after, {"clk": 100.0, "no such net": 1.0})


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
    for kind in ("pair", "alone", "chain", "ram", "mux", "table"):
        assert any(cell != cells_of(before)[name] for name, cell in cells_of(after).items()
                   if name.startswith(kind)), kind
    assert moved > 300


def test_repeatable(short):
    one, other, third = everything(), everything(), everything()
    assert refine(one, {"clk": 100.0}) == refine(other, {"clk": 100.0})
    assert one == other
    refine(third, {"clk": 100.0}, seed=2)
    assert third != one


def test_a_slow_path_becomes_short(short):
    """Two flip-flops that wires hold at two sides of the chip: with a clock to keep they come
    together."""
    found = {}
    for mhz in (1.0, 500.0):
        place = Placement()
        for x in COLUMNS:
            for y in ROWS:
                inputs = {4: {"A": "q_left"}, 23: {"A": "q_right"}}.get(x, {})
                place.add(f"t{x}_{y}", "TRELLIS_COMB", f"X{x}/Y{y}/SLICED.K0", inputs, {},
                          strength=5)
        for side, x in (("left", 4), ("right", 23)):
            place.add(f"held_{side}", "TRELLIS_COMB", f"X{x}/Y8/SLICEA.K0", {}, {"F": side},
                      strength=5)
        place.flip_flop("left", "X4/Y8/SLICEB.FF0", "left", "q_left", port="M")
        place.flip_flop("right", "X23/Y8/SLICEB.FF0", "q_left", "q_right", enable="right", port="M")
        netlist = place.netlist()
        result = refine(netlist, {"clk": mhz})
        ends = [where(cells_of(netlist)[side]) for side in ("left", "right")]
        found[mhz] = abs(ends[0][0] - ends[1][0])
    assert found[1.0] == 19 and found[500.0] < 10
    assert result.slowest["clk"] < result.slowest_before["clk"] - 0.8


def test_paths_that_share_a_table_move_with_it():
    """What all of a table's loads pull at it, pulls it towards what it waits for as well."""
    place = Placement()
    place.flip_flop("start", "X2/Y2/SLICEA.FF0", "x", "q", port="M")
    place.flip_flop("near", "X9/Y3/SLICEA.FF0", "x", "n", port="M")
    place.add("table", "TRELLIS_COMB", "X9/Y2/SLICEA.K0", {"A": "q", "B": "n"}, {"F": "f"})
    for number in range(5):
        place.flip_flop(f"end{number}", f"X{9 + number}/Y6/SLICEA.FF0", "f", f"e{number}", port="M")
    design = _design(place.netlist()["modules"]["top"], {"clk": 300.0})
    for _ in range(30):
        _hurry(design, 4.0)
    arcs, ends = design.weights
    table = list(design.cells).index(place.cells["table"])
    weights = dict(zip(design.paths.driver[design.paths.arc_from], arcs, strict=True))
    to_table = design.paths.end_from == list(design.driver).index(place.nets["f"])
    late, early = (weights[design.cells.index(place.cells[name])] for name in ("start", "near"))
    assert (design.paths.arc_cell == table).all()
    assert late + early == pytest.approx(ends[to_table].sum(), rel=0.02) and late > 3 * early
    assert ends[to_table].size == 5 and ends[to_table].min() > 0.1


def far_loads():
    """A flip-flop with eight loads at each side of the chip, that reads another one."""
    place = Placement()
    place.flip_flop("before", "X9/Y10/SLICEB.FF0", "f", "b", port="M")
    place.flip_flop("enables", "X11/Y10/SLICEB.FF0", "f", "e", port="M")
    place.flip_flop("control", "X10/Y10/SLICEB.FF0", "b", "q", enable="e", port="M")
    place.add("held", "TRELLIS_COMB", "X21/Y3/SLICEA.K0", {"A": "t23_2_q"}, {"F": "f"},
              strength=5)
    for x in (4, 5, 22, 23):
        for y in (2, 3, 18, 19):
            place.add(f"t{x}_{y}", "TRELLIS_COMB", f"X{x}/Y{y}/SLICED.K0", {"A": "q"},
                      {"F": f"t{x}_{y}_f"}, strength=5)
            place.flip_flop(f"q{x}_{y}", f"X{x}/Y{y}/SLICEC.FF0", f"t{x}_{y}_f", f"t{x}_{y}_q",
                            port="M")
    return place.netlist()


def test_far_loads_have_a_flip_flop_of_their_own(monkeypatch, short):
    monkeypatch.setattr(module, "REPLICA_SPAN", 20)
    netlist = far_loads()
    before = copy.deepcopy(netlist)
    result = refine(netlist, {"clk": 333.0})
    cells = cells_of(netlist)
    copies = [name for name in cells if name not in cells_of(before)]
    assert len(copies) == result.copies == 1 and copies[0].startswith("control$")
    bits = set()
    for name in ("control", *copies):
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
             for name in ("control", *copies)}
    assert sorted(map(sorted, sides.values())) == [[4, 5], [22, 23]]
    for name, side in sides.items():
        assert abs(where(cells[name])[0] - np.mean(list(side))) < 6
    monkeypatch.setattr(module, "REPLICATE_BELOW", -1e9)
    without = refine(before, {"clk": 333.0})
    assert without.copies == 0 and result.slowest["clk"] < without.slowest["clk"] - 0.1


@pytest.mark.parametrize("which", ["control", "before"])
def test_synchronisers_stay_alone(monkeypatch, short, which):
    """Neither a flip-flop that reads another clock's has copies, nor the one behind it."""
    monkeypatch.setattr(module, "REPLICA_SPAN", 20)
    netlist = far_loads()
    cells = cells_of(netlist)
    place = {"control": "before", "before": "q23_2"}[which]
    cells[place]["connections"]["CLK"] = [9999]     # The enable of "control" is timed.
    assert refine(netlist, {"clk": 333.0}).copies == 0


def test_slack():
    """Flip-flop, two tables with a multiplexer and a carry, flip-flop: by hand."""
    place = Placement()
    place.flip_flop("start", "X2/Y2/SLICEA.FF0", "x", "q", port="M")
    place.add("table", "TRELLIS_COMB", "X5/Y6/SLICEA.K0", {"A": "q"}, {"F": "f"})
    place.add("carry", "TRELLIS_COMB", "X9/Y6/SLICEA.K0", {"A": "f"}, {"FCO": "c"}, MODE="CCU2")
    place.add("sum", "TRELLIS_COMB", "X9/Y6/SLICEA.K1", {"FCI": "c"}, {"F": "s"}, MODE="CCU2")
    place.flip_flop("end", "X9/Y6/SLICEA.FF1", "s", "e")
    place.flip_flop("held", "X9/Y9/SLICEB.FF0", "e", "h", enable="q", port="M")
    cells = list(place.cells.values())
    driver, sinks = _connections(cells)
    layout = _layout(cells, driver, sinks)
    paths, domains = _paths(cells, driver, sinks)
    arcs, ends = _slacks(layout, paths, domains[place.nets["clk"]], 10.0)
    path = (0.52 + (0.65 + 2 * 0.0008 + 7 * 0.1) + 0.24 + (0.65 + 0.0008 + 4 * 0.1)
            + 0.44 + 0.44 + 0.1)
    assert min(ends) == pytest.approx(10 - path)
    assert sorted(arcs[arcs < 1e8]) == pytest.approx([10 - path] * 3)
    enable = 0.52 + (0.65 + 2 * 0.0008 + 8 * 0.1 + 6 * 0.062) + 0.2
    assert sorted(ends)[1] == pytest.approx(10 - enable)
