"""Layout versus schematic: what nextpnr changes is undone, what it must not change is found."""

from copy import deepcopy

import pytest

from gen.proof.lvs import compare


def cell(kind, inputs, outputs, **parameters):
    return {"type": kind, "parameters": parameters,
            "connections": {**inputs, **outputs},
            "port_directions": {**dict.fromkeys(inputs, "input"),
                                **dict.fromkeys(outputs, "output")}}


def module(cells, names):
    return {"cells": cells, "netnames": {name: {"bits": [bit]} for name, bit in names.items()}}


NAMES = {"clk": 1, "a": 2, "b": 3, "y": 4, "q": 5, "en": 6, "z": 7}


@pytest.fixture
def schematic():
    """A LUT with a constant, a flip-flop, a multiplexer of two LUTs, and a carry bit."""
    return module({
        "lut": cell("LUT4", {"A": [2], "B": [3], "C": ["0"], "D": ["0"]}, {"Z": [4]},
                    INIT=f"{0x0006:016b}"),
        "ff": cell("TRELLIS_FF", {"CLK": [1], "DI": [4], "CE": [6], "LSR": ["0"]}, {"Q": [5]},
                   CEMUX="CE", CLKMUX="CLK", LSRMUX="LSR", REGSET="RESET", GSR="DISABLED"),
        "add": cell("CCU2C", {**{f"{p}{h}": ["1"] for p in "ABCD" for h in "01"}, "A0": [5],
                              "B0": [2], "CIN": ["0"]}, {"S0": [], "S1": [7], "COUT": []},
                    INIT0=f"{0x66aa:016b}", INIT1=f"{0:016b}", INJECT1_0="NO", INJECT1_1="NO"),
    }, NAMES)


@pytest.fixture
def layout():
    """The same with other numbers, a clock buffer, and constants folded into open pins."""
    names = {"b": 10, "a": 11, "y": 12, "q": 13, "en": 14, "clk": 15, "$gbuf$clk": 16, "z": 17,
             "$carry$0": 18, "$carry$1": 19}
    return module({
        "$gbuf": cell("DCCA", {"CLKI": [15], "CE": []}, {"CLKO": [16]}),
        # Inputs C and D are open, which is 1: the same function in the last four bits.
        "lut": cell("TRELLIS_COMB", {"A": [11], "B": [10], "C": [], "D": []}, {"F": [12]},
                    MODE="LOGIC", INITVAL=f"{0x6000:016b}"),
        "ff": cell("TRELLIS_FF", {"CLK": [16], "DI": [12], "CE": [14], "LSR": []}, {"Q": [13]},
                   SD="1 ", CEMUX="CE", CLKMUX="CLK", LSRMUX="LSR", REGSET="RESET",
                   GSR="DISABLED"),
        "add0": cell("TRELLIS_COMB", {"A": [13], "B": [11], "C": [], "D": [], "FCI": []},
                     {"F": [], "FCO": [18]}, MODE="CCU2", INITVAL=f"{0x66aa:016b}",
                     CCU2_INJECT1="NO"),
        "add1": cell("TRELLIS_COMB", {"A": [], "B": [], "C": [], "D": [], "FCI": [18]},
                     {"F": [17], "FCO": [19]}, MODE="CCU2", INITVAL=f"{0:016b}",
                     CCU2_INJECT1="NO"),
    }, names)


def test_equal(schematic, layout):
    result = compare(schematic, layout)
    assert not result.differences
    assert result.compared == {"LUT": 2, "flip-flop": 1}


@pytest.mark.parametrize("name, key, pin, value", [
    ("lut", "INITVAL", None, f"{0xe000:016b}"),
    ("lut", None, "A", [10]),
    ("lut", None, "C", [13]),
    ("ff", "CEMUX", None, "INV"),
    ("ff", "CEMUX", None, "1 "),
    ("ff", "CLKMUX", None, "INV"),
    ("ff", "REGSET", None, "SET"),
    ("ff", None, "DI", [11]),
    ("ff", None, "CE", [10]),
    ("ff", None, "LSR", [10]),
    ("add0", "INITVAL", None, f"{0x66a0:016b}"),
    ("add0", "CCU2_INJECT1", None, "YES"),
    ("add0", None, "B", [10]),
    ("add1", "INITVAL", None, f"{0x8000:016b}"),
    ("add1", None, "FCI", []),
])
def test_every_fault_is_found(schematic, layout, name, key, pin, value):
    changed = deepcopy(layout)
    if key:
        changed["cells"][name]["parameters"][key] = value
    else:
        changed["cells"][name]["connections"][pin] = value
    assert compare(schematic, changed).differences


def test_lost_and_added_cells(schematic, layout):
    less, more = deepcopy(layout), deepcopy(layout)
    del less["cells"]["ff"]
    assert [place for place, _, found in compare(schematic, less).differences
            if found is None] == [5]
    more["cells"]["other"] = cell("MULT18X18D", {"A0": [10]}, {})
    assert [place for place, wanted, _ in compare(schematic, more).differences
            if wanted is None] == ["other"]


def with_copy(layout, **changes):
    """A copy of the flip-flop, which reads through M, drives the first carry bit."""
    copied = deepcopy(layout)
    copy = deepcopy(copied["cells"]["ff"])
    copy["connections"] = {"CLK": [16], "M": [12], "CE": [14], "LSR": [], "Q": [30], **changes}
    copy["port_directions"] |= {"M": "input"}
    copy["parameters"]["SD"] = "0 "
    copied["cells"]["ff$copy0"] = copy
    copied["netnames"]["ff$copy0$q"] = {"bits": [30]}
    copied["cells"]["add0"]["connections"]["A"] = [30]
    return copied


def test_copies_are_folded(schematic, layout):
    result = compare(schematic, with_copy(layout))
    assert not result.differences and result.folded == 1
    assert compare(schematic, layout).folded == 0


def test_copy_of_a_copy(schematic, layout):
    twice = with_copy(layout)
    copy = deepcopy(twice["cells"]["ff$copy0"])
    copy["connections"]["Q"] = [31]
    twice["cells"]["ff$copy0$copy1"] = copy
    twice["cells"]["add0"]["connections"]["A"] = [31]
    result = compare(schematic, twice)
    assert not result.differences and result.folded == 2


@pytest.mark.parametrize("changes", [{"M": [10]}, {"CE": [10]}, {"LSR": [14]}, {"CLK": [14]}])
def test_copy_that_is_none(schematic, layout, changes):
    changed = with_copy(layout, **changes)
    assert [place for place, *_ in compare(schematic, changed).differences] == ["copy ff$copy0"]


@pytest.mark.parametrize("key, value", [("REGSET", "SET"), ("CEMUX", "INV"), ("SD", "1 ")])
def test_copy_of_another_kind(schematic, layout, key, value):
    changed = with_copy(layout)
    changed["cells"]["ff$copy0"]["parameters"][key] = value
    assert compare(schematic, changed).differences


def test_copy_that_lost_its_flip_flop(schematic, layout):
    changed = with_copy(layout)
    del changed["cells"]["ff"]
    assert compare(schematic, changed).differences


@pytest.mark.parametrize("mode, differences", [("SYNC", 0), ("ASYNC", 1)])
def test_global_reset(schematic, layout, mode, differences):
    schematic["cells"]["reset"] = cell("SGSR", {"CLK": [1], "GSR": [6]}, {})
    layout["cells"]["reset"] = cell("GSR", {"CLK": [16], "GSR": [14]}, {}, SYNCMODE=mode,
                                    MODE="ACTIVE_LOW")
    assert len(compare(schematic, layout).differences) == differences


def test_undefined_is_any_constant(schematic, layout):
    """Of a bit of LUT-RAM that nothing uses, yosys leaves the data undefined; nextpnr chooses."""
    for cells, kind, data in ((schematic["cells"], "TRELLIS_DPR16X4", "x"),
                              (layout["cells"], "TRELLIS_COMB", None)):
        if kind == "TRELLIS_COMB":
            cells["ram"] = cell(kind, {"A": [11], "B": [10], "C": [13], "D": [14],
                                       **{f"WAD{k}": [11] for k in range(4)}, "WRE": [14],
                                       "WCK": [16], "WD": []}, {"F": [20]}, MODE="DPRAM",
                                INITVAL="0" * 16)
        else:
            cells["ram"] = cell(kind, {"DI": [data], "RAD": [6, 3, 5, 2], "WAD": [2] * 4,
                                       "WRE": [6], "WCK": [1]}, {"DO": [8]}, INITVAL="x" * 16,
                                WREMUX="WRE", WCKMUX="WCK")
    schematic["netnames"]["r"] = {"bits": [8]}
    layout["netnames"]["r"] = {"bits": [20]}
    assert not compare(schematic, layout).differences
    layout["cells"]["ram"]["connections"]["WD"] = [10]
    assert compare(schematic, layout).differences
