"""The top that is synthesised, or simulated as a virtual board."""

from gen.config.memory import make_memory
from model.error import as_input_error


__all__ = ["make_shell"]


def make_shell(board, config, *, memory=None):
    """The top that is synthesised: shell, core and memory.

    ``memory`` is that of the configuration unless given (:mod:`gen.config.memory`).
    """
    from hw.shell import Shell

    _, divisor = board.link(config.clock_hz)
    if memory is None:
        with as_input_error():
            memory = make_memory(board, config)
    return Shell(config.core, memory=memory, divisor=divisor)
