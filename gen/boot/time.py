"""How long a board takes from its configuration to the first class."""

from gen.boot.script import BootScript
from gen.config.shell import spi_halves
from hw.boot_layout import HEADER_BYTES


__all__ = ["TIME_OF", "byte_cycles", "first_result"]


TIME_OF = "computed from clock, bytes and the cost model, without a card's own delays"

BYTE_CYCLES = {"flash": 1, "sd": 2}
"""Cycles of a byte above its bits (:mod:`hw.boot.flash`, :mod:`hw.boot.card`)."""

BLOCK_BYTES = {"flash": 0.0, "sd": 3 / 512}
"""Bytes around a block, for each of its bytes: its token, and its CRC."""


def byte_cycles(clock_hz: int, source: str) -> float:
    """Cycles of a byte of the script, on average."""
    half, _ = spi_halves(clock_hz)
    return (16 * half + BYTE_CYCLES[source]) * (1 + BLOCK_BYTES[source])


def first_result(script: BootScript, config: dict) -> float:
    """Seconds to the first class, of a board with this configuration (that of ``report.json``): the
    bytes up to it, and all pictures' runs."""
    cycles = ((HEADER_BYTES + script.first) * byte_cycles(config["clock_hz"], config["boot"])
              + script.cycles)
    return cycles / config["clock_hz"]
