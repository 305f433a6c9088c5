import pytest

from gen import sweep


LIGHT = "tests.gen.scale.light"


@pytest.mark.parametrize("words, text", [
    (["route", "--set", "board=b", "--over", "seed=1:2"], "Task route works on files"),
    (["nothing"], "No task 'nothing': tasks are route, verify, predict"),
    ([f"{LIGHT}:square", "--over", "value"], "--over must be NAME=VALUE, not 'value'"),
    ([f"{LIGHT}:square", "--over", "value=5:1"], "--over: '5:1' has no values"),
    ([f"{LIGHT}:square", "--over", "value=1:2:0"], "--over: '1:2:0' has no values"),
    ([f"{LIGHT}:square", "--over", "value=1", "--over", "value=2"], "--over value is given twice"),
    ([f"{LIGHT}:square", "--over", "value=1:1000001"], "1,000,001 tasks are too many"),
    ([f"{LIGHT}:square", "--set", "value=[1]"], r"--set: '[1]' is no number and no word"),
    ([f"{LIGHT}:square", "--set", "value=1", "--workers", "0"], "--workers must be 1..1024"),
    ([f"{LIGHT}:square", "--set", "value=1", "--scheduler", "host"],
     "--scheduler must be an address as tcp://HOST:8786, not 'host'"),
])
def test_bad_words(tmp_path, monkeypatch, capsys, words, text):
    monkeypatch.chdir(tmp_path)
    assert sweep.cli(words) == 1
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_sweep(tmp_path, capsys):
    """A failure does not stop the others; the second time only it runs."""
    words = [f"{LIGHT}:refusing", "--over", "value=1,2,5", "--workers", "1", "--out",
             str(tmp_path), "-q"]
    assert sweep.cli(words) == 2
    said = capsys.readouterr()
    assert f"{tmp_path / 'table.md'}: 2 of 3 tasks" in said.out
    assert "1 of 3 tasks failed" in said.err and "{'value': 2}: two is too many" in said.err
    assert "| 5 | 5 |" in (tmp_path / "table.md").read_text()
    assert sweep.cli([f"{LIGHT}:refusing", "--over", "value=1,5", "--out", str(tmp_path)]) == 0
    assert "2 of 2 tasks are there already" in capsys.readouterr().err
