"""The top that is synthesised."""

from math import ceil, log2

from gen.config.memory import make_memory
from model.error import as_input_error


__all__ = ["make_boot", "make_shell", "meter_quarter", "spi_halves"]


METER_HZ = 400_000
"""Clock of the bus of a power monitor, at most: fast mode of I2C (UM10204)."""

SPI_HZ, SPI_SLOW_HZ = 25_000_000, 400_000
"""Clock of a card, at most, and until it is initialised: default speed (SD Specifications, Part 1,
Physical Layer Simplified Specification, 6.6.6). A flash is read at the former, too."""

TIMEOUT_S = 1
"""Seconds that a card may take to initialise (4.2.3 there); the time-out is the next power of two
of cycles that is as long."""


def spi_halves(clock_hz: int) -> tuple[int, int]:
    """Cycles in half a bit of a flash or card, and of a card until it is initialised: powers of two
    of at least 2."""
    fast, slow = (max(2, 1 << ceil(log2(clock_hz / (2 * hz)))) for hz in (SPI_HZ, SPI_SLOW_HZ))
    return fast, slow


def make_boot(config):
    """The boot master that a configuration asks for, or None."""
    if config.boot == "none":
        return None
    from hw.boot.card import CardSource
    from hw.boot.flash import FlashSource
    from hw.boot.master import BootMaster

    half, slow = spi_halves(config.clock_hz)
    source = FlashSource(half=half) if config.boot == "flash" else CardSource(half=half, slow=slow)
    return BootMaster(source=source,
                      timeout_bits=ceil(log2(TIMEOUT_S * config.clock_hz)))


def meter_quarter(config):
    """Cycles in a quarter of a bit of the power monitor's bus; None without its port."""
    return -(-config.clock_hz // (4 * METER_HZ)) if config.meter else None


def make_shell(board, config):
    """The top that is synthesised: shell, core and memory, at the board's link speed."""
    from hw.shell import Shell

    _, divisor = board.link(config.clock_hz)
    with as_input_error():
        memory = make_memory(board, config)
    return Shell(config.core, memory=memory, divisor=divisor, meter=meter_quarter(config),
                 boot=make_boot(config))
