"""Open a device, a board at a serial port or the virtual board, and run a design on it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boards.spec import BoardSpec
from gen.check.simulate import reported
from gen.compile.package import ProgramImage
from gen.device.check import CHECKS, Checks
from gen.device.device import Device
from gen.device.port import LinkError
from gen.device.session import classify, Session
from gen.machine.iss import Iss
from model.error import as_input_error, InputError, known, ToolFailed, WeightsMismatch
from model.progress import track


__all__ = ["bound_image", "classify_on", "opened", "simulate"]


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


def simulate(design: Any, images: NDArray[np.int8]) -> tuple[Any, Any, Any, float]:
    """The same from the instruction-set simulator, which has no counters."""
    started = time.monotonic()
    program = design.program
    simulator = Iss(program)
    found = []
    with track("run", len(images) * len(program.descriptors), "descriptors") as task:
        for image in images:
            acc, logits, _ = simulator.run(image, progress=task.update)
            found.append((acc.reshape(-1), logits.reshape(-1)))
    accs, scores = zip(*found, strict=True)
    return np.stack(accs), np.stack(scores), {}, time.monotonic() - started


def classify_on(design: Any, images: NDArray[np.int8], *, device: str | None, cache: Path,
                check: Sequence[str], folder: Path | None = None
                ) -> tuple[Any, Any, Any, float, list[str]]:
    """Results of :func:`gen.device.session.classify`, and a line for everything checked.

    ``design`` is a :class:`gen.api.Design`, ``check`` names of :data:`gen.device.check.CHECKS`,
    ``folder`` that of the build whose bitstream a board has.

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
    image = design.image
    if device is not None and folder is not None:
        image = bound_image(design, folder)
    words = len(image.payload)
    try:
        with opened(design.board, design.config, device, cache) as found:
            session = Session(found, image)
            with track("load", words, "words") as task:
                session.load(task.reach)
            with track("check", words, "words") as task:
                session.check(task.reach)
            loaded = (f"check after loading: {words} words of program, weights and constants have "
                      f"the right CRC; {task.seconds:.2f} s")
            outcome = classify(session, images, timeout=timeout, checks=checks)
    except LinkError as error:
        raise InputError(str(error)) from None
    return *outcome, [session.bitstream, loaded, *checks.lines(image.descriptors)]
