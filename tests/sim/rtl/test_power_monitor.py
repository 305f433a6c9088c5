"""The board's own power monitor from end to end: host, link and shell, the RTL's I2C master, and a
model of the chip."""

from functools import partial
from math import cos, pi

import pytest

from gen.device.device import Device
from gen.device.port import LinkError
from gen.device.power import INA226, INA228, OnBoardMeter
from hw.config import CoreConfig
from hw.register import MeterMode
from sim.rtl.stub_core import StubCore
from sim.rtl.virtual_board import VirtualBoard
from sim.twin.memory import MemoryTwin
from sim.twin.power_monitor import PowerMonitor


pytestmark = pytest.mark.rtl

SHUNT = 0.1

CLOCK_HZ = 80e6

QUARTER = 8
"""Cycles in a quarter of a bit: the fastest that the master has."""

PERIOD = 150_000
"""Cycles of the waveform."""


def joules(first, last):
    """Integral from one cycle to another of 1.5 W + 0.5 W * sin, exactly."""
    def until(cycle):
        return 1.5 * cycle - 0.5 * PERIOD / (2 * pi) * cos(2 * pi * cycle / PERIOD)

    return (until(last) - until(first)) / CLOCK_HZ


def watts(first, last):
    return joules(first, last) * CLOCK_HZ / (last - first)


def monitor_of(kind, **options):
    return PowerMonitor(kind.name, shunt_ohm=SHUNT, watts=watts, window=2000, **options)


def board(request, monitor):
    return VirtualBoard(CoreConfig(rows=16), cache=request.config.cache.mkdir("rtl"),
                        core=StubCore(), memory=partial(MemoryTwin, words=4096), meter=QUARTER,
                        monitor=monitor)


def run(device, images):
    """Cycles of a run, by the board's counter."""
    device.start(image=0, image_stride=200, result=2000, result_stride=200, count=images,
                 ring={"images": 3, "results": 3}, log=3500)
    device.wait(timeout=60, interval=0.01)
    counters = device.counters()
    assert counters["IMAGES"] == images
    return counters["CYCLES"]


@pytest.mark.parametrize("kind", [INA226, INA228], ids=lambda kind: kind.name)
def test_energy_of_a_run(request, kind):
    """Within 1 % of the integral of the waveform over the run; samples are those of the run, and
    the raw values are those of the calibration that was written."""
    monitor = monitor_of(kind)
    with board(request, monitor) as running, Device(
            running.url, timeout=running.link_timeout) as device:
        meter = OnBoardMeter(device, kind, shunt_ohm=SHUNT, most_ampere=0.8)
        assert monitor.registers[kind.calibration] == kind.units(SHUNT, 0.8)[0]
        meter.start()
        read = monitor.reads
        cycles = run(device, 60)
        total = meter.stop()
        assert cycles > 1.5 * PERIOD and total.errors == 0
        # A read takes 49 or 58 bits, and the next begins 60 bits behind the last.
        assert total.samples == pytest.approx(cycles / (60 * 4 * QUARTER), abs=3)
        assert total.samples <= monitor.reads - read
        first, last = monitor.ran
        assert abs(last - first - cycles) < 60 * 4 * QUARTER
        wanted = joules(last - cycles, last)
        assert total.joules(cycles / CLOCK_HZ) == pytest.approx(wanted, rel=0.01)
        assert not monitor.violations


def test_idle_and_a_device_that_is_gone(request):
    """Always: also while nothing runs. Then the chip is unplugged: errors, and no sample."""
    monitor = monitor_of(INA226)
    with board(request, monitor) as running, Device(
            running.url, timeout=running.link_timeout) as device:
        meter = OnBoardMeter(device, INA226, shunt_ohm=SHUNT, most_ampere=0.8)
        meter.start(MeterMode.ALWAYS)
        while monitor.reads < 100:
            device.state()
        idle = meter.stop()
        assert idle.samples > 50 and idle.errors == 0
        assert 1.0 < idle.watts < 2.0
        meter.start()
        monitor.address = 0x41
        run(device, 30)
        gone = meter.stop()
        assert gone.samples == 0 and gone.errors > 5
        with pytest.raises(LinkError, match=r"^The power monitor gave no sample \(\d+ errors\)"):
            gone.joules(1)
        with pytest.raises(LinkError, match="^No INA226 answers at address 0x40"):
            OnBoardMeter(device, INA226, shunt_ohm=SHUNT, most_ampere=0.8)
        meter = OnBoardMeter(device, INA226, shunt_ohm=SHUNT, most_ampere=0.8, address=0x41)
        meter.start()
        run(device, 30)
        assert meter.stop().errors == 0


def test_clock_stretching(request):
    """The chip holds SCL now and then; every sample still arrives."""
    holds = iter([0] * 40 + [60] * 400)
    monitor = monitor_of(INA226, stretch=lambda: next(holds, 0))
    with board(request, monitor) as running, Device(
            running.url, timeout=running.link_timeout) as device:
        meter = OnBoardMeter(device, INA226, shunt_ohm=SHUNT, most_ampere=0.8)
        meter.start(period_bits=400)
        run(device, 100)
        total = meter.stop()
        assert monitor.stretched and not monitor.violations
        assert total.errors == 0 and total.samples > 5 and 1.0 < total.watts < 2.0


def test_port_and_monitor_go_together(request):
    with pytest.raises(ValueError, match="^A power monitor and its port go together$"):
        board(request, None)
