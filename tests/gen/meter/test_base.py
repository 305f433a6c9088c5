"""The interface: what every driver keeps to."""

import pytest

from gen.meter import base
from gen.meter.choice import DRIVERS, parse_meter
from model.error import InputError


@pytest.mark.parametrize("name", DRIVERS)
def test_every_driver_keeps_to_the_interface(name):
    meter = parse_meter("file:x" if name == "file" else name)
    assert isinstance(meter, base.Meter) and meter.name == name
    assert meter.tag == ("simulated" if name == "simulated" else "board")
    assert all(option.text for option in meter.OPTIONS.values())
    meter.close()    # also of one that was never opened
    meter.close()


def test_errors_are_the_users():
    assert issubclass(base.MeterError, InputError)


def test_numbers():
    assert parse_meter("ina").number("shunt") == 0.1
    assert parse_meter("file:x").number("volts") == 0.0
