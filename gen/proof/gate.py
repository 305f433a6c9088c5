"""Gate level: the routed design runs an image, and does what the RTL does, to the cycle."""

from dataclasses import dataclass
import time

import numpy as np

from gen.check.trace import first_difference, Trace
from gen.compile.package import image_words, logits_of
from gen.device.port import LinkError
from hw.config import RECORD_WORDS
from hw.register import Counter, COUNTER_BASE


__all__ = ["BoardRun", "difference", "memory_words", "run_gates", "run_on", "wait_for"]


RUN_TIMEOUT = 3600.0
"""Seconds after which a simulated run is given up."""


@dataclass(frozen=True)
class BoardRun:
    """What a board answered to one image.

    acc, int64 (classes,); counters by name; records, uint64 words of the completion log, two for
    each descriptor; cycles that the board was simulated; identity, that of its design.
    """

    acc: np.ndarray
    counters: dict
    records: np.ndarray
    cycles: int
    identity: int = 0

    def trace(self):
        """As :func:`gen.check.trace.first_difference` compares it."""
        sigs = (self.records[::2] & np.uint64(0xFFFFFFFF)).tolist()
        return Trace([None] * len(sigs), self.acc, sigs, cycles=self.counters["CYCLES"])


def run_on(board, image, values):
    """Run one image on a virtual board; everything goes over its link.

    Parameters
    ----------
    board : sim.rtl.virtual_board.VirtualBoard
    image : gen.compile.package.ProgramImage
    values : array of int8 (C, H, W)

    Raises
    ------
    gen.device.port.LinkError
        As a board would make it.
    """
    from gen.device.device import Device  # needs pyserial, of which --help knows nothing
    from gen.device.session import Session

    with board:
        with Device(board.url, timeout=board.link_timeout) as device:
            session = Session(device, image)
            session.load()
            acc, _, counters = session.run(values[None], timeout=RUN_TIMEOUT)
            records = device.read(image.log, RECORD_WORDS * image.descriptors)
    return BoardRun(acc[0], counters, records, board.cycles)


def memory_words(image, values):
    """What the memory behind a core holds before it runs one image: words (int), or None where
    nothing defines them."""
    words = [None] * image.memory_words
    words[:len(image.payload)] = image.payload.tolist()
    words[image.image:image.image + image.image_words] = image_words(image, values).tolist()
    return words


def run_gates(board, image, *, say):
    """Run one image on a routed design whose memory holds it (:func:`memory_words`).

    The host's code opens the device, sets its registers, starts it, waits and reads the counters.
    Results and completion log are read from the simulated block RAMs, since a UART needs 400
    cycles and more for a byte.

    Parameters
    ----------
    board : sim.gate.board.GateBoard
    image : gen.compile.package.ProgramImage
    say : callable
        Is told now and then, in words, how far the run is.

    Raises
    ------
    gen.device.port.LinkError
        As a board would make it.
    """
    from gen.device.device import Device

    with board:
        with Device(board.url, timeout=board.link_timeout) as device:
            say("the design answers")
            device.start(program=image.program, log=image.log, image=image.image,
                         image_stride=image.image_words, result=image.result,
                         result_stride=image.result_words, count=1)
            wait_for(device, say)
            counters = device.counters()
            identity = device.info().identity
    acc, _ = logits_of(image, np.array(board.words(image.result, image.result_words), np.uint64))
    records = np.array(board.words(image.log, RECORD_WORDS * image.descriptors), np.uint64)
    return BoardRun(acc, counters, records, board.cycles, identity)


def wait_for(device, say):
    """Wait until the simulated core of a device is idle; ``say`` is told the cycles so far."""
    deadline = time.monotonic() + RUN_TIMEOUT
    while device.is_busy():
        if time.monotonic() >= deadline:
            raise LinkError(f"the design is still busy after {RUN_TIMEOUT:.0f} s")
        cycles, = device.read_registers(COUNTER_BASE + Counter.CYCLES)
        say(f"{cycles:,} cycles")


def difference(program, iss, rtl, gate):
    """None, or the first difference of a gate level run, in words.

    Results and signatures are compared with the ISS, then the counters, and the completion log
    with its times, with the RTL.

    Parameters
    ----------
    program : gen.isa.program.Program
    iss : gen.check.trace.Trace
    rtl, gate : BoardRun
    """
    found = first_difference(program, iss, gate.trace())
    if found is not None:
        return found.text
    for name, value in rtl.counters.items():
        if gate.counters[name] != value:
            return f"counter {name}: {gate.counters[name]}, in RTL {value}"
    other = np.flatnonzero(rtl.records != gate.records)
    if len(other):
        word = int(other[0])
        return (f"completion record of descriptor {word // RECORD_WORDS}: "
                f"{int(gate.records[word]):#018x}, in RTL {int(rtl.records[word]):#018x}")
    return None
