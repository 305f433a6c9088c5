from dataclasses import replace

import pytest

from gen.scale.task import run_packed, Task, tasks_over
from model.error import InputError


LIGHT = "tests.gen.scale.light"


def test_every_combination_has_a_key_of_its_own():
    tasks = tasks_over(f"{LIGHT}:square", {}, {"value": range(3), "seconds": [0, 0.5]})
    assert [task.arguments for task in tasks] == [
        {"value": value, "seconds": seconds} for value in range(3) for seconds in (0, 0.5)]
    assert len({task.key for task in tasks}) == 6
    again = tasks_over(f"{LIGHT}:square", {"seconds": 0.5}, {"value": [1, 1]})
    assert [task.key for task in again] == [tasks[3].key]
    assert run_packed(*tasks[4].packed) == {"square": 4, "odd": False}


def test_files_belong_to_the_key(tmp_path):
    (tmp_path / "a.txt").write_text("four")
    (task,) = tasks_over(f"{LIGHT}:length", {"times": 2}, {}, folder=tmp_path)
    assert run_packed(*task.packed) == {"length": 8}
    (tmp_path / "a.txt").write_text("seven..")
    (other,) = tasks_over(f"{LIGHT}:length", {"times": 2}, {}, folder=tmp_path)
    assert other.key != task.key
    assert run_packed(*other.packed) == {"length": 14}


def test_other_code_is_refused():
    task = Task.of("gen.scale.task:tasks_over", {"name": "x"})
    with pytest.raises(InputError, match="the code of gen.scale.task:tasks_over is another here"):
        run_packed(*replace(task, code="0" * 64).packed)


@pytest.mark.parametrize("name, fixed, over, text", [
    ("rout", {}, {}, "No task 'rout': tasks are route, verify, predict, or any function as "
     "module:function"),
    ("gen.work:nothing", {}, {}, "No task 'gen.work:nothing'"),
    ("nowhere.at_all:nothing", {}, {}, "No task 'nowhere.at_all:nothing'"),
    (f"{LIGHT}:square", {"valu": 1}, {}, "takes no argument 'valu'; it takes value, seconds$"),
    (f"{LIGHT}:square", {"seconds": 1}, {}, "needs the argument 'value'; it takes value, seconds$"),
    (f"{LIGHT}:square", {"value": 1}, {"value": [1]}, "Argument value is given twice"),
    (f"{LIGHT}:length", {"times": 1}, {}, r"works on files \(a.txt\): name their folder"),
    ("verify", {"model": "m", "count": 1}, {"first": [0], "seed": [1]}, "no argument 'seed'"),
])
def test_bad_tasks(name, fixed, over, text):
    with pytest.raises(InputError, match=text):
        tasks_over(name, fixed, over)


def test_bad_folders(tmp_path):
    with pytest.raises(InputError, match=r"a\.txt: no such file"):
        tasks_over(f"{LIGHT}:length", {"times": 1}, {}, folder=tmp_path)
    with pytest.raises(InputError, match="works on no files: leave out the folder"):
        tasks_over(f"{LIGHT}:square", {"value": 1}, {}, folder=tmp_path)
