"""The netlist passes proven, block by block; what they could do wrong is refuted."""

from copy import deepcopy

import pytest

from gen.pnr.passes import improve
from gen.proof.passes import compare_passes
from tests.synth.test_netlist import Accumulator, mapped, Packed, Registered


pytestmark = pytest.mark.synth


def synthesised(dut, factory):
    """The netlist of yosys, and the one after the passes."""
    before = mapped(dut, factory.mktemp("synth"))
    after = deepcopy(before)
    improve(after)
    return before, after


@pytest.fixture(scope="module")
def registers(tmp_path_factory):
    return synthesised(Registered(width=36, depth=512, enabled=True), tmp_path_factory)


@pytest.fixture(scope="module")
def operands(tmp_path_factory):
    return synthesised(Accumulator(), tmp_path_factory)


@pytest.fixture(scope="module")
def guard(tmp_path_factory):
    return synthesised(Packed(), tmp_path_factory)


def cells(netlist):
    return netlist["modules"]["top"]["cells"]


def of_kind(netlist, kind):
    return {name: cell for name, cell in cells(netlist).items() if cell["type"] == kind}


def refuted(before, after):
    proof = compare_passes(before, after)
    return " ".join(proof.differences)


@pytest.mark.parametrize("design", ["registers", "operands", "guard"])
def test_every_changed_block_is_proven(request, design):
    before, after = request.getfixturevalue(design)
    proof = compare_passes(before, after)
    assert not proof.differences
    changed = sum(cell != cells(after).get(name) for name, cell in cells(before).items())
    assert proof.same + changed == len(cells(before)) and changed
    wanted = {"registers": {"output registers of block RAMs": 36},
              "guard": {"registers that stay constant": 1}}.get(design, {})
    assert wanted.items() <= proof.blocks.items()
    if design == "operands":
        assert proof.blocks["operands in carry cells"] > 10


def flip(cell, parameter, bit=0):
    text = cell["parameters"][parameter]
    cell["parameters"][parameter] = f"{text[:bit]}{1 - int(text[bit])}{text[bit + 1:]}"


REGISTER_FAULTS = {
    "enable inverted": lambda ff: ff["parameters"].update(CEMUX="INV"),
    "no enable": lambda ff: ff["parameters"].update(CEMUX="1 "),
    "reset lost": lambda ff: ff["connections"].update(LSR=ff["connections"]["DI"]),
    "starts at 1": lambda ff: ff["parameters"].update(REGSET="SET"),
    "falling edge": lambda ff: ff["parameters"].update(CLKMUX="INV"),
    "another clock": lambda ff: ff["connections"].update(CLK=ff["connections"]["CE"]),
}
"""What a flip-flop may be that a block RAM's register is not: a pass that takes it over all the
same would be wrong."""


def test_registers_that_are_none_of_a_block_ram(registers):
    before, after = registers
    before = deepcopy(before)
    taken = [name for name in of_kind(before, "TRELLIS_FF") if name not in cells(after)]
    for name, plant in zip(taken, REGISTER_FAULTS.values(), strict=False):
        plant(cells(before)[name])
    found = compare_passes(before, after).differences
    assert len(found) == len(REGISTER_FAULTS)
    for name, fault in zip(taken, REGISTER_FAULTS, strict=False):
        assert any(name in line for line in found), fault


def test_faults_of_block_rams(registers):
    before, after = registers
    name = next(name for name, cell in of_kind(after, "DP16KD").items()
                if cell["parameters"]["REGMODE_B"] == "OUTREG")
    pins = cells(after)[name]["connections"]
    for fault, message in [
            ({"OCEB": ["1"]}, "output registers"), ({"OCEB": pins["CEB"]}, "output registers"),
            ({"DOB0": pins["DOB1"], "DOB1": pins["DOB0"]}, "output registers"),
            ({"CEB": ["1"]}, "more than its output registers"),
            ({"DOB0": pins["DOA0"]}, "driven twice")]:
        wrong = deepcopy(after)
        cells(wrong)[name]["connections"] |= fault
        assert message in refuted(before, wrong)
    for fault in ({"REGMODE_A": "NOREG", "REGMODE_B": "NOREG"}, {"GSR": "ENABLED"},
                  {"INITVAL_00": "1" * 320}, {"CLKBMUX": "INV"}):
        wrong = deepcopy(after)
        cells(wrong)[name]["parameters"] |= fault
        assert refuted(before, wrong)


def test_faults_of_logic(operands):
    """A wrong table of a carry cell that took over operands; a LUT that was still read."""
    before, after = operands
    wrong = deepcopy(after)
    changed = [name for name, cell in of_kind(after, "CCU2C").items()
               if cell != cells(before)[name]]
    for name in changed[:4]:
        # A row in which all inputs are 1 is one that is used.
        flip(cells(wrong)[name], "INIT0")
    found = compare_passes(before, wrong).differences
    assert len(found) == 4 and all(any(name in line for line in found) for name in changed[:4])
    wrong = deepcopy(after)
    name, lut = next(iter(of_kind(after, "LUT4").items()))
    del cells(wrong)[name]
    assert "driven no more" in refuted(before, wrong)


def test_faults_of_cells_that_no_pass_touches(guard):
    """Lost resets and wrong initial values elsewhere are blocks of their own."""
    before, after = guard
    wrong = deepcopy(after)
    names = list(of_kind(after, "TRELLIS_FF"))
    faults = {"LSRMUX": "INV", "REGSET": "SET", "CEMUX": "0", "CLKMUX": "INV"}
    for name, (key, value) in zip(names, faults.items(), strict=False):
        cells(wrong)[name]["parameters"][key] = value
    wrong["modules"]["top"]["cells"][names[5]]["type"] = "OTHER"
    assert "no block here covers" in refuted(before, wrong)
    cells(wrong)[names[5]]["type"] = "TRELLIS_FF"
    found = compare_passes(before, wrong).differences
    assert len(found) == len(faults)
    assert all(any(name in line for line in found) for name in names[:len(faults)])


def test_register_that_does_not_stay(guard):
    """Taken away, though its LUT can give 1."""
    before, after = guard
    before = deepcopy(before)
    register = next(cell for name, cell in of_kind(before, "TRELLIS_FF").items()
                    if name not in cells(after))
    lut = next(cell for cell in of_kind(before, "LUT4").values()
               if cell["connections"]["Z"] == register["connections"]["DI"])
    lut["parameters"]["INIT"] = "1" * 16
    assert "stay constant" in refuted(before, after)


def test_block_rams_are_kept_from_global_set_reset(registers):
    """They, and the registers that become part of them, are counted; nothing else is kept."""
    before, after = deepcopy(registers)
    for netlist in (before, after):
        for cell in (of_kind(netlist, "TRELLIS_FF") | of_kind(netlist, "DP16KD")).values():
            cell["parameters"]["GSR"] = "ENABLED"
    proof = compare_passes(before, after)       # they are reset as the flip-flops were
    assert not proof.differences and not proof.kept
    for cell in of_kind(after, "DP16KD").values():
        cell["parameters"]["GSR"] = "DISABLED"
    proof = compare_passes(before, after)
    assert not proof.differences
    assert proof.kept == {"block RAMs": 2, "output registers": 36}
    other, = list(of_kind(after, "TRELLIS_FF"))[:1]
    cells(after)[other]["parameters"]["GSR"] = "DISABLED"
    found = compare_passes(before, after).differences
    assert len(found) == 1 and other in found[0]


def test_modules_and_ports(guard):
    before, after = guard
    wrong = deepcopy(after)
    wrong["modules"]["other"] = {}
    wrong["modules"]["top"]["ports"]["o"]["direction"] = "input"
    assert "module other" in (found := refuted(before, wrong)) and "ports" in found


def test_retained_registers(guard):
    """Those of nets with the attribute are kept from global set/reset by a pass; others not."""
    before, after = guard
    before, after = deepcopy(before), deepcopy(after)
    registers = [name for name in of_kind(before, "TRELLIS_FF") if name in cells(after)]
    for netlist in (before, after):
        for cell in of_kind(netlist, "TRELLIS_FF").values():
            cell["parameters"]["GSR"] = "ENABLED"
    kept, = (cells(after)[name]["connections"]["Q"] for name in registers[:1])
    before["modules"]["top"]["netnames"]["kept"] = {
        "bits": kept, "attributes": {"retained": "1"}}
    cells(after)[registers[0]]["parameters"]["GSR"] = "DISABLED"
    assert not compare_passes(before, after).differences
    cells(after)[registers[1]]["parameters"]["GSR"] = "DISABLED"
    found = compare_passes(before, after).differences
    assert len(found) == 1 and registers[1] in found[0]
