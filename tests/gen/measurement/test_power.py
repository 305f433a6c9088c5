"""Pictures of power: places of samples, phases and pulses; an image's layers told apart."""

import math
import re

import numpy as np
import pytest

from gen.measurement.power import image_picture, image_power, ImagePower, power_picture
from gen.measurement.timeline import Turn
from tests.gen.meter.waveform import Sampled, Wave


IMAGE_S = 0.1

TURNS = (Turn(("a",), 0, 300), Turn(("b", "c"), 300, 350), Turn(("d",), 350, 1000))

WATTS = {"a": 1.5, "b": 2.5, "d": 1.2}


@pytest.fixture
def trace():
    wave = Wave.bursts(1.0, 1.6, 0.5, 0.3, 6.0, 8)
    return Sampled(rate=500, gaps=[(3.0, 3.15)], phases=[("idle", 1.0, 5.0), ("running", 5.99, 9.9)]
                   ).trace(wave, 0.0, 11.0)


def layered(images=40, starts=5, slow=0.0):
    """Starts of `images` images each, 1 s apart; each image has the power of its layers. With
    `slow`, the images of a start become slower and slower."""
    length = images * IMAGE_S

    def inside(t):
        at = np.asarray(t) - 2.0
        start = np.floor(at / (length + 1))
        since = at - start * (length + 1)
        return (start >= 0) & (start < starts) & (since < length), since

    def watts(t):
        busy, since = inside(t)
        number = since / IMAGE_S
        number = number + slow * number * (images - number) / images
        share = number % 1
        levels = np.select([share < 0.3, share < 0.35], [WATTS["a"], WATTS["b"]], WATTS["d"])
        return np.where(busy, levels, 1.0)

    wave = Wave(watts, None)
    wave.level = lambda t: inside(t)[0].astype(int)
    return wave, 2.0 + starts * (length + 1)


def recorded(wave, end, *, rate=1000, **options):
    return Sampled(rate=rate, jitter=0.3, phases=[("running", 1.9, end)]).trace(
        wave, 0.0, end + 1, **options)


def test_picture(trace):
    """The band reaches from the lowest to the highest sample; gaps, phases and pulses lie where
    they were."""
    picture = power_picture(trace)
    points = np.array([[float(value) for value in pair.split()]
                       for pair in re.findall(r"[\d.]+ [\d.]+", picture["path"])])
    assert points[:, 0].min() >= picture["left"] and points[:, 0].max() <= picture["right"] + 0.1
    assert picture["top"] < points[:, 1].min() and points[:, 1].max() < picture["base"]
    marks = {mark["text"]: mark["y"] for mark in picture["watts"]}
    assert points[:, 1].min() == pytest.approx(
        marks["0"] + (marks["1"] - marks["0"]) * 1.6, abs=2)
    idle, running = picture["phases"]
    assert idle["x"] < running["x"] and idle["width"] == pytest.approx(running["width"], rel=0.05)
    assert picture["gaps"][0]["width"] == pytest.approx(idle["width"] * 0.15 / 4, rel=0.05)
    assert len(picture["busy"]) == 8
    for pulse in picture["busy"]:
        assert pulse["width"] == pytest.approx(idle["width"] * 0.3 / 4, rel=0.05)
        assert running["x"] <= pulse["x"] + 0.5
    assert picture["busy"][-1]["x"] < running["x"] + running["width"]


def test_many_pulses_are_few_shapes():
    wave = Wave.bursts(1.0, 1.6, 0.002, 0.001, 2.0, 3000)
    picture = power_picture(Sampled(rate=4000, phases=[("running", 2.0, 8.0)]).trace(wave, 0, 9))
    assert len(picture["busy"]) == 1


@pytest.mark.parametrize("images, starts", [(1, 60), (40, 5), (400, 2)])
def test_layers_of_an_image(images, starts):
    power = image_power(recorded(*layered(images, starts), rate=5000), TURNS, IMAGE_S * 1.001)
    assert isinstance(power, ImagePower)
    # Starts at the edge of the window may be left out.
    assert (starts - 2) * min(images, 64) <= power.images <= starts * min(images, 64)
    for turn, watts, samples in power.turns:
        # A sample at the border of two layers may count for the other one.
        assert watts == pytest.approx(WATTS[turn.layers[0]], abs=0.1), turn
        share = (turn.end - turn.start) / 1000
        assert samples == pytest.approx(500 * power.images * share, rel=0.05)
    assert np.nanmax(power.watts) == pytest.approx(2.5, abs=0.01)
    assert math.fsum(row["joules"] for row in power.rows("simulated")) == pytest.approx(
        0.1 * (0.3 * 1.5 + 0.05 * 2.5 + 0.65 * 1.2), rel=0.01)


def test_images_in_the_middle_of_a_long_start_do_not_count():
    """Their times are not known: they would smear the layers."""
    power = image_power(recorded(*layered(1000, 1, slow=0.0002), rate=5000), TURNS, IMAGE_S)
    assert isinstance(power, ImagePower) and power.images == 64
    assert power.turns[1][1] == pytest.approx(WATTS["b"], abs=0.15)


@pytest.mark.parametrize("change, message", [
    (dict(marker=False), "the recording has no marker"),
    (dict(rate=50), "ms and an image takes 100 ms; 10 samples an image are the least"),
    (dict(image_s=0.77), "no pulse of the marker is as long as some images of 770 ms"),
])
def test_why_not(change, message):
    image_s = change.pop("image_s", IMAGE_S)
    found = image_power(recorded(*layered(3, 5), **change), TURNS, image_s)
    assert isinstance(found, str) and message in found


def test_short_turns_are_said_to_be_smeared():
    power = image_power(recorded(*layered()), (*TURNS[:2], Turn(("d",), 350, 995),
                                               Turn(("e",), 995, 1000)), IMAGE_S)
    assert [row["resolved"] for row in power.rows("board")] == [
        "yes", "yes", "yes", "no: shorter than a sample"]
    assert {row["tag"] for row in power.rows("board")} == {"board"}


def test_image_picture():
    picture = image_picture(image_power(recorded(*layered()), TURNS, IMAGE_S))
    assert [turn["name"] for turn in picture["turns"]] == ["a", "b to c (2 layers)", "d"]
    width = picture["right"] - picture["left"]
    assert [turn["width"] / width for turn in picture["turns"]] == pytest.approx([0.3, 0.05, 0.65])
    points = [tuple(map(float, pair.split(","))) for pair in picture["line"].split()]
    highest = min(points, key=lambda point: point[1])
    assert 0.3 <= (highest[0] - picture["left"]) / width <= 0.35
    assert all(picture["top"] <= y <= picture["base"] for _, y in points)
    assert [mark["text"] for mark in picture["ms"]] == ["0", "20", "40", "60", "80", "100"]
