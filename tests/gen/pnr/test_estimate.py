import json

import pytest

from gen.pnr.estimate import cli, worst_paths


def cell(kind, **ports):
    outputs = {"Q", "Z"}
    return {"type": kind, "connections": {port: [bit] for port, bit in ports.items()},
            "port_directions": {p: "output" if p in outputs else "input" for p in ports}}


@pytest.fixture
def module():
    """Two registers: one direct path, one through two LUTs."""
    return {
        "cells": {
            "a": cell("TRELLIS_FF", Q=2, CLK=9), "b": cell("TRELLIS_FF", Q=3, DI=2, CLK=9),
            "c": cell("TRELLIS_FF", Q=6, DI=5, CLK=9), "l": cell("LUT4", A=3, Z=4),
            "m": cell("LUT4", A=4, Z=5),
        },
        "netnames": {"first": {"bits": [2]}, "second": {"bits": [3]}},
    }


def test_paths(module):
    slow, fast = worst_paths(module, 5)
    assert slow[1] == "c.DI" and [net for _, _, net in slow[2]] == ["second", "4", "5"]
    assert fast[1] == "b.DI" and fast[2][0][2] == "first"
    assert slow[0] > fast[0] + 2 * 0.24


@pytest.mark.parametrize(("mode", "launch"), [("NOREG", 5.7), ("OUTREG", 0.95)])
def test_output_register_of_a_block_ram(module, mode, launch):
    ram = {"type": "DP16KD", "connections": {"DOB0": [7]}, "port_directions": {"DOB0": "output"},
           "parameters": {"REGMODE_A": "NOREG", "REGMODE_B": mode}}
    module["cells"] |= {"ram": ram, "d": cell("TRELLIS_FF", Q=8, DI=7, CLK=9)}
    path, = (path for path in worst_paths(module, 5) if path[1] == "d.DI")
    assert path[2][0][0] == pytest.approx(launch)


def test_not_a_netlist(tmp_path, capsys):
    path = tmp_path / "top.json"
    path.write_text(json.dumps({"modules": {}}))
    assert cli([str(path)]) == 1
    assert "is not a netlist of yosys" in capsys.readouterr().err
