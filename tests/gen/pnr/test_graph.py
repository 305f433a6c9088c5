from gen.pnr.graph import drivers_and_sinks, loads, main_module, net_names, net_of, pins, sides


CELLS = {
    "a": {"connections": {"A": [2], "B": ["0"], "Z": [3]},
          "port_directions": {"A": "input", "B": "input", "Z": "output"}},
    "b": {"connections": {"D": [3, 3], "Q": [4], "open": []},
          "port_directions": {"D": "input", "Q": "output", "open": "input"}}}

MODULE = {"cells": CELLS, "ports": {"o": {"bits": [4]}},
          "netnames": {"long_name": {"bits": [3]}, "n": {"bits": [3]},
                       "bus": {"bits": [2, "0", 4]}}}


def test_pins():
    assert list(pins(CELLS["b"])) == [("D", 3), ("D", 3), ("Q", 4)]
    assert sides(CELLS["a"]) == ([("A", 2)], [("Z", 3)])
    assert net_of(CELLS["a"], "A") == 2
    assert net_of(CELLS["a"], "B") is None and net_of(CELLS["b"], "open") is None
    assert net_of(CELLS["b"], "none") is None


def test_nets():
    driver, sinks = drivers_and_sinks(list(CELLS.values()))
    assert driver == {3: (0, "Z"), 4: (1, "Q")}
    assert dict(sinks) == {2: [(0, "A")], 3: [(1, "D"), (1, "D")]}
    assert loads(MODULE) == {2: [("a", "A")], "0": [("a", "B")], 3: [("b", "D"), ("b", "D")],
                             4: [(None, None)]}
    assert net_names(MODULE) == {2: "bus[0]", 3: "n", 4: "bus[2]"}


def test_main_module():
    assert main_module({"modules": {"$lib": {"cells": {}}, "x": MODULE}}) is MODULE
