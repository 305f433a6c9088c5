"""What can go wrong, and the exit status of each kind. One table for every command."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
import errno
import os
from pathlib import Path


__all__ = ["EXIT_INPUT", "EXIT_INTERRUPTED", "EXIT_OK", "EXIT_STATUSES", "EXIT_TOOL_FAILED",
           "EXIT_TOOL_MISSING",
           "BuildError", "DoesNotFit", "InputError", "TimingMissed", "ToolFailed", "ToolMissing",
           "VerificationFailed", "WeightsMismatch", "as_input_error", "known", "last_lines",
           "os_error_text"]


EXIT_OK = 0
EXIT_INPUT = 1
EXIT_TOOL_FAILED = 2
EXIT_TOOL_MISSING = 3
EXIT_INTERRUPTED = 130

EXIT_STATUSES = ("Exit status: 0 done, 1 bad input or a check that failed, 2 a tool failed, "
                 "3 something is not installed, 130 interrupted.")
"""The table in words, with which the help of every command ends."""

LAST_LINES = 12
"""Lines of a failed tool's log that are shown."""


class BuildError(Exception):
    """Base of everything that a generator command reports without a traceback."""

    exit_code = EXIT_INPUT


class InputError(BuildError):
    """The user's input, options or hardware cannot be used as they are."""


class WeightsMismatch(InputError):
    """Weights, program, bitstream or board do not belong to each other."""


class VerificationFailed(InputError):
    """Two forms of the network differ, or no passing verification is recorded."""


class DoesNotFit(InputError):
    """The network or the design needs more of a resource than there is.

    Parameters
    ----------
    resource : str
        What is short, with its unit, e.g. ``"block RAMs (DP16KD) of ulx3s-12f"``.
    needed, available : int
    hint : str
        What the user can change.
    """

    def __init__(self, resource: str, *, needed: int, available: int, hint: str = "") -> None:
        super().__init__(f"Does not fit: {resource}: {needed} needed, {available} available"
                         + (f"; {hint}" if hint else ""))
        self.resource = resource
        self.needed = needed
        self.available = available
        self.hint = hint


class ToolMissing(BuildError):
    """A program, package or library is not installed.

    Parameters
    ----------
    tool : str
        Its name and what wants it.
    install : str
        The command that installs it.
    """

    exit_code = EXIT_TOOL_MISSING

    def __init__(self, tool: str, *, install: str) -> None:
        super().__init__(f"{tool} is missing; install it with: {install}")
        self.tool = tool
        self.install = install


class ToolFailed(BuildError):
    """A tool ended with an error; the message ends with the last lines of its log.

    Parameters
    ----------
    what : str
        What failed, e.g. ``"yosys ended with exit code 1"``.
    log : path
        Where its whole output is.
    """

    exit_code = EXIT_TOOL_FAILED

    def __init__(self, what: str, *, log: Path | None = None) -> None:
        text = what
        if log is not None:
            tail = "".join(f"\n  | {line}" for line in last_lines(log, LAST_LINES))
            text = f"{what}; log: {log}{tail}"
        super().__init__(text)
        self.log = log


class TimingMissed(ToolFailed):
    """The routed design is slower than a clock's constraint."""


def last_lines(path: Path, count: int, *, read_bytes: int = 16384) -> list[str]:
    """The last non-empty lines of a text file; none where there is no file."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - read_bytes))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()][-count:]


def known(kind: str, name: str, names: Iterable[str]) -> str:
    """Return ``name`` if it is one of ``names``, else raise an error that lists them."""
    names = list(names)
    if name not in names:
        raise InputError(f"Unknown {kind} {name!r}: known are {', '.join(names)}")
    return name


@contextmanager
def as_input_error(what: str = "") -> Iterator[None]:
    """Report ``ValueError``, ``TypeError`` and ``OSError`` of the block as the user's input.

    For the few lines that turn what the user gave into objects: nothing larger, or a bug in our
    code would look like bad input.
    """
    try:
        yield
    except OSError as error:
        raise InputError(os_error_text(error)) from error
    except (ValueError, TypeError) as error:
        raise InputError(f"{what}: {error}" if what else str(error)) from error


_REMEDIES = {
    errno.ENOENT: "check the name",
    errno.EISDIR: "name a file",
    errno.ENOTDIR: "a part of the path is a file",
    errno.EEXIST: "it is there already; choose another name",
    errno.EACCES: "change its permissions or choose another place",
    errno.EPERM: "change its permissions or choose another place",
    errno.EROFS: "choose a place that can be written",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f) or choose another place",
    errno.ENOSPC: "free some space or choose another place",
    errno.EDQUOT: "free some space or choose another place",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "it is a symbolic link, which is not followed here; remove it",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
}


def os_error_text(error: OSError, path: str | os.PathLike | None = None) -> str:
    """One line, ``FILE: cause; what to do``, of an error of the operating system.

    `path` stands in for the file that the error names: a temporary name says nothing to people.
    """
    file = path if path is not None else error.filename
    if error.strerror is None:
        return str(error)
    cause = "is a folder" if error.errno == errno.EISDIR else (
        error.strerror[:1].lower() + error.strerror[1:])
    remedy = _REMEDIES.get(error.errno or 0)
    return "".join([f"{os.fspath(file)}: " if isinstance(file, str | os.PathLike) else "", cause,
                    f"; {remedy}" if remedy else ""])
