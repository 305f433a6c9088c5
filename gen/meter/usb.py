"""FNIRSI FNB58 and FNB48S, meters in the USB cable, over USB HID.

The maker publishes no protocol; this one was worked out by the project fnirsi-usb-power-data-logger
(github.com/baryluk). Reports have 64 bytes: 0xAA, a type, 60 bytes of contents, one of unknown use,
and a CRC-8 (polynomial 0x39, start 0x42) of all but the first. Type 4 carries four samples 10 ms
apart of 15 bytes each: voltage and current in 10 uV and 10 uA (32 bits, little endian), D+ and D-
in mV (16 bits), a byte of unknown use, temperature in 0.1 degrees Celsius (16 bits).
"""

from collections.abc import Callable
import time
from typing import Any, ClassVar

import numpy as np

from gen.meter.base import Accuracy, Block, Meter, MeterError, Option


__all__ = ["command", "crc8", "Usb"]


DEVICES = {(0x2E3C, 0x5558): "FNB58", (0x2E3C, 0x0049): "FNB48S"}
"""USB numbers of the meters that work alike."""

REPORT = 64
SAMPLES, SAMPLE, PERIOD_S = 4, 15, 0.01
DATA = 0x04
HELLO = (0x81, 0x82, 0x82)
GO_ON, GO_ON_S = 0x83, 1.0
"""Sent this often, or the meter falls silent."""

QUEUED_S = 0.003
"""A report that comes sooner after it was asked for was in a queue."""

LATE_S = 2 * SAMPLES * PERIOD_S
"""Lateness of a report by which others were lost before it."""

FOLLOW = 0.02
"""How fast the usual delay follows that of each report."""

BAD_LIMIT = 10
"""Reports in a row with a wrong CRC: then it is no such meter, or the cable is bad."""


def crc8(data: bytes) -> int:
    """CRC-8 of the reports: polynomial 0x39, start 0x42, not reflected."""
    crc = 0x42
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x39) & 0xFF if crc & 0x80 else crc << 1
    return crc


def command(kind: int) -> bytes:
    """A report to the meter, 64 bytes."""
    body = bytes([kind]) + bytes(REPORT - 3)
    return b"\xaa" + body + bytes([crc8(body)])


class Usb(Meter):
    """An FNB58 or FNB48S; 100 samples a second, no marker.

    Parameters
    ----------
    clock : callable, optional
        The host's monotonic clock.
    **options
        See :attr:`OPTIONS`.
    """

    name: ClassVar[str] = "usb"
    own_clock: ClassVar[bool] = True

    OPTIONS: ClassVar[dict[str, Option]] = {
        "serial": Option(str, None, "serial number, if there are several"),
    }

    rate_hz = 1 / PERIOD_S

    # The seller states 0.5 permille of the reading + 2 digits for voltage and current each; not
    # confirmed by anyone, so four times that is taken.
    accuracy = Accuracy(0.003, 0.001, "seller's 0.05 % + 2 digits each, taken fourfold")

    def __init__(self, *, clock: Callable[[], float] = time.monotonic,
                 **options: float | str | None) -> None:
        super().__init__(**options)
        self._clock = clock
        self._device: Any = None
        self._model = self._serial = ""

    def open(self) -> None:
        """Find the meter among the USB devices and open it."""
        import hid

        wanted = self.options["serial"]
        found = [entry for entry in hid.enumerate()
                 if (entry["vendor_id"], entry["product_id"]) in DEVICES]
        chosen = [entry for entry in found
                  if wanted is None or entry["serial_number"] == wanted]
        if not chosen:
            names = ", ".join(str(entry["serial_number"]) for entry in found) or "none"
            raise MeterError("usb: no FNB58 or FNB48S "
                             + (f"with serial number {wanted} " if wanted else "")
                             + f"on USB (found: {names}); connect the meter's PC socket")
        serials = {entry["serial_number"] for entry in chosen}
        if len(serials) > 1:
            raise MeterError("usb: several meters; choose one: "
                             + ", ".join(f"--meter usb:serial={one}" for one in sorted(serials)))
        entry = chosen[0]
        self._model = DEVICES[entry["vendor_id"], entry["product_id"]]
        self._serial = entry["serial_number"]
        self._device = hid.device()
        try:
            self._device.open_path(entry["path"])
        except OSError as error:
            self._device = None
            raise MeterError(f"usb: cannot open the {self._model}: {error}; give yourself access "
                             "to it with a udev rule (docs/tutorials/measure.md)") from error

    def _send(self, kind: int) -> None:
        try:
            sent = self._device.write(b"\x00" + command(kind))    # 0: reports have no number
        except (OSError, ValueError) as error:
            raise self._gone() from error
        if sent < 0:
            raise self._gone()

    def _gone(self) -> MeterError:
        return MeterError(f"usb: the {self._model} is gone; connect it again")

    def start(self) -> None:
        """Ask for the stream."""
        self._count = self._bad = self._spoilt = 0
        self._usual: float | None = None
        for kind in HELLO:
            self._send(kind)
        self._due = self._clock() + GO_ON_S

    def read(self, timeout_s: float) -> Block | None:
        """Samples of the next report; None for a report of another kind, too."""
        asked = self._clock()
        if asked >= self._due:
            self._send(GO_ON)
            self._due = asked + GO_ON_S
        try:
            report = bytes(self._device.read(REPORT, max(1, int(1000 * timeout_s))))
        except (OSError, ValueError) as error:
            raise self._gone() from error
        if not report:
            return None
        now = self._clock()
        if len(report) != REPORT or report[0] != 0xAA or crc8(report[1:-1]) != report[-1]:
            self._bad += 1
            self._count, self._spoilt = self._count + SAMPLES, self._spoilt + SAMPLES
            if self._bad >= BAD_LIMIT:
                raise MeterError(f"usb: {BAD_LIMIT} reports in a row from the {self._model} have "
                                 "a wrong CRC; try another cable, or another meter")
            return None
        self._bad = 0
        if report[1] != DATA:
            return None
        lost = self._spoilt + self._lost(now, fresh=now - asked > QUEUED_S)
        self._spoilt = 0
        at = PERIOD_S * (self._count + np.arange(SAMPLES))
        self._count += SAMPLES
        values = np.array([[int.from_bytes(report[byte:byte + 4], "little"),
                            int.from_bytes(report[byte + 4:byte + 8], "little")]
                           for byte in range(2, 2 + SAMPLES * SAMPLE, SAMPLE)]) * 1e-5
        volts, amps = values.T
        return Block(at, volts, amps, volts * amps, now, lost=lost)

    def _lost(self, now: float, *, fresh: bool) -> int:
        """Samples lost before this report, which are then skipped.

        Reports carry no number, so loss shows as time only: a report that was waited for (fresh:
        it was in no queue) comes later than usual. Usual follows the drift of the two clocks. USB
        repeats what is disturbed; what is lost is what a full queue of the host throws away, and
        that is many at once.
        """
        delay = now - PERIOD_S * (self._count + SAMPLES - 1)
        if self._usual is None:
            self._usual = delay
        if not fresh:
            return 0
        lost = 0
        if delay - self._usual > LATE_S:
            lost = SAMPLES * round((delay - self._usual) / (SAMPLES * PERIOD_S))
            self._count += lost
        self._usual += FOLLOW * (delay - lost * PERIOD_S - self._usual)
        return lost

    def stop(self) -> None:
        """Without further requests the stream ends by itself."""

    def close(self) -> None:
        """Close the device."""
        if self._device is not None:
            self._device.close()
            self._device = None

    def describe(self) -> str:
        """Model and serial number."""
        return f"FNIRSI {self._model}, serial number {self._serial}; {self.accuracy.source}"
