"""gen.doctor: what it finds, and why a tool is passed over."""

import json
from pathlib import Path
import re
import tomllib
import types

import pytest

from gen import doctor, host


ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def found(tmp_path, monkeypatch):
    """doctor --json with only these programs on PATH."""
    tools = tmp_path / "bin"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def look(capsys, **programs):
        for name, output in programs.items():
            (tools / name).write_text(f"#!/bin/sh\necho '{output}'\n")
            (tools / name).chmod(0o755)
        assert doctor.cli(["--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return look


def test_old_native_tools_are_passed_over(found, capsys):
    tools = found(capsys, yosys="Yosys 0.23 (git sha1 7ce5011c24b)")["tools"]
    assert tools["yosys"]["origin"] == "yowasp"
    assert any("0.23" in text and "older than" in text for text in tools["yosys"]["passed_over"])
    tools = found(capsys, yosys="Yosys 0.66 (git sha1 0)")["tools"]
    assert tools["yosys"]["origin"] == "native" and "0.66" in tools["yosys"]["version"]
    assert tools["yosys"]["path"].endswith("bin/yosys")


def test_what_a_missing_compiler_blocks(found, capsys):
    told = found(capsys, **{"g++": "g++ (Debian 12.2.0-14) 12.2.0", "make": "GNU Make 4.3"})
    assert told["ok"] and told["tools"]["g++"]["version"] == "12.2.0"
    assert told["uses"]["run --board virtual"] == {"perl": "apt-get install perl"}
    assert told["uses"]["verify --forms integer,iss"] == {}


def test_boards(monkeypatch):
    from serial.tools import list_ports

    port = types.SimpleNamespace(device="/dev/ttyUSB7", description="ULX3S FPGA 85K", vid=0x0403,
                                 pid=0x6015)
    old = types.SimpleNamespace(device="/dev/ttyS0", description="n/a", vid=None, pid=None)
    monkeypatch.setattr(list_ports, "comports", lambda: [old, port])
    text = "\n".join(host.lines(host.look()))
    assert "/dev/ttyUSB7 0403:6015 ULX3S FPGA 85K, may be" in text and "ttyS0" not in text
    assert "ulx3s-85f" in text and "NO PERMISSION: add yourself to the group dialout" in text


def test_missing_base_package(monkeypatch, capsys):
    monkeypatch.setitem(host.BASE, "no_such", "no-such-distribution")
    assert doctor.cli([]) == 3
    out = capsys.readouterr().out
    assert "no_such MISSING" in out and "NO  evaluate, convert, traffic, report" in out


def test_base_is_what_the_project_depends_on():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.match("[A-Za-z0-9-]+", line)[0].lower() for line in project["dependencies"]}
    assert names == {name.lower() for name in host.BASE.values()}


def test_every_need_has_an_owner():
    known = {*host.EXTRAS, *host.SIMULATOR, *host.SYNTHESIS, "openFPGALoader", "Fashion-MNIST"}
    assert {name for names in host.NEEDS.values() for name in names} <= known
