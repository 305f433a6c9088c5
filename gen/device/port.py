"""Serial ports: looked at before a long computation, and opened."""

import errno
import os
from pathlib import Path
import time
from typing import Any

from model.error import InputError


__all__ = ["LinkError", "check_port", "open_port"]


WAIT_S = 5.0
"""A port is away for a moment after a bitstream was loaded; udev then needs up to some seconds."""

_AWAY = {errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.EIO, errno.EACCES}


class LinkError(Exception):
    """The device cannot be reached, or does not answer as it should."""


def open_port(port: str, *, baud: int) -> Any:
    """Open what pyserial opens, for this program alone; waits :data:`WAIT_S` for a port away.

    Raises :class:`LinkError` if it cannot be opened.
    """
    import serial

    options: dict[str, Any] = {"baudrate": baud, "timeout": 0}
    if not port.startswith("rfc2217://"):       # pyserial has no write timeout there
        options["write_timeout"] = 30
    if "://" not in port and os.name == "posix":
        options["exclusive"] = True
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            return serial.serial_for_url(port, **options)
        except (serial.SerialException, OSError, ValueError) as error:
            code = getattr(error, "errno", None)
            if code in _AWAY and time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            if code == errno.EACCES:
                remedy = "; add yourself to the group dialout and log in again"
            elif code in (errno.EAGAIN, errno.EBUSY):
                remedy = "; close the other program that uses it"
            else:
                remedy = ""
            raise LinkError(f"Cannot open {port}: {error}{remedy}") from error


def check_port(port: str | None) -> None:
    """Say now what would prevent opening a serial port after a long computation.

    Ports with a scheme (``socket://host:port``) and Windows' names are only found out when they
    are opened.
    """
    if port is None:
        raise InputError("Name the board's serial port: --port /dev/ttyUSB0 (qsdt doctor lists "
                         "those that are there)")
    if "://" in port or os.name != "posix":
        return
    if not Path(port).exists():
        raise InputError(f"Cannot open {port}: there is no such port; connect the board, or look "
                         f"for its name with: qsdt doctor")
    if not os.access(port, os.R_OK | os.W_OK):
        raise InputError(f"Cannot open {port}: no permission; add yourself to the group dialout "
                         f"and log in again")
