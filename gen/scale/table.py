"""Table of a sweep: a line of JSON for every task that has ended, and Markdown of them all."""

from collections.abc import Iterable, Mapping
import json
import logging
import os
from pathlib import Path
from typing import Any

from gen.scale.task import Task
from model.error import InputError, os_error_text
from model.files import make_folder, write_atomic


__all__ = ["Table"]


log = logging.getLogger(__name__)


class Table:
    """Rows in ``rows.jsonl`` of a folder, one for each key, and ``table.md`` of the tasks.

    A row is written when its task has ended, and stays: whatever is interrupted goes on where it
    stood. One process at a time may write (:func:`model.files.locked`).

    Parameters
    ----------
    folder : Path
        Made if it is not there.

    Raises
    ------
    InputError
        A line is no row. Only the last one may be incomplete, of a write that was cut off: it is
        dropped, and its task runs again.
    """

    def __init__(self, folder: Path):
        self._folder = make_folder(folder)
        self._path = Path(folder) / "rows.jsonl"
        self._rows: dict[str, dict[str, Any]] = {}
        self._read()

    @property
    def path(self) -> Path:
        """Of the table in Markdown."""
        return self._folder / "table.md"

    def _read(self) -> None:
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise InputError(os_error_text(error, str(self._path))) from error
        whole, _, rest = content.rpartition(b"\n")
        for number, line in enumerate(whole.split(b"\n") if whole else [], 1):
            try:
                row = json.loads(line)
                key = row["key"]
                known = {"task", "arguments", "result"} <= set(row) and isinstance(key, str)
            except (ValueError, KeyError, TypeError):
                known = False
            if not known or key in self._rows:
                raise InputError(f"{self._path}:{number} is no row of a sweep, or is there twice; "
                                 "name another folder, or remove the line")
            self._rows[key] = row
        if rest:
            log.warning("%s: the last line was cut off; its task runs again", self._path)
            write_atomic(self._path, whole + b"\n" if whole else b"")

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, task: Task) -> bool:
        return task.key in self._rows

    def add(self, task: Task, result: Mapping[str, Any], **about: Any) -> None:
        """Write the row of a task that has ended, unless it is there; ``about`` says how it ran.

        Raises :exc:`InputError` for a result that is no plain data, or that cannot be written.
        """
        if task in self:
            return
        row = {"key": task.key, "task": task.function, "arguments": dict(task.arguments),
               "result": dict(result), **about}
        try:
            line = json.dumps(row, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(f"Task {task.function} returned no plain data: {error}") from error
        try:
            with open(self._path, "ab") as file:
                file.write(line.encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise InputError(os_error_text(error, str(self._path))) from error
        self._rows[task.key] = json.loads(line)

    def result(self, task: Task) -> Mapping[str, Any]:
        """What a task returned."""
        return self._rows[task.key]["result"]

    def markdown(self, tasks: Iterable[Task]) -> str:
        """The results of the tasks that have ended, in the order of the tasks.

        Neither how long a task took nor where it ran is in it: it depends on the tasks alone.
        """
        ended = [task for task in tasks if task in self]
        names = dict.fromkeys(name for task in ended for name in task.arguments)
        same = {name: ended[0].arguments[name] for name in names
                if len(ended) > 1 and all(name in task.arguments and task.arguments[name]
                                          == ended[0].arguments[name] for task in ended)}
        names = dict.fromkeys(name for name in names if name not in same)
        results = dict.fromkeys(name for task in ended for name in self.result(task))
        lines = [f"# Sweep of {', '.join(dict.fromkeys(task.function for task in ended))}", ""]
        if same:
            lines += ["All with " + ", ".join(f"{name} {value}" for name, value in same.items())
                      + ".", ""]
        lines += ["| " + " | ".join([*names, *results]) + " |",
                  "|" + " --- |" * (len(names) + len(results))]
        lines += ["| " + " | ".join([
            *(_cell(task.arguments.get(name, "")) for name in names),
            *(_cell(self.result(task).get(name, "")) for name in results)]) + " |"
            for task in ended]
        return "\n".join(lines) + "\n"

    def write_markdown(self, tasks: Iterable[Task]) -> Path:
        """Write ``table.md``; returns its path."""
        write_atomic(self.path, self.markdown(tasks))
        return self.path


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value).replace("|", "\\|").replace("\n", " ")
