"""model.progress: lines on a terminal and in a log file, tasks inside tasks, silence."""

import io
import logging
import time

import pytest

from model import progress


@pytest.fixture
def out(monkeypatch):
    """A log file that is looked at so often that the thread speaks within milliseconds."""
    monkeypatch.setattr(progress, "LOG_INTERVAL_S", 0.04)
    stream = io.StringIO()
    with progress.show_on(stream):
        yield stream


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(progress, "TERMINAL_INTERVAL_S", 0.01)
    stream = io.StringIO()
    stream.isatty = lambda: True
    with progress.show_on(stream):
        yield stream


def wait_for(stream, text):
    end = time.monotonic() + 10
    while text not in stream.getvalue():
        assert time.monotonic() < end, stream.getvalue()
        time.sleep(0.01)


def test_a_log_file_grows_although_the_work_says_nothing(out):
    with progress.track("configuration"):
        wait_for(out, "configuration … 0 s\nconfiguration … 0 s\n")


def test_steps(out, monkeypatch):
    monkeypatch.setattr(progress, "LOG_INTERVAL_S", 30)
    steps = progress.Progress(2)
    with steps.step("one"):
        steps.update("never shown: too early")
        steps.note("reused")
    monkeypatch.setattr(progress, "LOG_INTERVAL_S", 0.04)
    with pytest.raises(ValueError, match="x"):
        with steps.step("two"):
            steps.update("tail of the log")
            wait_for(out, "tail of the log")
            raise ValueError("x")
    first, second, *_, last = out.getvalue().splitlines()
    assert first == "[1/2] one … 0 s  reused"
    assert second == "[2/2] two … 0 s  tail of the log"
    assert last == "[2/2] two … 0 s  failed"


def test_counts_and_the_time_left():
    task = progress.Task("load", 1000, "words")
    task.started -= 10
    assert task.line() == "load … 10 s  0/1000 words"
    task.update(200, "block 3")
    assert task.line() == "load … 10 s  200/1000 words, 40 s left  block 3"
    task.first = 100    # went on from there: 100 in 10 s
    assert task.line() == "load … 10 s  200/1000 words, 80 s left  block 3"
    task.reach(1000)
    assert task.line() == "load … 10 s  1000/1000 words  block 3"
    assert progress.Task("x", None, "cycles").line() == "x … 0 s"


def test_the_innermost_task_is_shown(out):
    with progress.track("outer", 2, "images") as outer:
        with progress.track("inner"):
            wait_for(out, "inner …")
        assert "outer" not in out.getvalue()
        outer.update()
        wait_for(out, "outer … 0 s  1/2 images")


def test_on_a_terminal(terminal, capsys):
    with progress.track("one", keep=True) as task:
        task.text = "tail " * 100
        wait_for(terminal, "tail")
        progress.say("a result")
    assert capsys.readouterr().out == "a result\n"
    *drawn, last = terminal.getvalue().split("\r\x1b[K")
    assert last == "one … 0 s\n" and max(map(len, drawn)) < 200
    with progress.track("two"):
        wait_for(terminal, "two")
    assert terminal.getvalue().endswith("\r\x1b[K"), "a short task leaves nothing"


def test_log_lines_stand_above_the_progress(terminal, capsys, monkeypatch):
    handler = progress.LogHandler()
    handler.setStream(terminal)
    with progress.track("one"):
        wait_for(terminal, "one … 0 s")
        handler.emit(logging.makeLogRecord({"msg": "said"}))
        assert "\r\x1b[Ksaid\n" in terminal.getvalue()


def test_a_closed_stream_does_not_stop_the_work(out):
    out.close()
    with progress.track("one", keep=True):
        pass


def test_tracked(out):
    assert list(progress.tracked([1, 2, 3], "items")) == [1, 2, 3]
    with pytest.raises(KeyboardInterrupt):
        for _ in progress.tracked(iter([1]), "items", 1):
            wait_for(out, "items … 0 s  0/1")
            raise KeyboardInterrupt


def test_a_library_is_silent(capsys):
    with progress.track("one", keep=True), progress.Progress(1).step("two"):
        time.sleep(0.01)
    assert capsys.readouterr() == ("", "")
