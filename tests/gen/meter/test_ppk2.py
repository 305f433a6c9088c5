"""The PPK2 driver, through ppk2lab and a pseudo terminal, against a kit at the level of bytes."""

from dataclasses import replace
import threading
import time

import numpy as np
import pytest

from gen.meter.account import account
from gen.meter.base import MeterError, Phase
from gen.meter.choice import parse_meter
from gen.meter.energy import integrate
from gen.meter.ppk2 import Ppk2
from gen.meter.recorder import Recorder
from tests.gen.meter.ppk2_kit import amperes, Kit, RATE
from tests.gen.meter.waveform import until


IDLE, BUSY = 260, 330    # conversions of some 200 and 250 mA


def busy(number):
    """Busy for 20 of 50 ms, from 100 ms on; D2 tells it, other inputs move, too."""
    return number >= RATE // 10 and number % (RATE // 20) < RATE // 50


def sample(number):
    return (BUSY if busy(number) else IDLE), 4, (4 if busy(number) else 0) | (number >> 7 & 1) << 5


def record(kit, words="", seconds=0.6):
    """The trace of some time; how often the kit ran."""
    with parse_meter(f"ppk2:port={kit.port}{words}") as meter, Recorder(meter) as recorder:
        until(recorder, seconds)
    return meter, recorder.trace()


def test_bytes_both_ways():
    """Every byte to the kit; every sample through the kit's own calibration; the marker."""
    with Kit(sample) as kit:
        meter, trace = record(kit, ",pin=2")
        text = meter.describe()
    # Stop what runs, metadata; source meter, 5000 mV, read back each; feed the board; start ...
    # ... stop; the supply as it was: off.
    assert kit.received.hex(" ") == ("07 19 11 02 19 0d 13 88 19 0c 01 06 "
                                     "07 0c 00")
    assert not kit.power
    assert "Nordic PPK2, feeds the board: 5 V (set, not measured)" in text
    idle, high = (5 * amperes(code, 4, 5.0) for code in (IDLE, BUSY))
    assert 0.5 < idle < high < 2
    assert set(np.round(trace.watts, 6)) >= {round(idle, 6), round(high, 6)}
    assert trace.watts.min() >= idle - 1e-9 and trace.watts.max() <= high + 1e-9
    assert len(trace.time_s) > 400 and trace.lost == trace.clipped == 0 and trace.gaps == []
    # Edges are exact to a sample, although samples are means of a hundred.
    starts = [start for start, _ in trace.pulses]
    assert len(starts) >= 8 and np.diff(starts) == pytest.approx(0.05, abs=1.5e-5)
    assert [end - start for start, end in trace.pulses] == pytest.approx(
        [0.02] * len(starts), abs=1.5e-5)
    start, end = trace.pulses[1][0], trace.pulses[7][0]
    assert integrate(trace, start, end).joules == pytest.approx(
        0.3 * (0.6 * idle + 0.4 * high), rel=0.01)


def test_ampere_meter():
    with Kit(sample) as kit:
        meter, trace = record(kit, ",mode=ampere,volts=4.75", 0.1)
    assert kit.received.hex(" ") == "07 19 11 01 19 0d 12 8e 19 06 07"    # nothing is switched
    assert "in the board's supply, whose voltage is as given: 4.75 V" in meter.describe()
    assert trace.watts[0] == pytest.approx(4.75 * amperes(IDLE, 4, 4.75))


def test_every_range_as_in_the_library():
    """The array computation equals ppk2lab's own, sample by sample, and Nordic's formula."""
    from array import array

    from ppk2lab import Calibration
    from ppk2lab.protocol.metadata import parse_metadata
    from ppk2lab.protocol.samples import SampleBlock

    from tests.gen.meter.ppk2_kit import word

    random = np.random.default_rng(5)
    codes, spans = random.integers(0, 2 ** 14 - 1, 500), np.arange(500) % 5
    words = array("I", [word(int(code), span=int(span), counter=n)
                        for n, (code, span) in enumerate(zip(codes, spans, strict=True))])
    with Kit(sample) as kit, parse_meter(f"ppk2:port={kit.port},rate=100000") as meter:
        meter.start()
        block = meter._block(SampleBlock(0, words), 0.0)
        meter.stop()
        library = Calibration.from_metadata(parse_metadata(kit.metadata()))
    assert block.amps == pytest.approx([amperes(int(code), int(span), 5.0)
                                        for code, span in zip(codes, spans, strict=True)])
    assert 1e6 * block.amps == pytest.approx(library.convert_block(SampleBlock(0, words)))


def test_losses_by_the_counter():
    """Samples that the kit loses (up to 63, by its counter) leave a gap of their length, and shift
    nothing."""
    with Kit(sample, drop=range(23_000, 23_040)) as kit:
        _, trace = record(kit, ",pin=2,rate=10000", 0.45)
    assert trace.lost == 40 and len(trace.gaps) == 1
    assert trace.gaps[0].seconds == pytest.approx(0.0005, abs=1e-6)
    periods = np.diff([start for start, _ in trace.pulses])
    assert np.ptp(periods) < 1.5e-5
    # The kit's clock is known from arrivals within half a second.
    assert periods == pytest.approx(0.05, rel=2e-3)


def test_end_of_the_range_and_a_range_that_is_none():
    def strange(number):
        if number in (30_000, 30_001):
            return 0x3FFF, 4, 0
        return (IDLE, 7, 0) if number == 30_500 else (IDLE, 4, 0)

    with Kit(strange) as kit:
        _, trace = record(kit, "", 0.4)
    assert trace.clipped == 2 and trace.lost == 1
    assert "2 SAMPLES AT THE END OF THE METER'S RANGE" in trace.quality()


def test_energy_of_a_run():
    """Images are classified while D0 is high; the window is the pin's."""
    def image(number):
        level = 20_000 <= number < 50_000
        return (BUSY if level else IDLE), 4, int(level)

    with Kit(image) as kit:
        _, trace = record(kit, "", 0.6)
    start, end = trace.pulses[0]
    trace = replace(trace, phases=(Phase("idle", start - 0.15, start - 0.01),
                                   Phase("running", start - 0.004, end + 0.003)))
    found = account(trace, 100)
    idle, high = (5 * amperes(code, 4, 5.0) for code in (IDLE, BUSY))
    assert found.window == "edges of the marker"
    assert found.image_j[0] == pytest.approx(0.3 * high / 100, rel=0.005)
    assert found.above_idle_j[0] == pytest.approx(0.3 * (high - idle) / 100, rel=0.01)


def until_gone(recorder):
    deadline = time.monotonic() + 20
    while recorder._error is None and time.monotonic() < deadline:
        time.sleep(0.01)


def test_unplugged_in_between():
    with Kit(sample) as kit:
        threading.Timer(0.3, kit.unplug).start()
        with parse_meter(f"ppk2:port={kit.port}") as meter, Recorder(meter) as recorder:
            until_gone(recorder)
        with pytest.raises(MeterError, match="^ppk2: stream interrupted: read from .* failed"):
            recorder.trace()


def test_something_else_at_the_port():
    with Kit(sample, answer="hello\nEND\n") as kit, \
            pytest.raises(MeterError, match="^ppk2: ") as caught, \
            parse_meter(f"ppk2:port={kit.port}"):
        pass
    assert "\n" not in str(caught.value)
    with pytest.raises(MeterError, match="^ppk2: port /dev/ttyNONE does not exist"), \
            parse_meter("ppk2:port=/dev/ttyNONE"):
        pass


def test_kit_without_calibration():
    with Kit(sample) as kit:
        kit.answer = "\n".join(line for line in kit.metadata().splitlines()
                               if not line.startswith("GI")).replace("VDD: 3000", "VDD: 5000")
        with pytest.raises(MeterError, match="does not tell its calibration"), \
                parse_meter(f"ppk2:port={kit.port}"):
            pass


def test_kit_that_does_not_obey():
    with Kit(sample) as kit:
        kit.answer = kit.metadata()
        with pytest.raises(MeterError, match="was asked for 5000 mV and reports 3000; unplug"), \
                parse_meter(f"ppk2:port={kit.port}"):
            pass


def test_modes():
    with pytest.raises(MeterError, match="mode must be source or ampere, not 'x'"):
        parse_meter("ppk2:mode=x")
    assert Ppk2().rate_hz == Ppk2(rate=1000).rate_hz == 1000.0
