"""Row 1: a board that restarts in the middle is an error, never an old or a zero result.

As far as the host alone can tell. A nonce of the boot in every answer needs RTL.
"""

import numpy as np
import pytest

from gen.device.port import LinkError
from tests.faults.known_board import session_of


def right(case, outcome):
    network, _, images, _ = case
    wanted = network.run_batched(images, keep=("logits_acc",))["logits_acc"]
    np.testing.assert_array_equal(outcome[0], wanted.reshape(len(images), -1))


def test_without_a_restart(case):
    board, session = session_of(case)
    right(case, session.run(case[2], timeout=1))
    assert board.values["DESCRIPTORS"] == 2 * len(case[1].descriptors)


@pytest.mark.parametrize("lose", [True, False])
def test_restart_at_every_step(case, lose):
    """Before every request from the first image on: an error, or the right result."""
    board, session = session_of(case)
    first = board.requests
    session.run(case[2], timeout=1)
    errors = 0
    for step in range(first + 1, board.requests + 1):
        _, session = session_of(case, restart=step, lose=lose)
        try:
            outcome = session.run(case[2], timeout=1)
        except LinkError as error:
            errors += 1
            assert "restarted" in str(error)
        else:
            right(case, outcome)
    assert errors >= 2


def test_stale_results_are_no_results(case):
    """The core never starts, and memory still holds the results of the run before."""
    board, session = session_of(case)
    right(case, session.run(case[2], timeout=1))
    board.start = lambda **control: None
    with pytest.raises(LinkError, match="did not run the program to its end"):
        session.run(case[2], timeout=1)
