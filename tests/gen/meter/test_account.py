"""Energies of a run: phases apart, above idle, for an image."""

from dataclasses import replace
import json
from pathlib import Path
import re

import pytest

from gen.meter.account import account, IDLE, joules_text, RUNNING, UNCONFIGURED
from gen.meter.base import Accuracy, Phase
from model.error import InputError
from tests.gen.meter.waveform import Sampled, Wave


def recording(**ways):
    """0.6 W unconfigured up to 20 s, 1 W idle, 1.8 W for 30 s from 50 s on; pulses before."""
    bursts = Wave.bursts(1.0, 1.8, 30.0, 30.0, 50.0, 1)
    early = Wave.bursts(0.0, 0.8, 1.0, 0.5, 44.0, 3)    # of the warm-up
    wave = Wave(lambda t: bursts.watts(t) + early.watts(t) - 0.4 * (t < 20), None)
    wave.level = lambda t: bursts.level(t) | early.level(t)
    phases = [(UNCONFIGURED, 2.0, 18.0), (IDLE, 22.0, 42.0), (RUNNING, 49.997, 80.004)]
    return Sampled(rate=500, noise=0.02, phases=phases, **ways).trace(wave, 0.0, 90.0)


@pytest.mark.parametrize("ways", [{}, {"ppm": 100.0, "jitter": 0.4, "delay": 0.004},
                                  {"gaps": [(t, t + 0.06) for t in (5.0, 30.0, 55.0, 60.0)]}])
def test_phases_and_images(ways):
    found = account(recording(**ways), 12_000)
    assert found.phases[UNCONFIGURED].watts == pytest.approx(0.6, rel=0.01)
    assert found.phases[IDLE].watts == pytest.approx(1.0, rel=0.01)
    assert found.running.watts == pytest.approx(1.8, rel=0.01)
    assert found.running.seconds == pytest.approx(30.0, abs=0.005)
    joules, error = found.image_j
    assert joules == pytest.approx(30 * 1.8 / 12_000, rel=0.01) and 0 < error < 0.01 * joules
    above, error = found.above_idle_j
    assert above == pytest.approx(30 * 0.8 / 12_000, rel=0.01) and 0 < error < 0.01 * above
    assert found.window == "edges of the marker"


def test_every_line_says_where_it_comes_from():
    found = account(recording(), 12_000)
    lines = found.lines()
    assert all(f"({found.tag}" in line for line in lines if " W " in line or " mJ" in line)
    assert re.match(r"energy per image, whole board: 4\.5\d* \+- 0\.0\d+ mJ \(board", lines[-2])
    assert re.match(r"energy per image above idle: 2(\.0\d+)? \+- 0\.0\d+ mJ \(board", lines[-1])
    plain = json.loads(json.dumps(found.to_json()))
    assert plain["tag"] == "board" and plain["images"] == 12_000
    assert plain["joules_per_image"] == found.image_j[0]
    assert plain["joules_per_image_above_idle"] == found.above_idle_j[0]
    assert set(plain["phases"]) == {UNCONFIGURED, IDLE, RUNNING}
    assert set(plain["phases"][IDLE]["standard_errors_joules"]) == {
        "gain", "offset", "noise", "gaps", "edges"}


def test_offset_cancels_above_idle_and_gain_does_not():
    exact = recording()
    both = replace(exact, accuracy=Accuracy(0.01, 0.1, "test"))
    whole, above = account(both, 1).image_j, account(both, 1).above_idle_j
    assert whole[1] == pytest.approx(1.96 * ((0.01 * whole[0]) ** 2 + (0.1 * 30) ** 2) ** 0.5,
                                     rel=0.01)
    assert above[1] == pytest.approx(1.96 * 0.01 * above[0], rel=0.15)


@pytest.mark.parametrize("joules, error, text", [
    (12.345678, 0.5, "12.35 +- 0.5 J"), (0.0045, 1.2e-5, "4.5 +- 0.012 mJ"),
    (3e-7, 4e-6, "0.3 +- 4 uJ"), (-2.5e-3, 1e-4, "-2.5 +- 0.1 mJ"), (0.0, 0.0, "0 +- 0 nJ"),
])
def test_units(joules, error, text):
    assert joules_text(joules, error) == text


def test_without_idle_and_without_marker():
    trace = replace(recording(), edges=(), phases=(Phase(RUNNING, 50.0, 80.0),))
    found = account(trace, 10)
    assert found.above_idle_j is None and found.window == "times of the host"
    assert found.lines()[-1] == ("energy per image above idle: not known, since idle was not "
                                 "measured")
    assert found.to_json()["joules_per_image_above_idle"] is None


def test_what_makes_no_account():
    trace = recording()
    with pytest.raises(InputError, match="at least one image, not 0"):
        account(trace, 0)
    with pytest.raises(InputError, match="has no phase 'running': nothing ran"):
        account(replace(trace, phases=trace.phases[:2]), 1)
    with pytest.raises(InputError, match="^phase idle: .* have no samples"):
        account(replace(trace, phases=(Phase(IDLE, -50.0, 10.0), trace.phases[2])), 1)


def test_the_tutorial(capsys):
    """The snippet of docs/tutorials/measure.md, on a shorter time."""
    text = (Path(__file__).resolve().parents[3] / "docs" / "tutorials" / "measure.md").read_text()
    snippet = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    exec(snippet.replace("sleep(1.0)", "sleep(0.3)"), {})  # noqa: S102
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("energy per image above idle: ") and "simulated" in lines[-1]
