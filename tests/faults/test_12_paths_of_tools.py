"""FAULTS.md row 12, for yosys, nextpnr and ecppack: folders with a space in their name."""

import pytest

from boards import find_board
from gen.flow.bitstream import pack
from gen.flow.route import route
from gen.flow.rtl import write_rtl
from gen.flow.synth import synthesize
from gen.flow.toolchain import find_toolchain
from tests.gen.echo_shell import EchoShell
from tests.gen.fake_tool import fake_tool, only_path
from tests.gen.flow.test_toolchain import ECPPACK, NEXTPNR, YOSYS


def test_tools(tmp_path, monkeypatch):
    folder = tmp_path / "my tools"
    for name, body in (("yosys", YOSYS), ("nextpnr-ecp5", NEXTPNR), ("ecppack", ECPPACK)):
        fake_tool(folder, name, body)
    only_path(monkeypatch, folder)
    found = find_toolchain("native")
    assert found.yosys.command == (str(folder / "yosys"),)


@pytest.mark.synth
def test_build_folder(tmp_path):
    """A real design, from RTL to the bitstream."""
    folder = tmp_path / "a build of mine"
    folder.mkdir()
    board, tools = find_board("ulx3s-12f"), find_toolchain()
    write_rtl(board, EchoShell(), folder, core_clock_hz=80_000_000)
    synthesize(board, folder, tools)
    packed = pack(board, folder, tools, route(board, folder, tools))
    assert packed.outputs["top.bit"].stat().st_size > 50_000
