"""``qsdt measure``: what is wrong is said before anything that takes long."""

import threading
from types import SimpleNamespace

import pytest

from gen import measure
from model.command import ArgumentParser
from model.error import InputError


NANO = ("--model", "qsdt_nano")

VIRTUAL = ("--board", "virtual", *NANO)

BOARD = ("--board", "ulx3s-85f", *NANO)


@pytest.mark.parametrize("words, message", [
    (("--board", "none", *NANO), "Unknown board 'none': known are virtual, ulx3s-12f"),
    (("--board", "virtual"), "Name a network: --model"),
    ((*VIRTUAL, "--meter", "none"), "Unknown meter 'none': known are ina, board, ppk2"),
    ((*VIRTUAL, "--seconds", "-1"), "--seconds must be 0 or more seconds, not -1"),
    ((*VIRTUAL, "--warm-up", "inf"), "--warm-up must be 0 or more seconds, not inf"),
    ((*VIRTUAL, "--repeats", "0"), "--repeats must be at least 1, not 0"),
    ((*VIRTUAL, "--back-to-back", "0"), "--back-to-back must be 1 to 65535, not 0"),
    ((*VIRTUAL, "--back-to-back", "65536"), "--back-to-back must be 1 to 65535, not 65536"),
    ((*VIRTUAL, "--recorded", "none.json"), "none.json: there is no such file; name a record of"),
    ((*BOARD, "--recorded", "f.json"), "--recorded is for --board virtual: a board has its own"),
    ((*VIRTUAL, "--unconfigured"), "--unconfigured needs --meter"),
    ((*VIRTUAL, "--unconfigured", "--meter", "board:shunt=0.1"), "--unconfigured needs another "
                                                                 "meter: a board without"),
    ((*VIRTUAL, "--port", "/dev/ttyUSB0"), "--port and --program are for real boards"),
    ((*BOARD, "--unconfigured", "--meter", "usb"), "--unconfigured needs --program: the bitstream "
                                                   "is loaded afterwards"),
    (BOARD, "Name the board's serial port: --port /dev/ttyUSB0"),
    ((*BOARD, "--port", "/dev/ttyNONE"), "Cannot open /dev/ttyNONE: there is no such port"),
    ((*BOARD, "--port", "socket://localhost:1", "--program", "--build", "none"),
     "none/top.bit: there is no bitstream; make it with: "),
    ((*VIRTUAL, "--out", "/dev/null"), "/dev/null: is a file; name a folder"),
    ((*VIRTUAL, "--count", "0"), "Count of images must be at least 1, not 0"),
    ((*VIRTUAL, "--images", "none.npz"), "none.npz"),
])
def test_mistakes(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert measure.cli(list(words)) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and message in captured.err
    assert captured.err.count("\n") == 1 and captured.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_meter_that_is_not_there_ends_it_before_the_device(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert measure.cli([*VIRTUAL, "--meter", "ina:bus=250"]) == 1
    assert "error: ina: cannot open /dev/i2c-250" in capsys.readouterr().err
    assert not (tmp_path / "measured").exists()


def test_port_of_a_board_that_the_meter_feeds(capsys, tmp_path, monkeypatch):
    """It is there only after the meter was opened, and so is not asked for before."""
    monkeypatch.chdir(tmp_path)
    words = [*BOARD, "--port", str(tmp_path / "tty"), "--meter"]
    assert measure.cli([*words, "ppk2:port=/dev/ttyNONE"]) == 1
    assert "error: ppk2: port /dev/ttyNONE does not exist" in capsys.readouterr().err
    assert measure.cli([*words, "ppk2:port=/dev/ttyNONE,mode=ampere"]) == 1
    assert f"Cannot open {tmp_path / 'tty'}: there is no such port" in capsys.readouterr().err

    class Waiting(measure._Measurement):
        def __init__(self):
            self.arguments = SimpleNamespace(port=str(tmp_path / "tty"))

    threading.Timer(0.3, (tmp_path / "tty").touch).start()
    Waiting()._await_port()
    (tmp_path / "tty").unlink()
    monkeypatch.setattr(measure, "PORT_S", 0.2)
    with pytest.raises(InputError, match="there is no such port"):
        Waiting()._await_port()


def test_defaults_are_told(capsys):
    parser = measure._parser()
    assert isinstance(parser, ArgumentParser)
    text = " ".join(parser.format_help().split())
    assert "least time of the runs; hours make a soak (default: 60; on the virtual board 0)" in text
