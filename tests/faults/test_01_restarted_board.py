"""Row 1: a board that restarts in the middle is an error, never an old or a zero result.

Every answer carries a number that the host gave the board when it opened it, and that of the run.
"""

from functools import cache
import random

import numpy as np
import pytest

from gen.device.check import Checks
from gen.device.link import DeviceRestarted
from gen.device.port import LinkError
from hw.register import Restart
from tests.faults.known_board import board_of, session_of, session_on
from tests.gen.device.software_device import POINTS


@cache
def wanted(network, images):
    """Results of the integer model."""
    images = np.frombuffer(images, np.int8).reshape(-1, *network.input_shape)
    return network.run_batched(images, keep=("logits_acc",))["logits_acc"].reshape(len(images), -1)


def right(case, outcome):
    network, _, images, _ = case
    np.testing.assert_array_equal(outcome[0], wanted(network, images.tobytes()))


def restarted_run(case, board, session, memory, at):
    """Whether a run with a restart was an error; the one behind it is right in any case."""
    board.memory[:] = memory
    board.restart_at = at
    try:
        outcome = session.run(case[2], timeout=9, checks=Checks(crc=True))
    except LinkError as error:
        failed = True
        assert isinstance(error, DeviceRestarted) and error.cause == at[2], error
    else:
        failed = False
        right(case, outcome)
        if board.registers and board.restarts:
            with pytest.raises(DeviceRestarted):
                session.check()
    board.restart_at = None
    board.memory[:] = memory                    # loading it anew takes long
    session._device.reopen()
    right(case, session.run(case[2], timeout=9))
    return failed


def test_without_a_restart(case):
    board, _, session = session_of(case)
    right(case, session.run(case[2], timeout=1))
    assert session._device.counters()["DESCRIPTORS"] == 2 * len(case[1].descriptors)


def test_restart_at_every_step(case):
    """Of a run, from the first word of the image to the last answer, at every point of each."""
    board, _, session = session_of(case)
    memory, first = board.memory.copy(), board.requests
    session.run(case[2], timeout=1, checks=Checks(crc=True))
    steps = board.requests - first
    assert steps > 30
    errors = dict.fromkeys(POINTS, 0)
    for step in range(1, steps + 1):
        for point in POINTS:
            cause = Restart.CONFIGURATION if step % 2 else Restart.ABORT
            at = board.requests + step, point, cause
            errors[point] += restarted_run(case, board, session, memory, at)
    # Only one behind the last answer does no harm.
    assert errors == {"before": steps, "after": steps - 1, "unanswered": steps, "torn": steps}


def random_restarts(case, count, *, opening, seed):
    """Errors among restarts anywhere from opening the board to the last result."""
    rng = random.Random(seed)
    board, _, session = session_of(case)
    loaded, memory, errors = board.requests, board.memory.copy(), 0
    session.run(case[2], timeout=1, checks=Checks(crc=True))
    steps = board.requests - loaded
    for _ in range(count):
        at = board.requests + rng.randint(1, steps), rng.choice(POINTS), rng.choice([*Restart])
        errors += restarted_run(case, board, session, memory, at)
    for _ in range(opening):
        board, _ = board_of(case)
        board.restart_at = rng.randint(1, loaded), rng.choice(POINTS), rng.choice([*Restart])
        try:
            session = session_on(board, case)
            session.check()
            outcome = session.run(case[2], timeout=1)
        except LinkError:
            errors += 1
        else:
            right(case, outcome)
    return errors


def test_random_restarts(case):
    assert random_restarts(case, 40, opening=20, seed=0) >= 40


@pytest.mark.slow
def test_thousand_random_restarts(case):
    assert random_restarts(case, 800, opening=200, seed=1) >= 800


def test_cold_restart_loads_again(case):
    """The run behind one that a restart ended finds the memory lost, and writes it."""
    board, _, session = session_of(case)
    board.restart_at = board.requests + 20, "after", Restart.LOCK
    with pytest.raises(DeviceRestarted, match="a PLL lost its lock"):
        session.run(case[2], timeout=1)
    assert not np.array_equal(board.memory[:100], case[1].payload[:100])
    assert session.recover() is True
    right(case, session.run(case[2], timeout=1))
    assert session.recover() is False


def test_stale_results_are_no_results(case):
    """The core never starts, and memory still holds the results of the run before."""
    board, _, session = session_of(case)
    right(case, session.run(case[2], timeout=1))
    board.core = lambda board: iter(())
    with pytest.raises(LinkError, match="did not run the program to its end"):
        session.run(case[2], timeout=1)


def test_board_left_busy(case):
    """A program that was killed left its run behind: it is ended before loading."""
    board, core, session = session_of(case)
    core.hangs = True
    session._device.start(count=1)
    core.hangs = False
    session = session_on(board, case)
    assert (board.cause, board.restarts) == (Restart.ABORT, 1)
    right(case, session.run(case[2], timeout=1))
