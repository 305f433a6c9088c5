"""model.data.events: slices, exact counts by hand, and what a network must take."""

from dataclasses import replace

import numpy as np
import pytest

from model.data.dataset import to_image_q
from model.data.events import check_counts, COUNT_MAX, Events, frames, slices, stored
from model.families.spec import spec
from model.families.spec_file import COUNTS, read_spec


SPEC = read_spec("small_events.yaml")


def events(rows, *, width=4, height=4) -> Events:
    """Of rows (x, y, on)."""
    x, y, on = np.array(rows, np.int64).reshape(-1, 3).T
    return Events(x, y, on, width, height)


def test_slices_by_hand():
    """The published rule: equal counts, the last takes the rest."""
    assert slices(11, 3) == [slice(0, 3), slice(3, 6), slice(6, 11)]
    assert slices(2, 3) == [slice(0, 0), slice(0, 0), slice(0, 2)]
    assert slices(0, 2) == [slice(0, 0), slice(0, 0)]
    assert slices(7, 1) == [slice(0, 7)]


@pytest.mark.parametrize("count", [*range(40), 999, 123_457])
@pytest.mark.parametrize("steps", [1, 2, 7, 10])
def test_every_event_is_in_one_slice(count, steps):
    parts = slices(count, steps)
    assert [n for part in parts for n in range(count)[part]] == list(range(count))
    assert {len(range(count)[part]) for part in parts[:-1]} <= {count // steps}


def test_counts_by_hand():
    given = events([(0, 0, 1), (0, 0, 1), (1, 3, 0),    # of the first half
                    (3, 1, 1), (3, 1, 0), (0, 0, 1), (2, 2, 1)])
    counts = frames(given, 2, 4)
    assert counts.shape == (2, 2, 4, 4) and counts.dtype == np.int64
    wanted = np.zeros((2, 2, 4, 4), int)
    wanted[0, 1, 0, 0] = 2
    wanted[0, 0, 3, 1] = 1
    wanted[1, 1, 1, 3] = wanted[1, 0, 1, 3] = wanted[1, 1, 0, 0] = wanted[1, 1, 2, 2] = 1
    np.testing.assert_array_equal(counts, wanted)


def test_any_polarity_but_0_is_on():
    given = Events(np.zeros(3, np.uint8), np.zeros(3, np.uint8), np.array([0, 1, 255], np.uint8),
                   1, 1)
    assert frames(given, 1, 1).ravel().tolist() == [1, 2]


def test_counts_do_not_overflow():
    """300,000 events of one pixel, coordinates in the smallest types."""
    one = np.full(300_000, 127, np.uint8)
    counts = frames(Events(one, one, one, 128, 128), 1, 128)
    assert counts[0, 1, 127, 127] == counts.sum() == 300_000
    image = stored(counts[None], 2)
    assert image.dtype == np.uint8 and image.max() == 255
    wide = replace(SPEC, image_size=128, time_steps=1)
    assert to_image_q(image, wide)[0, 0, 1, 127, 127] == COUNT_MAX


def test_larger_sensors():
    """Of 8x6, the 6x6 in the middle, two by two pixels together."""
    given = events([(0, 0, 1), (1, 0, 1), (2, 0, 1), (6, 5, 0), (7, 5, 1), (3, 4, 1), (4, 3, 1)],
                   width=8, height=6)
    counts = frames(given, 1, 3)
    wanted = np.zeros((1, 2, 3, 3), int)
    wanted[0, 1, 0, 0] = 2    # x = 1, 2; 0 and 7 are outside
    wanted[0, 0, 2, 2] = 1
    wanted[0, 1, 2, 1] = wanted[0, 1, 1, 1] = 1
    np.testing.assert_array_equal(counts, wanted)
    rng = np.random.default_rng(1)
    many = events(np.stack([rng.integers(0, n, 5000) for n in (260, 260, 2)], 1),
                  width=260, height=260)
    assert frames(many, 7, 37).sum() == 5000
    with pytest.raises(ValueError, match="8x6 pixels, fewer than the network's 7x7: take"):
        frames(given, 1, 7)


@pytest.mark.parametrize("rows, message", [
    ([(4, 0, 1)], "x of an event must be 0 to 3, not 4"),
    ([(0, -1, 1)], "y of an event must be 0 to 3, not -1"),
])
def test_events_outside_of_the_sensor(rows, message):
    with pytest.raises(ValueError, match=message):
        events(rows)
    with pytest.raises(ValueError, match="as many x, y and polarities, not 2, 1 and 1"):
        Events(np.zeros(2), np.zeros(1), np.zeros(1), 4, 4)


def test_counts_are_the_networks_input():
    """All counts 0..127 exactly; the sum as a third channel is that of the true counts."""
    counts = np.arange(300).reshape(1, 1, 1, 15, 20).repeat(2, 2)
    image = stored(counts, 2)
    spec2 = replace(SPEC, time_steps=1)
    np.testing.assert_array_equal(to_image_q(image, spec2)[0, 0, 0].ravel(),
                                  np.minimum(np.arange(300), 127))
    three = stored(np.array([100, 90]).reshape(2, 1, 1), 3)
    assert three.ravel().tolist() == [100, 90, 190]
    colours = replace(spec2, in_channels=3, norm_mean=(0.0,) * 3, norm_std=(1 / 255,) * 3)
    assert to_image_q(three[None, None], colours).ravel().tolist() == [100, 90, 127]


def test_the_spec_of_events():
    assert {field: getattr(SPEC, field) for field in COUNTS} == COUNTS
    check_counts("x", SPEC)
    check_counts("x", replace(SPEC, in_channels=3, norm_mean=(0.0,) * 3, norm_std=(1 / 255,) * 3))
    assert SPEC.to_dict()["image_scale"] == 1 and "image_scale" not in spec("qsdt_t").to_dict()
    for changed, message in (
        (spec("qsdt_nano"), "x: events have 2 channels, or 3 .*, but qsdt_nano takes 1"),
        (spec("qsdt_t"), "must go in as they are, but .* has image_scale 48,.* 1, 0 and 1/255"),
        (replace(SPEC, norm_mean=(0.5, 0.5)), "norm_mean 0.5"),
        (replace(SPEC, norm_std=(0.25, 0.25)), "norm_std 0.25"),
        (replace(SPEC, image_scale=2), "image_scale 2"),
    ):
        with pytest.raises(ValueError, match=message):
            check_counts("x", changed)
    with pytest.raises(ValueError, match="images must have 4 time steps for small_events, not 3"):
        to_image_q(np.zeros((1, 3, 2, 32, 32), np.uint8), SPEC)
