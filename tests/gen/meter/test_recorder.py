"""Sampling beside the inference, in a thread."""

import threading
import time

import pytest

from gen.meter.base import MeterError
from gen.meter.recorder import Recorder
from gen.meter.simulated import Simulated
from tests.gen.meter.waveform import Instrument


def test_beside_work():
    """Phases lie on the trace's clock; sampling goes on while the caller works."""
    seen = []
    with Simulated() as meter, Recorder(meter, watch=seen.append) as recorder:
        recorder.wait(5)
        with recorder.phase("idle"):
            time.sleep(0.1)
        with recorder.phase("running"):
            sum(range(3_000_000))    # holds the interpreter
    trace = recorder.trace()
    assert [phase.name for phase in trace.phases] == ["idle", "running"]
    for phase in trace.phases:
        inside = (trace.time_s > phase.start_s) & (trace.time_s < phase.end_s)
        assert inside.sum() == pytest.approx(1000 * (phase.end_s - phase.start_s), rel=0.1, abs=5)
    assert sum(len(block.time_s) for block in seen) == len(trace.time_s)
    assert threading.active_count() == 1 or not any(
        thread.name.startswith("meter") for thread in threading.enumerate())


class Breaking(Simulated):
    """Goes after some blocks."""

    def __init__(self, error):
        super().__init__()
        self.left, self.error, self.stopped = 3, error, False

    def read(self, timeout_s):
        if not self.left:
            raise self.error
        self.left -= 1
        return super().read(timeout_s)

    def stop(self):
        self.stopped = True


def test_meter_that_goes_ends_the_recording_not_the_work():
    done = False
    meter = Breaking(MeterError("usb: the FNB58 is gone; connect it again"))
    with meter, Recorder(meter) as recorder:
        recorder.wait(5)
        time.sleep(0.2)
        done = True
        with pytest.raises(MeterError, match="is gone"):
            recorder.check()
    assert done and meter.stopped
    with pytest.raises(MeterError, match="^usb: the FNB58 is gone; connect it again$"):
        recorder.trace()


def test_bugs_are_not_hidden():
    with Breaking(ZeroDivisionError()) as meter, Recorder(meter) as recorder:
        time.sleep(0.2)
    with pytest.raises(ZeroDivisionError):
        recorder.trace()


def test_work_that_fails():
    """The error of the work is what is told; the thread ends."""
    with pytest.raises(KeyError, match="work"), Simulated() as meter, Recorder(meter):
        raise KeyError("work")
    assert not any(thread.name.startswith("meter") for thread in threading.enumerate())


def test_silent_meter():
    class Silent(Instrument):
        def read(self, timeout_s):
            time.sleep(timeout_s)

    with pytest.raises(MeterError, match=r"instrument gives no sample within 0\.2 s; look at its "
                                         "wiring"), Silent() as meter, Recorder(meter) as recorder:
        recorder.wait(0.2)
