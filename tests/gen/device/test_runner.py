"""gen.device.runner: what a run does first after an error.

Whole uses are in ``tests/gen/test_accelerator.py``.
"""

import pytest

from gen.compile.package import ProgramImage
from gen.device.check import CheckFailed
from gen.device.device import Device
from gen.device.port import LinkError
from gen.device.runner import Runner
from hw.register import Register, Restart
from model.error import WeightsMismatch
from tests.faults.conftest import case  # noqa: F401
from tests.faults.known_board import board_of
from tests.gen.device.software_device import SoftwareTransport


@pytest.fixture
def opened(case):  # noqa: F811
    """(runner, board, images, number of times that it was connected)."""
    network, program, images, _ = case
    board, _ = board_of(case)
    connected = []

    def connect():
        connected.append(Device(SoftwareTransport(board), timeout=0.01))
        return connected[-1]

    image = ProgramImage.of(program, model="random", network=network, predicted_cycles=4000)
    runner = Runner(connect, image)
    runner.load()
    runner.check()
    return runner, board, images, connected


def test_nothing_is_asked_without_an_error(opened):
    runner, board, images, connected = opened
    runner.run(images, timeout=9)
    before = board.requests
    runner.run(images, timeout=9)
    again = board.requests
    assert again - before < 60 and len(connected) == 1 and runner.reconnected == 0


def test_damaged_memory_is_mended(opened):
    runner, board, images, connected = opened
    right, *_ = runner.run(images, timeout=9)
    board.memory[3] ^= board.memory.dtype.type(1)
    with pytest.raises(CheckFailed, match="the first at 3 "):
        runner.check()
    found, *_ = runner.run(images, timeout=9)
    assert (found == right).all() and len(connected) == 1


def test_a_lost_port_is_opened_anew(opened):
    runner, board, images, connected = opened
    connected[0].close()
    connected[0]._transport.write = lambda data: (_ for _ in ()).throw(LinkError("Lost"))
    with pytest.raises(LinkError, match="Lost"):
        runner.run(images, timeout=9)
    board.restart(Restart.BUTTON)
    runner.run(images, timeout=9)
    assert len(connected) == 2 and runner.reconnected == 1
    assert connected[0]._transport.closed


def test_another_configuration_is_refused(opened):
    runner, board, images, _ = opened
    known = board.constant[Register.CONFIG]
    board.restart(Restart.BUTTON)
    with pytest.raises(LinkError):
        runner.run(images, timeout=9)
    board.constant[Register.CONFIG] = 1
    for _ in range(2):
        with pytest.raises(WeightsMismatch, match="has configuration 0x00000001"):
            runner.run(images, timeout=9)
    board.constant[Register.CONFIG] = known
    runner.run(images, timeout=9)


def test_closed(opened):
    runner, _, images, connected = opened
    runner.close()
    assert connected[0]._transport.closed
    with pytest.raises(LinkError, match="was lost; connect it again"):
        runner.session  # noqa: B018
    runner.run(images, timeout=9)       # opens it
    assert len(connected) == 2
