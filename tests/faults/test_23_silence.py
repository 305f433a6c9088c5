"""FAULTS row 23: something is said in time, and what is said can be understood."""

import re
import time

import numpy as np
import pytest

from gen import api, build, traffic
from model import evaluate, progress


NANO = ["--model", "qsdt_nano"]


def test_a_long_search_is_not_silent_in_a_log_file(tmp_path, monkeypatch, capsys):
    """The elapsed time comes at least every LOG_INTERVAL_S although the work says nothing."""
    monkeypatch.setattr(progress, "LOG_INTERVAL_S", 0.1)
    monkeypatch.chdir(tmp_path)

    def slow(*arguments, **options):
        time.sleep(0.6)
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "derive", slow)
    for command in (build, traffic):
        assert command.cli([*NANO, "--board", "ulx3s"]) == 130
        lines = capsys.readouterr().err.splitlines()
        said = [line for line in lines if re.match(r"configuration for ulx3s-85f … \d+ s", line)]
        assert len(said) >= 4 and lines[-1] == "interrupted"


def test_log_interval():
    assert progress.LOG_INTERVAL_S <= 30


def test_descriptors_of_each_attempt_are_not_listed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert traffic.cli([*NANO, "--board", "ulx3s"]) == 0
    out, err = capsys.readouterr()
    assert "qsdt_nano: " in out and not re.search(r"\d+ descriptors,", err)
    assert err.splitlines()[-1] == ("next: python -m gen.build --board ulx3s --model qsdt_nano "
                                    "--until config")


@pytest.mark.parametrize("words", [
    [*NANO, "--images", "folder"],
    ["--weights", "folder", "--images", "x.npz"],
    ["--weights", "folder.qsd", "--images", "x.npz"],
])
def test_folders_in_place_of_files(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.qsd").mkdir()
    np.savez("x.npz", image_q=np.zeros((1, 1, 28, 28), np.int8))
    assert evaluate.cli(words) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1, message
    assert "Errno" not in message and "folder" in message, message
