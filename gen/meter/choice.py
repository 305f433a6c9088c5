"""``--meter NAME:key=value,...``: which meters there are, and what each can be told."""

from importlib import import_module
import math
import re

from gen.meter.base import Meter, Option
from model.error import InputError, known


__all__ = ["DRIVERS", "meter_help", "parse_meter"]


DRIVERS = {
    "ina": ("gen.meter.ina", "Ina", "INA226 or INA228 on an I2C bus of the host"),
    "board": ("gen.meter.onboard", "OnBoard", "INA226 or INA228 on the board's own bus, for qsdt "
                                              "measure"),
    "ppk2": ("gen.meter.ppk2", "Ppk2", "Nordic Power Profiler Kit II"),
    "joulescope": ("gen.meter.joulescope", "Joulescope", "Joulescope JS110, JS220, JS320"),
    "usb": ("gen.meter.usb", "Usb", "FNIRSI FNB58 or FNB48S in the USB cable"),
    "file": ("gen.meter.file", "File", "recording of any instrument, CSV"),
    "simulated": ("gen.meter.simulated", "Simulated", "no instrument: a waveform, to rehearse"),
}
"""Each meter: module, class, and what it is."""


def _driver(name: str) -> type[Meter]:
    module, class_name, _ = DRIVERS[known("meter", name, DRIVERS)]
    return getattr(import_module(module), class_name)


def parse_meter(text: str) -> Meter:
    """The meter that the words behind ``--meter`` name, not opened; nothing is imported that
    needs an instrument.

    Parameters
    ----------
    text : str
        ``NAME``, ``NAME:key=value,key=value`` or ``file:PATH,key=value``.

    Raises
    ------
    InputError
        An unknown meter or option, or a value that cannot be.
    """
    name, _, rest = text.partition(":")
    driver = _driver(name)
    words = re.split(r",(?=\w+=)", rest) if rest else []
    options: dict[str, float | str | None] = {}
    if words and driver.name == "file" and "path" in driver.OPTIONS and (
            not re.match(r"\w+=", words[0])):
        options["path"] = words.pop(0)
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise InputError(f"--meter {name}: {word!r} is not of the form key=value")
        option = driver.OPTIONS[known(f"option of meter {name}", key, driver.OPTIONS)]
        if key in options:
            raise InputError(f"--meter {name}: {key} is given twice")
        options[key] = _value(f"--meter {name}: {key}", value, option)
    return driver(**options)


def _value(what: str, text: str, option: Option) -> float | str:
    if option.kind is str:
        return text
    try:
        value = int(text, 0) if option.kind is int else float(text)
    except ValueError:
        raise InputError(f"{what} must be {'a whole ' if option.kind is int else 'a '}number, not "
                         f"{text!r} ({option.text})") from None
    if not (option.low <= value <= option.high and math.isfinite(value)):
        raise InputError(f"{what} must be {option.low:g} to {option.high:g}, not {text} "
                         f"({option.text})")
    return value


def meter_help() -> str:
    """All meters with their options and defaults, a line each."""
    lines = []
    for name, (_, _, text) in DRIVERS.items():
        lines.append(f"{name}: {text}")
        lines += [f"    {key}={'' if option.default is None else option.default}: {option.text}"
                  for key, option in _driver(name).OPTIONS.items()]
    return "\n".join(lines)
