"""The Joulescope driver against the public interface of the maker's library."""

import inspect
import threading

import numpy as np
import pyjoulescope_driver
import pytest

from gen.meter import joulescope
from gen.meter.base import MeterError
from gen.meter.choice import parse_meter
from gen.meter.energy import integrate
from gen.meter.recorder import Recorder
from tests.gen.meter.joulescope_driver import FakeDriver, MESSAGE, PATH
from tests.gen.meter.waveform import until


def level(t):
    return ((t >= 0.1) & (t % 0.05 < 0.02)).astype(int)


def driver(**options):
    return FakeDriver(lambda t: np.full(len(t), 5.0), lambda t: 0.2 + 0.1 * level(t), level,
                      **options)


def record(fake, words="", seconds=0.5):
    meter = parse_meter("joulescope" + words)
    meter._make = lambda: fake
    with meter, Recorder(meter) as recorder:
        until(recorder, seconds)
        text = meter.describe()
    return recorder.trace(), text


def test_topics_samples_and_marker():
    fake = driver()
    trace, text = record(fake)
    assert fake.published == [
        (f"{PATH}/s/i/range/mode", "auto"), (f"{PATH}/h/fs", 100_000),
        *((f"{PATH}/s/{signal}/ctrl", on) for on in (1, 0) for signal in ("i", "v", "gpi/0"))]
    assert fake.listeners == {} and fake.finalized
    assert text.startswith("Joulescope JS220, serial number 000415, means of 100 of 100000")
    assert trace.lost == 0 and trace.gaps == [] and len(trace.time_s) > 300
    assert np.diff(trace.time_s) == pytest.approx(1e-3)
    assert trace.watts.min() == pytest.approx(1.0) and trace.watts.max() == pytest.approx(1.5)
    assert trace.volts == pytest.approx(5.0)
    starts = [start for start, _ in trace.pulses]
    assert np.diff(starts) == pytest.approx(0.05, abs=1.1e-5)
    assert integrate(trace, starts[0], starts[5]).joules == pytest.approx(
        0.25 * (0.6 * 1.0 + 0.4 * 1.5), rel=0.01)


@pytest.mark.parametrize("lose", [("i", 20), ("gpi/0", 11)])
def test_a_message_is_lost(lose):
    """The other signals wait for none that never comes, and nothing shifts."""
    trace, _ = record(driver(lose=[lose]))
    assert len(trace.gaps) == 1
    assert trace.gaps[0].seconds == pytest.approx(MESSAGE[lose[0]] + 1e-3, abs=1.1e-3)
    assert trace.lost >= 900
    starts = np.array([start for start, _ in trace.pulses])
    early, late = starts[starts < trace.gaps[0].start_s], starts[starts > trace.gaps[0].end_s]
    assert (late[-1] - early[0]) % 0.05 == pytest.approx(0, abs=2e-5) or (
        (late[-1] - early[0]) % 0.05 == pytest.approx(0.05, abs=2e-5))


def test_samples_that_the_instrument_lost():
    trace, _ = record(driver(nan=[(20_050, 20_250)]))
    assert len(trace.gaps) == 1 and trace.gaps[0].seconds == pytest.approx(3e-3, abs=1e-3)
    assert 200 <= trace.lost <= 300 and np.isfinite(trace.watts).all()


def test_unplugged(monkeypatch):
    """The driver tells nothing; silence does."""
    monkeypatch.setattr(joulescope, "SILENT_S", 0.3)
    fake = driver()
    threading.Timer(0.3, fake.silence).start()
    with pytest.raises(MeterError, match=r"^joulescope: no data for 0\.3 s; connect"):
        record(fake, seconds=5.0)


@pytest.mark.parametrize("paths, words, text", [
    ([], "", r"^joulescope: none found \(connected: none\); connect it, and install the maker's "),
    ([PATH], ":serial=1", r"none found with serial number 1 \(connected: 000415\)"),
    ([PATH, "u/js110/7"], "", r"several are connected; choose one with --meter joulescope:serial=S "
                              r"\(S of 7, 000415\)"),
])
def test_which_one(paths, words, text):
    fake = driver(paths=paths)
    with pytest.raises(MeterError, match=text):
        record(fake, words)
    assert fake.finalized


def test_busy_elsewhere():
    fake = driver()
    fake.fail = RuntimeError("open failed 6 IN_USE")
    with pytest.raises(MeterError, match=f"^joulescope: cannot open {PATH}: open failed 6 IN_USE; "
                                         "close the other program that uses it$"):
        record(fake)


def test_another_rate_than_asked_for():
    with pytest.raises(MeterError, match="gives 50000 samples a second, not 100000; update"):
        record(driver(rate=50_000))


def test_the_library_has_this_interface():
    """The real driver, without an instrument: what is called exists, with these parameters."""
    for name in ("device_paths", "open", "publish", "subscribe", "unsubscribe", "close",
                 "finalize"):
        real = getattr(pyjoulescope_driver.Driver, name)
        fake = getattr(FakeDriver, name)
        names = list(inspect.signature(fake).parameters)[1:]
        told = real.__doc__ or ""
        assert all(f":param {one}:" in told for one in names if one in ("topic", "fn", "value",
                                                                       "mode"))
    with pytest.raises(MeterError, match="^joulescope: "), parse_meter("joulescope:serial=none"):
        pass
