import pytest

from boards import BOARDS
from gen.flow.clocks import (
    clock_margin,
    derived_clocks,
    long_crossings,
    port_clocks,
    read_clocks,
    read_crossings,
)
from gen.pnr.ecp5 import CROSSING_NS


def test_report():
    report = {"fmax": {"$glbnet$clk": {"achieved": 81.239, "constraint": 80.0},
                       "other": {"achieved": 20, "constraint": 25}}}
    clocks = read_clocks(report)
    assert clocks == {"clk": {"achieved": 81.24, "constraint": 80.0},
                      "other": {"achieved": 20, "constraint": 25}}
    assert clock_margin(clocks) == 0.8
    assert clock_margin({}) == 0


def path(start, end, *delays):
    return {"from": start, "to": end, "path": [
        {"delay": delay, "from": {"cell": f"a{k}"}, "to": {"cell": f"b{k}"}}
        for k, delay in enumerate(delays)]}


def test_crossings():
    """Pairs of two clocks, the longest first; neither pins nor a clock with itself."""
    report = {"critical_paths": [
        path("posedge clk", "posedge clk", 9.0), path("<async>", "posedge clk", 12.0),
        path("posedge clk", "<async>", 14.0),
        path("posedge $glbnet$clk", "posedge sdram_clk", 0.5, 1.0, 0.25),
        path("posedge sdram_clk", "negedge clk", 0.5, 5.501, 0.0)]}
    found = read_crossings(report)
    assert found == [
        {"from": "sdram_clk", "to": "clk", "ns": 6.0, "start": "a0", "end": "b2"},
        {"from": "clk", "to": "sdram_clk", "ns": 1.75, "start": "a0", "end": "b2"}]
    assert long_crossings(found) == ""
    report["critical_paths"][-1]["path"][1]["delay"] = 5.52
    assert long_crossings(read_crossings(report)) == (
        "sdram_clk to clk takes 6.02 of at most 6 ns (from a0 to b2)")
    assert read_crossings({}) == []


def test_what_stands_still_may_come_later():
    """From the clock of the restart controller; towards it the limit is as for others."""
    crossing = {"from": "board_clk", "to": "clk", "ns": 7.0, "start": "a", "end": "b"}
    assert long_crossings([crossing]) == ""
    assert long_crossings([crossing | {"ns": 40.5}]) == (
        "board_clk to clk takes 40.5 of at most 40 ns (from a to b)")
    assert "of at most 6 ns" in long_crossings([crossing | {"from": "clk", "to": "board_clk"}])


def test_limit_is_below_a_period_of_every_clock():
    """The skew of a Gray-coded pointer stays below a period of the clock that sends it."""
    for board in BOARDS.values():
        fastest = max(*board.core_clocks_hz, *(board.sdram.clocks_hz if board.sdram else ()))
        assert 1e9 / fastest > CROSSING_NS


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
