"""The steps with a core, on a device that knows the results, and is wrong in many ways."""

from dataclasses import replace

import numpy as np
import pytest

from boards import find_board
from gen.api import Design
from gen.bench.core_steps import CORE_STEPS
from gen.bench.step import run_step
from gen.compile.excerpt import excerpt
from gen.config.spec import AcceleratorConfig
from gen.device import session as session_module
from hw.register import config_digest, Register
from tests.faults.known_board import known_results, KnownCore
from tests.gen.bench.software_board import bench_of
from tests.gen.bench.test_link_steps import check_docs
from tests.gen.device.software_device import SoftwareDevice
from tests.gen.random_cases import compile_case


IMAGES = 2


@pytest.fixture(scope="module")
def case():
    """(design, images, a core for the whole program, one for its first layer)."""
    found, program = compile_case(3)
    board, network = find_board("ulx3s"), found.network
    config = AcceleratorConfig(board=board.name, clock_hz=board.target_hz, core=program.config,
                               memory_words=program.memory_words + 4096)
    images = np.random.default_rng(1).integers(-128, 128, (IMAGES, *network.input_shape),
                                               dtype=np.int8)
    part = excerpt(network, program, network.ops[0].name).program
    return (Design("random", board, network, config, program), images,
            (program, known_results(program, images)), (part, known_results(part, images[:1])))


class CoreBoard(SoftwareDevice):
    """Runs both programs. ``wrong``: names of the runs, "layer" or "whole", that go wrong, from a
    count on; ``hangs``: those that do not end."""

    def __init__(self, case, *, wrong=None, hangs=None, digest=None):
        design, _, whole, layer = case
        self.cores = {"whole": KnownCore(*whole), "layer": KnownCore(*layer)}
        for name, runs in (wrong or {}).items():
            self.cores[name].wrong_run = lambda run, runs=runs: run in runs
        if hangs:
            self.cores[hangs].hangs = True
        config = design.config
        super().__init__(config.memory_words, self._run, digest or config_digest(config.core))
        self.memory[:] = 0

    @staticmethod
    def _run(board):
        name = ("layer" if board.registers[Register.PROGRAM] ==
                board.cores["layer"].program.program else "whole")
        return board.cores[name](board)


def bench(case, board, folder, said, **options):
    design, images, *_ = case
    return bench_of(board, folder, said=said, **{
        "design": design, "image": design.image, "images": images,
        "layer": design.network.ops[0].name} | options)


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    monkeypatch.setattr(session_module, "CRC_WORDS", 1024)


def test_a_good_core(case, tmp_path):
    for step in CORE_STEPS:
        said = []
        assert run_step(bench(case, CoreBoard(case), tmp_path, said), step) is None, said
        assert said[-1].startswith("  PASS: ")
    assert f"{IMAGES} images: all results as in the integer model" in said[-1]


def flipping(case):
    """A bit of the weights flips while they are read for the first check."""
    board = CoreBoard(case)
    execute, done = board._command, []

    def flipped(opcode, length, address, data):
        if opcode == 0x25 and not done:
            done.append(address)
            board.memory[7] ^= np.uint64(1 << 9)
        return execute(opcode, length, address, data)
    board._command = flipped
    return board


OTHER_BUILD = "the same core, built for other pins"

PLANTED = {
    OTHER_BUILD: (6, CoreBoard),
    "another core's bitstream": (6, lambda case: CoreBoard(case, digest=0x1234)),
    "a bit of the memory flips": (6, flipping),
    "a layer computes something else": (
        6, lambda case: CoreBoard(case, wrong={"layer": range(1000)})),
    "a wrong bitstream: the same fault each time": (
        7, lambda case: CoreBoard(case, wrong={"whole": range(1000)})),
    "an unreliable board: every second run is wrong": (
        7, lambda case: CoreBoard(case, wrong={"whole": range(2, 1000, 2)})),
    "the core hangs": (7, lambda case: CoreBoard(case, hangs="whole")),
    "now and then a run is wrong": (8, lambda case: CoreBoard(case, wrong={"whole": {2}})),
}
"""What is broken: the step that shall fail, and the board."""


@pytest.mark.parametrize("fault", PLANTED)
def test_planted_fault(case, fault, tmp_path):
    """That step fails, and docs/bringup.md says so in the same words."""
    number, make = PLANTED[fault]
    step, said = CORE_STEPS[number - 6], []
    if number == 8:     # two runs
        case = (case[0], np.concatenate([case[1]] * 8), *case[2:])
    options = {"image": replace(case[0].image, identity=0x99, source="build/program.img")} if (
        fault == OTHER_BUILD) else {}
    failure = run_step(bench(case, make(case), tmp_path, said, **options), step)
    assert failure is not None and failure.remedies, said
    check_docs(fault, number, step, failure)


def test_a_layer_without_room(case, tmp_path):
    design, *_ = case
    board = CoreBoard(case)
    board.constant[Register.MEMORY_WORDS] = design.program.memory_words
    said = []
    failure = run_step(bench(case, board, tmp_path, said), CORE_STEPS[0])
    assert "words of memory" in str(failure) and "--layer" in failure.remedies[1]


def test_a_lost_lock_is_told(case, tmp_path):
    board = CoreBoard(case)
    board.lock_lost = 1
    for step in CORE_STEPS:
        failure = run_step(bench(case, board, tmp_path, []), step)
        assert "a PLL lost its lock" in str(failure)
