"""The INA driver against chips at the level of I2C messages, byte for byte."""

import numpy as np
import pytest
import smbus2

from gen.meter import ina
from gen.meter.base import MeterError
from gen.meter.choice import parse_meter
from gen.meter.energy import integrate
from gen.meter.trace import build
from tests.gen.meter.ina_chip import InaChip
from tests.gen.meter.waveform import FakeTime


SHUNT = 0.1

CHIPS = ["INA226", "INA228"]


def chip_and_meter(monkeypatch, kind, words="", *, volts=lambda t: 5.0, amps=lambda t: 0.25,
                   address=0x40):
    """A chip behind smbus2 on bus 1, and the driver with the same clock."""
    time = FakeTime()
    chip = InaChip(kind, time, volts, lambda t: SHUNT * amps(t), address=address)

    def bus(number):
        assert number == 1
        return chip

    monkeypatch.setattr(smbus2, "SMBus", bus)
    meter = parse_meter(f"ina:{words}" if words else "ina")
    meter._clock, meter._sleep = time, time.sleep
    return chip, meter


def messages(chip):
    return [f"{kind} {data.hex(' ')}" for _, kind, data in chip.log]


@pytest.mark.parametrize("kind, opening", [
    ("INA226", ["w fe", "r 54 49", "w ff", "r 22 60", "w 00 43 27"]),
    ("INA228", ["w fe", "r 00 00", "w ff", "r 00 00", "w 3e", "r 54 49", "w 3f", "r 22 81",
                "w 00 00 00", "w 0b 80 01", "w 01 bb 41"]),
])
def test_what_opening_sends(monkeypatch, kind, opening):
    chip, meter = chip_and_meter(monkeypatch, kind)
    with meter:
        assert messages(chip)[:len(opening)] == opening
        # 2 conversions of 1.1 ms (1.052 ms), 4 averaged.
        assert 1 / meter.rate_hz == pytest.approx(chip.window, rel=1e-9)
        assert chip.window == pytest.approx({"INA226": 8.8e-3, "INA228": 8.416e-3}[kind])
        assert f"{kind} at /dev/i2c-1, address 0x40, shunt 0.1 ohm" in meter.describe()
    assert messages(chip)[-1] == "w 00 80 00" and chip.closed


@pytest.mark.parametrize("kind, sample", [
    ("INA226", ["w 06", "r 00 08", "w 01", "r 27 10", "w 02", "r 0f a0"]),
    ("INA228", ["w 0b", "r 80 03", "w 04", "r 13 88 00", "w 05", "r 06 40 00"]),    # 20 of 24 bits
])
def test_what_a_sample_reads(monkeypatch, kind, sample):
    """25 mV at the shunt and 5 V: 10,000 x 2.5 uV and 4,000 x 1.25 mV, 80,000 x 312.5 nV and
    25,600 x 195.3125 uV."""
    chip, meter = chip_and_meter(monkeypatch, kind)
    with meter:
        meter.start()
        chip.time.sleep(2 * chip.window)
        chip.log.clear()
        block = meter.read(1.0)
    assert messages(chip)[:6] == sample
    assert block.amps[0] == pytest.approx(0.25) and block.volts[0] == pytest.approx(5.0)
    assert block.watts[0] == pytest.approx(1.25) and block.clipped == 0 and block.edges == []


@pytest.mark.parametrize("kind", CHIPS)
def test_each_conversion_once(monkeypatch, kind):
    """None is read twice, none is left out, and each is dated at its middle."""
    chip, meter = chip_and_meter(monkeypatch, kind, amps=lambda t: 0.1 * (t - 1000))
    with meter:
        meter.start()
        blocks = [meter.read(1.0) for _ in range(200)]
        trace, window = build(meter, blocks, []), chip.window
    assert np.diff(trace.time_s) == pytest.approx(window, rel=0.1)
    # The current tells the time.
    assert np.abs(trace.amps / 0.1 + 1000 - trace.time_s).max() < 0.05 * window
    assert trace.gaps == [] and trace.tag == "board"
    truth = 5 * 0.1 * ((trace.time_s[-1] - 1000) ** 2 - (trace.time_s[0] - 1000) ** 2) / 2
    assert integrate(trace, trace.time_s[0], trace.time_s[-1]).joules == pytest.approx(
        truth, rel=0.01)


@pytest.mark.parametrize("kind, full", [("INA226", 0.8192), ("INA228", 1.6384)])
def test_range_and_sign(monkeypatch, kind, full):
    now = {"amps": -0.2}
    chip, meter = chip_and_meter(monkeypatch, kind, amps=lambda t: now["amps"])
    with meter:
        meter.start()
        assert meter.read(1.0).amps[0] == pytest.approx(-0.2)
        for amps in (-2 * full, 2 * full):
            now["amps"] = amps
            block = [meter.read(1.0) for _ in range(2)][-1]
            assert block.amps[0] == pytest.approx(amps / 2, rel=1e-4)
            assert block.clipped == 1


def test_a_host_that_is_late_makes_a_gap(monkeypatch):
    chip, meter = chip_and_meter(monkeypatch, "INA226")
    blocks = []
    with meter:
        meter.start()
        for number in range(40):
            if number == 20:
                chip.time.sleep(5 * chip.window)
            blocks.append(meter.read(1.0))
        trace, window = build(meter, blocks, []), chip.window
    assert len(trace.gaps) == 1
    assert trace.gaps[0].seconds == pytest.approx(5 * window, rel=0.11)


def test_slow_settings_and_no_conversion_in_time(monkeypatch):
    chip, meter = chip_and_meter(monkeypatch, "INA226", "average=1024,conversion=8244")
    with meter:
        meter.start()
        assert chip.window == pytest.approx(16.88, rel=0.01)
        assert meter.read(0.1) is None
        chip.time.sleep(17)
        assert meter.read(0.1) is not None


def test_accuracy_has_shunt_and_offset(monkeypatch):
    _, meter = chip_and_meter(monkeypatch, "INA226", "tolerance=1")
    with meter:
        assert meter.accuracy.gain == pytest.approx(np.hypot(0.0014, 0.01) / 3 ** 0.5)
        meter.start()
        meter.read(1.0)
        assert meter.accuracy.offset_w == pytest.approx(10e-6 / 3 ** 0.5 / SHUNT * 5, rel=1e-3)
        # 7.5 mV of 5 V are as a gain of 0.15 %.
        assert meter.accuracy.gain == pytest.approx(
            np.linalg.norm([0.0014, 0.01, 0.0015]) / 3 ** 0.5, rel=1e-3)


@pytest.mark.parametrize("words, text", [
    ("address=0x41", "ina: nothing answers at /dev/i2c-1, address 0x41 (Remote I/O error); check "
                     "SDA, SCL, GND and the chip's supply, and the address with: i2cdetect -y 1"),
])
def test_nothing_answers(monkeypatch, words, text):
    _, meter = chip_and_meter(monkeypatch, "INA226", words)
    with pytest.raises(MeterError) as caught, meter:
        pass
    assert str(caught.value) == text


def test_wrong_chip(monkeypatch):
    """An INA219 has no numbers; what the registers hold is said."""
    chip, meter = chip_and_meter(monkeypatch, "INA226")
    chip.registers[0xFE] = chip.registers[0xFF] = 0x399F
    with pytest.raises(MeterError, match=r"^ina: what answers at /dev/i2c-1, address 0x40 is "
                                         r"neither an INA226 nor an INA228 \(INA226's registers "
                                         r"hold 0x399f 0x399f"), meter:
        pass
    assert chip.closed and "w 00 80 00" not in messages(chip)    # nothing was written to it


def test_unplugged_in_between(monkeypatch):
    chip, meter = chip_and_meter(monkeypatch, "INA228")
    with meter:
        meter.start()
        meter.read(1.0)
        chip.gone = True
        with pytest.raises(MeterError, match="ina: nothing answers"):
            meter.read(1.0)
    assert chip.closed


def test_no_bus():
    with pytest.raises(MeterError, match=r"^ina: cannot open /dev/i2c-250: No such file"), \
            parse_meter("ina:bus=250"):
        pass


def test_averages_are_those_of_the_chips():
    with pytest.raises(MeterError, match="average must be one of 1, 4, 16"):
        ina.Ina(average=5)


def test_another_bus():
    """What reaches the chip in another way, as through the board, only needs `Bus`."""
    time = FakeTime()
    chip = InaChip("INA226", time, lambda t: 5.0, lambda t: 0.02)

    class Relay:
        def write(self, address, data):
            chip.take(data)

        def read(self, address, register, count):
            time.sleep(1e-3)
            chip.take(bytes([register]))
            return chip.answer(count)

        def close(self):
            raise AssertionError("a bus that was given is not closed here")

    with ina.Ina(through=Relay(), clock=time, sleep=time.sleep) as meter:
        meter.start()
        assert meter.read(1.0).amps[0] == pytest.approx(0.2)
