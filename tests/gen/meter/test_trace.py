"""Recordings: gaps, jitter, marker, files."""

import numpy as np
import pytest

from gen.meter.base import Block, MeterError, Phase
from gen.meter.choice import parse_meter
from gen.meter.trace import build
from tests.gen.meter.waveform import Instrument, Sampled, Wave


WAVE = Wave.bursts(1.0, 2.0, 0.5, 0.2, 1.0, 4)


def test_gaps_and_jitter():
    trace = Sampled(gaps=[(1.0, 1.05), (2.0, 2.0025)], delay=0).trace(WAVE, 0.0, 5.0)
    assert [gap.seconds for gap in trace.gaps] == pytest.approx([0.05, 0.003], abs=1.1e-3)
    assert trace.jitter_s < 1e-9 and trace.period_s == pytest.approx(1e-3)
    assert "2 gaps (0.05" in trace.quality() and "the longest 0.05 s)" in trace.quality()
    jittery = Sampled(jitter=0.3).trace(WAVE, 0.0, 5.0)
    assert jittery.gaps == []
    assert jittery.jitter_s == pytest.approx(1e-3 * 0.6 / 6 ** 0.5, rel=0.05)


def test_pulses_and_window():
    trace = Sampled(delay=0).trace(WAVE, 0.0, 5.0)
    assert len(trace.pulses) == 4
    assert [end - start for start, end in trace.pulses] == pytest.approx([0.2] * 4, abs=1.1e-3)
    starts = trace.pulses[1][0], trace.pulses[2][1]
    assert trace.window(Phase("running", starts[0] - 0.01, starts[1] + 0.01)) == starts
    assert trace.window(Phase("running", 4.0, 5.0)) is None
    unfinished = Sampled(delay=0).trace(WAVE, 0.0, 1.1)
    assert unfinished.pulses == []


def test_csv_and_back(tmp_path):
    """A recording is the same when it is read again; a simulated one stays simulated."""
    phases = [("idle", 0.1, 0.9), ("running", 0.99, 2.71)]
    trace = Sampled(jitter=0.2, phases=phases).trace(WAVE, 0.0, 5.0)
    trace.write_csv(tmp_path / "t.csv")
    lines = (tmp_path / "t.csv").read_text().splitlines()
    assert lines[0].startswith("# board; instrument of the tests; 5000 samples")
    assert lines[1] == "time_s,voltage_V,current_A,power_W,marker,phase"
    assert {line.rpartition(",")[2] for line in lines[2:]} == {"", "idle", "running"}
    with parse_meter(f"file:{tmp_path / 't.csv'}") as meter:
        again = build(meter, [meter.read(0)], [Phase("running", 0.999, 2.701)])
    assert np.diff(again.time_s) == pytest.approx(np.diff(trace.time_s), abs=1.1e-6)
    assert again.watts == pytest.approx(trace.watts) and again.tag == "board"
    assert len(again.pulses) == 4
    text = (tmp_path / "t.csv").read_text().replace("# board", "# simulated", 1)
    (tmp_path / "s.csv").write_text(text)
    with parse_meter(f"file:{tmp_path / 's.csv'}") as meter:
        assert meter.tag == build(meter, [meter.read(0)], []).tag == "simulated"


def blocks(*times):
    return [Block(np.array(one), *(np.ones(len(one)) for _ in range(3)), one[-1])
            for one in times]


def test_bad_streams():
    with pytest.raises(MeterError, match="instrument gave 1 samples: too few"):
        build(Instrument(), blocks([1.0]), [])
    with pytest.raises(MeterError, match="gave 0 samples"):
        build(Instrument(), [], [])
    with pytest.raises(MeterError, match=r"time does not increase at sample 2 \(2\.000000 s, "):
        build(Instrument(), blocks([1.0, 2.0], [2.0, 3.0]), [])


def test_samples_that_are_lost_unseen():
    """A stream that tells no loss, and covers less time than went by."""
    every = [Block(np.array([t]), *(np.ones(1) for _ in range(3)), 1.03 * t)
             for t in np.arange(0, 60, 0.1)]
    with pytest.raises(MeterError, match=r"its samples cover 59\.9 s, but 61\.7 s went by: many "
                                         "were lost unseen"):
        build(Instrument(), every, [])
