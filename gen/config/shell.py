"""The top that is synthesised."""

from gen.config.memory import make_memory
from model.error import as_input_error


__all__ = ["make_shell"]


def make_shell(board, config):
    """The top that is synthesised: shell, core and memory, at the board's link speed."""
    from hw.shell import Shell

    _, divisor = board.link(config.clock_hz)
    with as_input_error():
        memory = make_memory(board, config)
    return Shell(config.core, memory=memory, divisor=divisor)
