import pytest

from gen.pnr.passes import (
    absorb_output_registers,
    fold_constant_registers,
    improve,
    retain,
)


def block(*, width, outputs):
    """A DP16KD whose outputs drive the given nets, ``{port: net}``."""
    ports = {"CLKA": [1], "CLKB": [1], "OCEA": ["1"], "OCEB": ["1"],
             **{port: [net] for port, net in outputs.items()}}
    return {"type": "DP16KD", "connections": ports,
            "parameters": {"DATA_WIDTH_A": f"{width:032b}", "DATA_WIDTH_B": f"{width:032b}",
                           "CLKAMUX": "CLKA", "CLKBMUX": "CLKB",
                           "REGMODE_A": "NOREG", "REGMODE_B": "NOREG"},
            "port_directions": {port: "output" if port.startswith("DO") else "input"
                                for port in ports}}


def flip_flop(source, target, *, clock=1, enable=None, reset="0", regset="RESET"):
    ports = {"CLK": [clock], "DI": [source], "Q": [target], "LSR": [reset]}
    if enable is not None:
        ports["CE"] = [enable]
    return {"type": "TRELLIS_FF", "connections": ports,
            "parameters": {"CEMUX": "1 " if enable is None else "CE", "CLKMUX": "CLK",
                           "LSRMUX": "LSR", "REGSET": regset, "GSR": "DISABLED"},
            "port_directions": {port: "output" if port == "Q" else "input" for port in ports}}


def netlist(cells, outputs=()):
    return {"modules": {"top": {"cells": cells,
                                "ports": {"o": {"direction": "output", "bits": list(outputs)}}}}}


@pytest.mark.parametrize("enable", [None, 7])
def test_port_of_18_bits(enable):
    cells = {"ram": block(width=18, outputs={"DOB0": 10, "DOB1": 11, "DOA0": 12}),
             "a": flip_flop(10, 20, enable=enable), "b": flip_flop(11, 21, enable=enable),
             "other": flip_flop(20, 30)}
    assert absorb_output_registers(netlist(cells)) == 2
    assert sorted(cells) == ["other", "ram"]
    ram = cells["ram"]
    assert ram["parameters"]["REGMODE_A"] == "NOREG"
    assert ram["parameters"]["REGMODE_B"] == "OUTREG"
    assert ram["connections"]["OCEB"] == ["1" if enable is None else enable]
    assert ram["connections"]["OCEA"] == ["1"]
    assert [ram["connections"][port] for port in ("DOB0", "DOB1", "DOA0")] == [[20], [21], [12]]


def test_both_halves_of_36_bits_go_together():
    cells = {"ram": block(width=36, outputs={"DOB0": 10, "DOA0": 11}),
             "a": flip_flop(10, 20, enable=7), "b": flip_flop(11, 21, enable=7)}
    assert absorb_output_registers(netlist(cells)) == 2
    ram = cells["ram"]
    assert ram["parameters"]["REGMODE_A"] == ram["parameters"]["REGMODE_B"] == "OUTREG"
    assert ram["connections"]["OCEA"] == ram["connections"]["OCEB"] == [7]


@pytest.mark.parametrize("used", [False, True])
def test_registers_stay_where_they_are_not_wanted(used):
    cells = {"ram": block(width=18, outputs={"DOB0": 10}), "a": flip_flop(10, 20)}
    assert improve(netlist(cells), output_registers=used)["absorbed_ff"] == used
    assert ("a" in cells) == (not used)
    assert cells["ram"]["parameters"]["REGMODE_B"] == ("OUTREG" if used else "NOREG")


@pytest.mark.parametrize("second", [
    {"enable": 7}, {"reset": 8}, {"clock": 2}, {"regset": "SET"}])
def test_registers_that_differ_stay(second):
    cells = {"ram": block(width=18, outputs={"DOB0": 10, "DOB1": 11}),
             "a": flip_flop(10, 20), "b": flip_flop(11, 21, **second)}
    assert absorb_output_registers(netlist(cells)) == 0
    assert len(cells) == 3
    assert cells["ram"]["parameters"]["REGMODE_B"] == "NOREG"


def test_output_with_another_load_stays():
    def cells():
        return {"ram": block(width=18, outputs={"DOB0": 10, "DOB1": 11}),
                "a": flip_flop(10, 20), "b": flip_flop(11, 21)}

    assert absorb_output_registers(netlist(cells(), outputs=[11])) == 0
    assert absorb_output_registers(netlist(cells() | {"c": flip_flop(10, 22)})) == 0


def test_inverted_clock_stays():
    cells = {"ram": block(width=18, outputs={"DOB0": 10}), "a": flip_flop(10, 20)}
    cells["ram"]["parameters"]["CLKBMUX"] = "INV"
    assert absorb_output_registers(netlist(cells)) == 0


def lut4(contents, inputs, output):
    ports = dict(zip("ABCD", ([net] for net in inputs), strict=True)) | {"Z": [output]}
    return {"type": "LUT4", "connections": ports, "parameters": {"INIT": f"{contents:016b}"},
            "port_directions": {port: "output" if port == "Z" else "input" for port in ports}}


def test_register_that_stays_zero_is_folded():
    cells = {"next": lut4(0x8888, (5, 6, "0", "0"), 4), "zero": flip_flop(4, 5),
             "user": lut4(0x6666, (7, 5, "0", "0"), 8)}
    assert fold_constant_registers(netlist(cells)) == 1
    assert sorted(cells) == ["user"]
    user = cells["user"]
    assert user["connections"]["B"] == ["1"]
    assert user["parameters"]["INIT"] == f"{0xaaaa:016b}"      # A, whatever B is


@pytest.mark.parametrize(("contents", "regset", "outputs"), [
    (0xeeee, "RESET", []),                         # zero | x: becomes 1
    (0x8888, "SET", []),                           # starts at 1
    (0x8888, "RESET", [4]),                        # the table is used elsewhere
    (0x8888, "RESET", [5])])                       # the register is an output
def test_other_registers_stay(contents, regset, outputs):
    cells = {"next": lut4(contents, (5, 6, "0", "0"), 4),
             "register": flip_flop(4, 5, regset=regset),
             "user": lut4(0x6666, (7, 5, "0", "0"), 8)}
    assert fold_constant_registers(netlist(cells, outputs)) == 0
    assert len(cells) == 3 and cells["user"]["connections"]["B"] == [5]


def test_nothing_is_absorbed_twice():
    cells = {"ram": block(width=18, outputs={"DOB0": 10}), "a": flip_flop(10, 20),
             "b": flip_flop(20, 30)}
    assert absorb_output_registers(netlist(cells)) == 1
    assert absorb_output_registers(netlist(cells)) == 0


def retained(bits):
    design = netlist({"a": flip_flop(10, 20), "b": flip_flop(11, 21), "c": flip_flop(12, 22)})
    module = design["modules"]["top"]
    for cell in module["cells"].values():
        cell["parameters"]["GSR"] = "ENABLED"
    module["netnames"] = {
        "state": {"bits": bits, "attributes": {"keep": "1", "retained": f"{1:032b}"}},
        "alias": {"bits": [22], "attributes": {"keep": "1"}}}
    return design


def test_retained_registers_ignore_set_reset():
    """Every bit of a net that says so, but for constants; no other. No block RAM is reset."""
    design = retained([20, "0", 21])
    cells = design["modules"]["top"]["cells"]
    cells["ram"] = block(width=18, outputs={})
    cells["ram"]["parameters"]["GSR"] = "ENABLED"
    assert retain(design) == 2
    assert cells["ram"]["parameters"]["GSR"] == "DISABLED"
    assert [cells[name]["parameters"]["GSR"] for name in "abc"] == ["DISABLED"] * 2 + ["ENABLED"]


def test_retained_bit_without_register():
    """It would be lost in a restart: never silently."""
    with pytest.raises(ValueError, match="^state: bit 23 is to be retained, but is no flip-flop$"):
        retain(retained([20, 23]))
