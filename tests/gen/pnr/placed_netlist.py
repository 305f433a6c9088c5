"""Placed netlists as nextpnr writes them."""

from collections import defaultdict
import re

import numpy as np


COLUMNS, ROWS = range(4, 24), range(2, 20)


class FakePlacement:
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
    place, tile = FakePlacement(), tiles(rng)
    signals = [f"s{number}" for number in range(500)]

    def some():
        return signals[rng.integers(len(signals))]

    out = iter(signals)
    for number in range(60):        # a LUT with its flip-flop, four pairs in two slices
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
    for number in range(20):        # two LUTs and a multiplexer
        here = next(tile)
        place.add(f"mux_{number}_1", "TRELLIS_COMB", f"{here}/SLICED.K1", {"A": some()},
                  {"F": f"mux_{number}_f"})
        place.add(f"mux_{number}_0", "TRELLIS_COMB", f"{here}/SLICED.K0",
                  {"A": some(), "M": some(), "F1": f"mux_{number}_f"}, {"OFX": f"mux_{number}_o"})
    for number in range(60):        # LUTs
        place.add(f"lut_{number}", "TRELLIS_COMB", f"{next(tile)}/SLICEC.K1",
                  {"A": some(), "B": some()}, {"F": f"lut_{number}_f"})
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


def far_loads():
    """A flip-flop with eight loads at each side of the chip, that reads another one."""
    place = FakePlacement()
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
