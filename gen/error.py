"""What can go wrong in the generator, and the exit code of each kind."""

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
import logging
import os
from pathlib import Path
import signal
import sys
import threading


__all__ = ["EXIT_INPUT", "EXIT_INTERRUPTED", "EXIT_OK", "EXIT_TOOL_FAILED", "EXIT_TOOL_MISSING",
           "ArgumentParser", "BuildError", "DoesNotFit", "InputError", "TimingMissed",
           "ToolFailed", "ToolMissing", "VerificationFailed", "WeightsMismatch", "add_verbosity",
           "as_input_error", "known", "last_lines", "main"]


EXIT_OK = 0
EXIT_INPUT = 1
EXIT_TOOL_FAILED = 2
EXIT_TOOL_MISSING = 3
EXIT_INTERRUPTED = 130

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
    except (ValueError, TypeError, OSError) as error:
        raise InputError(f"{what}: {error}" if what else str(error)) from error


class ArgumentParser(argparse.ArgumentParser):
    """argparse, with a wrong command line reported as bad input (1), not as a failed tool (2)."""

    def error(self, message: str) -> None:
        self.print_usage(sys.stderr)
        self.exit(EXIT_INPUT, f"{self.prog}: error: {message}\n")


def add_verbosity(parser: argparse.ArgumentParser) -> None:
    """Add ``-v`` (more) and ``-q`` (errors only)."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("-v", "--verbose", action="store_true", help="log every decision")
    group.add_argument("-q", "--quiet", action="store_true", help="print errors only")


def set_verbosity(arguments: argparse.Namespace) -> None:
    level = (logging.DEBUG if getattr(arguments, "verbose", False)
             else logging.ERROR if getattr(arguments, "quiet", False) else logging.INFO)
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr, force=True)
    # Only our own modules log at the chosen level.
    logging.getLogger().setLevel(max(level, logging.WARNING))
    for package in ("gen", "model", "sim", "boards"):
        logging.getLogger(package).setLevel(level)


@contextmanager
def _ended_as_interrupted() -> Iterator[None]:
    """Treat a request to end like Ctrl-C: our tools run in sessions of their own and would
    otherwise go on without us."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt)
              for number in (signal.SIGTERM, signal.SIGHUP)
              if signal.getsignal(number) is not signal.SIG_IGN}  # as nohup asks
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(run: Callable[[argparse.Namespace], int | None], parser: argparse.ArgumentParser,
         argv: Sequence[str] | None = None) -> int:
    """Parse, run and map every outcome to an exit code: the last line of each command.

    Parameters
    ----------
    run : callable
        The command; takes the parsed arguments and returns None, or an exit code of its own.
    parser : argparse.ArgumentParser
        Use :class:`ArgumentParser`, or a usage error ends with the code of a failed tool.

    Returns
    -------
    int
        0, or the ``exit_code`` of the :class:`BuildError` that was raised, or 130. Other exceptions
        are bugs and pass through with their traceback.
    """
    try:
        arguments = parser.parse_args(argv)
        set_verbosity(arguments)
        with _ended_as_interrupted():
            return run(arguments) or EXIT_OK
    except BuildError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (head, less) has left: nothing to report, nowhere to do it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_INPUT
