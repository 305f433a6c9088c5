"""Figures: their definitions, recomputed, and their provenance."""

from dataclasses import replace

import numpy as np
import pytest

from gen.measurement.figures import (
    layer_figures,
    logged_cycles,
    run_figures,
    stall_rows,
    tagged,
    TAGS,
)
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
    image_cycles = np.array([4000, 4400, 3800])
    return Runs((Run(10, counters(10, 4000), 0.001, 0.01, 10, image_cycles),
                 Run(10, counters(10, 4100, BUSY_ARRAY=30_000, STALL_POOL_ARRAY=500), 0.001, 0.01,
                     10, image_cycles + 1),
                 Run(10, counters(10, 4050, ERRORS=2), 0.0005, 0.02, 10, image_cycles - 1)),
                None, records, "10 images back to back", 3, 20)


def values(design, runs, tag="rtl-sim"):
    layers = layer_figures(design, logged_cycles(design, runs.records), tag)
    found = run_figures(design.config, layers, runs, tag,
                        "of a board" if tag == "board" else "of the simulation, not of a board")
    return layers, found, {name: figure["value"] for name, figure in found.items()}


def test_definitions(design, runs):
    layers, _, found = values(design, runs)
    assert found["images"] == 30
    assert (found["cycles_per_image_low"], found["cycles_per_image"],
            found["cycles_per_image_high"]) == (4000, 4050, 4100)
    assert found["latency_ms"] == pytest.approx(4000 / CLOCK * 1e3)
    assert found["latency_ms_low"] == pytest.approx(3799 / CLOCK * 1e3)
    assert found["latency_ms_high"] == pytest.approx(4401 / CLOCK * 1e3)
    each = np.array([4000, 4400, 3800, 4001, 4401, 3801, 3999, 4399, 3799])
    assert found["latency_ms_deviation"] == pytest.approx(each.std() / CLOCK * 1e3)
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


def test_what_is_not_known_is_said(design, runs):
    """Results that were overwritten, records that there are none of, counters that may be wrong."""
    _, texts, _ = values(design, runs)
    assert texts["images_compared"] == {"value": 30, "tag": "rtl-sim",
                                        "text": "results equal to the integer model's"}
    assert "10 images back to back; 20 before as warm-up" in texts["images"]["text"]
    assert "WRAPPED" not in texts["executed_gsops"]["text"]
    bare = tuple(replace(run, compared=4, image_cycles=np.zeros(0, int)) for run in runs.runs)
    _, texts, found = values(design, replace(runs, runs=bare, doubtful=("SPIKE_EVENTS",)))
    assert found["images_compared"] == 12
    assert texts["images_compared"]["text"].endswith("were overwritten by later ones")
    assert found["latency_ms"] == pytest.approx(4050 / CLOCK * 1e3)
    assert texts["latency_ms"]["text"].startswith("mean: ") and "latency_ms_low" not in found
    for name in ("executed_gsops", "spike_events_per_image"):
        assert "IT MAY HAVE WRAPPED UNSEEN" in texts[name]["text"]


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
