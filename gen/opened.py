"""Open a device: a board at a serial port, or the virtual board."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from boards.spec import BoardSpec
from gen.check.simulate import reported
from gen.device.device import Device
from model.error import as_input_error, ToolFailed


__all__ = ["opened"]


@contextmanager
def opened(board: BoardSpec, config: Any, device: str | None, cache: Path) -> Iterator[Device]:
    """An open device: the board at a port, or without one the virtual board."""
    if device is not None:
        baud, _ = board.link(config.clock_hz)
        with Device(device, baud=baud) as found:
            yield found
        return
    from gen.config.memory import twin_memory
    from sim.rtl.virtual_board import VirtualBoard, VirtualBoardError

    with as_input_error():
        memory = twin_memory(board, config)
    try:
        # Without a UART, whose bits would be nine tenths of what is simulated.
        with (reported(), VirtualBoard(config.core, memory=memory, cache=cache) as virtual,
              Device(virtual.url, timeout=virtual.link_timeout) as found):
            yield found
    except VirtualBoardError as error:
        raise ToolFailed(str(error)) from None
