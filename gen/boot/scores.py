"""Scores of classes in 16 bits, which a board compares without a host.

The last layer leaves accumulators, whose scales differ from class to class, so that the highest
need not be the class. Here its constants are replaced: the neuron core rescales them to scores.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gen.compile.package import ProgramImage
from hw.config import BIAS_BITS, SHIFT_MAX
from hw.descriptor import (
    DESCRIPTOR_WORDS,
    Destination,
    Header,
    LAYOUTS,
    Load,
    NeuronFunction,
    pack,
    UnitKind,
    unpack,
)
from model.error import InputError
from model.integer.golden import saturate, scale_shift
from sim.reference.neuron import pack_scale, scale_constants


__all__ = ["SCORE_BITS", "ScoreTable", "with_scores"]


SCORE_BITS = 16
"""Of a score, two's complement."""

WORD = (1 << 64) - 1

MARGIN = 2
"""Times the largest class score of the known images that a score can hold."""

@dataclass(frozen=True)
class ScoreTable:
    """Scores ``saturate((multiplier * acc + bias + half) >> shift)``, in steps of ``step``.

    ``multiplier`` and ``bias`` are int64 (classes,).
    """

    multiplier: NDArray[np.int64]
    bias: NDArray[np.int64]
    shift: int
    step: float

    @classmethod
    def of(cls, image: ProgramImage, acc) -> "ScoreTable":
        """A table for a program, with room for ``MARGIN`` times the class scores of known
        accumulators int (N, classes), in the smallest steps that the core's multipliers allow."""
        scale, offset = (np.asarray(image.logits[name], np.float64) for name in ("scale", "offset"))
        scale, offset = np.broadcast_arrays(scale, offset)
        known = float(np.abs(scale * np.asarray(acc) + offset).max())
        largest = (1 << image.config.multiplier_bits - 1) - 1, (1 << BIAS_BITS - 1) - 1
        limits = [np.abs(values).max() / most for values, most in zip((scale, offset), largest,
                                                                      strict=True)]
        step = max(MARGIN * known / ((1 << SCORE_BITS - 1) - 1), *limits, np.finfo(float).tiny)
        shift = next(shift for shift in range(SHIFT_MAX, -1, -1)
                     if max(limits) <= np.ldexp(step, -shift))
        multiplier, bias = (np.rint(np.ldexp(values / step, shift)).astype(np.int64)
                            for values in (scale, offset))
        return cls(multiplier, bias, shift, step)

    def scores(self, acc) -> NDArray[np.int64]:
        """Scores int64 (N, classes) of accumulators, as the board has them."""
        exact = scale_shift(np.asarray(acc), self.multiplier, self.bias,
                            np.full(len(self.bias), self.shift))
        return saturate(exact, SCORE_BITS)

    def classes(self, acc) -> NDArray[np.int64]:
        """Class (N,) that the board shows: the first of the highest scores."""
        return self.scores(acc).argmax(axis=1)


def with_scores(image: ProgramImage, table: ScoreTable, at: int
                ) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The program with the constants of ``table`` in its last layer: its payload, which loads
    them from ``at`` on, and they, both uint64 memory words.

    They have a place of their own, since equal constants of the program are stored once. Lanes
    without a class get the lowest score.

    Raises
    ------
    InputError
        The last layer does not leave plain accumulators.
    """
    payload, tables = image.payload.copy(), []
    rows, lanes = image.config.rows, image.maps["logits_acc"].lanes
    lowest = -(1 << SCORE_BITS - 1) << table.shift
    name = image.source or image.model
    loads = list(_head_loads(image))
    if len(loads) * rows != len(lanes):
        raise InputError(f"{name}: its last layer loads {len(loads)} tiles of constants for "
                         f"{len(lanes)} lanes: build it again")
    for group, (index, fields) in enumerate(loads):
        channels = lanes[group * rows:][:rows]
        used = channels >= 0
        size = image.config.tile_const_words
        start = fields["memory_address"]
        multiplier, bias, shift = scale_constants(payload[start:start + size])
        if (fields["length"], fields["count"]) != (size, 1) or (multiplier != used).any() \
                or bias.any() or shift.any():
            raise InputError(f"{name}: its last layer does not leave plain accumulators: build it "
                             "again")
        place = image.program + DESCRIPTOR_WORDS * index
        packed = pack(Load, **{**fields, "memory_address": at + group * size})
        payload[place + 1:place + DESCRIPTOR_WORDS] = [
            packed >> 64 * word & WORD for word in range(DESCRIPTOR_WORDS - 1)]
        tables.append(pack_scale(np.where(used, table.multiplier[channels], 0),
                                 np.where(used, table.bias[channels], lowest),
                                 np.full(rows, table.shift)))
    return payload, np.concatenate(tables)


def _head_loads(image):
    """Number and fields of the LOAD that brings each tile of constants of the last layer, in their
    order."""
    words: deque = deque()
    held = 0
    last = next(layer for layer, unit in zip(reversed(image.layers), reversed(image.units),
                                             strict=True) if unit == UnitKind.NEURON.value)
    for index, layer in enumerate(image.layers):
        at = image.program + DESCRIPTOR_WORDS * index
        header, *rest = image.payload[at:at + DESCRIPTOR_WORDS].tolist()
        unit = UnitKind(unpack(Header, header)["kind"])
        fields = unpack(LAYOUTS[unit], rest[0] | rest[1] << 64)
        if unit is UnitKind.LOAD and fields["destination"] == Destination.CONST.value:
            words.extend([(index, fields)] * fields["length"] * fields["count"])
        elif unit is UnitKind.NEURON:
            if not held:
                taken = [words.popleft() for _ in range(image.config.tile_const_words)]
                if layer == last and fields["function"] == NeuronFunction.SCALE.value:
                    yield taken[0]
            held = fields["hold"]
