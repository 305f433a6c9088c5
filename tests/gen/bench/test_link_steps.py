"""Every way in which a board can be broken, and what is said: docs/bringup.md has the table."""

from pathlib import Path
import re

import pytest

from gen.bench.link_steps import LINK_STEPS, MAP_FILE
from gen.bench.step import run_step, Step
from gen.device.port import LinkError
from hw.bringup.block_rams import Check
from hw.register import MemoryFault, Register, Restart
from tests.gen.bench.software_board import bench_of, SmallBoard


DOCS = Path(__file__).parents[3] / "docs" / "bringup.md"


class Dead(SmallBoard):
    """Nothing ever answers."""

    def feed(self, data):
        return b""


def changed(board, **constants):
    for name, value in constants.items():
        board.constant[Register[name]] = value
    return board


def with_status(board, **fields):
    board.status(**fields)
    return board


def lost_lock():
    board = SmallBoard()
    board.lock_lost = 1
    return board


def restarting(request, cause):
    board = SmallBoard()
    board.restart_at = request, "before", cause
    return board


PLANTED = {
    "nothing is loaded, or the wrong port": (1, Dead, {}),
    "another bitstream: that of a core": (1, lambda: changed(SmallBoard(), CONFIG=0x1234), {}),
    "a small bitstream of another build": (1, lambda: changed(SmallBoard(), IDENTITY=0x99), {}),
    "nobody presses the button": (1, SmallBoard, {"press": lambda: None, "patience": 0.005}),
    "bits flip on the UART": (2, SmallBoard, {"rate": 0.001, "echoes": 100}),
    "supply breaks down in the middle": (
        2, lambda: restarting(20, Restart.CONFIGURATION), {}),
    "a PLL loses its lock in the middle": (2, lambda: restarting(20, Restart.LOCK), {}),
    "somebody presses F1 in the middle": (2, lambda: restarting(20, Restart.BUTTON), {}),
    "a bit of a block RAM": (
        3, lambda: SmallBoard(rams={9: Check.CONTENTS | Check.HOLD | Check.PIPELINE | 4}), {}),
    "the enable of the output registers": (
        3, lambda: SmallBoard(rams=dict.fromkeys((36, 18), Check.HOLD | 100)), {}),
    "a restart within the first round": (3, lambda: SmallBoard(complete=False), {}),
    "a PLL lost its lock some time": (4, lost_lock, {}),
    "skew: the window is too narrow": (4, lambda: SmallBoard(window=7), {}),
    "the SDRAM does not answer": (4, lambda: SmallBoard(window=0), {}),
    "wrong part: half of the rows": (
        4, lambda: with_status(SmallBoard(), fault=MemoryFault.GEOMETRY, delay=1, phase=5,
                               window=18, address_bit=9), {}),
    "a stuck bit of the SDRAM": (5, lambda: SmallBoard(stuck=(0x2A, 5)), {}),
}
"""What is broken: the step that shall fail, the board, options of the bench."""


def check_docs(fault, number, step, failure):
    """Times, counts of random errors, and digests are left out there."""
    text = str(failure)
    for found, said in ((r"\d+\.\d s", "… s"), (r"0x[0-9a-f]{8,}", "0x…"),
                        (r"\b\d+ (sent|dropped|damaged)", r"… \1")):
        text = re.sub(found, said, text)
    row = f"| {fault} | {number} {step.title} | {text} |"
    print(row)
    assert row in DOCS.read_text().splitlines(), row


@pytest.mark.parametrize("fault", PLANTED)
def test_planted_fault(fault, tmp_path):
    """The steps before pass, that one fails, and docs/bringup.md says so in the same words."""
    number, make, options = PLANTED[fault]
    for index, step in enumerate(LINK_STEPS[:number], 1):
        said = []
        failure = run_step(bench_of(make(), tmp_path, said=said,
                                    **(options if index == number else {})), step)
        if index < number:
            # What does not touch the fault passes; a lost lock, for example, is told later.
            assert failure is None or "restarted" in str(failure), said
    assert failure is not None and failure.remedies, said
    assert said[-1].startswith("  try: ") and f"  FAIL: {failure}" in said
    check_docs(fault, number, LINK_STEPS[number - 1], failure)


def test_a_good_board(tmp_path):
    for step in LINK_STEPS:
        said = []
        assert run_step(bench_of(SmallBoard(), tmp_path, said=said), step) is None, said
        assert said[-1].startswith("  PASS: ")
    assert "<svg" in (tmp_path / MAP_FILE).read_text()


def test_block_rams_without_a_memory(tmp_path):
    """An SDRAM that does not work keeps nobody from testing the block RAMs."""
    said = []
    assert run_step(bench_of(SmallBoard(window=3), tmp_path, said=said), LINK_STEPS[2]) is None
    assert "more rounds need a working SDRAM" in said[-1]


@pytest.mark.parametrize("answers, passed", [
    ([True, True], True), ([False], False), ([True, False], False)])
def test_by_eye(answers, passed, tmp_path):
    """Where nothing answers, a person at the board can tell whether the chip runs."""
    said, left = [], list(answers)
    bench = bench_of(Dead(), tmp_path, said=said, ask=lambda question: left.pop(0))
    assert (run_step(bench, LINK_STEPS[0]) is None) == passed, said
    assert not left


def test_a_lamp_that_does_not_blink(tmp_path):
    bench = bench_of(SmallBoard(), tmp_path, ask=lambda question: False)
    assert "LED 7 does not blink" in str(run_step(bench, LINK_STEPS[0]))


def test_restart_by_another_cause(tmp_path):
    board = SmallBoard()
    bench = bench_of(board, tmp_path, press=lambda: board.restart(Restart.LOCK))
    assert "not by its button: a PLL lost its lock" in str(run_step(bench, LINK_STEPS[0]))


def test_a_step_ends_at_its_limit(tmp_path):
    """Whatever the device does: here it answers for ever that it is busy."""
    board = SmallBoard()

    def wait(bench):
        with bench.opened() as device:
            while True:
                device.state()

    said = []
    failure = run_step(bench_of(board, tmp_path, said=said), Step("wait", "", wait, 0.2))
    assert str(failure) == "The step's limit of 0.2 s is over", said


def test_a_port_that_cannot_be_opened(tmp_path):
    def connect():
        raise LinkError("Cannot open /dev/ttyUSB9: it is in use; close the other program")

    bench = bench_of(SmallBoard(), tmp_path)
    bench.connect = connect
    assert "Cannot open /dev/ttyUSB9" in str(run_step(bench, LINK_STEPS[1]))
