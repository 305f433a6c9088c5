"""What stands behind ``--meter``."""

import subprocess
import sys

import pytest

from gen.meter.base import MeterError
from gen.meter.choice import DRIVERS, meter_help, parse_meter
from model.command import EXTRAS
from model.error import InputError


def test_options_and_defaults():
    meter = parse_meter("ina:shunt=0.02,address=0x44")
    assert (meter.options["shunt"], meter.options["address"], meter.options["bus"]) == (
        0.02, 0x44, 1)
    assert parse_meter("simulated").tag == "simulated" and parse_meter("usb").tag == "board"
    assert parse_meter("joulescope:serial=0012").options["serial"] == "0012"


@pytest.mark.parametrize("text, message", [
    ("", "Unknown meter '': known are ina, board, ppk2, joulescope, usb, file, simulated"),
    ("volt", "Unknown meter 'volt'"),
    ("ina:ohm=1", "Unknown option of meter ina 'ohm': known are bus, address, shunt"),
    ("ina:shunt", "--meter ina: 'shunt' is not of the form key=value"),
    ("ina:shunt=R100", "--meter ina: shunt must be a number, not 'R100' (shunt, in ohms"),
    ("ina:bus=1.5", "--meter ina: bus must be a whole number, not '1.5'"),
    ("ina:shunt=0", "--meter ina: shunt must be 0.0001 to 10, not 0"),
    ("ina:shunt=nan", "--meter ina: shunt must be 0.0001 to 10, not nan"),
    ("ppk2:volts=12", "--meter ppk2: volts must be 0.8 to 5, not 12"),
    ("usb:serial=1,serial=2", "--meter usb: serial is given twice"),
    ("ppk2:mode=both", "--meter ppk2: mode must be source or ampere, not 'both'"),
])
def test_mistakes(text, message):
    with pytest.raises(InputError) as caught:
        parse_meter(text)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_help_has_every_meter_and_option():
    text = meter_help()
    for name in DRIVERS:
        assert f"\n{name}: " in f"\n{text}"
        for option in parse_meter("file:x" if name == "file" else name).OPTIONS:
            assert f"    {option}=" in text


@pytest.mark.parametrize("name, module", [("ina", "smbus2"), ("ppk2", "ppk2lab"),
                                          ("joulescope", "pyjoulescope_driver"), ("usb", "hid")])
def test_library_is_asked_for_where_it_is_used(monkeypatch, name, module):
    """A library that is missing matters to its own meter only, and is named with its extra."""
    assert EXTRAS[module] == f"meter-{name}"
    monkeypatch.setitem(sys.modules, module, None)
    meter = parse_meter(name)
    with pytest.raises((ModuleNotFoundError, MeterError)) as caught, meter:
        pass
    assert getattr(caught.value, "name", None) == module


def test_nothing_is_loaded_before():
    script = ("import sys; from gen.meter.choice import *; meter_help(); "
              "[parse_meter(name) for name in DRIVERS if name != 'file']; "
              "print([m for m in ('smbus2', 'ppk2lab', 'pyjoulescope_driver', 'hid', 'serial') "
              "if m in sys.modules])")
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "[]\n"
