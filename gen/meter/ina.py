"""INA226 and INA228 of Texas Instruments on an I2C bus of the host.

Register maps, conversion times and accuracy: data sheets of Texas Instruments SBOS547 (INA226,
www.ti.com/lit/gpn/ina226) and SLYS021 (INA228, www.ti.com/lit/gpn/ina228).
The chip measures a shunt between supply and board; bus and shunt voltage are averaged over the
same conversions. A sample is read when the chip's conversion flag says that it is new.
"""

from collections.abc import Callable
from dataclasses import dataclass
import errno
import time
from typing import ClassVar, Protocol

import numpy as np

from gen.meter.base import Accuracy, Block, Meter, MeterError, Option


__all__ = ["Bus", "Chip", "CHIPS", "HostBus", "Ina", "judged"]


class Bus(Protocol):
    """An I2C bus; both raise ``OSError`` where a device does not acknowledge.

    :class:`HostBus` is the host's. Another one can reach the chip through the board.
    """

    def write(self, address: int, data: bytes) -> None:
        """Write bytes to a device."""

    def read(self, address: int, register: int, count: int) -> bytes:
        """Write a register's number, then read `count` bytes after a repeated start."""

    def close(self) -> None:
        """Give the bus back."""


class HostBus:
    """``/dev/i2c-N`` through smbus2.

    Parameters
    ----------
    number : int
    """

    def __init__(self, number: int) -> None:
        from smbus2 import i2c_msg, SMBus

        self._bus, self._message = SMBus(number), i2c_msg

    def write(self, address: int, data: bytes) -> None:
        """One write message."""
        self._bus.i2c_rdwr(self._message.write(address, data))

    def read(self, address: int, register: int, count: int) -> bytes:
        """A write and a read message in one transfer."""
        answer = self._message.read(address, count)
        self._bus.i2c_rdwr(self._message.write(address, [register]), answer)
        return bytes(iter(answer))

    def close(self) -> None:
        """Close the device file."""
        self._bus.close()


class _Closed:
    """No bus."""

    def write(self, address: int, data: bytes) -> None:
        raise OSError(errno.EBADF, "the bus is not open")

    def read(self, address: int, register: int, count: int) -> bytes:
        raise OSError(errno.EBADF, "the bus is not open")

    def close(self) -> None:
        pass


AVERAGES = (1, 4, 16, 64, 128, 256, 512, 1024)
"""What both chips average in hardware, by the code of the field AVG."""


EARLY, POLL = 1 / 8, 1 / 32
"""How long before its end a conversion is asked for, and how often then; in conversions."""


@dataclass(frozen=True)
class Chip:
    """What the driver must know of a chip.

    Parameters
    ----------
    identity : tuple
        (register, value, mask) of the manufacturer's and the chip's number.
    conversions_us : tuple
        Conversion times by code, in us.
    setup : callable
        (code of average, code of conversion time) to [(register, 16-bit value)].
    reset : tuple
        (register, value) that restores the chip's defaults.
    flag : tuple
        (register, bit) that is 1 when a conversion has ended, cleared by reading.
    shunt, bus : tuple
        (register, bytes, bits to drop, volts of a step).
    accuracy : Accuracy
        Of the chip without its shunt; the offset in volts across the shunt.
    bus_offset_v : float
        Standard error of the bus voltage's zero, in V.
    """

    identity: tuple[tuple[int, int, int], ...]
    conversions_us: tuple[int, ...]
    setup: Callable[[int, int], list[tuple[int, int]]]
    reset: tuple[int, int]
    flag: tuple[int, int]
    shunt: tuple[int, int, int, float]
    bus: tuple[int, int, int, float]
    accuracy: Accuracy
    bus_offset_v: float


CHIPS = {
    # CONFIG: 0x4000 | AVG << 9 | VBUSCT << 6 | VSHCT << 3 | MODE 7 (shunt and bus, continuous).
    "INA226": Chip(
        ((0xFE, 0x5449, 0xFFFF), (0xFF, 0x2260, 0xFFF0)),
        (140, 204, 332, 588, 1100, 2116, 4156, 8244),
        lambda average, time: [(0x00, 0x4000 | average << 9 | time << 6 | time << 3 | 7)],
        (0x00, 0x8000), (0x06, 3), (0x01, 2, 0, 2.5e-6), (0x02, 2, 0, 1.25e-3),
        Accuracy(0.0014 / 3 ** 0.5, 10e-6 / 3 ** 0.5,
                 "data sheet: gain 0.1 % each of shunt and bus, 10 uV at the shunt, 7.5 mV at the "
                 "bus"), 7.5e-3 / 3 ** 0.5),
    # ADC_CONFIG: MODE 0xB (shunt and bus, continuous) << 12 | VBUSCT << 9 | VSHCT << 6 | AVG.
    # CONFIG 0: range +-163.84 mV. DIAG_ALRT with ALATCH: the flag stays until it is read.
    "INA228": Chip(
        ((0x3E, 0x5449, 0xFFFF), (0x3F, 0x2280, 0xFFF0)),
        (50, 84, 150, 280, 540, 1052, 2074, 4120),
        lambda average, time: [(0x00, 0x0000), (0x0B, 0x8001),
                               (0x01, 0xB000 | time << 9 | time << 6 | average)],
        (0x00, 0x8000), (0x0B, 1), (0x04, 3, 4, 312.5e-9), (0x05, 3, 4, 195.3125e-6),
        Accuracy(0.0011 / 3 ** 0.5, 1e-6 / 3 ** 0.5,
                 "data sheet: gain 0.05 % and 1 uV at the shunt; at the bus not checked, 0.1 % and "
                 "5 mV taken, as the INA238 has it"), 5e-3 / 3 ** 0.5),
}
"""The chips by name; identified by their numbers. Limits of the data sheet, at 25 degrees C, are
taken as evenly distributed. Those of the INA226 were compared with SBOS547B, table "Electrical
Characteristics"; of the INA228 only the front page of its sheet was, and for its bus voltage the
worse INA238 stands (data sheet of the INA238-Q1, SLYS024A)."""


def judged(name: str, shunt_ohm: float, tolerance: float, volts: float) -> Accuracy:
    """Accuracy of a chip with its shunt, whose tolerance is in %, at a supply in V, 0 if that is
    not known yet.

    The offset in watts grows with the supply. An offset of the bus voltage changes power in
    proportion, as a gain does.
    """
    chip = CHIPS[name]
    bus = chip.bus_offset_v / volts if volts else 0.0
    return Accuracy(
        float(np.linalg.norm([chip.accuracy.gain, tolerance / 100 / 3 ** 0.5, bus])),
        chip.accuracy.offset_w / shunt_ohm * volts,
        f"{name}, {chip.accuracy.source}; shunt {tolerance:g} %")


class Ina(Meter):
    """An INA226 or INA228.

    Parameters
    ----------
    through : Bus, optional
        The bus; the host's by default.
    **options
        See :attr:`OPTIONS`.
    """

    name: ClassVar[str] = "ina"

    OPTIONS: ClassVar[dict[str, Option]] = {
        "bus": Option(int, 1, "number N of /dev/i2c-N", 0, 255),
        "address": Option(int, 0x40, "I2C address", 0x08, 0x77),
        "shunt": Option(float, 0.1, "shunt, in ohms, as printed on it (R100 is 0.1)", 1e-4, 10),
        "tolerance": Option(float, 1.0, "tolerance of the shunt, in %", 0, 20),
        "average": Option(int, 4, f"conversions averaged: {', '.join(map(str, AVERAGES))}", 1,
                          1024),
        "conversion": Option(int, 1100, "time of a conversion, in us; the chip's next one", 50,
                             8244),
    }

    def __init__(self, *, through: Bus | None = None, clock: Callable[[], float] = time.monotonic,
                 sleep: Callable[[float], None] = time.sleep,
                 **options: float | str | None) -> None:
        super().__init__(**options)
        self._given, self._clock, self._sleep = through, clock, sleep
        self._bus: Bus = through or _Closed()
        self.chip = ""
        if self.options["average"] not in AVERAGES:
            raise MeterError(f"--meter ina: average must be one of "
                             f"{', '.join(map(str, AVERAGES))}, not {self.options['average']}")

    def _where(self) -> str:
        return f"/dev/i2c-{self.options['bus']}, address 0x{self.options['address']:02x}"

    def open(self) -> None:
        """Find out which chip answers, and set it up."""
        if self._given is None:
            try:
                self._bus = HostBus(int(self.number("bus")))
            except OSError as error:
                raise MeterError(f"ina: cannot open /dev/i2c-{self.options['bus']}: "
                                 f"{error.strerror}; load the module i2c-dev, and add yourself "
                                 "to the group i2c") from error
        self.chip = self._name = self._identify()
        chip = CHIPS[self.chip]
        code = int(np.abs(np.array(chip.conversions_us)
                          - self.number("conversion")).argmin())
        average = int(self.number("average"))
        for register, value in chip.setup(AVERAGES.index(average), code):
            self._write(register, value)
        self._window = 2e-6 * chip.conversions_us[code] * average    # shunt, then bus
        self.rate_hz = 1 / self._window
        self._judge(0.0)

    def _judge(self, volts: float) -> None:
        """Set the accuracy for a supply."""
        self.accuracy = judged(self.chip, self.number("shunt"), self.number("tolerance"), volts)

    def _identify(self) -> str:
        seen = []
        for name, chip in CHIPS.items():
            values = [int.from_bytes(self._read(register, 2), "big")
                      for register, _, _ in chip.identity]
            if all(value & mask == wanted for value, (_, wanted, mask)
                   in zip(values, chip.identity, strict=True)):
                return name
            seen.append(f"{name}'s registers hold "
                        + " ".join(f"0x{value:04x}" for value in values))
        self.close()
        raise MeterError(f"ina: what answers at {self._where()} is neither an INA226 nor an "
                         f"INA228 ({'; '.join(seen)}); look for the chip's address with: "
                         f"i2cdetect -y {self.options['bus']}")

    def _read(self, register: int, count: int) -> bytes:
        try:
            return self._bus.read(int(self.number("address")), register, count)
        except OSError as error:
            raise self._gone(error) from error

    def _write(self, register: int, value: int) -> None:
        try:
            self._bus.write(int(self.number("address")),
                            bytes([register]) + value.to_bytes(2, "big"))
        except OSError as error:
            raise self._gone(error) from error

    def _gone(self, error: OSError) -> MeterError:
        return MeterError(f"ina: nothing answers at {self._where()} ({error.strerror}); check "
                          "SDA, SCL, GND and the chip's supply, and the address with: "
                          f"i2cdetect -y {self.options['bus']}")

    def _raw(self, register: int, count: int, drop: int) -> int:
        return int.from_bytes(self._read(register, count), "big", signed=True) >> drop

    def start(self) -> None:
        """Forget a conversion that ended before."""
        self._read(CHIPS[self.chip].flag[0], 2)
        self._ready = self._clock()

    def read(self, timeout_s: float) -> Block | None:
        """The next conversion."""
        chip = CHIPS[self.chip]
        asked = self._clock()
        soon = self._ready + (1 - EARLY) * self._window
        if soon > asked:
            self._sleep(min(soon - asked, timeout_s))
        before = max(self._clock() - self._window, self._ready)
        while True:
            # It ended after the last look and, since the chip holds the newest, not long ago.
            ended = (max(before, self._clock() - self._window) + self._clock()) / 2
            if self._flag():
                break
            before = self._clock()
            if before >= asked + timeout_s:
                return None
            self._sleep(POLL * self._window)
        self._ready = ended
        raw = self._raw(*chip.shunt[:3])
        bits = 8 * chip.shunt[1] - chip.shunt[2]
        clipped = int(raw in (2 ** (bits - 1) - 1, -2 ** (bits - 1)))
        amps = raw * chip.shunt[3] / self.number("shunt")
        volts = self._raw(*chip.bus[:3]) * chip.bus[3]
        if not self.accuracy.offset_w:
            self._judge(volts)
        return Block(np.array([ended - self._window / 2]), np.array([volts]), np.array([amps]),
                     np.array([volts * amps]), self._clock(), clipped=clipped)

    def _flag(self) -> int:
        register, bit = CHIPS[self.chip].flag
        return int.from_bytes(self._read(register, 2), "big") >> bit & 1

    def stop(self) -> None:
        """The chip goes on; nobody reads it."""

    def close(self) -> None:
        """Put the chip back to its defaults and close the bus."""
        try:
            if self.chip:
                self._write(*CHIPS[self.chip].reset)
        except MeterError:
            pass    # it is gone: nothing to put back
        if self._given is None:
            self._bus.close()
            self._bus = _Closed()
        self.chip = ""

    def describe(self) -> str:
        """Chip, address, shunt and window of a sample."""
        return (f"{self._name} at {self._where()}, shunt {self.options['shunt']:g} ohm, mean over "
                f"{self._window * 1e3:.3g} ms a sample; {self.accuracy.source}")
