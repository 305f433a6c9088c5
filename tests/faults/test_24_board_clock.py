"""FAULTS.md row 24: a report said that the oscillator's clock is required to reach 12 MHz.

That is nextpnr's default. The board has 25 MHz; the second run of nextpnr, which only routes, had
lost the constraint of the pin.
"""

import json

from boards import find_board
from gen.flow.clocks import read_clocks
from gen.flow.congested import place_congested, route_congested
from gen.pnr import place


def cell(kind, bel, **pins):
    outputs = {"O", "F"}
    return {"type": kind, "parameters": {}, "attributes": {"NEXTPNR_BEL": bel},
            "port_directions": {pin: "output" if pin in outputs else "input" for pin in pins},
            "connections": {pin: [bit] for pin, bit in pins.items()}}


PLACED = {"modules": {"top": {
    "settings": {}, "ports": {"clk25_0__io": {"direction": "input", "bits": [8]}},
    "netnames": {"clk": {"bits": [2]}, "n": {"bits": [3]}, "board_clk": {"bits": [9]},
                 "clk25_0__io": {"bits": [8]}},
    "cells": {"oscillator": cell("TRELLIS_IO", "X0/Y47/PIOA", B=8, O=9),
              "t": cell("TRELLIS_COMB", "X3/Y4/SLICEA.K0", F=3),
              "u": cell("TRELLIS_COMB", "X9/Y4/SLICEA.K0", A=3)}}}}


def test_oscillator_of_a_congested_chip(tmp_path, monkeypatch):
    monkeypatch.setattr(place, "MOVES", 500)
    board = find_board("ulx3s")
    (tmp_path / "top.lpf").write_text(
        f'LOCATE COMP "x" SITE "A1";\nFREQUENCY PORT "clk25_0__io" {board.clock_hz:.1f} HZ;\n')

    def placer(*arguments):
        (tmp_path / "log").write_text(
            "Info:     Derived frequency constraint of 80.0 MHz for net clk\n")
        (tmp_path / "placed.json").write_text(json.dumps(PLACED))

    def router(*arguments, watch):
        report = {"fmax": {"$glbnet$board_clk": {"achieved": 282.65, "constraint": 12.0},
                           "clk": {"achieved": 82, "constraint": 81.6}}}
        (tmp_path / "route-1.json").write_text(json.dumps(report))
        (tmp_path / "routed.json").write_text((tmp_path / "placed.json").read_text())

    netlist = {"modules": {"top": {"cells": {}, "ports": {}, "netnames": {}}}}
    _, clocks = place_congested(board, netlist, tmp_path, placer, tmp_path / "log", 1,
                                lambda text: None, lambda part: None)
    route_congested(tmp_path, "route-1", router, clocks, ["route-1.json"])
    assert read_clocks(json.loads((tmp_path / "route-1.json").read_text())) == {
        "board_clk": {"achieved": 282.65, "constraint": 25.0},
        "clk": {"achieved": 82, "constraint": 80.0}}
    # The router is asked for it, too, and for the 2 % more that it is asked for at first.
    assert 'FREQUENCY NET "$glbnet$board_clk" 25.5 MHZ;' in (tmp_path / "route.lpf").read_text()
