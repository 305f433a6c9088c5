"""The power monitor on a board's own I2C bus, which the gateware reads while the core runs.

Registers and formulas: data sheets of Texas Instruments, www.ti.com/lit/gpn/ina226 (calibration
0.00512 / (unit of current * shunt), a unit of power is 25 of current) and www.ti.com/lit/gpn/ina228
(calibration 13107.2e6 * unit of current * shunt, a unit of power is 3.2 of current).
"""

from dataclasses import dataclass
import time

from gen.device.port import LinkError
from hw.register import (
    fields_of,
    METER_CONTROL_BITS,
    METER_STATUS_BITS,
    METER_VALUES,
    MeterMode,
    Register,
    value_of,
)


__all__ = ["INA226", "INA228", "Monitor", "OnBoardMeter", "PowerSum"]


TEXAS_INSTRUMENTS = 0x5449
"""What the monitors' register of the manufacturer holds, ``TI`` in ASCII."""

ADDRESSES = range(0x40, 0x50)
"""7-bit I2C addresses that the pins A0 and A1 of both parts choose from."""

ACCESS_BITS = 60
"""Bits that a read of 24 bits takes on the line."""

QUARTERS = 4
"""Of a bit: the unit of the sampling period."""

@dataclass(frozen=True, kw_only=True)
class Monitor:
    """A kind of power monitor: its registers, and what their units are.

    ``current_steps``: the greatest current is so many units of current; a unit of power is
    ``power_factor`` units of current, in W; the calibration is ``calibration_factor`` times unit
    of current times shunt resistance, at most ``calibration_most``.
    """

    name: str
    manufacturer: int
    calibration: int
    power: int
    wide: bool
    current_steps: int
    power_factor: float
    calibration_factor: float
    calibration_most: int
    inverse: bool

    def units(self, shunt_ohm, most_ampere):
        """(value of the calibration register, unit of power in W).

        The unit of power is that of the value, which is rounded.

        Raises
        ------
        ValueError
            For a shunt or current out of what the part can be set to.
        """
        if not shunt_ohm > 0 or not most_ampere > 0:
            raise ValueError(f"Shunt and current must be positive, not {shunt_ohm!r} ohm and "
                             f"{most_ampere!r} A")
        current = most_ampere / self.current_steps
        ratio = current * shunt_ohm
        wanted = self.calibration_factor / ratio if self.inverse else (
            self.calibration_factor * ratio)
        value = round(wanted)
        if not 1 <= value <= self.calibration_most:
            raise ValueError(f"Calibration of the {self.name} must be 1..{self.calibration_most}, "
                             f"not {wanted:.3g}: choose another greatest current for a shunt of "
                             f"{shunt_ohm:g} ohm")
        current *= wanted / value if self.inverse else value / wanted
        return value, self.power_factor * current


INA226 = Monitor(name="INA226", manufacturer=0xFE, calibration=0x05, power=0x03, wide=False,
                 current_steps=1 << 15, power_factor=25.0, calibration_factor=0.00512,
                 calibration_most=(1 << 15) - 1, inverse=True)

INA228 = Monitor(name="INA228", manufacturer=0x3E, calibration=0x02, power=0x08, wide=True,
                 current_steps=1 << 19, power_factor=3.2, calibration_factor=13107.2e6,
                 calibration_most=(1 << 15) - 1, inverse=False)


@dataclass(frozen=True)
class PowerSum:
    """What was summed up between two looks.

    ``samples`` and ``errors`` are counts, ``raw`` the sum of the raw power values, ``unit`` what
    one of them is in W.
    """

    samples: int
    errors: int
    raw: int
    unit: float

    @property
    def watts(self):
        """Mean power in W; an error without a sample."""
        if not self.samples:
            raise LinkError(f"The power monitor gave no sample ({self.errors} errors): look at "
                            "its wiring, and run for longer")
        return self.raw * self.unit / self.samples

    def joules(self, seconds):
        """Energy in J of a time in which the samples were taken, evenly: their mean power times
        ``seconds``. Samples that failed are left out of the mean, not counted as none."""
        return self.watts * seconds


class OnBoardMeter:
    """The power monitor of a device that has one.

    Parameters
    ----------
    device : gen.device.device.Device
    monitor : Monitor
    shunt_ohm, most_ampere : float
        Shunt resistor, and the greatest current that is to be measured.
    address : int
        Of the monitor on its bus.

    Raises
    ------
    LinkError
        The device has no port for a monitor, or none of this kind answers there.
    ValueError
        An address or a shunt that the part cannot have.
    """

    def __init__(self, device, monitor, *, shunt_ohm, most_ampere, address=0x40):
        if address not in ADDRESSES:
            raise ValueError(f"Address must be {ADDRESSES[0]:#x}..{ADDRESSES[-1]:#x}, not "
                             f"{address!r}")
        calibration, self.unit = monitor.units(shunt_ohm, most_ampere)
        """W of a raw value."""
        if "meter" not in device.info().capabilities:
            raise LinkError("The device has no port for a power monitor: build and load a "
                            "bitstream with one (meter: true)")
        self._device, self._monitor, self._address = device, monitor, address
        self._control(MeterMode.OFF, (1 << METER_CONTROL_BITS["period"]) - 1, wide=False)
        found = self._access(monitor.manufacturer)
        if found != TEXAS_INSTRUMENTS:
            raise LinkError(f"At address {address:#x} there is no {monitor.name}: its register of "
                            f"the manufacturer holds {found:#06x}, not {TEXAS_INSTRUMENTS:#06x}")
        self._access(monitor.calibration, calibration)
        found = self._access(monitor.calibration)
        if found != calibration:
            raise LinkError(f"The {monitor.name} holds calibration {found}, not {calibration} as "
                            "written: look at its wiring")

    def _control(self, mode, period, *, wide):
        self._device.write_register(Register.METER_CONTROL, value_of(
            METER_CONTROL_BITS, {"period": period, "mode": mode, "wide": wide}))

    def _command(self, pointer, value=None):
        if value is None:
            to_read = self._address << 1 | 1
            return to_read << 24 | pointer << 16 | to_read << 8
        return self._address << 25 | pointer << 16 | value

    def _settle(self):
        """Wait until nothing is on the line; returns the status."""
        deadline = time.monotonic() + max(1.0, self._device.timeout)
        while True:
            status = fields_of(METER_STATUS_BITS,
                               *self._device.read_registers(Register.METER_CONTROL))
            if not status["active"]:
                return status
            if time.monotonic() >= deadline:
                raise LinkError("The device's access to its power monitor does not end: restart "
                                "the board")

    def _access(self, pointer, value=None):
        """Write a register, or read its 16 bits."""
        self._device.write_register(Register.METER_COMMAND, self._command(pointer, value))
        if self._settle()["failed"]:
            raise LinkError(f"No {self._monitor.name} answers at address {self._address:#x}: look "
                            "at SCL, SDA, their resistors to 3.3 V, and the address pins")
        data, = self._device.read_registers(Register.METER_COMMAND)
        return data & 0xFFFF

    def start(self, mode=MeterMode.RUNNING, *, period_bits=ACCESS_BITS):
        """Sample from now on, every ``period_bits`` bits of the line, at least 60 (150 us at
        400 kHz)."""
        most = (1 << METER_CONTROL_BITS["period"]) // QUARTERS
        if not ACCESS_BITS <= period_bits <= most:
            raise ValueError(f"Period must be {ACCESS_BITS}..{most} bits, not {period_bits!r}")
        self._control(MeterMode.OFF, QUARTERS * period_bits - 1, wide=self._monitor.wide)
        self._settle()
        self._access(self._monitor.power)           # what is sampled
        self._before = self._read()
        self._control(mode, QUARTERS * period_bits - 1, wide=self._monitor.wide)

    def stop(self):
        """End sampling; the :class:`PowerSum` since :meth:`start`."""
        self._control(MeterMode.OFF, (1 << METER_CONTROL_BITS["period"]) - 1,
                      wide=self._monitor.wide)
        self._settle()
        now = self._read()
        samples, errors = ((now[name] - self._before[name]) % (1 << 32)
                           for name in ("samples", "errors"))
        return PowerSum(samples, errors, (now["sum"] - self._before["sum"]) % (1 << 64), self.unit)

    def _read(self):
        values = self._device.read_registers(Register.METER_SAMPLES, len(METER_VALUES))
        found = dict(zip(METER_VALUES, values, strict=True))
        found["sum"] |= found.pop("sum_high") << 32
        return found
