"""Files of a measurement."""

import csv
import json
import re

import pytest

from gen.measurement.write import FILES
from tests.gen.meter.waveform import Sampled, Wave


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_files(written):
    folder, content = written()
    # The log of these runs is of 2,000 cycles, the pulses of the meter are not.
    assert {path.name for path in folder.iterdir()} == set(FILES) - {"image-power.csv"}
    assert json.loads((folder / "measure.json").read_text()) == json.loads(json.dumps(content))
    rows = rows_of(folder / "layers.csv")
    assert [row["name"] for row in rows] == [row["name"] for row in content["layers"]]
    assert rows[0]["cycles (tag)"] == "rtl-sim" and rows[0]["predicted (tag)"] == "cost-model"
    assert [row["CYCLES"] for row in rows_of(folder / "runs.csv")] == ["8000"] * 3
    assert (folder / "power.csv").read_text().startswith("# board; instrument of the tests")
    figures = rows_of(folder / "figures.csv")
    assert {row["figure"]: float(row["value"]) for row in figures} == {
        name: figure["value"] for name, figure in content["figures"].items()}
    assert len(rows_of(folder / "units.csv")) == len(content["units"])
    energy = {row["what"]: row for row in rows_of(folder / "energy.csv")}
    assert float(energy["an image, above idle"]["joules"]) == pytest.approx(
        content["energy"]["joules_per_image_above_idle"])
    assert {row["tag"] for row in energy.values()} == {"board"}
    drawn = {row["layer"]: row for row in rows_of(folder / "roofline.csv")}
    for layer in content["layers"]:
        if layer["MAC"]["value"] and layer["bytes"]["value"] and layer["cycles"]["value"]:
            row = drawn.pop(layer["name"])
            assert float(row["MAC/cycle"]) == pytest.approx(layer["MAC/cycle"]["value"])
            assert float(row["MAC/byte"]) == pytest.approx(
                layer["MAC"]["value"] / layer["bytes"]["value"])
    assert not drawn


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
    assert page.count('class="busy"') == 8
    assert page.count("<circle") == len(rows_of(folder / "roofline.csv")) > 0
    assert "Layers are not told apart: the meter samples every 2 ms" in page
    assert 'class="turn"' not in page


def test_power_over_an_image(written, design, bench):
    """A meter that is quick enough for images of this length."""
    _, content = written(trace=None)
    image_s = 1 / content["figures"]["images_per_s_host"]["value"]
    wave = Wave.bursts(1.0, 1.6, 3 * image_s, 2 * image_s, 6 * image_s, 8)
    trace = Sampled(rate=100 / image_s, phases=[
        ("idle", image_s, 5 * image_s), ("running", 5.9 * image_s, 29 * image_s)]).trace(
            wave, 0.0, 30 * image_s)
    folder, content = written(trace=trace, figures=content["figures"])
    page = (folder / "report.html").read_text()
    assert {path.name for path in folder.iterdir()} == set(FILES)
    assert page.count('class="turn"') == len(content["timeline"]) > 1
    rows = rows_of(folder / "image-power.csv")
    assert [row["layers"].split() for row in rows] == [
        turn["layers"] for turn in content["timeline"]]
    assert {row["tag"] for row in rows} == {"board"}
    assert sum(float(row["joules"] or 0) for row in rows) == pytest.approx(
        1.6 * image_s, rel=0.05)


def test_without_a_meter(written):
    written()
    folder, _ = written(trace=None)
    assert not (folder / "energy.csv").exists()    # that of the measurement before
    assert not (folder / "power.csv").exists()
    page = (folder / "report.html").read_text()
    assert "No meter was read: there is no energy" in page and page.count("<svg") == 1


def test_energy_without_samples(written, trace):
    """The board's own monitor gives sums: a table, and no picture."""
    _, content = written()
    folder, _ = written(trace=None, energy=content["energy"])
    page = (folder / "report.html").read_text()
    assert "No meter was read" not in page and 'aria-label="power over time' not in page
    assert "there are no samples, only sums" in page
    assert "<td>idle</td>" in page and "<td>running</td>" in page
    assert (folder / "energy.csv").exists() and not (folder / "power.csv").exists()


def test_recorded_cycles_have_no_order_in_time(written):
    folder, _ = written(timeline=[])
    assert "cycles were recorded without their order in time" in (
        folder / "report.html").read_text()
    assert not (folder / "image-power.csv").exists()


def test_what_comes_from_outside_is_escaped(written):
    folder, _ = written(model="<img onerror=x>", checks=["<b>"])
    assert "<img onerror" not in (folder / "report.html").read_text()
