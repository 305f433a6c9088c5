"""Gate level: the routed design runs an image, and does what the RTL does, to the cycle."""

from dataclasses import dataclass
import random

import numpy as np

from gen.check.trace import first_difference, Trace
from gen.device.device import Device
from gen.device.session import Session
from hw.config import RECORD_WORDS
from model.error import VerificationFailed


__all__ = ["BoardRun", "difference", "run_on"]


SAMPLES = 12
"""Words of the program that are read back from a memory that was not written over the link."""

RUN_TIMEOUT = 3600.0
"""Seconds after which a simulated run is given up."""


@dataclass(frozen=True)
class BoardRun:
    """What a board answered to one image.

    acc, int64 (classes,); counters by name; records, uint64 words of the completion log, two for
    each descriptor; cycles that the board was simulated.
    """

    acc: np.ndarray
    counters: dict
    records: np.ndarray
    cycles: int

    def trace(self):
        """As :func:`gen.check.trace.first_difference` compares it."""
        sigs = (self.records[::2] & np.uint64(0xFFFFFFFF)).tolist()
        return Trace([None] * len(sigs), self.acc, sigs, cycles=self.counters["CYCLES"])


def run_on(board, image, values, *, load):
    """Run one image on a virtual board.

    Parameters
    ----------
    board : sim.rtl.virtual_board.VirtualBoard
    image : gen.compile.package.ProgramImage
    values : array of int8 (C, H, W)
    load : bool
        Write the program over the link; else it must be there, and some of its words are read.

    Raises
    ------
    VerificationFailed
        The memory does not hold the program.
    gen.device.port.LinkError
        As a board would make it.
    """
    with board:
        with Device(board.url, timeout=board.link_timeout) as device:
            session = Session(device, image)
            if load:
                session.load()
            else:
                _check_words(device, image.payload)
            acc, _, counters = session.run(values[None], timeout=RUN_TIMEOUT)
            records = device.read(image.log, RECORD_WORDS * image.descriptors)
    return BoardRun(acc[0], counters, records, board.cycles)


def _check_words(device, payload):
    """Read words from all over the program, the first and the last among them."""
    rng = random.Random(0)
    places = {0, len(payload) - 1, *(rng.randrange(len(payload)) for _ in range(SAMPLES))}
    for address in sorted(places):
        found = int(device.read(address, 1)[0])
        if found != int(payload[address]):
            raise VerificationFailed(f"memory word {address} is {found:#018x}, the program has "
                                     f"{int(payload[address]):#018x}")


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
