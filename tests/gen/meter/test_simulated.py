"""The meter that is none: its waveform is known, and it says what it is."""

import numpy as np
import pytest

from gen.meter.choice import parse_meter
from gen.meter.energy import integrate
from gen.meter.simulated import BusyLine, Simulated
from gen.meter.trace import build
from tests.gen.meter.waveform import FakeTime


def record(words, seconds, **options):
    time = FakeTime(100.0)
    parsed = parse_meter("simulated:" + words if words else "simulated")
    meter = Simulated(clock=time, sleep=time.sleep, **options, **parsed.options)
    with meter:
        meter.start()
        blocks = []
        while time.now < 100 + seconds:
            block = meter.read(0.1)
            if block is not None:
                blocks.append(block)
        return build(meter, blocks, []), meter


def test_waveform():
    trace, meter = record("idle=1,busy=2,period=1,duty=0.25", 20.5)
    assert trace.tag == "simulated" and meter.describe().startswith("SIMULATED meter: no instr")
    assert "busy=2" in meter.describe() and "idle" not in meter.describe()
    assert len(trace.pulses) == 20 and trace.lost == 0
    assert integrate(trace, 101, 119).watts == pytest.approx(1.25, rel=1e-3)


@pytest.mark.parametrize("words, lost", [("ppm=100", 0), ("jitter=0.4", 0), ("gaps=2", 800),
                                         ("ppm=-100,jitter=0.3,gaps=1,gap=0.005", 100)])
def test_faults(words, lost):
    trace, _ = record(f"period=0.1,{words}", 20)
    assert trace.lost == pytest.approx(lost, rel=0.6)
    assert integrate(trace, 101, 119).joules == pytest.approx(18 * 1.25, rel=0.01)
    if "ppm" in words:
        assert abs(trace.clock.ppm) == pytest.approx(100, abs=30)


def test_seed():
    first, same, other = (record(words, 1)[0].watts for words in ("seed=1", "", "seed=2"))
    assert (first == same).all() and (first != other).any()


def test_busy_line():
    """The pin of a virtual board, set while it runs."""
    time = FakeTime(0.0)
    line = BusyLine(time)
    for now, level in ((1.0, 1), (2.5, 0), (4.0, 1)):
        time.now = now
        line.set(level)
    assert line(np.array([0.5, 1.0, 2.0, 2.5, 3.0, 4.5])).tolist() == [0, 1, 1, 0, 0, 1]
    busy = BusyLine(FakeTime(102.0))
    busy.set(1)
    trace, _ = record("", 5, line=busy)
    assert trace.edges[0] == pytest.approx((102.0, 1), abs=2e-3)
    assert trace.watts[-100:].mean() == pytest.approx(1.5, abs=0.01)
