"""The host's side of the power monitor, against the registers in software."""

from types import SimpleNamespace

import pytest

from gen.device.device import Device
from gen.device.port import LinkError
from gen.device.power import INA226, INA228, OnBoardMeter, PowerSum
from hw.register import fields_of, METER_CONTROL_BITS, METER_VALUES, MeterMode, Register
from tests.gen.device.software_device import SoftwareDevice, SoftwareTransport


class MeteredDevice(SoftwareDevice):
    """With the registers ``METER…`` and a monitor: {pointer: value of 16 bits, or a list of raw
    samples}. Looking at the status takes a sample, as if time had passed."""

    def __init__(self, address, chip):
        super().__init__()
        self.constant[Register.CAPABILITIES] = 0b101
        self.address, self.chip = address, chip
        self.values = dict.fromkeys(METER_VALUES, 0xFFFF_FFFF)
        self.control, self.line, self.failed, self.stuck = {}, 0, False, False
        self.sampled = None

    def _read(self, address):
        if address == Register.METER_CONTROL:
            return self.stuck | self.failed << 1
        if address == Register.METER_COMMAND:
            return self.line
        if Register.METER_SAMPLES <= address < Register.METER_SAMPLES + len(METER_VALUES):
            return self.values[METER_VALUES[address - Register.METER_SAMPLES]]
        return super()._read(address)

    def _write(self, address, value):
        if address == Register.METER_CONTROL:
            self.control = fields_of(METER_CONTROL_BITS, value)
        elif address == Register.METER_COMMAND:
            assert self.control["mode"] == MeterMode.OFF
            self._access(value)
        return super()._write(address, value)

    def _access(self, value):
        address, pointer = value >> 25, value >> 16 & 0xFF
        self.failed = address != self.address
        if self.failed:
            return
        if not value >> 24 & 1:
            self.chip[pointer] = value & 0xFFFF
            return
        assert value >> 8 & 0xFF == address << 1 | 1
        register = self.chip.get(pointer, 0)
        if isinstance(register, list):
            self.sampled, register = register, register[0]
        self.line = value << (24 if self.control["wide"] else 16) & 0xFFFFFFFF | register

    def sample(self, count, errors=0):
        """Time passes in which so many samples are taken."""
        assert self.control["mode"] != MeterMode.OFF
        for k in range(count):
            self._add("sum", self.sampled[k % len(self.sampled)])
            self._add("samples", 1)
        self._add("errors", errors)

    def _add(self, name, value):
        total = self.values[name] + value
        if name == "sum" and total >> 32:
            self._add("sum_high", 1)
        self.values[name] = total % (1 << 32)


def metered(monitor=INA226, *, address=0x40, raw=(1000,), **options):
    """A device, and the meter on it."""
    model = MeteredDevice(address, {monitor.manufacturer: 0x5449, monitor.power: list(raw)})
    device = Device(SoftwareTransport(model))
    meter = OnBoardMeter(device, monitor, **{"shunt_ohm": 0.1, "most_ampere": 0.8,
                                             "address": address} | options)
    return SimpleNamespace(model=model, meter=meter)


def test_units_of_the_data_sheets():
    """INA226: 1 mA a step and 2 mOhm need 2560, and 25 mW a step of power. INA228: 10 A and
    16.2 mOhm need 4050, as its own example has it."""
    calibration, unit = INA226.units(0.002, 0.001 * (1 << 15))
    assert calibration == 2560 and unit == pytest.approx(0.025)
    calibration, unit = INA228.units(0.0162, 10)
    assert calibration == 4050 and unit == pytest.approx(3.2 * 10 / (1 << 19), rel=1e-4)


@pytest.mark.parametrize("monitor", [INA226, INA228])
def test_unit_is_of_the_rounded_calibration(monitor):
    """What a chip of ideal arithmetic says for 5 V and 0.4 A comes out as 2 W."""
    for most in (0.41, 0.777, 0.8):
        calibration, unit = monitor.units(0.1, most)
        per_step = 0.00512 / (0.1 * calibration) if monitor is INA226 else (
            calibration / (13107.2e6 * 0.1))
        raw = 2.0 / (monitor.power_factor * per_step)
        assert raw * unit == pytest.approx(2.0, rel=1e-9)
        assert raw < 1 << (24 if monitor.wide else 16)


@pytest.mark.parametrize("monitor, raw", [(INA226, [65535, 1000, 3]),
                                          (INA228, [0xFFFFFF, 70_000, 1])])
def test_sums(monitor, raw):
    """Differences of counters that wrap; joules by the mean."""
    found = metered(monitor, raw=raw, address=0x4F)
    calibration, unit = monitor.units(0.1, 0.8)
    assert found.model.chip[monitor.calibration] == calibration and found.meter.unit == unit
    for mode in (MeterMode.RUNNING, MeterMode.ALWAYS):
        found.meter.start(mode, period_bits=100)
        assert found.model.control == {"period": 399, "mode": mode, "wide": monitor.wide}
        found.model.sample(300, errors=2)
        total = found.meter.stop()
        assert found.model.control["mode"] == MeterMode.OFF
        assert total == PowerSum(300, 2, 100 * sum(raw), unit)
        assert total.watts == pytest.approx(sum(raw) / 3 * unit)
        assert total.joules(7.0) == pytest.approx(7 * total.watts)
    found.meter.start()
    with pytest.raises(LinkError, match=r"^The power monitor gave no sample \(0 errors\)"):
        found.meter.stop().joules(1)


def test_nothing_there():
    with pytest.raises(LinkError, match="^No INA226 answers at address 0x41: look at SCL, SDA"):
        OnBoardMeter(Device(SoftwareTransport(MeteredDevice(0x40, {}))), INA226, shunt_ohm=0.1,
                     most_ampere=0.8, address=0x41)
    with pytest.raises(LinkError, match="^At address 0x40 there is no INA228: .* holds 0x0000"):
        OnBoardMeter(Device(SoftwareTransport(MeteredDevice(0x40, {}))), INA228, shunt_ohm=0.1,
                     most_ampere=0.8)
    with pytest.raises(LinkError, match="^The device has no port for a power monitor: "):
        OnBoardMeter(Device(SoftwareTransport(SoftwareDevice())), INA228, shunt_ohm=0.1,
                     most_ampere=0.8)


@pytest.mark.parametrize("options, message", [
    ({"address": 0x3F}, "^Address must be 0x40..0x4f, not 63$"),
    ({"shunt_ohm": 0}, "^Shunt and current must be positive, not 0 ohm and 0.8 A$"),
    ({"most_ampere": 1e-4}, "^Calibration of the INA226 must be 1..32767, not 1.68e.07: choose")])
def test_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        OnBoardMeter(Device(SoftwareTransport(MeteredDevice(0x40, {}))), INA226,
                     **{"shunt_ohm": 0.1, "most_ampere": 0.8} | options)


def test_period_out_of_range():
    found = metered()
    with pytest.raises(ValueError, match="^Period must be 60..16384 bits, not 59$"):
        found.meter.start(period_bits=59)


def test_access_without_end():
    found = metered()
    found.model.stuck = True
    with pytest.raises(LinkError, match="access to its power monitor does not end: restart the"):
        found.meter.stop()
