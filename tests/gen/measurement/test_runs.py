"""Runs on a device: warm-up, repeats, sums, and what ends a measurement."""

from contextlib import contextmanager
import time

import numpy as np
import pytest

from gen.measurement.runs import Runs
from gen.meter.base import MeterError
from model.error import VerificationFailed
from tests.faults.known_board import IMAGE_CYCLES


def test_counters_are_the_sum_of_single_runs(bench, case):
    _, program, images, results = case
    runs = bench.measure()
    assert isinstance(runs, Runs)
    assert len(runs.runs) == 3 and runs.images == 6 and runs.warm_up == 2
    for run in runs.runs:
        assert run.images == 2 and run.cycles == IMAGE_CYCLES
        assert run.counters["CYCLES"] == 2 * IMAGE_CYCLES
        assert run.counters["DESCRIPTORS"] == 2 * len(program.descriptors)
        assert 0 < run.busy_s <= run.seconds
    assert sum(run.busy_s for run in runs.runs) <= bench.watch.busy_s
    assert runs.link_errors == 0 and runs.batch == bench.session.batch
    # The log of the last image.
    assert np.array_equal(runs.records, list(results.values())[-1][1])


def test_busy_line(bench):
    """The pin of a simulated meter is high exactly while the core runs."""
    bench.measure(repeats=1)
    starts = bench.board.starts
    assert bench.levels == [1, 0] * starts and starts >= 2


def test_for_a_time(bench):
    """However fast this machine is."""
    begun = time.monotonic()
    runs = bench.measure(repeats=1, seconds=0.3, warm_up_s=0.2)
    assert time.monotonic() - begun >= 0.5
    assert runs.warm_up >= 2 and runs.images == 2 * len(runs.runs)


def test_running_is_what_counts(bench):
    """The warm-up lies before the phase."""
    seen = []

    @contextmanager
    def phase():
        seen.append(("begin", bench.board.starts))
        yield
        seen.append(("end", bench.board.starts))

    bench.measure(begin=phase)
    (_, before), (_, after) = seen
    assert before == after / 4 > 0


def test_wrong_result(bench):
    bench.core.wrong_run = lambda run: run == bench.board.starts and run > 2
    with pytest.raises(VerificationFailed, match=r"of 2 images have other results than in the "
                                                 "integer model, the first is image"):
        bench.measure()


def test_meter_that_goes(bench):
    def look():
        if bench.board.starts > 3:
            raise MeterError("usb: the FNB58 is gone; connect it again")

    with pytest.raises(MeterError, match="is gone"):
        bench.measure(look=look)
