"""The top that is synthesised."""

from gen.config.memory import make_memory
from model.error import as_input_error


__all__ = ["make_shell", "meter_quarter"]


METER_HZ = 400_000
"""Clock of the bus of a power monitor, at most: fast mode of I2C (UM10204)."""


def meter_quarter(config):
    """Cycles in a quarter of a bit of the power monitor's bus; None without its port."""
    return -(-config.clock_hz // (4 * METER_HZ)) if config.meter else None


def make_shell(board, config):
    """The top that is synthesised: shell, core and memory, at the board's link speed."""
    from hw.shell import Shell

    _, divisor = board.link(config.clock_hz)
    with as_input_error():
        memory = make_memory(board, config)
    return Shell(config.core, memory=memory, divisor=divisor, meter=meter_quarter(config))
