"""Steps of a build: reuse of results that still hold."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
import json
import os
from pathlib import Path
import shutil
from typing import Any

from model.error import InputError, os_error_text, ToolFailed
from model.files import digest_file, digest_of, write_atomic


__all__ = ["StepResult", "discard_partial", "run_step"]


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
    data: Mapping[str, Any] = field(default_factory=dict)
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


def discard_partial(folder: Path) -> None:
    """Remove what interrupted steps and writes have left. Nobody else may work in the folder."""
    for path in Path(folder).glob(".*.partial"):
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def run_step(name: str, folder: Path, *, inputs: Mapping[str, Path], depends: object,
             outputs: Iterable[str], work: Callable[[Path], dict], force: bool = False
             ) -> StepResult:
    """Run one step, or take over its outputs when nothing that they depend on has changed.

    ``work`` runs in an empty folder with a copy of the inputs and must leave all outputs there;
    only then do they replace those of the build folder. When it fails, the build folder keeps its
    old outputs and gains ``<name>.failed.log``. Where the folder cannot be written or is full,
    :class:`InputError` says so.

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
    try:
        return _run_step(name, Path(folder), inputs, depends, list(outputs), work, force)
    except OSError as error:
        path = error.filename2 or error.filename
        # The work folder is gone: its name says nothing to people.
        if path is None or f".{name}.partial" in os.fsdecode(path):
            path = folder
        raise InputError(os_error_text(error, os.fsdecode(path))) from error


def _run_step(name: str, folder: Path, inputs: Mapping[str, Path], depends: object,
              outputs: list[str], work: Callable[[Path], dict], force: bool) -> StepResult:
    stamp_path = folder / f"{name}.stamp.json"
    taken = {key: digest_file(path) for key, path in inputs.items()}
    digest = digest_of([name, depends, taken])

    stamp = _load_stamp(stamp_path)
    paths = {output: folder / output for output in outputs}
    if not force and stamp.get("digest") == digest:
        written = stamp.get("outputs", {})
        if all(paths[output].is_file() and digest_file(paths[output]) == value
               for output, value in written.items() if output in paths):
            return StepResult(name=name, digest=digest, reused=True, data=stamp["data"],
                              outputs={output: paths[output] for output in written})

    workplace = folder / f".{name}.partial"
    _remove(workplace)
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
            incomplete = ToolFailed(f"Step {name} did not write {', '.join(missing)}", log=log)
            _keep_log(incomplete, workplace, failed_log)
            raise incomplete
        # Without its stamp a half-replaced set of outputs is never taken for a result.
        stamp_path.unlink(missing_ok=True)
        written = {output: digest_file(workplace / output) for output in made}
        for output in made:
            os.replace(workplace / output, paths[output])
        failed_log.unlink(missing_ok=True)
        stamp = {"digest": digest, "inputs": taken, "outputs": written, "data": data}
        write_atomic(stamp_path, json.dumps(stamp, indent=1) + "\n")
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
    return StepResult(name=name, digest=digest, data=data,
                      outputs={output: paths[output] for output in made})


def _keep_log(error: BaseException, workplace: Path, target: Path) -> None:
    """Save the log an error points to from the work folder, and point the error at the copy."""
    if not isinstance(error, ToolFailed):
        return
    log = error.log
    if log is not None and Path(log).parent == workplace and Path(log).is_file():
        os.replace(log, target)
        error.log = target
        if error.args:
            error.args = (str(error.args[0]).replace(str(log), str(target)), *error.args[1:])
