"""A campaign in a folder: begun, interrupted, gone on with."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
import json
from pathlib import Path
from typing import Any

from gen.campaign.fault import draw, Fault, Space
from gen.campaign.table import page, read_results, summary
from model.error import InputError
from model.files import digest_of, locked, write_atomic
from model.progress import track


__all__ = ["Campaign"]


class Campaign:
    """The folder of a campaign: ``settings.json``, ``results.jsonl`` with a line for each fault,
    and at the end ``campaign.json`` and ``campaign.md``.

    Parameters
    ----------
    folder : Path
    settings : mapping
        Of plain values; results of other ones are not gone on with. ``command`` and ``count`` may
        change.

    Raises
    ------
    InputError
        The folder holds another campaign.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]):
        self._folder, self._settings = folder, dict(settings)
        path = folder / "settings.json"
        digest = digest_of({name: value for name, value in settings.items()
                            if name not in ("command", "count", "note")})
        self._known: dict[str, Any] = {}
        if path.exists():
            try:
                self._known = dict(json.loads(path.read_text()))
            except (ValueError, TypeError):
                raise InputError(f"{path}: is damaged; choose another folder") from None
            if self._known.get("digest") != digest:
                raise InputError(f"{folder}: holds a campaign with other settings (model, board, "
                                 "configuration, seed, kinds or code); choose another folder")
        self._digest = digest

    def run(self, space: Space, trial: Callable[[Fault], dict[str, Any]], *, count: int,
            seed: int, kinds: Sequence[str], modes: Sequence[str], jobs: int,
            stop: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Run the faults that have no result yet; returns the :func:`summary` of all. ``stop``
        ends trials that run when it is interrupted."""
        with locked(self._folder, "campaign"):
            # Bytes of a run are more where a frame was sent twice on a busy machine.
            measured = {name: self._known.get(name, getattr(space, name))
                        for name in ("bytes", "opening")}
            space = replace(space, **measured)
            write_atomic(self._folder / "settings.json", json.dumps(
                {"digest": self._digest, **self._settings, **measured}, indent=1) + "\n")
            results = read_results(self._folder / "results.jsonl")
            left = [draw(space, seed, number, kinds=kinds, modes=modes)
                    for number in range(count) if number not in results]
            self._run(left, trial, results, count, jobs, stop)
            found = summary([results[number] for number in sorted(results) if number < count],
                            self._settings)
            write_atomic(self._folder / "campaign.json", json.dumps(found, indent=1) + "\n")
            write_atomic(self._folder / "campaign.md", page(found))
        return found

    def _run(self, left, trial, results, count, jobs, stop):
        path = self._folder / "results.jsonl"
        self._mend(path)
        with (track("faults", count, "faults") as task, open(path, "a") as file,
              ThreadPoolExecutor(jobs) as pool):
            task.first = count - len(left)
            task.reach(task.first)
            waiting: set[Future] = set()
            left = iter(left)
            try:
                while True:
                    while len(waiting) < jobs and (fault := next(left, None)) is not None:
                        waiting.add(pool.submit(trial, fault))
                    if not waiting:
                        break
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in done:
                        entry = future.result()
                        results[entry["number"]] = entry
                        file.write(json.dumps(entry) + "\n")
                        file.flush()
                        task.update(1, f"{entry['kind']}: {entry['class']}")
            except BaseException:
                stop()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    @staticmethod
    def _mend(path):
        """Cut off a last line that was not written to its end."""
        if path.exists():
            text = path.read_bytes()
            if text and not text.endswith(b"\n"):
                with open(path, "r+b") as file:
                    file.truncate(text.rfind(b"\n") + 1)
