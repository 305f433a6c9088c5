"""Instruction-set simulator: executes a compiled program, descriptor by descriptor, in NumPy.

It is the sequencer alone: it fetches descriptors, moves words between memory and streams, and
hands each descriptor to what its unit computes (sim/reference, which the tests of the units use,
too). It knows nothing of layers, so it finds mistakes of the compiler; the RTL must do exactly
what it does (docs/architecture.md).
"""

from collections import deque

import numpy as np

from gen.compile.package import image_words, logits_of
from hw.config import PLANES_MIN
from hw.descriptor import Destination, Header, LAYOUTS, UnitKind, unpack
from sim.reference.array import run_array, stream_words
from sim.reference.attention import attention
from sim.reference.depthwise import depthwise, weight_words
from sim.reference.move import load, store
from sim.reference.neuron import neuron
from sim.reference.state import Memories, Undefined


__all__ = ["Iss"]


class Iss:
    """State of the accelerator and the sequence of its descriptors.

    Parameters
    ----------
    program : gen.isa.program.Program

    Raises
    ------
    sim.reference.state.Undefined
        From :meth:`run`, where the program relies on what the hardware wraps, or takes more from
        a stream than was loaded into it.
    """

    def __init__(self, program):
        config = program.config
        self.program, self.config = program, config
        self.memory = np.zeros(program.memory_words, np.uint64)
        self.memory[:len(program.payload)] = program.payload
        self.memories = Memories(
            pool=np.zeros(config.pool_words, np.uint64),
            psum=np.zeros((config.psum_words, config.rows), np.int64),
            repeats=(np.zeros(config.pool_words // PLANES_MIN, np.int64) if config.plane_skip
                     else None),
            rows=config.rows, acc_bits=config.acc_bits, attention_bits=config.attention_bits,
            level_planes=config.level_planes,
            strict=True)
        self.saturated = {"u": 0, "z": 0, "ktv": 0, "qktv": 0}
        self._constants = None     # those that a NEURON holds for the next one
        self._queues = {d: deque() for d in Destination if d is not Destination.POOL}

    def run(self, image_q, *, progress=None):
        """Run one image int8 (C, H, W), or the images (T, C, H, W) of one sample.

        Returns
        -------
        (acc, logits, outcomes)
            See :func:`logits_of`; a :class:`sim.reference.state.Outcome` of each descriptor, in
            program order.
        """
        program = self.program
        words = image_words(program, image_q)
        self.memory[program.image:program.image + len(words)] = words
        outcomes = []
        at = program.program
        while True:
            packed = sum(int(w) << (64 * k) for k, w in enumerate(self.memory[at:at + 3]))
            header = unpack(Header, packed & ((1 << 64) - 1))
            if header["kind"] == UnitKind.END.value:
                break
            unit = UnitKind(header["kind"])
            outcome = self._execute(unit, unpack(LAYOUTS[unit], packed >> 64))
            for name, count in outcome.saturated.items():
                self.saturated[name] += count
            outcomes.append(outcome)
            at += 3
            if progress is not None:
                progress(1)
        left = {d.name: len(q) for d, q in self._queues.items() if q}
        if left:
            raise Undefined(f"stream words left at the end of the program: {left}")
        words = self.memory[program.result:program.result + program.result_words]
        return *logits_of(program, words), outcomes

    def _pop(self, destination, count):
        queue = self._queues[destination]
        if len(queue) < count:
            raise Undefined(f"{destination.name} stream is empty")
        return np.array([queue.popleft() for _ in range(count)], np.uint64)

    def _execute(self, unit, fields):
        """Run one descriptor on its unit, with what it takes from a stream."""
        config, memories = self.config, self.memories
        if unit is UnitKind.LOAD:
            outcome, words = load(fields, self.memory, memories, image=self.program.image)
            if len(words):
                self._queues[Destination(fields["destination"])].extend(words.tolist())
            return outcome
        if unit is UnitKind.STORE:
            return store(fields, self.memory, memories, result=self.program.result)
        if unit is UnitKind.ARRAY:
            words = self._pop(Destination.WEIGHT, stream_words(fields, config))
            return run_array(fields, words, memories, config=config)
        if unit is UnitKind.DEPTHWISE:
            words = self._pop(Destination.DEPTHWISE, weight_words(fields, rows=config.rows))
            return depthwise(fields, words, memories)
        if unit is UnitKind.ATTENTION:
            return attention(fields, memories)
        words = self._constants
        if words is None:
            words = self._pop(Destination.CONST, config.tile_const_words)
        self._constants = words if fields["hold"] else None
        return neuron(fields, words, memories, membrane_frac=config.membrane_frac,
                      levels=config.levels, half_even=config.half_even,
                      whole_levels=config.whole_levels)
