"""FAULTS row 21: what is cheap to check is checked before what is long.

Nothing long can begin in these tests: the search for a configuration, the reference run of the
integer network and the simulators' compiler fail at once.
"""

import re

import pytest

from gen import build, run, traffic, verify
from gen.config import derive
from model import evaluate
from model.integer.network import IntegerNetwork
from sim.rtl import verilator


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    def long(*arguments, **options):
        pytest.fail("something long began")

    monkeypatch.setattr(derive, "_derive", long)
    monkeypatch.setattr(IntegerNetwork, "run_batched", long)
    monkeypatch.setattr(verilator, "build_simulator", long)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clock.yaml").write_text("clock_mhz: 85")
    (tmp_path / "sdram.yaml").write_text("sdram_mhz: 131")
    (tmp_path / "file").write_text("")
    (tmp_path / "top.bit").write_bytes(b"not a bitstream")
    return tmp_path


NANO = ["--model", "qsdt_nano"]

BOARD = ["--board", "ulx3s-85f", *NANO]


@pytest.mark.parametrize("command, words, text", [
    (run, [*BOARD], r"Name the board's serial port: --port /dev/ttyUSB0"),
    (run, [*BOARD, "--port", "/dev/ttyNONE"], r"Cannot open /dev/ttyNONE: .*no such port"),
    (run, [*BOARD, "--port", "socket://localhost:9", "--program"],
     r"build/ulx3s-85f-qsdt_nano/top.bit: there is no bitstream; make it with: python -m gen.build "
     r"--board ulx3s-85f --model qsdt_nano"),
    (run, [*BOARD, "--port", "socket://localhost:9", "--program", "--build", "."], r"top\.bit"),
    (run, ["--board", "virtual", *NANO, "--port", "x"], "--port and --program are for real boards"),
    (run, ["--board", "virtual", *NANO, "--images", "none.npz"], "none.npz: no such file"),
    *((command, [*words, "--config", config], text)
      for command, words in ((run, ["--board", "virtual", *NANO]), (build, BOARD), (verify, BOARD),
                             (traffic, BOARD))
      for config, text in (("clock.yaml", "Core clock of .* 75, 80, .*not 85 MHz"),
                           ("sdram.yaml", "SDRAM clock of .*not 131 MHz"))),
    (build, [*BOARD, "--out", "file"], "file: is a file; name a folder"),
    (build, [*BOARD, "--out", "/proc/x"], "/proc: no such file or directory"),
    (verify, [*BOARD, "--report", "none/x.json"], "none: no such file or directory; check"),
    (verify, [*BOARD, "--images", "none.png"], "none.png"),
    (evaluate, [*NANO, "--images", "none.npz", "--out", "none/x.npz"], "none: no such file"),
])
def test_told_before_anything_long(workplace, capsys, command, words, text):
    assert command.cli(words) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and re.search(text, message), message
