"""Serial ports, before they are opened."""

import os
from pathlib import Path

from model.error import InputError


__all__ = ["check_port"]


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
