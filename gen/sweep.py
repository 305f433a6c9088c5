"""Run a task for many arguments, here or over machines: ``python -m gen.sweep TASK``."""

from collections.abc import Sequence
import logging
from pathlib import Path
import sys
from typing import Any

import yaml

from gen.scale.table import Table
from gen.scale.task import NAMES, tasks_over
from model.command import add_verbosity, ArgumentParser, called, main, next_step, require
from model.error import InputError, ToolFailed
from model.files import locked
from model.progress import track


__all__ = ["cli"]


log = logging.getLogger(__name__)

MOST = 1_000_000
"""Tasks of a sweep."""


def _parser():
    parser = ArgumentParser(
        prog=called("gen.sweep"),
        description="Run a task for many arguments: seeds, configurations, images, faults. Every "
                    "task that ends is a row in DIR/rows.jsonl at once; the same command goes on "
                    "where it was interrupted, and the table DIR/table.md depends on the tasks "
                    "alone. A worker that dies is replaced, and its task runs again.",
        epilog="Over machines: run `dask scheduler` on one and `dask worker tcp://HOST:8786 "
               "--nthreads 1` on each, with this project in the same version.")
    parser.add_argument("task", metavar="TASK",
                        help=f"{', '.join(NAMES)}, or a function as module:function")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                        help="an argument that all tasks have")
    parser.add_argument("--over", action="append", default=[], metavar="NAME=A:B|V,V",
                        help="values of an argument: from A to B, or A:B:STEP, or a list; several "
                             "--over give every combination")
    parser.add_argument("--folder", type=Path, metavar="DIR",
                        help="where the files are that the task works on (route: a build folder)")
    parser.add_argument("--workers", type=int, default=2, metavar="N",
                        help="processes on this machine (default: %(default)s)")
    parser.add_argument("--scheduler", metavar="tcp://HOST:PORT",
                        help="run on the workers of this Dask scheduler instead")
    parser.add_argument("--out", type=Path, metavar="DIR",
                        help="folder of the rows and the table (default: build/sweep-TASK)")
    add_verbosity(parser)
    return parser


def _scalar(option: str, text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = [text]
    if not isinstance(value, str | int | float | bool):
        raise InputError(f"{option}: {text!r} is no number and no word")
    return value


def _named(option: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier() or not value:
        raise InputError(f"{option} must be NAME=VALUE, not {text!r}")
    return name, value


def _values(option: str, text: str) -> Sequence[Any]:
    parts = text.split(":")
    if len(parts) in (2, 3) and all(part.lstrip("-").isdecimal() for part in parts):
        first, last, step = (*map(int, parts), 1)[:3]
        if step < 1 or last < first:
            raise InputError(f"{option}: {text!r} has no values; a range is A:B or A:B:STEP with "
                             "A up to B and a STEP of at least 1")
        return range(first, last + 1, step)
    return [_scalar(option, part) for part in text.split(",")]


def _tasks(arguments):
    fixed = {name: _scalar("--set", text) for name, text in (
        _named("--set", text) for text in arguments.set)}
    over: dict[str, Sequence[Any]] = {}
    count = 1
    for text in arguments.over:
        name, values = _named("--over", text)
        if name in over:
            raise InputError(f"--over {name} is given twice")
        over[name] = _values("--over", values)
        count *= len(over[name])
    if count > MOST:
        raise InputError(f"{count:,} tasks are too many: a sweep has at most {MOST:,}")
    return tasks_over(arguments.task, fixed, over, folder=arguments.folder)


def _run_missing(arguments, tasks, table, missing):
    """Run the tasks that have no row; what has ended is in the table whatever happens."""
    from gen.scale.engine import connected, run_tasks

    with track(f"sweep of {arguments.task}", missing, "tasks", keep=True) as said:
        with connected(arguments.scheduler, workers=arguments.workers) as client:
            try:
                return run_tasks(client, tasks, table, on_row=lambda task, row: said.update(1))
            except BaseException:
                table.write_markdown(tasks)
                raise


def _run(arguments):
    require("distributed", what="sweeps")
    if not 1 <= arguments.workers <= 1024:
        raise InputError(f"--workers must be 1..1024, not {arguments.workers}")
    if arguments.scheduler is not None and "://" not in arguments.scheduler:
        raise InputError(f"--scheduler must be an address as tcp://HOST:8786, not "
                         f"{arguments.scheduler!r}")
    tasks = _tasks(arguments)
    name = arguments.task.replace(":", ".")
    out = arguments.out or Path("build") / f"sweep-{name}"
    arguments.on_interrupt = "the rows so far are kept; the same command goes on"
    with locked(out, "sweep"):
        table = Table(out)
        there = sum(task in table for task in tasks)
        if there:
            log.info("%d of %d tasks are there already", there, len(tasks))
        failures = {}
        if there < len(tasks):
            failures = _run_missing(arguments, tasks, table, len(tasks) - there)
        path = table.write_markdown(tasks)
    print(f"{path}: {len(tasks) - len(failures)} of {len(tasks)} tasks")
    next_step("gen.build", "--help")
    if failures:
        task, text = next((task, failures[task.key]) for task in tasks if task.key in failures)
        raise ToolFailed(f"{len(failures)} of {len(tasks)} tasks failed and run again with the "
                         f"same command; the first, {dict(task.arguments)}: {text}")


def cli(argv=None):
    return main(_run, _parser(), argv)


if __name__ == "__main__":
    sys.exit(cli())
