import pytest

from gen.flow.floorplan import extract_layout


def cell(kind, bel, *bits):
    return {"type": kind, "attributes": {"NEXTPNR_BEL": bel} if bel else {},
            "connections": {"A": list(bits)}}


@pytest.fixture
def placed():
    return {"modules": {"top": {"cells": {
        "shell.core.array.sum_TRELLIS_FF_Q_1": cell("TRELLIS_FF", "X3/Y4/SLICEA.FF0", 2),
        "shell.core.array.sum.low_LUT4_Z": cell("TRELLIS_COMB", "X3/Y4/SLICEA.K0", 2, 7),
        "shell.core.array.other": cell("TRELLIS_COMB", "X3/Y4/SLICEA.K1", 3, "0"),
        "shell.core.pool.ram.0": cell("DP16KD", "X10/Y22/EBR2", 3),
        "shell.core.count_LUT4_Z": cell("TRELLIS_COMB", "X5/Y6/SLICED.K1", 8),
        "shell.core.control__run.go_LUT4_Z": cell("TRELLIS_COMB", "X5/Y6/SLICED.K0", 10),
        "shell.leds_TRELLIS_FF_Q": cell("TRELLIS_FF", "X5/Y6/SLICED.FF1", 9),
        "pll": cell("EHXPLLL", "X1/Y1/EHXPLL_LL", 5),
        "led_pin_0.buf.buf0": cell("TRELLIS_IO", "X0/Y2/PIOA", 6),
        # A chain of cells without names, whose end belongs to the array.
        "$nextpnr_CCU2C_1$CCU2_COMB0": cell("TRELLIS_COMB", "X4/Y4/SLICEA.K0", 20, 7),
        "$nextpnr_CCU2C_2$CCU2_COMB0": cell("TRELLIS_COMB", "X4/Y4/SLICEA.K1", 20, 21),
        "$PACKER_VCC": cell("TRELLIS_COMB", "X7/Y7/SLICEA.K1", 30),
        "unplaced": cell("VCC", None),
    }}, "$model": {"cells": {}}}}


REPORT = {
    "fmax": {"$glbnet$clk": {"achieved": 90.0, "constraint": 80.0},
             "slow": {"achieved": 26.0, "constraint": 25.0}},
    "critical_paths": [
        {"from": "posedge $glbnet$clk", "to": "posedge $glbnet$clk", "path": [
            {"delay": 0.5249999, "type": "clk-to-q",
             "from": {"cell": "x", "loc": [1, 1], "port": "Q"},
             "to": {"cell": "shell.core.array.other", "loc": [3, 4], "port": "Q"}},
            {"delay": 1.5, "type": "routing", "net": "n[3]", "sources": [],
             "from": {"cell": "x", "loc": [1, 1], "port": "Q"},
             "to": {"cell": "shell.core.pool.ram.0", "loc": [10, 22], "port": "ADA0"}},
            {"delay": 0, "type": "setup", "from": {}, "to": {
                "cell": "shell.core.pool.ram.0", "loc": [10, 22], "port": "ADA0"}}]},
        {"from": "negedge slow", "to": "posedge slow", "path": []},
        {"from": "<async>", "to": "posedge slow", "path": []},
        {"from": "posedge slow", "to": "posedge $glbnet$clk", "path": []}]}


def test_blocks(placed):
    layout = extract_layout(placed, {"fmax": {}}, (127, 96))
    assert layout["schema"] == 1 and layout["grid"] == [127, 96] and layout["paths"] == []
    assert layout["blocks"] == {
        "array": {"comb": [3, 4, 2, 4, 4, 2], "ff": [3, 4, 1]},
        "pool": {"ebr": [10, 22, 1]},
        "core": {"comb": [5, 6, 2]},
        "shell": {"ff": [5, 6, 1]},
        "board": {"other": [0, 2, 1, 1, 1, 1], "comb": [7, 7, 1]}}


def test_paths(placed):
    slow, clk = extract_layout(placed, REPORT, (127, 96))["paths"]
    assert (slow["clock"], slow["steps"]) == ("slow", [])
    assert {key: clk[key] for key in ("clock", "achieved", "constraint", "ns")} == {
        "clock": "clk", "achieved": 90.0, "constraint": 80.0, "ns": 2.025}
    assert clk["steps"][0] == {
        "type": "clk-to-q", "ns": 0.525, "cell": "shell.core.array.other", "block": "array",
        "x": 3, "y": 4, "port": "Q"}
    assert clk["steps"][1] == {
        "type": "routing", "ns": 1.5, "cell": "shell.core.pool.ram.0", "block": "pool", "x": 10,
        "y": 22, "port": "ADA0", "net": "n[3]"}
