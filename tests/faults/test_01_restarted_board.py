"""Row 1: a board that restarts in the middle is an error, never an old or a zero result.

As far as the host alone can tell. A nonce of the boot in every answer needs RTL.
"""

import numpy as np
import pytest

from gen.compile.package import image_words, ProgramImage
from gen.device.port import LinkError
from gen.device.session import Session
from gen.machine.iss import Iss
from hw.register import config_digest, Counter
from tests.gen.random_cases import compile_case


class Board:
    """A device that knows the results of some images; it restarts before its ``restart``-th
    request, and loses its memory if ``lose``."""

    def __init__(self, program, results, restart=None, lose=True):
        self.program, self.results = program, results
        self.restart, self.lose = restart, lose
        self.requests = 0
        self.memory = np.zeros(program.memory_words + 4096, np.uint64)
        self._clear()

    def _clear(self):
        self.values = dict.fromkeys((counter.name for counter in Counter), 0)

    def _request(self):
        self.requests += 1
        if self.requests == self.restart:
            self._clear()
            if self.lose:
                self.memory[:] = 0

    def info(self):
        class Info:
            memory_words = len(self.memory)

        Info.config_digest = config_digest(self.program.config)
        return Info

    def write(self, address, data, progress=None):
        self._request()
        self.memory[address:address + len(data)] = data

    def read(self, address, count, progress=None):
        self._request()
        if progress:
            progress(count)
        return self.memory[address:address + count].copy()

    def start(self, *, program, log, image, image_stride, result, result_stride, count):
        self._request()
        self._clear()
        payload = self.program.payload
        if not np.array_equal(self.memory[:len(payload)], payload):
            return                                    # nothing that runs is left
        for index in range(count):
            source = image + index * image_stride
            words = self.results[self.memory[source:source + self.program.image_words].tobytes()]
            target = result + index * result_stride
            self.memory[target:target + len(words)] = words
        descriptors = len(self.program.descriptors)
        self.values |= {"IMAGES": count, "DESCRIPTORS": count * descriptors,
                        "CYCLES": count * 1000}
        end = log + 2 * (descriptors - 1)
        self.memory[end:end + 2] = 1, (count * 1000 - 5) << 32

    def wait(self, *, timeout, progress=None):
        self._request()

    def counters(self):
        self._request()
        return dict(self.values)


@pytest.fixture(scope="module")
def case():
    found, program = compile_case(3)
    shape = found.network.input_shape
    images = np.random.default_rng(1).integers(-128, 128, (2, *shape), dtype=np.int8)
    results = {}
    for image in images:
        core = Iss(program)
        core.run(image)
        results[image_words(program, image).tobytes()] = (
            core.memory[program.result:program.result + program.result_words].copy())
    return found.network, program, images, results


def session_of(case, **options):
    network, program, _, results = case
    board = Board(program, results, **options)
    session = Session(board, ProgramImage.of(program, model="random", network=network))
    session.load()
    return board, session


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
