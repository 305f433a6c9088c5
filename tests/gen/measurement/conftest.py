"""A device in software that knows the results of two images, and a measurement of it."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest

from boards import find_board
from gen.api import Design
from gen.config.spec import AcceleratorConfig
from gen.measurement.figures import (
    layer_figures,
    logged_cycles,
    roofs,
    run_figures,
    stall_rows,
)
from gen.measurement.runs import measure_runs, Stopwatch
from gen.measurement.timeline import timeline
from gen.measurement.write import write_measurement
from gen.meter.account import account
from tests.faults.known_board import board_of, known_results, session_on
from tests.gen.meter.waveform import Sampled, Wave
from tests.gen.random_cases import compile_case


@pytest.fixture(scope="session")
def case():
    """As that of tests/faults: (network, program, two images, their results)."""
    found, program = compile_case(3)
    shape = found.network.input_shape
    images = np.random.default_rng(1).integers(-128, 128, (2, *shape), dtype=np.int8)
    return found.network, program, images, known_results(program, images)


@pytest.fixture(scope="session")
def design(case):
    """The case on a board, with memory on chip."""
    network, program, _, _ = case
    board = find_board("ulx3s-85f")
    config = AcceleratorConfig(board=board.name, core=program.config, clock_hz=80_000_000,
                               memory="onchip", memory_words=program.memory_words + 4096,
                               sdram_clock_hz=None)
    return Design("random", board, network, config, program)


class Bench:
    """A loaded device with a stopwatch."""

    def __init__(self, case):
        self.case = case
        self.board, self.core = board_of(case)
        self.session = session_on(self.board, case)
        self.levels = []
        self.watch = Stopwatch(self.session._device, self.levels.append)
        self.session._device = self.watch

    def says(self, **changes):
        """The device tells something else of itself."""
        device = self.watch._device
        device._info = replace(device.info(), **changes)

    def measure(self, times=1, **options):
        """Of the two images, so many times."""
        network, _, images, _ = self.case
        images = np.concatenate([images] * times)
        expected = network.run_batched(images, keep=("logits_acc",))["logits_acc"]
        options = {"expected": expected, "back_to_back": 1, "repeats": 3, "seconds": 0.0,
                   "warm_up_s": 0.0, "timeout_s": 5.0, "interval": 0.0, "begin": nullcontext,
                   "look": lambda: None, **options}
        return measure_runs(self.session, self.watch, images, **options)


@pytest.fixture
def bench(case):
    return Bench(case)


@pytest.fixture
def trace():
    wave = Wave.bursts(1.0, 1.6, 0.5, 0.3, 6.0, 8)
    return Sampled(rate=500, gaps=[(3.0, 3.15)], phases=[("idle", 1.0, 5.0), ("running", 5.99, 9.9)]
                   ).trace(wave, 0.0, 11.0)


@pytest.fixture
def written(bench, design, trace, tmp_path):
    def write(trace=trace, tag="rtl-sim", place="m", **changes):
        runs = bench.measure()
        # However fast this machine is.
        runs = replace(runs, runs=tuple(replace(run, busy_s=0.002, seconds=0.01)
                                        for run in runs.runs))
        layers = layer_figures(design, logged_cycles(design, runs.records), tag)
        content = {
            "schema": 1, "model": "random", "board": "ulx3s-85f", "device": "the virtual board",
            "created": "2026-01-01T00:00:00+00:00", "command": "qsdt measure", "commit": "abc",
            "stamps": ["The meter is simulated: power and energy are made up."],
            "checks": ["one", "two"], "config": design.config.to_dict(),
            "accuracy": {"value": 0.5, "tag": tag, "text": "1 of 2 images"},
            "figures": run_figures(design.config, layers, runs, tag),
            "units": stall_rows(runs.runs, tag), "layers": layers,
            "network": design.network.digest(), "roofs": roofs(design.config),
            "timeline": [turn.to_json() for turn in timeline(design.program, runs.records)],
            "energy": trace and account(trace, runs.images).to_json(), **changes}
        write_measurement(tmp_path / place, content, runs.runs, tag, trace)
        return tmp_path / place, content

    return write
