"""Open a device, a board at a serial port or the virtual board, and run a design on it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boards.spec import BoardSpec
from gen.check.simulate import reported
from gen.device.check import CHECKS, Checks
from gen.device.device import Device
from gen.device.port import LinkError
from gen.device.session import classify, Session
from gen.machine.iss import Iss
from model.error import as_input_error, InputError, known, ToolFailed
from model.progress import track


__all__ = ["classify_on", "opened"]


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


def classify_on(design: Any, images: NDArray[np.int8], *, device: str | None, cache: Path,
                check: Sequence[str]) -> tuple[Any, Any, Any, float, list[str]]:
    """Results of :func:`gen.device.session.classify`, and a line for everything checked.

    ``design`` is a :class:`gen.api.Design`, ``check`` names of :data:`gen.device.check.CHECKS`.

    Raises
    ------
    InputError
        If the device does not answer, holds another design, reports an error or fails a check.
    """
    for name in check:
        known("check", name, CHECKS)

    def signatures(image):
        _, _, outcomes = Iss(design.program).run(image)
        return [outcome.write_hash for outcome in outcomes]

    checks = Checks(crc="crc" in check, twice="twice" in check,
                    signatures=signatures if "host" in check else None)
    # A simulated image takes seconds, one on the board milliseconds.
    timeout = 600.0 if device is None else 10.0
    words = len(design.image.payload)
    try:
        with opened(design.board, design.config, device, cache) as found:
            session = Session(found, design.image)
            with track("load", words, "words") as task:
                session.load(task.reach)
            with track("check", words, "words") as task:
                session.check(task.reach)
            loaded = (f"check after loading: {words} words of program, weights and constants have "
                      f"the right CRC; {task.seconds:.2f} s")
            outcome = classify(session, images, timeout=timeout, checks=checks)
    except LinkError as error:
        raise InputError(str(error)) from None
    return *outcome, [loaded, *checks.lines(design.image.descriptors)]
