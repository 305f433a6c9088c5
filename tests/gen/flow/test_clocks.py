import pytest

from gen.flow.clocks import clock_margin, derived_clocks, port_clocks, read_clocks


def test_report():
    report = {"fmax": {"$glbnet$clk": {"achieved": 81.239, "constraint": 80.0},
                       "other": {"achieved": 20, "constraint": 25}}}
    clocks = read_clocks(report)
    assert clocks == {"clk": {"achieved": 81.24, "constraint": 80.0},
                      "other": {"achieved": 20, "constraint": 25}}
    assert clock_margin(clocks) == 0.8
    assert clock_margin({}) == 0


def test_derived():
    text = ("Info:     Derived frequency constraint of 80.0 MHz for net clk\n"
            "Info:     Derived frequency constraint of 125.5 MHz for net sdram_clk\n")
    assert derived_clocks(text) == {"clk": 80.0, "$glbnet$clk": 80.0, "sdram_clk": 125.5,
                                    "$glbnet$sdram_clk": 125.5}


def placed(**nets):
    return {"modules": {"top": {
        "ports": {"pin": {"direction": "input", "bits": [2]}},
        "cells": {"buffer": {"type": "TRELLIS_IO", "connections": {"B": [2], "O": [3]}},
                  "other": {"type": "TRELLIS_IO", "connections": {"B": [4], "O": [5]}}},
        "netnames": {name: {"bits": bits} for name, bits in nets.items()}}}}


@pytest.mark.parametrize("number", ["25000000.0 HZ", "25.0 MHZ", "25000 kHz"])
def test_port(number):
    found = port_clocks(f'FREQUENCY PORT "pin" {number};\nFREQUENCY NET "n" 8 MHZ;\n',
                        placed(pin=[2], board_clk=[3], other=[5]))
    assert found == pytest.approx({"board_clk": 25.0, "$glbnet$board_clk": 25.0})


def test_port_that_is_not_there():
    assert port_clocks('FREQUENCY PORT "none" 25 MHZ;', placed(board_clk=[3])) == {}
