"""What every command shares: parsing, verbosity, exit statuses, signals, progress."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
import logging
import os
import shutil
import signal
import sys
import threading
import time
from typing import TextIO

from model.error import BuildError, EXIT_INPUT, EXIT_INTERRUPTED, EXIT_OK


__all__ = ["ArgumentParser", "Progress", "add_verbosity", "main"]


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


class Progress:
    """Progress lines of a build: ``[3/6] place and route … 41 s``.

    On a terminal the current line is rewritten with the time and the tool's last words; elsewhere
    a line is printed when a step ends and, for long ones, once a minute.

    Parameters
    ----------
    total : int
        Number of steps that will be announced.
    out : text stream
        Where to; None prints nothing.
    """

    interval_s = 60.0

    def __init__(self, total: int, *, out: TextIO | None = sys.stderr) -> None:
        self.total = total
        self.index = 0
        self._out = out
        self._terminal = out is not None and out.isatty()
        self._title = ""
        self._started = 0.0
        self._shown = 0.0
        self._note = ""

    @contextmanager
    def step(self, title: str) -> Iterator["Progress"]:
        """Announce the next step and, at its end, its time (or that it failed)."""
        self.index += 1
        self._title = title
        self._note = ""
        self._started = self._shown = time.monotonic()
        if self._terminal:
            self.update("")
        try:
            yield self
        except BaseException as error:
            self._print("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
            raise
        self._print(self._note)

    def note(self, text: str) -> None:
        """What the line of the current step ends with, e.g. ``reused`` or a frequency."""
        self._note = text

    def update(self, text: str) -> None:
        """Show what a long step is doing; cheap enough to call at any rate."""
        now = time.monotonic()
        if self._out is None:
            return
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            line = f"{self._head()} … {now - self._started:.0f} s  {text}"[:width]
            self._out.write(f"\r\x1b[K{line}")
            self._out.flush()
        elif now - self._shown >= self.interval_s:
            self._shown = now
            print(f"{self._head()} … {now - self._started:.0f} s  {text}"[:160], file=self._out,
                  flush=True)

    def _head(self) -> str:
        return f"[{self.index}/{self.total}] {self._title}"

    def _print(self, note: str) -> None:
        if self._out is None:
            return
        seconds = time.monotonic() - self._started
        start = "\r\x1b[K" if self._terminal else ""
        print(f"{start}{self._head()} … {seconds:.0f} s{f'  {note}' if note else ''}",
              file=self._out, flush=True)
