"""Means of a stream: nothing is lost but what a gap cuts short; edges stay exact."""

import numpy as np
import pytest

from gen.meter.stream import Decimator


def put(decimator, index, amps, marker=None):
    amps = np.asarray(amps, float)
    marker = np.zeros(len(amps), int) if marker is None else np.asarray(marker)
    return decimator.put(index, np.full(len(amps), 5.0), amps, marker, 1.0)


@pytest.mark.parametrize("sizes", [[100], [7] * 14 + [2], [1] * 100, [33, 34, 33]])
def test_means_do_not_depend_on_how_samples_come(sizes):
    amps = np.random.default_rng(1).normal(size=100)
    decimator, blocks, at = Decimator(10, 1000.0), [], 0
    for size in sizes:
        blocks.append(put(decimator, 500 + at, amps[at:at + size]))
        at += size
    assert np.concatenate([block.amps for block in blocks]) == pytest.approx(
        amps.reshape(10, 10).mean(axis=1))
    assert np.concatenate([block.time_s for block in blocks]) == pytest.approx(
        (500 + 10 * np.arange(10) + 4.5) / 1000)
    assert sum(block.lost for block in blocks) == 0


def test_power_is_the_mean_of_products():
    decimator = Decimator(2, 1.0)
    block = decimator.put(0, np.array([1.0, 3.0]), np.array([2.0, 4.0]), np.array([0, 0]), 0.0)
    assert (block.watts[0], block.volts[0] * block.amps[0]) == (7.0, 6.0)


def test_gap():
    """Seven samples are missing, three before them fill no mean."""
    decimator = Decimator(10, 1000.0)
    first = put(decimator, 0, np.ones(13))
    second = put(decimator, 20, 2 * np.ones(10))
    assert (len(first.amps), first.lost) == (1, 0)
    assert second.lost == 7 + 3 and second.amps.tolist() == [2.0]
    assert second.time_s[0] == pytest.approx(0.0245)


def test_edges():
    decimator = Decimator(10, 1000.0)
    first = put(decimator, 0, np.ones(10), [0, 0, 0, 1, 1, 0, 0, 0, 0, 1])
    second = put(decimator, 10, np.ones(10), [1] * 10)
    third = put(decimator, 20, np.ones(10), [0] * 10)
    assert first.edges == [(0.003, 1), (0.005, 0), (0.009, 1)]
    assert second.edges == [] and third.edges == [(0.02, 0)]
    assert put(Decimator(1, 10.0), 0, [1.0], [1]).edges == [(0.0, 1)]
