"""Row 3: what lies in the board's memory is checked before the first run.

As far as the host alone can: it reads everything back. Signatures of completion records, and an
abort for a core that hangs, need RTL.
"""

import numpy as np
import pytest

from gen.device.port import LinkError
from tests.faults.known_board import session_of


def test_memory_as_written(case):
    board, session = session_of(case)
    done = []
    session.check(done.append)
    assert done == [len(case[1].payload)]


@pytest.mark.parametrize("seed", range(8))
def test_a_flipped_bit_is_named(case, seed):
    """In a weight, a constant or a descriptor."""
    board, session = session_of(case)
    rng = np.random.default_rng(seed)
    word = int(rng.integers(len(case[1].payload)))
    board.memory[word] ^= np.uint64(1) << np.uint64(rng.integers(64))
    with pytest.raises(LinkError, match=f"1 of .* words differ, the first at {word} .*load again"):
        session.check()


def test_both_ends(case):
    board, session = session_of(case)
    last = len(case[1].payload) - 1
    for word in (0, last):
        board.memory[word] ^= np.uint64(1 << 63)
    with pytest.raises(LinkError, match="2 of .* words differ, the first at 0 "):
        session.check()


def test_lost_memory(case):
    board, session = session_of(case)
    board.memory[:] = 0
    with pytest.raises(LinkError, match="words differ"):
        session.check()
