"""Maps between two clocks."""

import numpy as np
import pytest

from gen.meter.clock import Clock, from_arrivals, from_events
from gen.meter.energy import integrate
from model.error import InputError
from tests.gen.meter.waveform import Sampled, Wave


@pytest.mark.parametrize("ppm", [-100.0, 0.0, 100.0, 500.0])
def test_drift_from_arrivals(ppm):
    """Delays of some ms hide neither the drift nor the offset."""
    random = np.random.default_rng(3)
    host = 5000 + np.arange(0, 600, 0.04)
    meter = (host - 5000) / (1 + ppm * 1e-6)
    clock = from_arrivals(meter, host + random.exponential(0.003, len(host)))
    assert clock.ppm == pytest.approx(ppm, abs=1.0)
    assert np.abs(clock.host(meter) - host).max() < 1e-3
    assert clock.method == "least delayed arrivals" and clock.error_s < 1e-3


def test_few_arrivals_give_the_offset_only():
    clock = from_arrivals([0.0, 1.0, 2.0], [10.3, 11.1, 12.5])
    assert clock.host(0.0) == pytest.approx(10.1) and clock.rate == 1.0
    assert clock.error_s > 0.05


def test_a_short_recording_does_not_tell_the_rate():
    """Half a second of arrivals that are some ms late would else bend the clock by per milles."""
    random = np.random.default_rng(1)
    meter = np.arange(0, 0.6, 0.002)
    clock = from_arrivals(meter, 100 + meter + random.exponential(0.002, len(meter)))
    assert clock.rate == 1.0 and clock.host(0.0) == pytest.approx(100, abs=1e-4)
    assert clock.method == "earliest arrival"


def test_events():
    clock = from_events([1.0, 61.0], [101.0, 161.006], slack_s=0.001)
    assert clock.ppm == pytest.approx(100.0)
    assert clock.host(31.0) == pytest.approx(131.003)
    assert from_events([4.0], [10.0]).host(5.0) == 11.0
    many = from_events([0.0, 100.0, 200.0, 300.0], [10.0, 110.001, 209.999, 310.0], slack_s=0.001)
    assert many.error_s == pytest.approx(1e-3, rel=0.5)


def test_a_short_run_does_not_tell_the_rate():
    """A host that is 20 ms late for a run of 5 s would else bend the clock by 4 per mille."""
    clock = from_events([2.0, 7.0], [100.0, 105.02])
    assert clock.rate == 1.0 and clock.host(2.0) == pytest.approx(100.01)
    assert clock.error_s == pytest.approx(0.02 / 12 ** 0.5)


@pytest.mark.parametrize("seconds", [9.8, 10.1])
def test_events_that_do_not_belong_together(seconds):
    with pytest.raises(InputError, match=r"the marker spans .* but the run took 10 s: this is "
                                         "another recording"):
        from_events([0.0, seconds], [5.0, 15.0])


def test_one_map_behind_the_other():
    first, second = Clock(3.0, 1.001), Clock(-1.0, 0.999)
    assert second.after(first).host(7.0) == pytest.approx(second.host(first.host(7.0)))


def test_ten_minutes_of_drift():
    """Bursts of 50 ms, one a second: at 100 ppm the last ones would be missed altogether."""
    wave = Wave.bursts(1.0, 2.0, 1.0, 0.05, 10.0, 600)
    sampled = Sampled(ppm=100.0, jitter=0.3, phases=[("running", 10.0, 609.05)])
    trace = sampled.trace(wave, 0.0, 620.0)
    starts = 10.0 + np.arange(0, 600, 10)
    truth = sum(wave.joules(start, start + 0.05) for start in starts)

    def found(trace):
        return sum(integrate(trace, start, start + 0.05).joules for start in starts)

    assert trace.clock.ppm == pytest.approx(100, abs=2)
    assert found(trace) == pytest.approx(truth, rel=0.01)
    # Were the meter's clock believed, the last bursts would lie elsewhere; the marker mends it.
    rate = trace.clock.rate
    believed = trace.mapped(Clock(float(trace.time_s[0]) * (1 - 1 / rate) + 0.004, 1 / rate))
    assert found(believed) < 0.8 * truth
    mended = believed.by_marker(slack_s=0.01)
    assert mended.clock.ppm == pytest.approx(100, abs=5) and mended.clock.method == "the marker"
    assert found(mended) == pytest.approx(truth, rel=0.01)
