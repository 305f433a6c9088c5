"""The pads: a routed design with SDRAM boots, calibrates its memory, and runs one layer."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from gen.check.trace import iss_trace, rtl_writes, written_words
from gen.compile.excerpt import excerpt
from gen.proof.gate import wait_for
from hw.config import RECORD_WORDS
from hw.descriptor import UnitKind
from model.error import InputError


__all__ = ["LayerRun", "run_layer", "small_layer"]


@dataclass(frozen=True)
class LayerRun:
    """What a board did: status of its memory by name, signatures of the descriptors, counters."""

    memory: dict
    sigs: list
    counters: dict

    def difference(self, wanted):
        """None, or the first descriptor whose signature is not that of ``wanted``, a
        :class:`gen.check.trace.Trace`, in words."""
        for index, (one, other) in enumerate(zip(wanted.sigs, self.sigs, strict=True)):
            if one != other:
                return f"signature of descriptor {index}: {other:08x}, in the ISS {one:08x}"
        return None


def small_layer(network, program, image_q):
    """The layer that writes least to the pool, of those with loads, array and neurons: alone.

    Returns
    -------
    (gen.compile.excerpt.Excerpt, words, gen.check.trace.Trace)
        Words are ``{address: word}`` of the memory before it runs, the trace is that of the ISS.
    """
    size: Counter = Counter()
    for descriptor in program.descriptors:
        size[descriptor.layer] += written_words(descriptor)
    part = next(part for name in sorted(size, key=size.get)
                if (part := _excerpt(network, program, name)) is not None)
    tensors = part.tensors(image_q)
    presets = part.presets(tensors)
    words = {address: int(word) for address, word in enumerate(part.program.payload) if word}
    for first, values in rtl_writes(part.program, image_q, presets):
        words |= {first + place: int(word) for place, word in enumerate(values)}
    return part, words, iss_trace(part.program, image_q, presets).signatures()


def _excerpt(network, program, name):
    """A layer alone; None for what is none, takes inputs that are nowhere as a whole, or leaves
    out memory, array or neurons."""
    try:
        part = excerpt(network, program, name)
    except (InputError, ValueError):
        return None
    units = {descriptor.unit for descriptor in part.program.descriptors}
    return part if {UnitKind.LOAD, UnitKind.ARRAY, UnitKind.NEURON} <= units else None


def run_layer(board, program, words, *, say):
    """Boot a board, let it calibrate its memory, and run the program of an excerpt.

    Parameters
    ----------
    board : sim.gate.sdram_board.SdramGateBoard
    program : gen.isa.program.Program
    words : dict
        ``{address: word}`` of its memory.
    say : callable

    Raises
    ------
    gen.device.port.LinkError
        As a board would make it: the memory has a fault, for example.
    """
    from gen.device.device import Device

    with board, Device(board.url, timeout=board.link_timeout) as device:
        memory = device.info().memory
        say(f"memory calibrated: {memory['window']} phases pass")
        board.clear()
        board.load(words)
        device.start(program=program.program, log=program.log, image=program.image,
                     image_stride=program.image_words, result=program.result,
                     result_stride=program.result_words, count=1)
        wait_for(device, say)
        counters = device.counters()
        records = np.array(board.read(program.log, RECORD_WORDS * len(program.descriptors)),
                           np.uint64)
    return LayerRun(memory, (records[::2] & np.uint64(0xFFFFFFFF)).tolist(), counters)
