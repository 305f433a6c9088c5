"""The energy integral against waveforms whose integral is known."""

import numpy as np
import pytest

from gen.meter.base import Accuracy
from gen.meter.energy import integrate
from model.error import InputError
from tests.gen.meter.waveform import Instrument, Sampled, Wave


WAVES = {
    "ramp": Wave.ramp(1.0, 0.02),
    "sine": Wave.sine(1.5, 0.4, 7.3),
    "bursts": Wave.bursts(1.0, 2.0, 0.1, 0.04, 3.0, 400),
}

WAYS = {
    "even": {},
    "jitter": {"jitter": 0.4},
    "short gaps": {"gaps": [(t, t + 0.008) for t in np.arange(2.1, 50, 0.37)]},
    "long gaps": {"gaps": [(t, t + 0.12) for t in np.arange(5, 50, 4.03)]},
    "drift": {"ppm": 100.0},
    "slow meter": {"rate": 113.0},
    "all": {"jitter": 0.4, "ppm": -100.0, "gaps": [(t, t + 0.03) for t in np.arange(5, 50, 2.03)],
            "noise": 0.02, "delay": 0.004},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wave", WAVES)
def test_known_waveforms(wave, way):
    """Within 1 % in spite of gaps, jitter and drift, and within the stated uncertainty or a
    thousandth."""
    truth = WAVES[wave].joules(4.0, 44.0)
    trace = Sampled(**WAYS[way]).trace(WAVES[wave], 0.0, 50.0, marker=False)
    energy = integrate(trace, 4.0, 44.0)
    assert energy.joules == pytest.approx(truth, rel=0.01)
    assert abs(energy.joules - truth) <= energy.error_j + 1e-3 * truth
    assert energy.seconds == 40.0
    assert energy.watts == pytest.approx(truth / 40, rel=0.01)


def test_exact_for_straight_lines_at_any_times():
    """The trapezoid rule, also for a span that begins and ends between samples."""
    trace = Sampled(jitter=0.45, delay=0).trace(WAVES["ramp"], 0.0, 5.0)
    shift = trace.clock.error_s + 3e-4    # arrivals are 0.2 ms late here
    energy = integrate(trace, 1.00037, 4.00091)
    assert energy.joules == pytest.approx(WAVES["ramp"].joules(1.00037, 4.00091),
                                          abs=0.02 * 3 * shift)


def test_gaps_are_counted_and_treated_as_stated():
    gaps = [(1.0, 1.004), (2.0, 2.005), (3.0, 3.05)]
    trace = Sampled(gaps=gaps, delay=0).trace(Wave.ramp(2.0, 0.0), 0.0, 5.0)
    assert len(trace.gaps) == 3
    energy = integrate(trace, 0.5, 4.5)
    assert (energy.interpolated, energy.missing) == (2, 1)
    assert energy.interpolated_s == pytest.approx(0.009 + 0.002, abs=2.1e-3)
    assert energy.missing_s == pytest.approx(0.05, abs=2e-3)
    assert energy.limit_s == pytest.approx(0.010)
    assert energy.gaps_text() == (
        "2 gaps, 0.009 s together, bridged by straight lines (each up to 0.01 s); 1 longer gaps, "
        "0.05 s together, filled with the mean power of the rest")
    assert energy.joules == pytest.approx(8.0, rel=1e-9)
    all_bridged = integrate(trace, 0.5, 4.5, limit_s=0.1)
    assert (all_bridged.interpolated, all_bridged.missing) == (3, 0)
    none_bridged = integrate(trace, 0.5, 4.5, limit_s=0.0)
    assert (none_bridged.interpolated, none_bridged.missing) == (0, 3)


def test_too_much_is_missing():
    trace = Sampled(gaps=[(2.0, 2.4)], delay=0).trace(Wave.ramp(2.0, 0.0), 0.0, 5.0)
    with pytest.raises(InputError, match=r"^0\.4.* of 4 s have no samples"):
        integrate(trace, 0.5, 4.5)
    with pytest.raises(InputError, match="have no samples"):    # the recording ended before
        integrate(trace, 3.0, 6.0)
    with pytest.raises(InputError, match="its end must lie behind its begin"):
        integrate(trace, 3.0, 3.0)


def test_gaps_raise_the_uncertainty():
    wave = WAVES["bursts"]
    even = integrate(Sampled().trace(wave, 0.0, 50.0, marker=False), 4.0, 44.0)
    gaps = integrate(Sampled(**WAYS["long gaps"]).trace(wave, 0.0, 50.0, marker=False), 4.0, 44.0)
    assert even.errors["gaps"] == 0.0
    # 1 W between idle and busy, evenly distributed, over what is missing.
    assert gaps.errors["gaps"] == pytest.approx(gaps.missing_s / 12 ** 0.5, rel=0.02)


def test_accuracy_of_the_meter_counts(monkeypatch):
    monkeypatch.setattr(Instrument, "accuracy", Accuracy(0.01, 0.005, "test"))
    energy = integrate(Sampled().trace(Wave.ramp(2.0, 0.0), 0.0, 5.0), 1.0, 4.0)
    assert energy.errors["gain"] == pytest.approx(0.06)
    assert energy.errors["offset"] == pytest.approx(0.015)
    assert energy.error_j == pytest.approx(1.96 * np.hypot(0.06, 0.015), rel=1e-3)
    assert energy.error_w == pytest.approx(energy.error_j / 3)


def test_noise_covers_the_truth():
    """Of 200 recordings of a noisy constant, about 95 % have the truth in their interval."""
    inside, widths = 0, []
    for seed in range(200):
        trace = Sampled(noise=0.2, seed=seed, rate=500).trace(Wave.ramp(1.0, 0.0), 0.0, 2.0)
        energy = integrate(trace, 0.1, 1.9)
        inside += abs(energy.joules - 1.8) <= energy.error_j
        widths.append(energy.error_w)
    assert 176 <= inside <= 200
    assert np.mean(widths) == pytest.approx(1.96 * 0.2 / 900 ** 0.5, rel=0.1)
