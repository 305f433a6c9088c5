"""Twenty tasks on two workers, one of which is killed on the way."""

import os
import signal
import time

import pytest

from gen.scale import engine
from gen.scale.engine import connected, run_tasks
from gen.scale.table import Table
from gen.scale.task import tasks_over
from model.error import InputError


LIGHT = "tests.gen.scale.light"


@pytest.fixture(scope="module")
def client():
    with connected(workers=2) as client:
        yield client


def test_a_worker_that_dies_is_replaced_and_nothing_is_lost_or_twice(client, tmp_path):
    tasks = tasks_over(f"{LIGHT}:square", {"seconds": 0.1}, {"value": range(1, 21)})
    calm = Table(tmp_path / "calm")
    assert run_tasks(client, tasks, calm) == {}
    assert len(calm) == 20

    killed = []

    def kill(task, row):
        if len(table) == 5:
            killed.append(int(row["worker"].rpartition(":")[2]))
            os.kill(killed[0], signal.SIGKILL)

    # Other keys: the scheduler still has the results of these.
    client.restart()
    before = set(client.scheduler_info()["workers"])
    table = Table(tmp_path / "killed")
    assert run_tasks(client, tasks, table, on_row=kill) == {}
    assert len(killed) == 1
    assert table.markdown(tasks) == calm.markdown(tasks)
    assert (tmp_path / "killed" / "rows.jsonl").read_text().count("\n") == 20
    deadline = time.monotonic() + 60
    while len(client.scheduler_info()["workers"]) < 2 or (
            set(client.scheduler_info()["workers"]) == before):
        assert time.monotonic() < deadline, "the worker was not replaced"
        time.sleep(0.1)


def test_what_is_there_does_not_run_again(client, tmp_path):
    tasks = tasks_over(f"{LIGHT}:square", {"seconds": 0.01}, {"value": range(5)})
    rows = []
    for count in (3, 5, 5):
        assert run_tasks(client, tasks[:count], Table(tmp_path),
                         on_row=lambda task, row: rows.append(task.arguments["value"])) == {}
    assert sorted(rows) == [0, 1, 2, 3, 4]


def test_failures_have_no_row(client, tmp_path):
    tasks = tasks_over(f"{LIGHT}:refusing", {}, {"value": range(4)})
    failures = run_tasks(client, tasks, Table(tmp_path))
    assert failures == {tasks[2].key: "two is too many"}
    assert len(Table(tmp_path)) == 3


def test_no_scheduler(monkeypatch):
    monkeypatch.setattr(engine, "CONNECT_S", 1)
    with pytest.raises(InputError, match=r"No scheduler at tcp://127\.0\.0\.1:9 .*dask scheduler"):
        with connected("tcp://127.0.0.1:9"):
            pass
