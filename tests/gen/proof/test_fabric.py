"""A routed LUT behind another, and a flip-flop: their bitstream by hand, and faults in it."""

from copy import deepcopy

import pytest

from gen.proof.fabric import compare_design, Fabric
from gen.proof.trellis import parse_config


pytestmark = pytest.mark.synth

AT = "X3/Y2"
TILE = "R2C3:PLC2"


def cell(kind, bel, connections, outputs, **parameters):
    return {"type": kind, "parameters": parameters, "attributes": {"NEXTPNR_BEL": f"{AT}/{bel}"},
            "connections": connections,
            "port_directions": {port: "output" if port in outputs else "input"
                                for port in connections}}


def routing(*ends):
    """ROUTING of a net within a tile: ``wire`` or ``source->wire``."""
    parts = []
    for end in ends:
        source, _, wire = end.rpartition("->")
        parts += [f"{AT}/{wire}", f"{AT}/0_0_{source}->0_0_{wire}" if source else "", "1"]
    return {"ROUTING": ";".join(parts)}


@pytest.fixture
def module():
    """LUT K1 of slice C inverts nothing, its output enters LUT K0 of slice A as B, over wire A."""
    return {
        "cells": {
            "first": cell("TRELLIS_COMB", "SLICEC.K1", {"F": [5]}, "F", INITVAL="0" * 16),
            # B inverted.
            "second": cell("TRELLIS_COMB", "SLICEA.K0", {"B": [5], "F": [6]}, "F",
                           INITVAL=f"{0x3333:016b}"),
            "ff": cell("TRELLIS_FF", "SLICEA.FF0", {"DI": [6], "Q": [7]}, "Q", SD="1 ",
                       CEMUX="1 ", REGSET="SET", GSR="DISABLED", LSRMUX="LSR", CLKMUX="CLK")},
        "netnames": {
            "a": {"bits": [5], "attributes": routing("F5_SLICE", "F5_SLICE->F5", "F5->A0",
                                                     "A0->B0_SLICE")},
            "b": {"bits": [6], "attributes": routing("F0_SLICE", "F0_SLICE->F0", "F0->DI0",
                                                     "DI0->DI0_SLICE")},
            "q": {"bits": [7], "attributes": {}}}}


# The second LUT inverts what arrives at A; its open inputs and those of the first are tied.
TEXT = "\n".join([
    ".device LFE5U-85F", f".tile {TILE}", "arc: A0 F5", f"word: SLICEA.K0.INIT {0x5555:016b}",
    f"word: SLICEC.K1.INIT {0:016b}", "enum: SLICEA.REG0.REGSET SET", "enum: SLICEA.REG0.SD 1",
    "enum: SLICEA.GSR DISABLED", "enum: SLICEA.CEMUX 1",
    *(f"enum: SLICEA.{pin}0MUX 1" for pin in "BCD"),
    *(f"enum: SLICEC.{pin}1MUX 1" for pin in "ABCD"), ""])


def test_equal(module):
    result = compare_design(module, parse_config(TEXT))
    assert not result.differences
    assert result.compared["LUTs"] == 2 and result.compared["flip-flops"] == 1
    assert result.compared["pins of LUTs"] == 1 and result.compared["connections"] == 3


@pytest.mark.parametrize("before, after", [
    (f"K0.INIT {0x5555:016b}", f"K0.INIT {0x3333:016b}"),
    (f"K1.INIT {0:016b}", f"K1.INIT {0x8000:016b}"),
    ("arc: A0 F5", "arc: A0 F7"),
    ("arc: A0 F5\n", ""),
    ("REG0.REGSET SET", "REG0.REGSET RESET"),
    ("REG0.SD 1", "REG0.SD 0"),
    ("GSR DISABLED", "GSR ENABLED"),
    ("CEMUX 1", "CEMUX INV"),
    ("enum: SLICEA.B0MUX 1\n", ""),
    ("arc: A0 F5\n", "arc: A0 F5\nenum: SLICEB.MODE CCU2\n"),
    ("arc: A0 F5\n", "arc: A0 F5\nunknown: F0B0\n"),
    ("arc: A0 F5\n", "arc: A0 F5\narc: B1 F1\n"),
    (TILE, "R2C4:PLC2"),
    (f".tile {TILE}", f".bram_init 3\n001 002\n.tile {TILE}"),
    (f".tile {TILE}", f".tile CIB_R10C100:CIB_DSP\narc: N1_V02N0301 S1_V02N0201\n.tile {TILE}"),
])
def test_every_fault_in_the_bitstream_is_found(module, before, after):
    assert before in TEXT
    assert compare_design(module, parse_config(TEXT.replace(before, after))).differences


@pytest.mark.parametrize("spoil", [
    lambda module: module["cells"]["second"]["parameters"].update(INITVAL=f"{0x5555:016b}"),
    lambda module: module["cells"]["second"]["connections"].update(B=[], A=[5]),
    lambda module: module["cells"]["ff"]["connections"].update(DI=[5]),
    lambda module: module["cells"]["first"]["connections"].update(F=[6]),
    lambda module: module["netnames"]["a"]["attributes"].update(
        routing("F5_SLICE", "F5->A0", "A0->B0_SLICE")),
    lambda module: module["netnames"]["a"]["attributes"].update(
        routing("F5_SLICE", "F5_SLICE->F5", "F5->A7", "A7->A7_SLICE")),
])
def test_every_fault_in_the_design_is_found(module, spoil):
    changed = deepcopy(module)
    spoil(changed)
    assert compare_design(changed, parse_config(TEXT)).differences


def test_tile_by_tile(module):
    fabric, read = Fabric(module, "LFE5U-85F"), parse_config(TEXT)
    assert not fabric.strange and not fabric.check_tile(TILE, read.tiles[TILE])
    assert fabric.check_tile(TILE, read.tiles[TILE][1:])
    assert not fabric.check_memory(1, None) and fabric.check_memory(1, [0])
