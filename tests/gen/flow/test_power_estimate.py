"""Power before there is a board: each part by hand, and what makes it larger."""

import json
from pathlib import Path

import pytest

from gen.flow.power_estimate import (
    Activity,
    activity_of,
    activity_of_record,
    estimate_power,
)


RESULTS = Path(__file__).parents[3] / "docs" / "results"


def read(name):
    return json.loads((RESULTS / f"{name}.json").read_text())


@pytest.fixture
def nano():
    return read("build-qsdt_nano")


@pytest.fixture
def tiny():
    return read("build-qsdt_t")


BUSY = Activity(0.5, 0.25, "rtl-sim", 1_000_000)


def test_parts_by_hand(nano):
    power = estimate_power(nano, BUSY)
    static, _ = power.parts["static"]
    assert static.high == pytest.approx(1.1 * 0.212)
    idle, running = power.parts["logic and wires"]
    typical = 5.9e-12 / 8 * (1.1 / 1.5) ** 2 * 40 / 150 * nano["comb"]["value"] * 80e6
    clocks = 0.14 / 0.90
    assert idle.likely == pytest.approx(typical * clocks)
    assert running.likely == pytest.approx(typical * (clocks + (1 - clocks) * 0.5))
    assert running.low == pytest.approx(typical / 2 * (clocks + (1 - clocks) * 0.25))
    assert running.high == pytest.approx(typical * (150 / 40) ** 0.5)    # always busy
    idle, running = power.parts["block RAMs"]
    assert running.high == pytest.approx(nano["ebr"]["value"] * 80e6 * 2 * 17.9e-12)
    assert running.likely == pytest.approx(nano["ebr"]["value"] * 80e6 * 18e-12 * 0.25)
    assert 0 < idle.likely < running.likely
    _, running = power.parts["multipliers"]
    assert running.likely == pytest.approx(nano["dsp"]["value"] * 80e6 * 18 * 2.13e-12 * 0.25)
    assert "SDRAM" not in power.parts


def test_sdram_by_hand(tiny):
    power = estimate_power(tiny, BUSY)
    moved = tiny["memory_bytes"]["value"] * 80e6 / tiny["cycles"]["value"]
    use = moved / (2 * 125e6)
    idle, running = power.parts["SDRAM"]
    assert idle.likely == pytest.approx(3.3 * 0.030 + 0.010)
    assert running.likely == pytest.approx(idle.likely + 3.3 * 0.065 * use)
    pins, more = power.parts["SDRAM pins"]
    assert pins.likely == pytest.approx(10e-12 * 3.3 ** 2 * 125e6)
    assert more.likely - pins.likely == pytest.approx(10e-12 * 3.3 ** 2 / 2 * 125e6 * 8 * use)


def test_whole_board(nano):
    power = estimate_power(nano, BUSY)
    parts = sum(running.likely for _, running in power.parts.values())
    assert power.running.likely == pytest.approx(parts / 0.85 + 0.30)
    rise = sum(running.likely - idle.likely for idle, running in power.parts.values())
    seconds = nano["cycles"]["value"] / 80e6
    assert power.above_idle.likely == pytest.approx(rise / 0.85 * seconds)
    assert power.image.likely == pytest.approx(power.running.likely * seconds)
    assert power.event.likely == pytest.approx(power.above_idle.likely / 1_000_000)
    assert power.unconfigured.likely < power.idle.likely < power.running.likely


@pytest.mark.parametrize("name, record", [("qsdt_nano", "verify-nano"),
                                          ("qsdt_t", "verify-qsdt_t")])
def test_committed_builds(name, record):
    """All of it lies under what the board's manual says is enough, and says how wide it is."""
    power = estimate_power(read(f"build-{name}"), activity_of_record(read(record)))
    assert 0.2 < power.running.low < power.running.likely < power.running.high <= 2.6
    assert power.running.high > 1.5 * power.running.likely
    for lines in (power.lines()[:5],):
        assert all("(estimate)" in line and " to " in line for line in lines)
    committed = read(f"estimate-{name}")
    assert committed["tag"] == "estimate"
    for state in ("unconfigured", "idle", "running"):
        assert committed["watts"][state] == pytest.approx(getattr(power, state).to_json())
    assert committed["joules_per_image"] == pytest.approx(power.image.to_json())
    assert "value" not in json.dumps(committed)


def test_activity(nano):
    record = read("verify-nano")
    counters = record["figures"]["counters"]
    found = activity_of_record(record)
    assert found.array == counters["BUSY_ARRAY"] / counters["CYCLES"]
    assert found.events == counters["SPIKE_EVENTS"] and found.tag == "rtl-sim"
    by_model = activity_of(nano)
    assert by_model.tag == "cost-model" and by_model.events is None
    assert by_model.array == pytest.approx(found.array, abs=0.1)
    assert activity_of_record({"figures": {}}) is None and activity_of_record({}) is None
    assert activity_of_record(read("verify-qsdt_s-iss")) is None
    assert activity_of({**nano, "layers": []}) is None


def test_more_work_takes_more(nano):
    def running(**changes):
        return estimate_power({**nano, **changes}, Activity(0.5, 0.5, "rtl-sim")).running.likely

    usual = running()
    assert running(core_clock_hz=100_000_000) > usual
    assert running(comb={"value": 40_000, "tag": "routed"}) > usual
    assert running(ebr={"value": 200, "tag": "routed"}) > usual
    assert running(part="LFE5U-25F") < running(part="LFE5U-45F") < usual
    assert running(part="LFE5U-12F") == running(part="LFE5U-25F")
    assert estimate_power(nano, Activity(0.9, 0.5, "rtl-sim")).running.likely > usual
    # Without a count of events there is no energy for one.
    assert estimate_power(nano).event is None


@pytest.mark.parametrize("change", [{"part": "XC7A35T"}, {"layers": []}, {"comb": None}])
def test_no_estimate(nano, change):
    report = {key: value for key, value in {**nano, **change}.items() if value is not None}
    assert estimate_power(report) is None
