"""Row 3: what lies in the board's memory is checked, and a core that hangs is stopped.

The board computes the CRC of what was loaded; a run may be checked by it before and after, by a
second one, and by the signatures of the instruction-set simulator.
"""

import numpy as np
import pytest

from gen.check.trace import iss_trace
from gen.device import session as session_module
from gen.device.check import CheckFailed, Checks
from gen.device.device import CRC_WORDS, RunAborted
from gen.device.link import DeviceRestarted
from hw.register import Restart
from tests.faults.known_board import session_of, session_on
from tests.faults.test_01_restarted_board import right


FLIPS = 50


def flip(words, rng):
    word = int(rng.integers(len(words)))
    words[word] ^= np.uint64(1) << np.uint64(rng.integers(64))
    return word


def test_memory_as_written(case):
    board, _, session = session_of(case)
    done, before, words = [], board.requests, len(case[1].payload)
    session.check(done.append)
    assert done == [*range(CRC_WORDS, words, CRC_WORDS), words]
    assert board.requests == before + len(done)


@pytest.mark.parametrize("seed", range(8))
def test_a_flipped_bit_is_named(case, seed):
    """In a weight, a constant or a descriptor."""
    board, _, session = session_of(case)
    word = flip(board.memory[:len(case[1].payload)], np.random.default_rng(seed))
    with pytest.raises(CheckFailed, match=f"1 of .* words differ, the first at {word} .*load again"
                       ):
        session.check()


def test_both_ends(case):
    board, _, session = session_of(case)
    for word in (0, len(case[1].payload) - 1):
        board.memory[word] ^= np.uint64(1 << 63)
        with pytest.raises(CheckFailed, match=f"1 of .* words differ, the first at {word} "):
            session.check()
        board.memory[word] ^= np.uint64(1 << 63)
    session.check()


def test_a_bit_that_is_not_always_wrong(case):
    board, _, session = session_of(case)
    crc = session._device.crc
    session._device.crc = lambda *part: crc(*part) ^ 1
    with pytest.raises(CheckFailed, match="^The board's memory is unreliable: words 0 to .* but "
                                          "read right; build with a lower sdram_mhz$"):
        session.check()


@pytest.mark.parametrize("when, part", [("before", "weights"), ("before", "program"),
                                        ("before", "image"), ("within", "weights")])
def test_flipped_bits_before_and_within_a_run(case, part, when, monkeypatch):
    """50 of each are found by ``--check crc``; the run behind each is right."""
    monkeypatch.setattr(session_module, "CRC_WORDS", 1024)  # less is read to name the word
    board, core, session = session_of(case)
    _, program, images, _ = case
    memory, rng = board.memory.copy(), np.random.default_rng(5)
    crc, start = session._device.crc, session._device.start
    first = session._base
    place = {"weights": slice(program.program), "image": slice(first, first + 2 *
                                                               program.image_words),
             "program": slice(program.program, len(program.payload))}[part]

    def flipped(call):
        def changed(*args, **options):
            flip(board.memory[place], rng)
            session._device.crc, session._device.start = crc, start
            return call(*args, **options)
        return changed

    for _ in range(FLIPS):
        board.memory[:] = memory
        assert session.recover() is False
        if when == "before":
            session._device.crc = flipped(crc)
        else:
            session._device.start = flipped(start)
        started = board.starts
        with pytest.raises(CheckFailed, match="1 of .* words differ"):
            session.run(images, timeout=1, checks=Checks(crc=True))
        assert board.starts == started + (when == "within")
    board.memory[:] = memory
    right(case, session.run(images, timeout=1))


def test_without_the_check_nothing_tells(case):
    """What the check is for: one bit of a weight, and everything looks right."""
    board, _, session = session_of(case)
    flip(board.memory[:case[1].program], np.random.default_rng(0))
    acc, _, _ = session.run(case[2], timeout=1)
    with pytest.raises(AssertionError):
        right(case, (acc,))


@pytest.mark.parametrize("predicted, error", [(True, DeviceRestarted), (False, RunAborted)])
def test_hung_program(case, predicted, error):
    """Ended by its watchdog, or by the host; the next image is right, the program loaded again."""
    board, _, session = session_of(case)
    if not predicted:
        object.__setattr__(session._image, "predicted_cycles", 0)
    board.memory[case[1].program] ^= np.uint64(4)
    with pytest.raises(error):
        session.run(case[2], timeout=99 if predicted else 0.01)
    right(case, session.run(case[2], timeout=1))
    assert board.restarts == 1


def test_twice(case):
    board, core, session = session_of(case)
    checks = Checks(twice=True)
    for image in case[2]:
        session.run(image[None], timeout=1, checks=checks)
    assert board.starts == 4 and checks.images == 2
    assert checks.lines(7)[0].startswith("check twice: 2 images run twice, 7 signatures each and ")
    core.wrong_run = lambda run: run == 6
    with pytest.raises(CheckFailed, match=r"^Image 2: two runs differ, first in descriptor 0 "
                                          r"\(\w+, \S+\): signature 0x\w{8}, then 0x\w{8}; "):
        session.run(case[2][:1], timeout=1, checks=checks)
    with pytest.raises(ValueError, match="Images must be 1..1, not 2"):
        session.run(case[2], timeout=1, checks=checks)


def test_host(case):
    """Wrong the same way each time: only the simulator knows."""
    board, core, session = session_of(case)
    checks = Checks(twice=True, signatures=lambda image: iss_trace(case[1], image).sigs)
    session.run(case[2][:1], timeout=1, checks=checks)
    assert checks.lines(7)[1].startswith("check host: 1 images, 7 signatures each as in the ")
    core.wrong_run = lambda run: True
    with pytest.raises(CheckFailed, match=r"^Image 1: descriptor 0 \(\w+, \S+\) differs from the "
                                          r"instruction-set simulator: signature 0x\w{8}, not "):
        session.run(case[2][:1], timeout=1, checks=checks)


def test_what_a_failed_run_left_in_the_core(case):
    """Words in a stream, behind a damaged program, spoil all later runs until the core restarts."""
    board, core, session = session_of(case)
    signatures = lambda image: iss_trace(case[1], image).sigs  # noqa: E731
    core.wrong_run = lambda run: board.restarts == 0
    with pytest.raises(CheckFailed, match="differs from the instruction-set simulator"):
        session.run(case[2][:1], timeout=1, checks=Checks(signatures=signatures))
    right(case, session.run(case[2], timeout=1))
    assert (board.restarts, board.cause) == (1, Restart.ABORT)


def test_what_another_program_left_in_the_core(case):
    board, core, session = session_of(case)
    core.wrong_run = lambda run: board.restarts == 0
    session.run(case[2], timeout=1)
    right(case, session_on(board, case).run(case[2], timeout=1))


def test_lost_memory(case):
    board, _, session = session_of(case)
    board.memory[:] = 0
    with pytest.raises(CheckFailed, match="words differ"):
        session.check()
