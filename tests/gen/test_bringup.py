"""``gen.bringup`` as a command: what is said before, between and after the steps."""

import json
from pathlib import Path

import pytest

from boards import find_board
from gen import bringup
from gen.bench.bitstream import default_folder, read_record, RECORD
from gen.bench.step import Step
from gen.device import transport
from hw.register import Restart
from model.error import InputError
from model.files import digest_file
from tests.gen.bench.software_board import IDENTITY, SmallBoard
from tests.gen.device.software_device import SoftwareTransport
from tests.gen.fake_tool import fake_tool, only_path


BOARD = find_board("ulx3s-12f")

PORT = "socket://localhost:1"


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def small(workplace):
    """The build folder of a small bitstream."""
    folder = default_folder(BOARD)
    folder.mkdir(parents=True)
    bit = bytes.fromhex(f"ff00 ffffbdb3 3b000000 e2000000 {BOARD.idcode:08x}")
    (folder / "top.bit").write_bytes(bit)
    (folder / RECORD).write_text(json.dumps({
        "board": BOARD.name, "clock_hz": BOARD.target_hz, "identity": IDENTITY,
        "bitstream": digest_file(folder / "top.bit")}))
    return folder


@pytest.fixture
def board(monkeypatch):
    """A good board at the port, whose button is pressed as soon as that is asked for."""
    board, bauds = SmallBoard(), []

    def connect(port, *, baud):
        bauds.append((port, baud))
        board.restart(Restart.BUTTON)
        return SoftwareTransport(board)

    monkeypatch.setattr(transport, "Transport", connect)
    board.bauds = bauds
    return board


def command(*words, board=BOARD.name, port=PORT):
    return bringup.cli(["--board", board, "--port", port, *map(str, words)])


def test_first_steps(small, board, capsys):
    """All that is said is kept, too; what comes next is named."""
    assert command("--until", 5) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        f"Board ulx3s-12f at {PORT}.\nSteps 1 to 5 need build/ulx3s-12f-bringup/top.bit; load it "
        "with: python -m gen.flash --board ulx3s-12f --bitstream "
        "build/ulx3s-12f-bringup/top.bit\n")
    assert out.count("  PASS: ") == 5 and out.endswith("Steps 1 to 5 passed.\n")
    assert set(board.bauds) == {(PORT, BOARD.link(BOARD.target_hz)[0])}
    log = (small / "bringup.log").read_text()
    assert log.endswith(out) and "python -m gen.bringup --board" in log.splitlines()[1]
    assert (small / "sdram-map.html").is_file()


def test_the_core_needs_its_bitstream(small, board, capsys):
    """Without --program it stops in between, and says how to go on."""
    assert command("--step", 5) == 0
    out = capsys.readouterr().out
    assert ("Steps 6 to 8 need build/ulx3s-12f-qsdt_nano/top.bit, which is not there; make it "
            "with: python -m gen.build --board ulx3s-12f --model qsdt_nano\n") in out
    assert out.endswith("Steps 5 to 5 passed. Now load the core's bitstream as said above, and go "
                        "on with --step 6.\n")


def test_a_failure_ends_it_and_it_goes_on_there(small, board, capsys):
    board.lock_lost = 1
    assert command() == 1
    captured = capsys.readouterr()
    assert captured.out.count("  PASS: ") == 3 and captured.out.count("  FAIL: ") == 1
    assert captured.err.endswith("error: step 4 (lock and phase map) failed; when that is mended, "
                                 "go on with --step 4\n")
    board.lock_lost = 0
    assert command("--step", 4, "--until", 4) == 0
    assert capsys.readouterr().out.count("  PASS: ") == 1
    assert (small / "bringup.log").read_text().count("\n# 20") == 2


def test_interrupted(small, board, capsys, monkeypatch):
    def run(bench):
        raise KeyboardInterrupt

    monkeypatch.setattr(bringup, "STEPS", [Step("wait", "", run, 1.0)] * 8)
    assert command("--step", 2) == 130
    assert capsys.readouterr().err == "interrupted; go on with --step 2\n"


def test_wrong_chip(small, board, capsys, monkeypatch, tmp_path):
    """Before anything is loaded."""
    only_path(monkeypatch, tmp_path / "bin")
    fake_tool(tmp_path / "bin", "openFPGALoader", r"""
case "$*" in
  -V) echo openFPGALoader v1.1.1;;
  *--detect*) printf 'index 0:\n\tidcode 0x41113043\n';;
  *) echo loaded; touch loaded;;
esac""")
    assert command("--program") == 1
    captured = capsys.readouterr()
    assert "Step 1" not in captured.out
    assert captured.err == ("error: The connected chip has IDCODE 0x41113043 (ulx3s-85f), but the "
                            "bitstream is for ulx3s-12f, 0x21111043; nothing was loaded\n")
    assert not Path("loaded").exists()


def test_is_loaded_for_the_steps_that_need_it(small, board, capsys, monkeypatch, tmp_path):
    only_path(monkeypatch, tmp_path / "bin")
    fake_tool(tmp_path / "bin", "openFPGALoader", r"""
case "$*" in
  -V) echo openFPGALoader v1.1.1;;
  *--detect*) printf 'index 0:\n\tidcode 0x21111043\n';;
  *) echo "$*" >> loaded;;
esac""")
    assert command("--program", "--until", 2) == 0
    assert Path("loaded").read_text() == f"-b ulx3s -m {small}/top.bit\n"
    assert f"loaded {small}/top.bit\n" in capsys.readouterr().out


@pytest.mark.parametrize("words, text", [
    (["--step", "0"], "--step and --until must be in 1..8"),
    (["--step", "7", "--until", "6"], "in this order, not 7 and 6"),
    (["--count", "0"], "--count must be at least 1, not 0"),
    (["--log", "no/such/folder/log"], "no/such/folder"),
    (["--port", "no/such/port"], "Cannot open no/such/port: there is no such port"),
    (["--port", "virtual", "--program"], "--program is for real boards"),
    (["--board", "ulx4"], "known boards are ulx3s-12f"),
    (["--build", "--clock-mhz", "33"], "must be one of 50, 60, 75, 80, 90, 100 MHz, not 33 MHz"),
    (["--build", "--sdram-mhz", "77"], "must be one of 50, 75, 100, 125, 130, 135 MHz, not 77"),
])
def test_bad_input(workplace, capsys, words, text):
    assert command(*words) == 1
    message = capsys.readouterr().err
    assert text in message and message.startswith("error: ") and message.count("\n") == 1


def test_no_port(workplace, capsys):
    assert bringup.cli(["--board", "ulx3s"]) == 1
    assert "Name the board's serial port" in capsys.readouterr().err


@pytest.mark.parametrize("change, text", [
    ({"board": "ulx3s-85f"}, "holds the small bitstream of ulx3s-85f, not of ulx3s-12f"),
    ({"bitstream": "0" * 64}, "is not what was built there"),
    ({"clock_hz": "x"}, "is damaged"),
])
def test_folder_of_something_else(small, change, text):
    record = json.loads((small / RECORD).read_text())
    (small / RECORD).write_text(json.dumps(record | change))
    with pytest.raises(InputError, match=text):
        read_record(BOARD, small)


def test_folder_without_a_bitstream(small):
    (small / "top.bit").unlink()
    assert read_record(BOARD, small) is None


