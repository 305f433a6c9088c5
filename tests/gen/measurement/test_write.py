"""Files of a measurement."""

import csv
import json
import re

import numpy as np
import pytest

from gen.measurement.figures import layer_figures, run_figures, stall_rows
from gen.measurement.write import FILES, power_picture, write_measurement
from gen.meter.account import account
from tests.gen.meter.waveform import Sampled, Wave


@pytest.fixture
def trace():
    wave = Wave.bursts(1.0, 1.6, 0.5, 0.3, 6.0, 8)
    return Sampled(rate=500, gaps=[(3.0, 3.15)], phases=[("idle", 1.0, 5.0), ("running", 5.99, 9.9)]
                   ).trace(wave, 0.0, 11.0)


@pytest.fixture
def written(bench, design, trace, tmp_path):
    def write(trace=trace, **changes):
        runs = bench.measure()
        layers = layer_figures(design, runs.records, "rtl-sim")
        content = {
            "schema": 1, "model": "random", "board": "ulx3s-85f", "device": "the virtual board",
            "created": "2026-01-01T00:00:00+00:00", "command": "qsdt measure", "commit": "abc",
            "stamps": ["The meter is simulated: power and energy are made up."],
            "checks": ["one", "two"], "config": design.config.to_dict(),
            "accuracy": {"value": 0.5, "tag": "rtl-sim", "text": "1 of 2 images"},
            "figures": run_figures(design.config, layers, runs, "rtl-sim"),
            "units": stall_rows(runs.runs, "rtl-sim"), "layers": layers,
            "energy": trace and account(trace, runs.images).to_json(), **changes}
        write_measurement(tmp_path / "m", content, runs.runs, "rtl-sim", trace)
        return tmp_path / "m", content

    return write


def test_files(written):
    folder, content = written()
    assert {path.name for path in folder.iterdir()} == set(FILES)
    assert json.loads((folder / "measure.json").read_text()) == json.loads(json.dumps(content))
    with open(folder / "layers.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [row["name"] for row in content["layers"]]
    assert rows[0]["cycles (tag)"] == "rtl-sim" and rows[0]["predicted (tag)"] == "cost-model"
    with open(folder / "runs.csv", newline="") as file:
        assert [row["CYCLES"] for row in csv.DictReader(file)] == ["8000"] * 3
    assert (folder / "power.csv").read_text().startswith("# board; instrument of the tests")


def test_page(written):
    folder, content = written()
    page = (folder / "report.html").read_text()
    assert not re.search(r"https?://|src=|@import|url\(|<script", page)
    assert "The meter is simulated" in page and page.count('<rect class="stamp"') == 0
    for row in content["layers"]:
        assert f"<td>{row['name']}</td>" in page
    for name in content["figures"]:
        assert f"<tr><td>{name}</td>" in page
    assert page.count('opacity="0.18"') == 2 and page.count('opacity="0.5"') == 1    # phases, gap


def test_without_a_meter(written):
    folder, _ = written(trace=None)
    assert not (folder / "power.csv").exists()
    page = (folder / "report.html").read_text()
    assert "No meter was read: there is no energy" in page and "<svg" not in page


def test_what_comes_from_outside_is_escaped(written):
    folder, _ = written(model="<img onerror=x>", checks=["<b>"])
    assert "<img onerror" not in (folder / "report.html").read_text()


def test_picture(trace):
    """The band reaches from the lowest to the highest sample, gaps and phases lie where they
    were."""
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
