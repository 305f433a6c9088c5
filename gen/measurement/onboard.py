"""Energy by the board's own power monitor: samples of the runs and no others."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import sqrt
import statistics
import time
from typing import Any

from gen.device.device import Device
from gen.device.power import INA226, INA228, Monitor, OnBoardMeter, PowerSum
from gen.measurement.runs import Run
from gen.meter.account import Account, RUNNING
from gen.meter.energy import Energy, MISSING_LIMIT
from gen.meter.onboard import OnBoard
from hw.register import MeterMode
from model.error import InputError
from sim.twin.power_monitor import PowerMonitor


__all__ = ["BoardPower", "simulated_monitor"]


CONVERSION_S = 2.2e-3
"""Of the monitors as they come: 1.1 ms each for shunt and bus."""

KINDS: dict[str, Monitor] = {"INA226": INA226, "INA228": INA228}


class BoardPower:
    """The monitor of an open device; what it summed up in each phase.

    Parameters
    ----------
    device : gen.device.device.Device
    meter : gen.meter.onboard.OnBoard

    Raises
    ------
    LinkError
        The device has no port for a monitor, or none of this kind answers there.
    InputError
        A current that the chip cannot be set to with this shunt.
    """

    def __init__(self, device: Device, meter: OnBoard) -> None:
        self._meter = meter
        try:
            self._monitor = OnBoardMeter(
                device, KINDS[meter.chip], shunt_ohm=meter.number("shunt"),
                most_ampere=meter.number("most"), address=int(meter.number("address")))
        except ValueError as error:
            raise InputError(f"--meter board: {error}") from None
        self._rests: dict[str, tuple[PowerSum, float]] = {}
        self._runs: list[PowerSum] = []
        self._sampling = False

    @contextmanager
    def rest(self, name: str) -> Iterator[None]:
        """A phase in which nothing runs; it is sampled all the time."""
        self._monitor.start(MeterMode.ALWAYS)
        started = time.monotonic()
        yield
        seconds = time.monotonic() - started
        self._rests[name] = self._monitor.stop(), seconds

    @contextmanager
    def running(self) -> Iterator[None]:
        """Around the runs that count; only a core that runs is sampled."""
        self._monitor.start()
        self._sampling = True
        yield
        self._sampling = False
        self._monitor.stop()

    def look(self) -> None:
        """Behind each run; nothing in the warm-up."""
        if not self._sampling:
            return
        self._runs.append(self._monitor.stop())
        self._monitor.start()

    def account(self, runs: Sequence[Run], clock_hz: int, tag: str) -> Account:
        """Energy of the phases. That of the runs is their mean power times their cycles.

        Parameters
        ----------
        runs : sequence of Run
            Each has been followed by a :meth:`look`.
        clock_hz : int
            Of the core.
        tag : str
            ``board`` or ``simulated``.

        Raises
        ------
        InputError
            A phase has no sample, or too many failed.
        """
        seconds = sum(run.counters["CYCLES"] for run in runs) / clock_hz
        phases = {name: self._energy(name, [total], spent)
                  for name, (total, spent) in self._rests.items()}
        phases[RUNNING] = self._energy(RUNNING, self._runs, seconds)
        return Account(phases, sum(run.images for run in runs), tag,
                       ("" if tag == "board" else "SIMULATED: ") + self._meter.describe(),
                       _quality(phases, {**{name: [total] for name, (total, _) in
                                            self._rests.items()}, RUNNING: self._runs}),
                       "the core's own cycles, in which alone the board took samples")

    def _energy(self, name: str, sums: Sequence[PowerSum], seconds: float) -> Energy:
        samples = sum(total.samples for total in sums)
        failed = sum(total.errors for total in sums)
        if not samples:
            raise InputError(f"phase {name}: the board's power monitor gave no sample "
                             f"({failed} errors): look at its wiring, and run for longer")
        if failed > MISSING_LIMIT * (samples + failed):
            raise InputError(f"phase {name}: {failed} of {samples + failed} samples of the board's "
                             f"power monitor failed: at most {MISSING_LIMIT:.0%} may be missing; "
                             "look at SCL, SDA and their resistors")
        unit = sums[0].unit
        watts = unit * sum(total.raw for total in sums) / samples
        means = [total.watts for total in sums if total.samples]
        noise = statistics.stdev(means) / sqrt(len(means)) if len(means) > 1 else 0.0
        missing_s = seconds * failed / (samples + failed)
        accuracy = self._meter.accuracy
        return Energy(watts * seconds, seconds, 0.0, 0, missing_s, failed, 0.0, {
            "gain": accuracy.gain * watts * seconds, "offset": accuracy.offset_w * seconds,
            "noise": noise * seconds, "edges": 0.0,
            # The power of a sample that failed: anything between none and twice the mean.
            "gaps": missing_s * watts / sqrt(3)})


def simulated_monitor(meter: OnBoard, config: Any) -> PowerMonitor:
    """The chip on the bus of a virtual board: 1 W, and 1.5 W while the core runs.

    Raises :class:`InputError` for a configuration without the port.
    """
    if not config.meter:
        raise InputError("This configuration has no port for a power monitor: set meter: true "
                         "(--config)")
    monitor: PowerMonitor = PowerMonitor(
        meter.chip, shunt_ohm=meter.number("shunt"), window=round(CONVERSION_S * config.clock_hz),
        address=int(meter.number("address")), watts=lambda *_: 1.0 + 0.5 * monitor.running)
    return monitor


def _quality(phases: Mapping[str, Energy], sums: Mapping[str, Sequence[PowerSum]]) -> str:
    parts = []
    for name in phases:
        samples = sum(total.samples for total in sums[name])
        failed = sum(total.errors for total in sums[name])
        parts.append(f"{samples} samples {name}" + (f", {failed} failed" if failed else ""))
    runs = sum(1 for total in sums[RUNNING] if total.samples)
    spread = (f"noise from the means of {runs} runs" if runs > 1
              else "NOISE NOT KNOWN: it takes two runs or more")
    return f"{'; '.join(parts)}; sums by the board; {spread}"
