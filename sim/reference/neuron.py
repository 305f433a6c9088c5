"""NEURON, bit exact: what hw.neuron.unit.NeuronUnit must do to the pool. NumPy only."""

import numpy as np

from hw.config import LEVELS_MAX, MEMBRANE_BITS, MEMORY_BITS
from hw.descriptor import NeuronFunction, NeuronSource
from model.integer import golden
from sim.reference.lanes import from_membranes, signed, to_membranes, to_planes


__all__ = ["fire_constants", "neuron", "pack_fire", "pack_scale", "scale_constants"]


_INVERT = 127
_MULTIPLIER, _BIAS, _SHIFT = (0, 24), (24, 48), (72, 5)
"""Place and width of the fields of a SCALE constant."""


def _words_of_ints(values):
    """128-bit Python integers -> memory words, two each."""
    mask = (1 << MEMORY_BITS) - 1
    return np.array([part for value in values for part in (value & mask, value >> MEMORY_BITS)],
                    np.uint64)


def pack_fire(thresholds, invert, acc_bits):
    """Constants of FIRE for R lanes: thresholds (R, levels), invert (R,) -> memory words.

    Raises:
        ValueError: If a threshold does not fit ``acc_bits + 1`` bits.
    """
    width = acc_bits + 1
    mask = (1 << width) - 1
    values = []
    for row, negative in zip(np.asarray(thresholds).tolist(), np.asarray(invert).tolist(),
                             strict=True):
        value = int(bool(negative)) << _INVERT
        for k, threshold in enumerate(row):
            if not -(1 << (width - 1)) <= threshold < 1 << (width - 1):
                raise ValueError(f"Threshold must fit in {width} bits, not {threshold}")
            value |= (threshold & mask) << (k * width)
        values.append(value)
    return _words_of_ints(values)


def pack_scale(multiplier, bias, shift):
    """Constants of SCALE for R lanes -> memory words."""
    fields = _MULTIPLIER, _BIAS, _SHIFT
    return _words_of_ints([
        sum((value & (1 << width) - 1) << at
            for value, (at, width) in zip(lane, fields, strict=True))
        for lane in zip(*(np.asarray(x).tolist() for x in (multiplier, bias, shift)),
                        strict=True)])


def _field(words, at, width):
    """Bits of 128-bit constants, memory words (2 R,): int64 (R,), not negative."""
    low, high = np.asarray(words, np.uint64).reshape(-1, 2).T
    word, place = divmod(at, MEMORY_BITS)
    value = (high if word else low) >> np.uint64(place)
    if word == 0 and place and place + width > MEMORY_BITS:
        value = value | high << np.uint64(MEMORY_BITS - place)
    return (value & np.uint64((1 << width) - 1)).astype(np.int64)


def fire_constants(words, acc_bits, levels=LEVELS_MAX):
    """The reverse of :func:`pack_fire`: thresholds int64 (R, levels), invert bool (R,)."""
    width = acc_bits + 1
    thresholds = [signed(_field(words, k * width, width), width) for k in range(levels)]
    return np.stack(thresholds, axis=1), _field(words, _INVERT, 1) == 1


def scale_constants(words):
    """The reverse of :func:`pack_scale`: multiplier, bias and shift, each int64 (R,)."""
    return (signed(_field(words, *_MULTIPLIER), _MULTIPLIER[1]),
            signed(_field(words, *_BIAS), _BIAS[1]), _field(words, *_SHIFT))


def neuron(fields, words, memories, *, membrane_frac, levels=LEVELS_MAX, half_even=False,
           whole_levels=False):
    """Run one NEURON descriptor.

    Args:
        fields: Fields of the descriptor (``hw.descriptor.unpack(Neuron, ...)``).
        words: The tile's 2 * rows constant words.
        memories: A :class:`sim.reference.state.Memories`; planes that repeat the sign are counted
            if it has room for the counts.
        membrane_frac, levels, half_even, whole_levels: As in ``hw.config.CoreConfig``.

    Returns:
        A :class:`sim.reference.state.Outcome`; ``saturated`` counts lanes of "u" and "z".
    """
    rows = memories.rows
    positions = np.arange(fields["count"])[:, None]

    def membranes_at(base):
        return base + positions * fields["membrane_stride"] + np.arange(MEMBRANE_BITS)

    def membranes():
        return from_membranes(memories.read(membranes_at(fields["membrane_in"])), rows=rows)

    if NeuronSource(fields["source"]) is NeuronSource.MEMBRANE_SUM:
        acc = membranes().sum(axis=0, keepdims=True)
        positions = positions[:1]
    else:
        acc = memories.sums(fields["psum"], fields["count"])

    def planes(values, count):
        at = fields["plane_out"] + positions * fields["plane_stride"] + np.arange(count)
        return at, to_planes(values, bits=count)

    if NeuronFunction(fields["function"]) is NeuronFunction.FIRE:
        thresholds, invert = fire_constants(words, memories.acc_bits, levels)
        level = golden.level_fire(acc, thresholds, invert=invert)
        return memories.write(*planes(level, memories.level_planes),
                              events=int(level.sum()) & 0xFFFF_FFFF)
    y = golden.scale_shift(acc, *scale_constants(words))
    if fields["write_planes"]:
        z = golden.saturate(y, fields["planes"])
        at, written = planes(z, fields["planes"])
        memories.count_repeats(at, written)
        return memories.write(at, written, saturated={"z": int((z != y).sum())})
    if fields["add"]:
        y = y + membranes()
    u = golden.saturate(y, MEMBRANE_BITS)
    # Word by word per position: membrane words, then level words.
    parts, events = [], 0
    if fields["write_membrane"]:
        parts.append((membranes_at(fields["membrane_out"]), to_membranes(u)))
    if fields["write_levels"]:
        if whole_levels and fields["planes"] == 1:
            level = golden.fire_whole(u, u_frac=membrane_frac, levels=levels)
        else:
            level = golden.fire_membrane(u, u_frac=membrane_frac, levels=levels,
                                         half_even=half_even)
        events = int(level.sum()) & 0xFFFF_FFFF
        parts.append(planes(level, memories.level_planes))
    at, written = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
    return memories.write(at, written, events=events, saturated={"u": int((u != y).sum())})
