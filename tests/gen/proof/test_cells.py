"""Registers and DDR outputs beside the pads: nextpnr's packing is undone, changes are found."""

from copy import deepcopy

import pytest

from gen.proof.lvs import compare
from tests.gen.proof.test_lvs import cell, module


PLAIN = {"CLKMUX": "CLK", "LSRMUX": "LSR", "CEMUX": "1 ", "GSR": "ENABLED", "SRMODE": "ASYNC"}
NAMES = {name: bit for bit, name in enumerate(
    ("clk", "d", "t", "i", "o", "pad", "q", "one", "clock", "clock_t", "clock_pad", "en"), 2)}


@pytest.fixture
def schematic():
    """A pad with three registers, and one with a DDR output and a tristate register."""
    def register(data, output, **parameters):
        return cell("TRELLIS_FF", {"CLK": [NAMES["clk"]], "DI": [NAMES[data]], "LSR": ["0"],
                                   "CE": [NAMES["en"]]},
                    {"Q": [NAMES[output]]}, **PLAIN | {"REGSET": "RESET", "CEMUX": "CE"}
                    | parameters)

    return module({
        "pad": cell("TRELLIS_IO", {"I": [NAMES["i"]], "T": [NAMES["t"]]},
                    {"O": [NAMES["o"]], "B": [NAMES["pad"]]}, DIR="BIDIR"),
        "clock": cell("TRELLIS_IO", {"I": [NAMES["clock"]], "T": [NAMES["clock_t"]]},
                      {"B": [NAMES["clock_pad"]]}, DIR="OUTPUT"),
        "out": register("d", "i"), "enable": register("d", "t", REGSET="SET"),
        "in": register("o", "q"), "clock_enable": register("d", "clock_t", CEMUX="1 "),
        "ddr": cell("ODDRX1F", {"D0": ["1"], "D1": ["0"], "SCLK": [NAMES["clk"]], "RST": ["0"]},
                    {"Q": [NAMES["clock"]]}),
    }, NAMES)


@pytest.fixture
def layout():
    """The same, packed; ``one`` and ``zero`` are constants of LUTs."""
    names = NAMES | {"zero": 90, "one": 91}
    common = {"CEMUX": "CE", "CEOMUX": "CEMUX", "LSRMUX": "LSR", "LSROMUX": "LSRMUX",
              "CLKOMUX": "CLK", "CLKIMUX": "CLK", "LSRIMUX": "LSRMUX", "CEIMUX": "CEMUX",
              "SRMODE": "ASYNC", "IOLTOMUX": "NONE", "MODDRX.MODE": "NONE",
              "DELAY.DEL_VALUE": "0000000"}
    registers = {"OUTREG.OUTREGMODE": "FF", "OUTREG.REGSET": "RESET", "TSREG.OUTREGMODE": "FF",
                 "FF.INREGMODE": "FF", "FF.REGSET": "RESET"}
    constants = {name: cell("TRELLIS_COMB", {}, {"F": [names[name]]}, MODE="LOGIC",
                            INITVAL=f"{value:016b}")
                 for name, value in (("zero", 0), ("one", 0xffff))}
    return module({
        **constants,
        "pad": cell("TRELLIS_IO", {"IOLDO": [names["i"]], "IOLTO": [names["t"]]},
                    {"O": [names["o"]], "B": [names["pad"]]}, DIR="BIDIR", DATAMUX_OREG="IOLDO",
                    TRIMUX_TSREG="IOLTO"),
        "clock": cell("TRELLIS_IO", {"IOLDO": [names["clock"]], "IOLTO": [names["clock_t"]]},
                      {"B": [names["clock_pad"]]}, DIR="OUTPUT", DATAMUX_ODDR="IOLDO",
                      TRIMUX_TSREG="IOLTO"),
        "pad$IOL": cell("IOLOGIC", {"TXDATA0": [names["d"]], "TSDATA0": [names["d"]],
                                    "PADDI": [names["o"]], "CLK": [names["clk"]],
                                    "CE": [names["en"]], "LSR": [90]},
                        {"IOLDO": [names["i"]], "IOLTO": [names["t"]], "INFF": [names["q"]]},
                        **common, **registers, **{"TSREG.REGSET": "SET"}, GSR="ENABLED",
                        MODE="IREG_OREG"),
        "clock$IOL": cell("IOLOGIC", {"TXDATA0": [91], "TXDATA1": [90], "TSDATA0": [names["d"]],
                                      "CLK": [names["clk"]], "CE": [91], "LSR": [90]},
                          {"IOLDO": [names["clock"]], "IOLTO": [names["clock_t"]]}, **common,
                          **{"TSREG.OUTREGMODE": "FF", "TSREG.REGSET": "RESET"}, GSR="DISABLED",
                          MODE="IDDRX1_ODDRX1"),
    }, {name: bit for name, bit in names.items() if name not in ("zero", "one")})


def test_packed_pads_are_the_same(schematic, layout):
    result = compare(schematic, layout)
    assert not result.differences, result.differences
    assert result.compared == {"cell": 2, "flip-flop": 4, "DDR output": 1}
    # One IOLOGIC has one setting of global set/reset.
    assert result.shared == 1


@pytest.mark.parametrize("name, key, value", [
    ("pad$IOL", "OUTREG.REGSET", "SET"), ("pad$IOL", "TSREG.REGSET", "RESET"),
    ("pad$IOL", "FF.REGSET", "SET"), ("pad$IOL", "OUTREG.OUTREGMODE", "LATCH"),
    ("pad$IOL", "FF.INREGMODE", "LATCH"), ("pad$IOL", "CLKOMUX", "INV"),
    ("pad$IOL", "CLKIMUX", "INV"), ("pad$IOL", "CEMUX", "INV"), ("pad$IOL", "CEOMUX", "1"),
    ("pad$IOL", "LSRMUX", "INV"), ("pad$IOL", "GSR", "DISABLED"),
    ("pad$IOL", "DELAY.DEL_VALUE", "0000001"), ("pad$IOL", "MODDRX.MODE", "MOSHX2"),
    ("pad$IOL", "MODE", "IDDRX1_ODDRX1"), ("clock$IOL", "MODE", "IREG_OREG"),
    ("clock$IOL", "CLKOMUX", "INV"), ("clock$IOL", "GSR", "ENABLED"),
    ("pad", "DATAMUX_OREG", "PADDO"), ("pad", "TRIMUX_TSREG", "PADDT"), ("pad", "DIR", "OUTPUT"),
])
def test_changed_settings_are_found(schematic, layout, name, key, value):
    layout["cells"][name]["parameters"][key] = value
    assert compare(schematic, layout).differences


@pytest.mark.parametrize("name, pin, net", [
    ("pad$IOL", "TXDATA0", "t"), ("pad$IOL", "TSDATA0", "q"), ("pad$IOL", "PADDI", "d"),
    ("pad$IOL", "CLK", "d"), ("pad$IOL", "CE", "d"), ("pad$IOL", "LSR", "en"),
    ("clock$IOL", "TXDATA0", "d"), ("clock$IOL", "TXDATA1", "d"), ("clock$IOL", "TSDATA0", "o"),
    ("pad", "IOLDO", "t"), ("pad", "IOLTO", "i"),
])
def test_changed_connections_are_found(schematic, layout, name, pin, net):
    layout["cells"][name]["connections"][pin] = [NAMES[net]]
    assert compare(schematic, layout).differences


def test_register_that_was_lost(schematic, layout):
    other = deepcopy(layout)
    other["cells"]["pad$IOL"]["connections"]["INFF"] = []
    assert compare(schematic, other).differences
    del layout["cells"]["clock$IOL"]
    assert compare(schematic, layout).differences
