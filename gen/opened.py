"""The way to a device, a board at a serial port or the virtual board; its program image."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from boards.spec import BoardSpec
from gen.check.simulate import reported
from gen.compile.package import ProgramImage
from gen.device.device import Device
from model.error import as_input_error, ToolFailed, WeightsMismatch


__all__ = ["bound_image", "reachable"]


@contextmanager
def reachable(board: BoardSpec, config: Any, device: str | None, cache: Path, *,
              monitor: Any = None) -> Iterator[Callable[[], Device]]:
    """What opens the board at a port, or without one the virtual board, which runs meanwhile.

    ``monitor`` is the :class:`sim.twin.power_monitor.PowerMonitor` of a virtual board, whose
    configuration must have the port for one.
    """
    if device is not None:
        baud, _ = board.link(config.clock_hz)
        yield lambda: Device(device, baud=baud)
        return
    from gen.config.memory import twin_memory
    from gen.config.shell import meter_quarter
    from sim.rtl.virtual_board import VirtualBoard, VirtualBoardError

    with as_input_error():
        memory = twin_memory(board, config)
    try:
        # Without a UART, whose bits would be nine tenths of what is simulated.
        with reported(), VirtualBoard(
                config.core, memory=memory, cache=cache, monitor=monitor,
                meter=None if monitor is None else meter_quarter(config)) as virtual:
            yield lambda: Device(virtual.url, timeout=virtual.link_timeout)
    except VirtualBoardError as error:
        raise ToolFailed(str(error)) from None


def bound_image(design: Any, folder: Path) -> ProgramImage:
    """The design's program image, bound to the bitstream of a build folder where there is one.

    ``design`` is a :class:`gen.api.Design`. A build of the same configuration for other weights
    binds it, too: its bitstream is the same.

    Raises
    ------
    InputError
        The folder's program image is damaged.
    WeightsMismatch
        It holds another program for the same network and configuration.
    """
    path = folder / "program.img"
    if not path.is_file():
        return design.image
    image, found = design.image, ProgramImage.load(path)
    if found.config != image.config:
        return image
    if (found.network_digest == image.network_digest
            and found.payload_digest != image.payload_digest):
        raise WeightsMismatch(f"{path}: this code compiles another program for {design.name} than "
                              "the build has; build again, and load the new bitstream")
    return replace(image, identity=found.identity, source=found.source)
