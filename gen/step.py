"""Steps of a build: progress lines, atomic outputs, and reuse of results that still hold."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
import fcntl
import hashlib
import json
import os
from pathlib import Path
import shutil
import sys
import time
from typing import TextIO

from gen.error import InputError, ToolFailed


__all__ = ["Progress", "StepResult", "digest_bytes", "digest_file", "digest_of", "locked",
           "run_step", "write_atomic"]


def digest_bytes(*parts: bytes) -> str:
    """SHA-256 of byte strings, each with its length, as hexadecimal."""
    state = hashlib.sha256()
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file, as ``sha256sum`` prints it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(value: object) -> str:
    """SHA-256 of plain data (dicts, lists, strings, numbers), whatever the order of its keys."""
    return digest_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old content or all of the new."""
    data = content.encode() if isinstance(content, str) else content
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as error:
        raise InputError(f"Cannot write {path}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other builds out of a folder, which is made where it does not exist."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / ".lock", "w")
    except OSError as error:
        raise InputError(f"Cannot write to {folder}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"Another build is running in {folder}") from None
        yield


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


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What a step gave.

    Parameters
    ----------
    name : str
    digest : str
        Of everything the outputs depend on.
    outputs : mapping
        Name of each output and its path in the build folder.
    data : mapping
        Plain figures: ``seconds``, ``cpu_seconds``, ``peak_mb`` of the run that made the outputs
        and whatever else the step measured.
    reused : bool
        The outputs were there already, from the same inputs and tools.
    """

    name: str
    digest: str
    outputs: Mapping[str, Path]
    data: Mapping[str, object] = field(default_factory=dict)
    reused: bool = False

    @property
    def seconds(self) -> float:
        return self.data["seconds"]


def _load_stamp(path: Path) -> dict:
    try:
        stamp = json.loads(path.read_text())
        return stamp if isinstance(stamp, dict) else {}
    except (OSError, ValueError):
        return {}


def run_step(name: str, folder: Path, *, inputs: Mapping[str, Path], depends: object,
             outputs: Iterable[str], work: Callable[[Path], dict], force: bool = False
             ) -> StepResult:
    """Run one step, or take over its outputs when nothing that they depend on has changed.

    ``work`` runs in an empty folder with a copy of the inputs and must leave all outputs there;
    only then do they replace those of the build folder. When it fails, the build folder keeps its
    old outputs and gains ``<name>.failed.log``.

    Parameters
    ----------
    inputs : mapping
        File name in the work folder and where the file is now.
    depends : plain data
        What else the result depends on: options, tool versions.
    outputs : iterable of str
        File names; those ending in ``.log`` may be missing.
    work : callable
        ``work(folder)`` does it and returns plain data for ``StepResult.data``.
    force : bool
        Run in any case.
    """
    folder = Path(folder)
    outputs = list(outputs)
    stamp_path = folder / f"{name}.stamp.json"
    digest = digest_of([name, depends, {key: digest_file(path) for key, path in inputs.items()}])

    stamp = _load_stamp(stamp_path)
    paths = {output: folder / output for output in outputs}
    if not force and stamp.get("digest") == digest:
        written = stamp.get("outputs", {})
        if all(paths[output].is_file() and digest_file(paths[output]) == value
               for output, value in written.items() if output in paths):
            return StepResult(name=name, digest=digest, reused=True, data=stamp["data"],
                              outputs={output: paths[output] for output in written})

    workplace = folder / f".{name}.partial"
    shutil.rmtree(workplace, ignore_errors=True)
    workplace.mkdir(parents=True)
    failed_log = folder / f"{name}.failed.log"
    try:
        for target, source in inputs.items():
            shutil.copyfile(source, workplace / target)
        try:
            data = work(workplace)
        except BaseException as error:
            _keep_log(error, workplace, failed_log)
            raise
        made = [output for output in outputs if (workplace / output).is_file()]
        missing = [output for output in outputs if output not in made
                   and not output.endswith(".log")]
        if missing:
            log = next((workplace / output for output in made if output.endswith(".log")), None)
            error = ToolFailed(f"Step {name} did not write {', '.join(missing)}", log=log)
            _keep_log(error, workplace, failed_log)
            raise error
        # Without its stamp a half-replaced set of outputs is never taken for a result.
        stamp_path.unlink(missing_ok=True)
        written = {output: digest_file(workplace / output) for output in made}
        for output in made:
            os.replace(workplace / output, paths[output])
        failed_log.unlink(missing_ok=True)
        stamp = {"digest": digest, "outputs": written, "data": data}
        write_atomic(stamp_path, json.dumps(stamp, indent=1) + "\n")
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
    return StepResult(name=name, digest=digest, data=data,
                      outputs={output: paths[output] for output in made})


def _keep_log(error: BaseException, workplace: Path, target: Path) -> None:
    """Save the log an error points to from the work folder, and point the error at the copy."""
    log = getattr(error, "log", None)
    if log is not None and Path(log).parent == workplace and Path(log).is_file():
        os.replace(log, target)
        error.log = target
        if error.args:
            error.args = (str(error.args[0]).replace(str(log), str(target)), *error.args[1:])
