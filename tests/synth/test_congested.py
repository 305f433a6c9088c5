"""A design that is routed as a crowded chip is (:mod:`gen.flow.congested`), by the real tools."""

import pytest

from boards import find_board
from gen.flow.bitstream import pack, unpack
from gen.flow.route import route
from gen.flow.rtl import write_rtl
from gen.flow.synth import synthesize
from gen.flow.toolchain import find_toolchain
from gen.pnr import place
from gen.proof.fabric import compare_design
from gen.proof.lvs import compare
from gen.proof.trellis import parse_config
from hw.config import CoreConfig
from hw.memory.onchip_memory import OnChipMemory
from hw.shell import Shell
from sim.gate.netlist import read_routed
from sim.rtl.stub_core import StubCore


pytestmark = pytest.mark.synth


def test_routed_in_two_runs_of_nextpnr(tmp_path, monkeypatch):
    """Carries, LUT-RAMs and their write ports keep their inputs; ports and global set/reset stay.

    nextpnr permutes the inputs of a cell that it reads with its place as if it were a LUT.
    """
    monkeypatch.setattr(place, "MOVES", 100_000)
    board = find_board("ulx3s-85f")
    shell = Shell(CoreConfig(rows=16), memory=OnChipMemory(words=2048), divisor=8, core=StubCore())
    write_rtl(board, shell, tmp_path, core_clock_hz=80_000_000)
    tools = find_toolchain("auto")
    synthesize(board, tmp_path, tools)
    pack(board, tmp_path, tools, route(board, tmp_path, tools, congested=True))
    netlist = read_routed(tmp_path / "top.json")
    routed = read_routed(tmp_path / "route-1.routed.json.gz")
    assert {name: (port["direction"], len(port["bits"])) for name, port in routed["ports"].items()
            } == {name: (port["direction"], len(port["bits"]))
                  for name, port in netlist["ports"].items()}
    assert compare(netlist, routed).differences == []
    result = compare_design(routed, parse_config(unpack(tmp_path / "top.bit")))
    assert result.differences == [] and result.compared["LUTs"] > 1000
    modes = [str(cell["parameters"].get("MODE")).strip() for cell in routed["cells"].values()]
    assert modes.count("CCU2") > 100 and modes.count("RAMW_BLOCK") > 10
