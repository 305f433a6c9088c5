"""The driver of the meter in the USB cable against HID reports, byte for byte."""

import hid
import numpy as np
import pytest

from gen.meter.base import MeterError
from gen.meter.choice import parse_meter
from gen.meter.energy import integrate
from gen.meter.trace import build
from gen.meter.usb import command, crc8
from tests.gen.meter.fnb58 import Fnb58
from tests.gen.meter.waveform import FakeTime


@pytest.fixture
def device(monkeypatch):
    fake = Fnb58(FakeTime(), lambda t: (5.02, 0.2 + 0.01 * (t - 1000)))
    monkeypatch.setattr(hid, "enumerate", fake.enumerate)
    monkeypatch.setattr(hid, "device", fake.device)
    return fake


def meter_of(device, words=""):
    meter = parse_meter("usb" + words)
    meter._clock = device.time
    return meter


def record(device, seconds):
    with meter_of(device) as meter:
        meter.start()
        blocks = []
        end = device.time.now + seconds
        while device.time.now < end:
            block = meter.read(0.1)
            if block is not None:
                blocks.append(block)
        meter.stop()
        return build(meter, blocks, [])


def test_commands_are_those_of_the_protocol():
    """Last bytes as captured from real meters (fnirsi-usb-power-data-logger)."""
    assert [command(kind)[-1] for kind in (0x81, 0x82, 0x83)] == [0x8E, 0x96, 0x9E]
    assert command(0x83) == b"\xaa\x83" + bytes(61) + b"\x9e"
    assert crc8(b"123456789") == 0x4B    # its check value by the tool that found the polynomial


def test_a_report_by_hand(device):
    """Four samples, 15 bytes each."""
    device.sample = lambda t: (5.01234, 0.31415)
    device.begun = 1000.0
    report = device.report(0)
    assert report[:12].hex(" ") == "aa 04 f2 a5 07 00 b7 7a 00 00 58 02"
    with meter_of(device) as meter:
        meter.start()
        block = meter.read(0.1)
    assert block.volts.tolist() == pytest.approx([5.01234] * 4)
    assert block.amps.tolist() == pytest.approx([0.31415] * 4)
    assert block.watts.tolist() == pytest.approx([5.01234 * 0.31415] * 4)
    assert np.diff(block.time_s) == pytest.approx(0.01)
    assert device.closed


def test_half_a_minute(device):
    """It is asked to go on every second; energy and times are right."""
    trace = record(device, 30.0)
    assert device.written[:3] == [0x81, 0x82, 0x82]
    assert set(device.written[3:]) == {0x83} and 28 <= len(device.written) - 3 <= 30
    assert len(trace.time_s) == pytest.approx(3000, abs=8) and trace.gaps == []
    assert np.abs((trace.amps - 0.2) / 0.01 + 1000 - trace.time_s).max() < 0.012
    energy = integrate(trace, 1001.0, 1029.0)
    assert energy.joules == pytest.approx(5.02 * (0.2 * 28 + 0.005 * (29 ** 2 - 1)), rel=1e-3)


@pytest.mark.parametrize("ppm", [-100, 100])
def test_clock_of_the_meter(device, ppm):
    device.period *= 1 + ppm * 1e-6
    trace = record(device, 30.0)
    assert trace.clock.ppm == pytest.approx(ppm, abs=10) and trace.lost == 0


def test_lost_and_spoilt_reports(device):
    """A lost one shows as time, a wrong CRC is thrown away; neither shifts what follows."""
    device.skip, device.spoil, device.strange = {100, 101, 102, 103}, {200, 300}, {400}
    trace = record(device, 20.0)
    assert trace.lost == 24 and device.strange == set()
    assert [gap.seconds for gap in trace.gaps] == pytest.approx([0.17, 0.05, 0.05], abs=1e-3)
    assert np.abs((trace.amps - 0.2) / 0.01 + 1000 - trace.time_s)[:1500].max() < 0.012
    assert integrate(trace, 1001.0, 1019.0).joules == pytest.approx(
        5.02 * (0.2 * 18 + 0.005 * (19 ** 2 - 1)), rel=0.01)


def test_no_such_meter(device):
    device.entries[0]["product_id"] = 1
    with pytest.raises(MeterError, match=r"^usb: no FNB58 or FNB48S on USB \(found: none\); "), \
            meter_of(device):
        pass


def test_two_meters(device):
    device.entries.append(device.entries[0] | {"serial_number": "B"})
    with pytest.raises(MeterError, match=r"several meters; choose one: --meter "
                                         r"usb:serial=0001A0000000, --meter usb:serial=B$"), \
            meter_of(device):
        pass
    with meter_of(device, ":serial=0001A0000000") as meter:
        assert "serial number 0001A0000000" in meter.describe()
    with pytest.raises(MeterError, match="no FNB58 or FNB48S with serial number C on USB "
                                         r"\(found: 0001A0000000, B\)"), \
            meter_of(device, ":serial=C"):
        pass


def test_no_permission(device):
    device.gone = True
    with pytest.raises(MeterError, match="^usb: cannot open the FNB58: open failed; give yourself "
                                         "access to it with a udev rule"), meter_of(device):
        pass


@pytest.mark.parametrize("when", ["read", "write"])
def test_unplugged(device, when):
    with meter_of(device) as meter:
        meter.start()
        assert meter.read(0.1) is not None
        device.gone = True
        if when == "write":
            device.time.now += 2
        with pytest.raises(MeterError, match="^usb: the FNB58 is gone; connect it again$"):
            meter.read(0.1)


def test_not_what_it_says(device):
    device.spoil = set(range(100))
    with meter_of(device) as meter:
        meter.start()
        with pytest.raises(MeterError, match="10 reports in a row from the FNB58 have a wrong CRC"):
            for _ in range(10):
                meter.read(0.1)
