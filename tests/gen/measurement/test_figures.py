"""Figures: their definitions, recomputed, and their provenance."""

import pytest

from gen.measurement.figures import layer_figures, run_figures, stall_rows, tagged, TAGS
from gen.measurement.runs import Run, Runs
from hw.register import Counter, UNITS


CLOCK = 80e6


def counters(images, cycles, **more):
    return {name.name: 0 for name in Counter} | {
        "CYCLES": images * cycles, "IMAGES": images, "SPIKE_EVENTS": 5000 * images,
        "READ_WORDS": 300 * images, "WRITE_WORDS": 100 * images, **more}


@pytest.fixture
def runs(case):
    records = list(case[3].values())[-1][1]
    return Runs((Run(10, counters(10, 4000), 0.001, 0.01),
                 Run(10, counters(10, 4100, BUSY_ARRAY=30_000, STALL_POOL_ARRAY=500), 0.001, 0.01),
                 Run(10, counters(10, 4050, ERRORS=2), 0.0005, 0.02)),
                None, records, 10, 3, 20)


def values(design, runs, tag="rtl-sim"):
    layers = layer_figures(design, runs.records, tag)
    found = run_figures(design.config, layers, runs, tag)
    return layers, found, {name: figure["value"] for name, figure in found.items()}


def test_definitions(design, runs):
    layers, _, found = values(design, runs)
    assert found["images"] == 30
    assert (found["cycles_per_image_low"], found["cycles_per_image"],
            found["cycles_per_image_high"]) == (4000, 4050, 4100)
    assert found["latency_ms"] == pytest.approx(4050 / CLOCK * 1e3)
    rate = found["images_per_s"]
    assert rate == pytest.approx(CLOCK / 4050)
    assert found["images_per_s_host"] == pytest.approx(10_000)
    assert "host_difference_percent" not in found
    found = values(design, runs, "board")[2]
    assert found["host_difference_percent"] == pytest.approx(100 * (10_000 / rate - 1))
    assert found["images_per_s_link"] == pytest.approx(30 / 0.04)
    assert found["busy_percent"] == pytest.approx(100 * 0.0025 / 0.04)
    core = design.config.core
    assert found["peak_gsops"] == pytest.approx(core.lanes * CLOCK / 1e9)
    macs = sum(row["MAC"]["value"] for row in layers)
    assert macs > 0 and found["dense_gsops"] == pytest.approx(macs * 4 * rate / 1e9)
    assert found["executed_gsops"] == pytest.approx(5000 * core.rows * rate / 1e9)
    assert found["memory_read_bytes_per_image"] == 2400
    assert found["memory_mb_per_s"] == pytest.approx(3200 * rate / 1e6)
    assert found["core_errors"] == 2 and found["link_errors"] == 3


@pytest.mark.parametrize("tag", ["board", "rtl-sim"])
def test_every_number_has_its_tag(design, runs, tag):
    layers, found, _ = values(design, runs, tag)
    assert {figure["tag"] for figure in found.values()} == {tag, "cost-model"}
    assert found["peak_gsops"]["tag"] == "cost-model"
    simulated = "of the simulation, not of a board"
    assert (simulated in found["images_per_s_host"]["text"]) == (tag == "rtl-sim")
    for row in layers:
        assert row["cycles"]["tag"] == tag and row["predicted"]["tag"] == "cost-model"
    with pytest.raises(ValueError, match=f"^Tag must be one of {', '.join(TAGS)}, not 'guess'"):
        tagged(1, "guess")


def test_layers_make_up_the_image(design, runs, case):
    """Cycles of the layers are those of the log: together, its last end."""
    layers, _, _ = values(design, runs)
    last = int(runs.records[-1]) >> 32
    assert sum(row["cycles"]["value"] for row in layers) == last
    assert {row["name"] for row in layers} == set(design.prediction.layers)


def test_units(runs):
    rows = stall_rows(runs.runs, "board")
    assert [row["name"] for row in rows] == [unit.lower() for unit in UNITS]
    array = next(row for row in rows if row["name"] == "array")
    assert array["busy"] == {"value": 1000, "tag": "board"}
    assert array["waits for the pool"]["value"] == pytest.approx(500 / 30)
