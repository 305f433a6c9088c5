"""Run tasks on workers of this machine or of others (Dask distributed)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
import logging
import os
import time
from typing import Any

import dask
from distributed import as_completed, Client, LocalCluster

from gen.scale.table import Table
from gen.scale.task import run_packed, Task
from model.error import BuildError, InputError


__all__ = ["Row", "connected", "run_tasks"]


log = logging.getLogger(__name__)


DEATHS = 5
"""Workers that may die under one task before it is given up: it may be what kills them."""

CONNECT_S = 10

WORKERS_S = 30
"""Longest time without any worker."""

Row = dict[str, Any]


@contextmanager
def connected(scheduler: str | None = None, *, workers: int = 2) -> Iterator[Client]:
    """A client of a running scheduler, or of workers on this machine that end with the block.

    Parameters
    ----------
    scheduler : str or None
        Address (``tcp://host:8786``) of a scheduler that ``dask scheduler`` started; its workers
        need this project in the same version.
    workers : int
        Processes on this machine, without a scheduler. Each runs one task at a time; one that
        dies is replaced.

    Raises
    ------
    InputError
        The scheduler does not answer, or has no worker.
    """
    # What goes wrong is said here, in the words of this project.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    dask.config.set({"distributed.scheduler.allowed-failures": DEATHS,
                     "distributed.comm.timeouts.connect": f"{CONNECT_S}s"})
    if scheduler is None:
        # No page of its own beyond this machine, at a port that is free.
        with LocalCluster(n_workers=workers, threads_per_worker=1, memory_limit=0,
                          dashboard_address="127.0.0.1:0") as cluster:
            with Client(cluster) as client:
                yield client
        return
    try:
        client = Client(scheduler, timeout=CONNECT_S)
    except (OSError, ValueError) as error:
        raise InputError(f"No scheduler at {scheduler} ({str(error) or 'no answer'}); start one "
                         "there with: dask scheduler, and on every machine: dask worker "
                         f"{scheduler} --nthreads 1") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=WORKERS_S)
        except TimeoutError as error:
            raise InputError(f"The scheduler at {scheduler} has no worker; on every machine run: "
                             f"dask worker {scheduler} --nthreads 1") from error
        yield client


def _run(packed: tuple) -> Row:
    """On a worker. What the user can mend comes back as text: its class may not be there."""
    started = time.monotonic()
    about: Row = {"worker": f"{os.uname().nodename}:{os.getpid()}"}
    try:
        about["result"] = run_packed(*packed)
    except BuildError as error:
        about["failure"] = str(error)
    return about | {"seconds": round(time.monotonic() - started, 3)}


def run_tasks(client: Client, tasks: Sequence[Task], table: Table, *,
              on_row: Callable[[Task, Row], object] = lambda task, row: None
              ) -> dict[str, str]:
    """Run what has no row in ``table`` yet, and write a row for each task that ends.

    A task whose worker dies runs again on another one. Rows are written here alone, one for each
    key, so that none is lost and none is there twice.

    Parameters
    ----------
    on_row : callable
        ``on_row(task, about)`` behind each row.

    Returns
    -------
    dict
        Why tasks have failed, by their keys: they have no row, and run again the next time.
    """
    waiting = {task.key: task for task in tasks if task not in table}
    futures = [client.submit(_run, task.packed, key=f"qsdt-{task.key}", pure=True)
               for task in waiting.values()]
    failures: dict[str, str] = {}
    try:
        for future in as_completed(futures):
            task = waiting[future.key.removeprefix("qsdt-")]
            # Both wait: the result may just have been lost with a worker, and is computed again.
            error = future.exception()
            if error is not None:
                failures[task.key] = repr(error)
                continue
            row = future.result()
            if "failure" in row:
                failures[task.key] = row["failure"]
                continue
            table.add(task, row["result"], worker=row["worker"], seconds=row["seconds"])
            on_row(task, row)
    finally:
        client.cancel(futures)
    return failures
