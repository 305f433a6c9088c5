"""gen.opened: a design on a device, with all checks; the device is one in software."""

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

from gen import opened as module
from gen.compile.package import ProgramImage
from gen.device.device import Device
from hw.register import Register
from model.error import InputError
from tests.faults.known_board import board_of, known_results
from tests.gen.device.software_device import SoftwareTransport
from tests.gen.random_cases import compile_case


@pytest.fixture(scope="module")
def case():
    found, program = compile_case(3)
    images = np.random.default_rng(1).integers(-128, 128, (2, *found.network.input_shape),
                                               dtype=np.int8)
    return found.network, program, images, known_results(program, images)


@pytest.fixture
def classify(case, monkeypatch, tmp_path):
    """(function of ``check``, the board, its core)."""
    network, program, images, _ = case
    board, core = board_of(case)

    @contextmanager
    def opened(*arguments):
        with Device(SoftwareTransport(board), timeout=0.01) as device:
            yield device

    monkeypatch.setattr(module, "opened", opened)
    image = ProgramImage.of(program, model="random", network=network, predicted_cycles=9)
    design = SimpleNamespace(board=None, config=None, program=program, image=image)
    return (lambda *check: module.classify_on(design, images, device=None, cache=tmp_path,
                                              check=check)), board, core


def test_without_checks(case, classify):
    run, board, _ = classify
    acc, _, counters, _, checked = run()
    wanted = case[0].run_batched(case[2], keep=("logits_acc",))["logits_acc"]
    np.testing.assert_array_equal(acc, wanted.reshape(2, -1))
    assert counters["IMAGES"] == 2 and board.starts == 1
    assert board.registers[Register.WATCHDOG] == 2
    assert len(checked) == 1
    assert checked[0].startswith(f"check after loading: {len(case[1].payload)} words of program, ")


def test_all_checks(classify):
    run, board, _ = classify
    *_, checked = run("host", "twice", "crc")
    assert board.starts == 4
    assert [line.split(":")[0] for line in checked] == [
        "check after loading", "check crc", "check twice", "check host"]


def test_failed_check(classify):
    run, _, core = classify
    core.wrong_run = lambda number: True
    run()
    with pytest.raises(InputError, match="differs from the instruction-set simulator"):
        run("host")
    with pytest.raises(InputError, match="^Unknown check 'all': known are crc, twice, host$"):
        run("all")
