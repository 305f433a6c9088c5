"""Progress of long work: one line that is rewritten on a terminal, or lines in a log file.

A command shows progress (`show_on`), a library stays silent. Work is a stack of tasks; the line
names the innermost one, with its elapsed time. A thread writes it, every `TERMINAL_INTERVAL_S` on
a terminal and every `LOG_INTERVAL_S` elsewhere, so that a log file grows although the work itself
says nothing, and `Task.update` costs next to nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
import logging
import shutil
import sys
import threading
import time
from typing import TextIO, TypeVar


__all__ = ["LogHandler", "Progress", "Task", "say", "show_on", "track", "tracked"]


TERMINAL_INTERVAL_S = 0.2
LOG_INTERVAL_S = 30.0
"""Longest silence in a log file while something is at work."""

LOG_WIDTH = 160
"""Longest line of progress in a log file."""

Item = TypeVar("Item")


class Task:
    """Something that takes long. Its attributes may be set at any rate and from any thread.

    Parameters
    ----------
    title : str
    total : int or None
        How many units it takes; None where nobody knows.
    unit : str
        What is counted, in the plural.
    """

    def __init__(self, title: str, total: int | None = None, unit: str = "") -> None:
        self.title, self.total, self.unit = title, total, unit
        self.done = 0
        self.first: int | None = None
        """Units that were done before the task began; None is 0."""
        self.started = time.monotonic()
        self.note = ""
        """What the line ends with when the task has ended, e.g. ``reused``."""
        self.text = ""
        """What it is doing now."""

    def update(self, count: int = 1, text: str = "") -> None:
        """Count `count` more units, and say what is being done."""
        self.done += count
        self.text = text or self.text

    def reach(self, done: int, total: int | None = None) -> None:
        """Set how many units are done, and how many there are if that has changed."""
        self.done = done
        self.total = total if total is not None else self.total

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def line(self) -> str:
        """What it does now, such as ``load … 12 s  300/1000 words, 28 s left``."""
        parts = [f"{self.title} … {self.seconds:.0f} s"]
        if self.total is not None or self.done:
            of = f"/{self.total}" if self.total is not None else ""
            count = f"{self.done}{of} {self.unit}".rstrip()
            made = self.done - (self.first or 0)
            if self.total and made and self.done < self.total:
                left = self.seconds * (self.total - self.done) / made
                count += f", {left:.0f} s left"
            parts.append(count)
        return "  ".join(filter(None, [*parts, self.text]))


class _Screen:
    """Where progress is written: what stands on a terminal's last line, and the stack of tasks."""

    def __init__(self) -> None:
        self.out: TextIO | None = None
        self.terminal = False
        self.lock = threading.RLock()
        self.tasks: list[Task] = []
        self._drawn = False
        self._said = 0.0
        self._stop: threading.Event | None = None

    def push(self, task: Task) -> None:
        with self.lock:
            self.tasks.append(task)
            if len(self.tasks) == 1 and self.out is not None:
                self._said = time.monotonic()
                self._stop = threading.Event()
                threading.Thread(target=self._watch, args=(self._stop,), daemon=True,
                                 name="progress").start()

    def pop(self, task: Task, end: str) -> None:
        with self.lock:
            self.tasks.remove(task)
            self.clear()
            if end:
                self.line(end)
            if not self.tasks and self._stop is not None:
                self._stop.set()
                self._stop = None

    def clear(self) -> None:
        """Take the line of progress off the terminal, so that something else can be written."""
        with self.lock:
            if self._drawn and self.out is not None:
                self._write("\r\x1b[K")
                self._drawn = False

    def line(self, text: str) -> None:
        """Write a line that stays."""
        with self.lock:
            self.clear()
            self._said = time.monotonic()
            self._write(f"{text}\n")

    def draw(self) -> None:
        with self.lock:
            if not self.tasks:
                return
            text = self.tasks[-1].line()
            if self.terminal:
                width = shutil.get_terminal_size().columns - 1
                self._write(f"\r\x1b[K{text[:width]}")
                self._drawn = True
            else:
                self.line(text[:LOG_WIDTH])

    def _write(self, text: str) -> None:
        try:
            if self.out is not None:
                self.out.write(text)
                self.out.flush()
        except (OSError, ValueError):    # gone, full or closed: the work itself goes on
            self.out = None

    def _watch(self, stop: threading.Event) -> None:
        terminal = self.terminal
        pause = TERMINAL_INTERVAL_S if terminal else min(1.0, LOG_INTERVAL_S / 4)
        while not stop.wait(pause):
            with self.lock:
                due = terminal or time.monotonic() - self._said >= LOG_INTERVAL_S - pause
                if due and not stop.is_set():
                    self.draw()


_screen = _Screen()


@contextmanager
def show_on(out: TextIO | None) -> Iterator[None]:
    """Show progress on a stream, None for nowhere, while the block runs."""
    before = _screen.out, _screen.terminal
    _screen.out, _screen.terminal = out, out is not None and out.isatty()
    try:
        yield
    finally:
        _screen.clear()
        _screen.out, _screen.terminal = before


@contextmanager
def track(title: str, total: int | None = None, unit: str = "", *, keep: bool = False
          ) -> Iterator[Task]:
    """Show progress of the block, which counts with `Task.update`.

    Parameters
    ----------
    title : str
    total : int or None
    unit : str
        As for :class:`Task`.
    keep : bool
        Leave a line with the time in any case, else only in a log file after a long time.
    """
    task = Task(title, total, unit)
    _screen.push(task)
    end = ""
    try:
        yield task
        end = task.note
    except BaseException as error:
        end = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        raise
    finally:
        said = keep or (task.seconds >= LOG_INTERVAL_S and not _screen.terminal)
        text = f"{title} … {task.seconds:.0f} s{f'  {end}' if end else ''}"
        _screen.pop(task, text if said else "")


def tracked(items: Iterable[Item], title: str, total: int | None = None, unit: str = ""
            ) -> Iterator[Item]:
    """Yield the items and show how many were taken."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with track(title, total, unit) as task:
        for item in items:
            yield item
            task.update()


class Progress:
    """Numbered steps: ``[3/6] place and route … 41 s``, each with a line that stays.

    Parameters
    ----------
    total : int
        Number of steps that will be announced.
    """

    def __init__(self, total: int) -> None:
        self.total, self.index = total, 0
        self._task = Task("")

    @contextmanager
    def step(self, title: str) -> Iterator["Progress"]:
        """Announce the next step and, at its end, its time (or that it failed)."""
        self.index += 1
        with track(f"[{self.index}/{self.total}] {title}", keep=True) as self._task:
            yield self

    def note(self, text: str) -> None:
        """What the line of the current step ends with, e.g. ``reused`` or a frequency."""
        self._task.note = text

    def update(self, text: str) -> None:
        """Say what a long step is doing; cheap enough to call at any rate."""
        self._task.text = text


def say(text: str) -> None:
    """Print a line of results on stdout, above the line of progress."""
    with _screen.lock:
        _screen.clear()
        print(text, flush=True)


class LogHandler(logging.StreamHandler):
    """Log lines on stderr, above the line of progress."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        with _screen.lock:
            _screen.clear()
            super().emit(record)


OnProgress = Callable[[int], object]
"""Called with a number of units that were done since the last call."""
