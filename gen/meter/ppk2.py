"""Nordic Power Profiler Kit II through ppk2lab: 100,000 samples a second, eight digital inputs.

The stream is Nordic's (github.com/NordicSemiconductor/pc-nrfconnect-ppk, src/device): words of 32
bits with a 14-bit conversion, its range, a counter and the digital inputs. ppk2lab reads it, finds
losses by the counter and knows the kit's calibration; currents are computed from that here, since
100,000 a second are many for a loop.
"""

from collections.abc import Callable
import time
from typing import Any, ClassVar

import numpy as np

from gen.meter.base import Accuracy, Block, Meter, MeterError, Option
from gen.meter.stream import Decimator


__all__ = ["Ppk2"]


RATE_HZ = 100_000

ADC_MAX = 0x3FFF

RANGES = 5

MODES = ("source", "ampere")


class Ppk2(Meter):
    """A PPK2 that feeds the board (source) or lies in its supply (ampere).

    Parameters
    ----------
    clock : callable, optional
        The host's monotonic clock.
    **options
        See :attr:`OPTIONS`.
    """

    name: ClassVar[str] = "ppk2"
    own_clock: ClassVar[bool] = True
    has_marker = True

    OPTIONS: ClassVar[dict[str, Option]] = {
        "port": Option(str, None, "serial port of the kit; found by its USB number by default"),
        "mode": Option(str, "source", "source: the kit feeds the board; ampere: another supply"),
        "volts": Option(float, 5.0, "what the kit feeds, or the other supply has, in V", 0.8, 5.0),
        "pin": Option(int, 0, "digital input that the busy pin is on", 0, 7),
        "rate": Option(int, 1000, "means a second, of 100,000 samples", 1, RATE_HZ),
    }

    # Nordic's typical figures by range as ppk2lab has them (ppk2lab.capture.stats): 10 %, and 15 %
    # in the highest, where an FPGA board's current lies. Not compared with the user guide.
    accuracy = Accuracy(0.15 / 3 ** 0.5, 0.0, "15 % typical above 50 mA, as ppk2lab has it")

    def __init__(self, *, clock: Callable[[], float] = time.monotonic,
                 **options: float | str | None) -> None:
        super().__init__(**options)
        self._clock = clock
        self._device: Any = None
        self._stream: Any = None
        if self.options["mode"] not in MODES:
            raise MeterError(f"--meter ppk2: mode must be {' or '.join(MODES)}, not "
                             f"{self.options['mode']!r}")
        self.feeds = self.options["mode"] == "source"
        self._factor = max(1, round(RATE_HZ / self.number("rate")))
        self.rate_hz = RATE_HZ / self._factor

    def open(self) -> None:
        """Open the kit, check its calibration, set mode and voltage, and feed the board."""
        from ppk2lab import Mode, PPK2
        from ppk2lab.errors import Ppk2labError

        self._errors = Ppk2labError
        port = self.options["port"]
        try:
            self._device = PPK2.open(port=None if port is None else str(port), simulate=False)
            millivolts = round(1000 * self.number("volts"))
            self._device.set_mode(Mode.SOURCE if self.feeds else Mode.AMPERE)
            self._device.set_source_voltage_mv(millivolts)
            metadata = self._device.metadata
            if metadata is None or metadata.vdd_mv != millivolts:
                raise MeterError(f"ppk2: the kit was asked for {millivolts} mV and reports "
                                 f"{metadata and metadata.vdd_mv}; unplug it for a moment")
            self._constants = self._calibration()
            if self.feeds:
                self._device.set_dut_power(True)
        except Ppk2labError as error:
            self.close()
            raise MeterError(f"ppk2: {error.message}; check that it is a PPK2, and that no other "
                             "program has it open") from error
        except MeterError:
            self.close()
            raise

    def _calibration(self) -> np.ndarray:
        """Constants of each range, shape (ranges, 7): R, GS, GI, O, S, I, UG."""
        calibration = self._device.calibration
        if calibration is None or calibration.missing_ranges():
            raise MeterError("ppk2: the kit does not tell its calibration; update its firmware "
                             "with nRF Connect")
        return np.array([[one.r, one.gs, one.gi, one.o, one.s, one.i, one.ug]
                         for one in calibration.ranges])

    def start(self) -> None:
        """Begin the stream."""
        self._decimator = Decimator(self._factor, RATE_HZ)
        self._begun, self._shift, self._latest = self._clock(), 0, 0
        try:
            self._stream = self._device.stream(idle_timeout_s=5.0)
        except self._errors as error:
            raise MeterError(f"ppk2: {error.message}") from error

    def read(self, timeout_s: float) -> Block | None:
        """The next run of samples; ppk2lab waits for it, and ends with an error after 5 s of
        silence."""
        from ppk2lab import GapEvent

        try:
            event = next(self._stream, None)
        except self._errors as error:
            raise MeterError(f"ppk2: {error.message}; connect the kit again, and look at its "
                             "cable") from error
        if event is None:
            raise MeterError("ppk2: the stream has ended; connect the kit again")
        now = self._clock()
        if isinstance(event, GapEvent):
            if event.missing is None:    # nobody knows how many: time tells
                behind = round((now - self._begun) * RATE_HZ) - self._latest
                self._shift += max(0, behind)
            return None
        return self._block(event, now)

    def _block(self, samples: Any, now: float) -> Block:
        words = np.frombuffer(samples.words, np.uint32)
        ranges = (words >> 14) & 7
        valid = ranges < RANGES
        code = words & ADC_MAX
        r, gs, gi, offset, s, i, ug = self._constants[np.minimum(ranges, RANGES - 1)].T
        # Nordic's serialDevice.ts, getAdcResult.
        x = (4.0 * code - offset) * (1.8 / 163840 / r)
        volts = self.number("volts")
        amps = ug * (x * (gs * x + gi) + s * volts + i)
        index = samples.start_index + self._shift
        self._latest = index + len(words)
        if not valid.all():
            # A word with a range that does not exist is no sample: the mean of its neighbours.
            amps = np.interp(np.arange(len(words)), np.flatnonzero(valid), amps[valid]) if (
                valid.any()) else np.zeros(len(words))
        marker = (words >> (24 + int(self.number("pin")))) & 1
        block = self._decimator.put(index, np.full(len(words), volts), amps, marker.astype(int),
                                    now, clipped=int(((code == ADC_MAX) & valid).sum()))
        block.lost += int((~valid).sum())
        return block

    def stop(self) -> None:
        """End the stream."""
        if self._stream is not None:
            try:
                self._stream.close()
            except self._errors:
                pass    # it is gone
            self._stream = None

    def close(self) -> None:
        """Close the kit; a board that it feeds loses its supply."""
        if self._device is not None:
            self._device.close()
            self._device = None

    def describe(self) -> str:
        """Mode, voltage and rate; the kit does not measure the voltage."""
        what = ("feeds the board" if self.feeds else
                "in the board's supply, whose voltage is as given")
        return (f"Nordic PPK2, {what}: {self.options['volts']:g} V (set, not measured), means of "
                f"{self._factor} of {RATE_HZ} samples/s; {self.accuracy.source}")
