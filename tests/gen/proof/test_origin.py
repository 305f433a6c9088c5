# amaranth: UnusedElaboratable=no
"""Where a build comes from: its commit, its tools, and the RTL of this code."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from boards import find_board
from gen.flow.rtl import write_rtl
from gen.flow.toolchain import Tool, Toolchain
from gen.proof import origin
from model.error import InputError, ToolMissing
from tests.gen.echo_shell import EchoShell


BOARD = find_board("ulx3s-12f")


class Config(SimpleNamespace):
    def to_dict(self):
        return dict(vars(self))


def design(**changes):
    return SimpleNamespace(board=BOARD, config=Config(
        **{"clock_hz": 80_000_000, "sdram_clock_hz": None, "rows": 16} | changes))


def test_rtl_of_this_code(tmp_path, monkeypatch):
    monkeypatch.setattr(origin, "commit", lambda: "there")
    made = write_rtl(BOARD, EchoShell(), tmp_path, core_clock_hz=80_000_000,
                     config=design().config.to_dict())
    report = {"commit": "here", "command": "qsdt build …"}
    build = SimpleNamespace(folder=Path("x"), report=report, identity=made.data["identity"])
    origin.check_rtl(build, design(), EchoShell())
    for changes in ({"rows": 17}, {"clock_hz": 75_000_000}):
        with pytest.raises(InputError, match=r"^x: is design \w{8}, built by commit here; the RTL "
                                             r"of this code \(commit there\) is \w{8}: check that "
                                             r"commit out, or build again: qsdt build …$"):
            origin.check_rtl(build, design(**changes), EchoShell())


def test_notes(monkeypatch):
    monkeypatch.setattr(origin, "commit", lambda: "here")
    tools = Toolchain(**{name: Tool(name=name, origin="native", version="1", command=())
                         for name in ("yosys", "nextpnr", "ecppack")})
    monkeypatch.setattr(origin, "find_toolchain", lambda: tools)
    report = {"commit": "here", "tools": tools.versions()}
    assert origin.notes(SimpleNamespace(report=report)) == []
    report = {"commit": "there", "tools": {
        "yosys": {"version": "2", "origin": "native"},
        "nextpnr": {"version": "1", "origin": "yowasp"}, "ecppack": tools.versions()["ecppack"]}}
    said = ["built by commit there, checked by the code of commit here",
            "built with yosys 2 (native), here is 1 (native)",
            "built with nextpnr 1 (yowasp), here is 1 (native)"]
    assert origin.notes(SimpleNamespace(report=report)) == said

    def missing():
        raise ToolMissing("yosys", install="pip install it")

    monkeypatch.setattr(origin, "find_toolchain", missing)
    assert origin.notes(SimpleNamespace(report=report))[1:] == [
        "built with yosys 2 (native), here is none",
        "built with nextpnr 1 (yowasp), here is none",
        "built with ecppack 1 (native), here is none"]
