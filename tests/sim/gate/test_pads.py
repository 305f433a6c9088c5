"""Registers and buffers of pads behave as yosys' simulation models do; DDR outputs as the manual
says (FPGA-TN-02035): D0 in the high half of the clock, D1 in the low half."""

import random

import pytest

from model.error import InputError
from sim.gate.netlist import GateNetlist
from tests.sim.gate.test_netlist import (
    cell,
    CYCLES,
    design,
    instance,
    pins,
    simulate,
    yosys_models,
)


pytestmark = pytest.mark.rtl

ZERO = {"TRELLIS_COMB": cell("TRELLIS_COMB", {}, {"F": [90]}, MODE="LOGIC", INITVAL="0" * 16)}
REGISTERS = {"IOLDO": ("TXDATA0", "OUTREG", "OUT", "O"), "IOLTO": ("TSDATA0", "TSREG", "OUT", "O"),
             "INFF": ("PADDI", "FF", "IN", "I")}


models = yosys_models


def pad_logic(output, inputs, **parameters):
    """An IOLOGIC with one register in use."""
    data, unit, way, _ = REGISTERS[output]
    return cell("IOLOGIC", {data: [inputs["d"]], "CLK": [inputs["clk"]], "CE": [inputs["ce"]],
                            "LSR": [90]}, {output: [20]},
                **{f"{unit}.{way}REGMODE": "FF", "MODE": "IREG_OREG", "CEMUX": "CE",
                   "LSRMUX": "LSR", "SRMODE": "ASYNC", "GSR": "DISABLED", **parameters})


@pytest.mark.parametrize("output", list(REGISTERS))
@pytest.mark.parametrize("enable, start, edge", [("CE", "RESET", "CLK"), ("INV", "SET", "CLK"),
                                                 ("1", "RESET", "INV")])
def test_registers(tmp_path, models, output, enable, start, edge):
    inputs = {"ce": 0, "d": 1, "clk": 2}
    _, unit, _, letter = REGISTERS[output]
    parameters = {f"{unit}.REGSET": start, f"CLK{letter}MUX": edge,
                  f"CE{letter}MUX": "1" if enable == "1" else "CEMUX"}
    if enable != "1":
        parameters["CEMUX"] = enable
    netlist = design({**ZERO, "iol": pad_logic(output, inputs, **parameters)}, inputs, {"q": 20})
    rng = random.Random(1)
    simulate(tmp_path, netlist, [pins(rng, ("ce", "d")) for _ in range(CYCLES)],
             reference=instance("TRELLIS_FF", {"CE": "ce", "LSR": "1'b0", "DI": "d", "CLK": "clk"},
                                {"Q": "q"}, CEMUX=f'"{enable}"', REGSET=f'"{start}"',
                                CLKMUX=f'"{edge}"', SRMODE='"ASYNC"'), sources=[models])


def test_bidirectional_pad(tmp_path, models):
    """What comes in is what the pad carries: its own while it drives."""
    nets = {"i": 1, "t": 2}
    pad = cell("TRELLIS_IO", {"I": [1], "T": [2]}, {"O": [3], "B": [70]}, DIR="BIDIR")
    inputs = {f"{name}.pad": cell("TRELLIS_IO", {"B": [80 + net]}, {"O": [net]}, DIR="INPUT")
              for name, net in nets.items()}
    ports = {name: {"direction": "input", "bits": [80 + net]} for name, net in nets.items()}
    module = GateNetlist({
        "cells": {"pad": pad, **inputs,
                  "o.pad": cell("TRELLIS_IO", {"I": [3]}, {"B": [83]}, DIR="OUTPUT")},
        "ports": {"b": {"direction": "inout", "bits": [70]},
                  **ports, "o": {"direction": "output", "bits": [83]}}})
    assert module.ports == {"b_i": "input", "b_o": "output", "b_t": "output", "i": "input",
                            "t": "input", "o": "output"}
    reference = ("wire pad, ref_o, ref_b_o, ref_b_t; assign ref_b_o = i; assign ref_b_t = t; "
                 "assign pad = t ? b_i : 1'bz; "
                 'TRELLIS_IO #(.DIR("BIDIR")) model(.B(pad), .I(i), .T(t), .O(ref_o));')
    rng = random.Random(2)
    simulate(tmp_path, module, [pins(rng, ("b_i", "i", "t")) for _ in range(100)],
             reference=reference, sources=[models])


def test_pad_behind_registers(tmp_path):
    """A pad takes the registers' outputs where its multiplexers say so."""
    inputs = {"ce": 0, "d": 1, "clk": 2, "i": 3, "t": 4}
    common = {"I": [3], "T": [4], "IOLDO": [20], "IOLTO": [21]}
    found = {}
    for name, muxes in (("fabric", {}), ("data", {"DATAMUX_OREG": "IOLDO"}),
                        ("both", {"DATAMUX_OREG": "IOLDO", "TRIMUX_TSREG": "IOLTO"})):
        iol = {"a": pad_logic("IOLDO", inputs), "b": pad_logic("IOLTO", inputs)}
        iol["b"]["connections"] |= {"IOLTO": [21], "TSDATA0": [3]}
        pads = {f"{port}.pad": cell("TRELLIS_IO", {"B": [80 + net]}, {"O": [net]}, DIR="INPUT")
                for port, net in inputs.items()}
        netlist = GateNetlist({
            "cells": {**ZERO, **iol, **pads, "pad": cell("TRELLIS_IO", common, {"B": [70]},
                                                         DIR="OUTPUT", **muxes)},
            "ports": {**{port: {"direction": "input", "bits": [80 + net]}
                         for port, net in inputs.items()},
                      "o": {"direction": "output", "bits": [70]}}})
        rows = [{"ce": 1, "d": d, "i": i, "t": t} for d, i, t in
                ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 0), (0, 0, 1))]
        found[name] = "".join(simulate(tmp_path, netlist, rows))
    # What is kept from driving is pulled up.
    assert found == {"fabric": "00101", "data": "01001", "both": "01100"}


@pytest.mark.parametrize("edge", ["CLK", "INV"])
@pytest.mark.parametrize("data", [(1, 0), (0, 1), (1, 1)])
def test_ddr_output(tmp_path, edge, data):
    constants = {f"k{value}": cell("TRELLIS_COMB", {}, {"F": [90 + value]}, MODE="LOGIC",
                                   INITVAL=str(value) * 16) for value in (0, 1)}
    iol = cell("IOLOGIC", {"TXDATA0": [90 + data[0]], "TXDATA1": [90 + data[1]], "CLK": [1],
                           "LSR": [90]}, {"IOLDO": [20]}, MODE="IDDRX1_ODDRX1", CLKOMUX=edge,
               LSRMUX="LSR", GSR="DISABLED")
    netlist = design({**constants, "iol": iol}, {"ck": 1}, {"q": 20})
    found = simulate(tmp_path, netlist, [{"ck": level} for level in (1, 0, 1, 0)])
    high, low = data if edge == "CLK" else reversed(data)
    assert found == [str(high), str(low)] * 2


def test_phase_of_a_pll(tmp_path):
    """What moves it is an output; other ways of moving it are refused."""
    pll = cell("EHXPLLL", {"PHASESTEP": [1], "PHASEDIR": [90], "PHASELOADREG": [90],
                           "PHASESEL0": [90], "PHASESEL1": [90]}, {"CLKOS": [5]},
               DPHASE_SOURCE="ENABLED")
    netlist = design({**ZERO, "a.pll": pll}, {"step": 1}, {"q": 5})
    assert netlist.ports["a_pll_PHASESTEP"] == "output"
    found = simulate(tmp_path, netlist, [{"step": 1, "a_pll_CLKOS": 0},
                                         {"step": 0, "a_pll_CLKOS": 1}])
    assert found == ["10", "01"]
    pll["connections"]["PHASEDIR"] = [1]
    with pytest.raises(InputError, match="PHASEDIR that is not 0"):
        design({**ZERO, "a.pll": pll}, {"step": 1}, {"q": 5})


@pytest.mark.parametrize("output, change, message", [
    ("IOLDO", {"LSRMUX": "INV"}, "a reset is not modelled"),
    ("IOLDO", {"OUTREG.OUTREGMODE": "LATCH"}, "a latch is not modelled"),
    ("INFF", {"FF.INREGMODE": "LATCH"}, "a latch is not modelled"),
    ("INFF", {"DELAY.DEL_VALUE": "0000011"}, "or a delay is not modelled"),
    ("IOLDO", {"MODE": "IDDR_ODDR"}, "mode IDDR_ODDR"),
    ("IOLDO", {"MODE": "IDDRX1_ODDRX1"}, "a DDR output of data that change"),
])
def test_what_is_not_modelled_is_refused(output, change, message):
    inputs = {"ce": 0, "d": 1, "clk": 2}
    with pytest.raises(InputError, match=message):
        design({**ZERO, "iol": pad_logic(output, inputs, **change)}, inputs, {"q": 20})
