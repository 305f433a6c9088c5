"""Energy by the board's own monitor, from sums that are known; with the RTL and a model of the
chip: tests/sim/rtl/test_power_monitor.py."""

from types import SimpleNamespace

import pytest

from gen import measure
from gen.device.device import Device
from gen.device.port import LinkError
from gen.device.power import INA226
from gen.inputs import InputImages
from gen.measurement.onboard import BoardPower, simulated_monitor
from gen.measurement.runs import Run
from gen.meter.choice import parse_meter
from gen.meter.simulated import BusyLine
from hw.register import MeterMode, Register
from model.error import InputError
from tests.faults.known_board import board_of
from tests.gen.device.software_device import SoftwareTransport
from tests.gen.device.test_power import MeteredDevice


CLOCK = 80_000_000


def power(raw=1000, **more):
    """A device, and what measures on it."""
    model = MeteredDevice(0x40, {INA226.manufacturer: 0x5449, INA226.power: [raw]})
    meter = parse_meter(":".join(["board", ",".join(f"{k}={v}" for k, v in more.items())])
                        if more else "board")
    return SimpleNamespace(model=model, meter=meter,
                           power=BoardPower(Device(SoftwareTransport(model)), meter))


def run(images, cycles):
    return Run(images, {"CYCLES": cycles}, 1.0, 2.0, images)


def measured(found, runs, idle=400, errors=0):
    """Power of each of the runs in raw units, with a hundred samples; a warm-up before."""
    with found.power.rest("idle"):
        assert found.model.control["mode"] == MeterMode.ALWAYS
        found.model.sampled = [idle]
        found.model.sample(50)
    found.power.look()                      # of the warm-up
    with found.power.running():
        for raw in runs:
            assert found.model.control["mode"] == MeterMode.RUNNING
            found.model.sampled = [raw]
            found.model.sample(100, errors=errors)
            found.power.look()
    assert found.model.control["mode"] == MeterMode.OFF
    return found.power.account([run(10, 8_000_000)] * len(runs), CLOCK, "board")


def test_energy_is_mean_power_times_cycles():
    found = power()
    account = measured(found, [1000, 1100, 1200])
    unit = INA226.units(0.1, 0.8)[1]
    assert account.images == 30 and account.tag == "board"
    running = account.running
    assert running.seconds == pytest.approx(3 * 0.1)
    assert running.watts == pytest.approx(1100 * unit)
    assert account.image_j[0] == pytest.approx(1100 * unit * 0.3 / 30)
    assert account.phases["idle"].watts == pytest.approx(400 * unit)
    assert account.above_idle_j[0] == pytest.approx(700 * unit * 0.3 / 30)
    errors = running.errors
    assert errors["noise"] == pytest.approx(100 * unit / 3 ** 0.5 * 0.3)
    assert errors["gain"] == pytest.approx(found.meter.accuracy.gain * running.joules)
    assert errors["offset"] == pytest.approx(found.meter.accuracy.offset_w * 0.3)
    assert errors["gaps"] == errors["edges"] == 0
    assert account.quality == ("50 samples idle; 300 samples running; sums by the board; noise "
                               "from the means of 3 runs")
    assert account.meter.startswith("INA226 on the board's own bus")
    assert account.window.startswith("the core's own cycles")


def test_one_run_has_no_noise_that_is_known():
    account = measured(power(), [1000])
    assert account.running.errors["noise"] == 0
    assert account.quality.endswith("NOISE NOT KNOWN: it takes two runs or more")


def test_samples_that_failed():
    """Few are left out, counted, and widen the interval; many are an error."""
    account = measured(power(), [1000, 1000], errors=3)
    running = account.running
    assert running.missing == 6 and running.missing_s == pytest.approx(0.2 * 6 / 206)
    assert running.errors["gaps"] == pytest.approx(running.missing_s * running.watts / 3 ** 0.5)
    assert "200 samples running, 6 failed" in account.quality
    with pytest.raises(InputError, match="^phase running: 20 of 220 samples of the board's power "
                                         "monitor failed: at most 5% may be missing; look at SCL"):
        measured(power(), [1000, 1000], errors=10)


def test_no_sample():
    found = power()
    with found.power.running():
        found.power.look()
    with pytest.raises(InputError, match=r"^phase running: the board's power monitor gave no "
                                         r"sample \(0 errors\)"):
        found.power.account([run(1, 8)], CLOCK, "board")


def test_what_is_not_there():
    with pytest.raises(LinkError, match="^No INA226 answers at address 0x41"):
        power(address=0x41)
    with pytest.raises(InputError, match="^--meter board: Calibration of the INA226 must be 1"):
        power(most=0.001, shunt=0.001)


def test_simulated_monitor():
    meter = parse_meter("board:chip=INA228,address=0x41")
    monitor = simulated_monitor(meter, SimpleNamespace(meter=True, clock_hz=CLOCK))
    assert monitor.address == 0x41
    monitor.registers[2] = 4050
    unit = 3.2 * 4050 / (13107.2e6 * 0.1)
    assert monitor.registers[8]() * unit == pytest.approx(1.0, rel=1e-4)
    monitor.running = 1
    assert monitor.registers[8]() * unit == pytest.approx(1.5, rel=1e-4)
    with pytest.raises(InputError, match="has no port for a power monitor: set meter: true"):
        simulated_monitor(meter, SimpleNamespace(meter=False, clock_hz=CLOCK))


class Sampling(MeteredDevice):
    """Takes a hundred samples before sampling is ended: 1 W at rest, 1.5 W for the core."""

    def __init__(self, board, unit):
        super().__init__(0x40, {INA226.manufacturer: 0x5449, INA226.power: [0]})
        self.core, self.memory = board.core, board.memory
        self.constant[Register.CONFIG] = board.constant[Register.CONFIG]
        self.constant[Register.MEMORY_WORDS] = len(self.memory)
        self.raw = {MeterMode.ALWAYS: round(1.0 / unit), MeterMode.RUNNING: round(1.5 / unit)}

    def _write(self, address, value):
        mode = self.control.get("mode", MeterMode.OFF)
        if address == Register.METER_CONTROL and mode != MeterMode.OFF:
            self.sampled = [self.raw[mode]]
            self.sample(100)
        return super()._write(address, value)


def test_measurement_by_the_board_itself(case, design, monkeypatch):
    """The phases of qsdt measure: idle is sampled always, runs only while the core runs."""
    network, _, images, _ = case
    board, _ = board_of(case)
    unit = INA226.units(0.1, 0.8)[1]
    measurement = object.__new__(measure._Measurement)
    for name, value in {
            "arguments": SimpleNamespace(unconfigured=False, program=False), "virtual": True,
            "record": None, "meter": parse_meter("board"), "power": None, "line": BusyLine(),
            "idle": 0.05, "warm_up": 0.05, "seconds": 0.0, "repeats": 2, "back_to_back": 4,
            "design": design, "network": network, "device": "the virtual board",
            "found": InputImages(images)}.items():
        setattr(measurement, name, value)
    monkeypatch.setattr(measurement, "_open", lambda stack: Device(SoftwareTransport(
        Sampling(board, unit))))
    runs, _, trace, account = measurement.run()
    assert trace is None and account.tag == "simulated" and account.images == 8
    assert account.phases["idle"].watts == pytest.approx(1.0, abs=unit)
    assert account.running.watts == pytest.approx(1.5, abs=unit)
    seconds = sum(run.counters["CYCLES"] for run in runs.runs) / design.config.clock_hz
    assert account.image_j[0] == pytest.approx(1.5 * seconds / 8, rel=1e-3)
    assert account.quality.startswith("100 samples idle; 200 samples running; ")
