"""Two records side by side: ratios, and what has none."""

from dataclasses import replace
import json
from pathlib import Path

import pytest

from gen.measurement.comparison import compare
from gen.measurement.record import Figure, read_record


RESULTS = Path(__file__).parents[3] / "docs" / "results"
OTHER = Path(__file__).parents[2] / "data" / "build-qsdt_t-plane_skip.json"
"""A report of an earlier build, with another setting."""


@pytest.fixture(scope="module")
def nano():
    return read_record(RESULTS / "build-qsdt_nano.json")


@pytest.fixture(scope="module")
def tiny():
    return read_record(RESULTS / "build-qsdt_t.json")


def report(path):
    return json.loads(path.read_text())


def with_figures(record, **figures):
    return replace(record, figures={name.replace("__", " "): figure
                                    for name, figure in figures.items()})


def row_of(found, name):
    return next(row for row in found.rows if row.name == name)


def test_with_itself(nano):
    found = compare(nano, nano)
    assert found.settings == [] and found.notes == []
    assert {row.name for row in found.rows} == set(nano.figures)
    assert all(row.ratio == 1 or row.a.value == 0 for row in found.rows)
    text = "\n".join(found.lines())
    assert "no setting differs" in text and "cycles of layers that differ" not in text
    assert "not compared" not in text


def test_every_figure_and_what_differs(tiny):
    other = read_record(OTHER)
    one, two = report(RESULTS / "build-qsdt_t.json"), report(OTHER)
    found = compare(tiny, other)
    assert {row.name for row in found.rows} == set(tiny.figures) | set(other.figures)
    assert row_of(found, "cycles_per_image").ratio == pytest.approx(
        two["cycles"]["value"] / one["cycles"]["value"])
    assert row_of(found, "ebr.planes to skip").why == "only one has it"
    before = "false" if "plane_skip" in one["config"]["core"] else "not recorded"
    assert ("core.plane_skip", before, "true") in found.settings
    assert not any(name == "board" for name, _, _ in found.settings)
    text = "\n".join(found.lines())
    assert f"differs: core.plane_skip: {before} | true" in text
    for cycles in (one["cycles"], two["cycles"]):
        assert f"{cycles['value']:,}  {cycles['tag']}" in text
    assert "note: " in text and "synthetic" in text
    ratios = {row.name: row.ratio for row in found.layers}
    for a, b in zip(one["layers"], two["layers"], strict=True):
        assert ratios[a["name"]] == pytest.approx(
            b["cycles in RTL"]["value"] / a["cycles in RTL"]["value"])


def test_another_network(nano, tiny):
    """What an image costs says nothing; what the chip has and reaches does."""
    found = compare(nano, tiny)
    for name in ("cycles_per_image", "images_per_s", "memory_bytes"):
        row = row_of(found, name)
        assert row.ratio is None and row.why == "another network"
    one, two = (report(RESULTS / f"build-{name}.json") for name in ("qsdt_nano", "qsdt_t"))
    assert row_of(found, "comb").ratio == pytest.approx(two["comb"]["value"] / one["comb"]["value"])
    clocks = [next(clock["achieved"] for clock in content["clocks"] if clock["name"] == "clk")
              for content in (one, two)]
    assert row_of(found, "MHz of clk").ratio == pytest.approx(clocks[1] / clocks[0])
    assert found.layers == []
    assert any("another network (qsdt_nano | qsdt_t)" in note for note in found.notes)


def test_other_weights(nano):
    found = compare(nano, replace(nano, network="f" * 64))
    assert row_of(found, "cycles_per_image").ratio is None
    assert "qsdt_nano with other weights" in found.notes[0]
    # A record that does not say which weights it had is taken at its name.
    assert row_of(compare(nano, replace(nano, network="")), "cycles_per_image").ratio == 1


@pytest.mark.parametrize("one, other, why", [
    ("board", "board", ""), ("simulated", "board", "simulated against measured"),
    ("board", "simulated", "simulated against measured"),
    ("simulated", "simulated", "both made up by a simulated meter"),
])
def test_energies(nano, one, other, why):
    found = compare(with_figures(nano, joules_per_image=Figure(2.0, one, 0.1)),
                    with_figures(nano, joules_per_image=Figure(3.0, other, 0.2)))
    row = row_of(found, "joules_per_image")
    assert row.why == why and row.ratio == (None if why else 1.5)
    text = "\n".join(found.lines())
    assert f"2 +- 0.1  {one}" in text
    assert (f"not compared, {why}: joules_per_image" in text) == bool(why)


@pytest.mark.parametrize("tag, ratio", [("board", 2), ("rtl-sim", None)])
def test_speed_of_a_simulation_is_not_that_of_a_board(nano, tag, ratio):
    found = compare(with_figures(nano, images_per_s_host=Figure(1.0, tag),
                                 images_per_s=Figure(10, tag)),
                    with_figures(nano, images_per_s_host=Figure(2.0, "board"),
                                 images_per_s=Figure(20, "board")))
    assert row_of(found, "images_per_s_host").ratio == ratio
    assert row_of(found, "images_per_s").ratio == 2    # cycles and clock: the same in both


def test_zeros(nano):
    found = compare(
        with_figures(nano, core_errors=Figure(0, "board"), link_errors=Figure(0, "board")),
        with_figures(nano, core_errors=Figure(3, "board"), link_errors=Figure(0, "rtl-sim")))
    assert row_of(found, "core_errors").why == "0 in A"
    assert row_of(found, "core_errors").to_json()["B/A"] == ""
    line = next(line for line in found.lines() if line.startswith("link_errors"))
    assert line.endswith("=")


def test_measurement_beside_a_build(written, design):
    """Cycles of a board or simulation against those of its build."""
    record = read_record(written()[0])
    settings = {**record.settings, "seed": "1", "clock_hz": "50000000"}
    del settings["instrument"]
    build = replace(record, kind="build", settings=settings,
                    figures={"cycles_per_image": Figure(5000, "cost-model")})
    found = compare(build, record)
    assert row_of(found, "cycles_per_image").ratio == pytest.approx(
        record.figures["cycles_per_image"].value / 5000)
    # What only one kind of record has is no difference.
    assert found.settings == [("clock_hz", "50000000", "80000000")]
