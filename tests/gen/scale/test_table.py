import json

import pytest

from gen.scale.table import Table
from gen.scale.task import tasks_over
from model.error import InputError


TASKS = tasks_over("tests.gen.scale.light:square", {"seconds": 0}, {"value": range(4)})


def filled(folder, order=(2, 0, 3, 1)):
    table = Table(folder)
    for index in order:
        value = TASKS[index].arguments["value"]
        table.add(TASKS[index], {"square": value ** 2, "odd": value % 2 == 1}, worker="here",
                  seconds=index / 10)
    return table


def test_the_table_depends_on_the_tasks_alone(tmp_path):
    one, other = filled(tmp_path / "a"), filled(tmp_path / "b", range(4))
    assert one.markdown(TASKS) == other.markdown(TASKS) == """\
# Sweep of tests.gen.scale.light:square

All with seconds 0.

| value | square | odd |
| --- | --- | --- |
| 0 | 0 | no |
| 1 | 1 | yes |
| 2 | 4 | no |
| 3 | 9 | yes |
"""
    assert one.write_markdown(TASKS).read_text() == one.markdown(TASKS)


def test_rows_stay(tmp_path):
    filled(tmp_path, (1, 2))
    table = Table(tmp_path)
    assert len(table) == 2 and TASKS[1] in table and TASKS[0] not in table
    table.add(TASKS[1], {"square": -1})             # there already
    table.add(TASKS[0], {"square": 0, "odd": False})
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line)["arguments"]["value"] for line in lines] == [1, 2, 0]
    assert Table(tmp_path).result(TASKS[1]) == {"square": 1, "odd": True}


def test_a_line_that_was_cut_off_runs_again(tmp_path, caplog):
    filled(tmp_path)
    path = tmp_path / "rows.jsonl"
    content = path.read_bytes()
    for size in (len(content) - 1, len(content) - 20, 3):
        path.write_bytes(content[:size])
        table = Table(tmp_path)
        assert len(table) == content[:size].count(b"\n")
        assert "was cut off" in caplog.text
        assert path.read_bytes() == content[:size].rpartition(b"\n")[0] + b"\n" * (size > 3)
    filled(tmp_path)
    assert len(Table(tmp_path)) == 4


@pytest.mark.parametrize("line", [
    "{}", "3", "{", '{"key": 1, "task": 1, "arguments": 1, "result": 1}'])
def test_damaged_lines(tmp_path, line):
    filled(tmp_path)
    with open(tmp_path / "rows.jsonl", "a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match=r"rows\.jsonl:5 is no row of a sweep"):
        Table(tmp_path)


def test_a_row_twice_and_results_that_are_no_data(tmp_path):
    table = filled(tmp_path, (0,))
    path = tmp_path / "rows.jsonl"
    path.write_text(2 * path.read_text())
    with pytest.raises(InputError, match=r"rows\.jsonl:2 is no row of a sweep, or is there twice"):
        Table(tmp_path)
    for value in (object(), float("nan")):
        with pytest.raises(InputError, match="returned no plain data"):
            table.add(TASKS[1], {"value": value})
