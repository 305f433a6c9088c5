"""model.data.simulated_events: exact counts by hand, and the data set."""

import hashlib
import math

import numpy as np
import pytest

from model.data import mnist
from model.data import simulated_events as simulated
from model.data.on_demand import OnDemand
from model.data.options import read_dataset, read_split
from model.families.spec_file import read_spec


SPEC = read_spec("small_events.yaml")

needs_fashion_mnist = pytest.mark.skipif(
    not mnist.DEBIAN_FOLDER.is_dir(), reason=f"needs the Debian package {mnist.DEBIAN_PACKAGE}"
)


def pictures(count: int = 6, side: int = 28) -> np.ndarray:
    rng = np.random.default_rng(4)
    made = rng.integers(0, 256, (count, side, side)).astype(np.uint8)
    made[:, :8] = 0
    return made


def test_the_path():
    """Three saccades of eight steps, back to where it began, never further than two pixels."""
    assert len(simulated.PATH) == 25 and simulated.PATH[0] == simulated.PATH[-1] == (-8, -8)
    assert [simulated.PATH[k] for k in (8, 16)] == [(0, 8), (8, -8)]
    assert {max(map(abs, place)) for place in simulated.PATH} <= set(range(9))
    steps = {(x1 - x0, y1 - y0) for (x0, y0), (x1, y1)
             in zip(simulated.PATH, simulated.PATH[1:], strict=False)}
    assert steps == {(1, 2), (1, -2), (-2, 0)}


def test_thresholds_differ_by_three_percent():
    one = simulated.thresholds(32)
    np.testing.assert_array_equal(one, simulated.thresholds(32))
    assert set(np.unique(one)) == set(range(199, 212))


def log(value: float) -> int:
    """1024 ln(1 + 10 v/255) of a grey level, rounded."""
    return round(1024 * math.log(1 + 10 * value / 255))


def by_hand(picture: np.ndarray, size: int, steps: int) -> np.ndarray:
    """The same in words: pixel after pixel, in exact fractions of sixteenths."""
    threshold = simulated.thresholds(size)
    counts = np.zeros((steps, 2, size, size), int)
    height, width = picture.shape

    def grey(y: int, x: int) -> int:
        y, x = y - (size - height) // 2, x - (size - width) // 2
        return int(picture[y, x]) if 0 <= y < height and 0 <= x < width else 0

    def light(row: int, column: int, x: int, y: int) -> float:
        """Of the item moved by x, y quarters of a pixel, between four of its pixels."""
        total = 0
        for down in (0, 1):
            for right in (0, 1):
                top, left = math.floor(row - y / 4), math.floor(column - x / 4)
                fy, fx = (4 * row - y) - 4 * top, (4 * column - x) - 4 * left
                weight = (fy if down else 4 - fy) * (fx if right else 4 - fx)
                total += weight * grey(top + down, left + right)
        return total / 16

    for row in range(size):
        for column in range(size):
            fired = log(light(row, column, *simulated.PATH[0]))
            for number, place in enumerate(simulated.PATH[1:]):
                now = log(light(row, column, *place))
                while abs(now - fired) >= threshold[row, column]:
                    on = int(now > fired)
                    fired += int(threshold[row, column]) * (1 if on else -1)
                    counts[number * steps // 24, on, row, column] += 1
    return counts


@pytest.mark.parametrize("steps", [1, 4, 5, 24])
def test_counts_by_hand(steps):
    picture = pictures(1, 6)[0]
    picture[:2] = [[0, 0, 0, 0, 0, 0], [0, 0, 255, 0, 0, 9]]
    made = simulated.simulate(picture[None], steps=steps, size=10)
    np.testing.assert_array_equal(made[0], by_hand(picture, 10, steps))
    assert made.sum() > 100


def test_one_edge():
    """A white pixel that leaves and comes: ln 11 = 2.398 are 11 thresholds of 199 to 211."""
    picture = np.zeros((1, 1, 1), np.uint8)
    picture[:] = 255
    total = simulated.simulate(picture, steps=1, size=5)[0, 0]
    assert log(255) == 2455
    assert total[:, 0, 0].tolist() == [2455 // simulated.thresholds(5)[0, 0]] * 2 == [11, 11]


def test_a_closed_path_rises_as_often_as_it_falls():
    """At the end every pixel sees what it saw at the beginning."""
    total = simulated.simulate(pictures(), steps=3, size=32).sum(1)
    np.testing.assert_array_equal(total[:, 0], total[:, 1])
    assert (total.sum((1, 2, 3)) > 0).all()


def test_frames_add_up_and_samples_are_independent():
    one = simulated.simulate(pictures(), steps=1, size=36)
    for steps in (2, 6, 24):
        many = simulated.simulate(pictures(), steps=steps, size=36)
        np.testing.assert_array_equal(many.sum(1, keepdims=True), one)
    np.testing.assert_array_equal(simulated.simulate(pictures()[3:4], steps=1, size=36), one[3:4])
    black = simulated.simulate(np.zeros((1, 28, 28), np.uint8), steps=2, size=32)
    assert not black.any()


def test_what_cannot_be_simulated():
    with pytest.raises(ValueError, match="at least 32x32 pixels, not 28x28"):
        simulated.simulate(pictures(1), steps=1, size=28)
    with pytest.raises(ValueError, match="at most 24 time steps, not 25"):
        simulated.simulate(pictures(1), steps=25, size=32)


@needs_fashion_mnist
def test_the_data_set():
    """Labels and split of Fashion-MNIST; the same counts on every machine, by SHA-256."""
    items = mnist.fashion_mnist()
    data = simulated.simulated_events(None, steps=4, size=32)
    for part in ("train", "val", "test"):
        split = getattr(data, part)
        assert isinstance(split.images, OnDemand) and split.images.shape[1:] == (4, 2, 32, 32)
        np.testing.assert_array_equal(split.labels, getattr(items, part).labels)
        assert split.source == "simulated events of Fashion-MNIST"
    assert data.info.classes[9] == "Ankle boot"
    found = read_split("simulated_events", "test", SPEC, count=20)
    np.testing.assert_array_equal(found.images, data.test.images[np.arange(20)])
    np.testing.assert_array_equal(
        found.images, simulated.simulate(items.test.images[:20], steps=4, size=32))
    assert hashlib.sha256(found.images.tobytes()).hexdigest() == SHA256
    whole = read_dataset("simulated_events", SPEC, count=30)
    assert isinstance(whole.train.images, np.ndarray) and whole.train.images.nbytes == 30 * 8192


SHA256 = "d5b9e122ec403b8f14c5b206794bb3273e8481e92adc503de152b05ea3e7d40f"
