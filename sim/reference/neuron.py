"""NEURON, bit exact: what hw.neuron.unit.NeuronUnit must do to the pool. NumPy only."""

from typing import NamedTuple

import numpy as np

from model import golden
from sim.reference.signature import signature


__all__ = ["NeuronResult", "neuron"]


_MASK = (1 << 64) - 1
_MEMBRANE_WORDS = 16
_LEVEL_PLANES = 3


class NeuronResult(NamedTuple):
    """Completion of a descriptor, and how many lanes it clipped."""
    signature: int
    events: int
    u_saturated: int
    z_saturated: int


def _signed(value, bits):
    value &= (1 << bits) - 1
    return value - (value >> (bits - 1) << bits)


def _addresses(base, stride, count, words, size):
    """(count, words) pool indices; addresses are 16 bits and wrap."""
    return ((base + np.arange(count)[:, None] * stride + np.arange(words)) & 0xffff) & (size - 1)


def _planes(values, words, rows):
    """(count, words) plane words of (count, rows) values."""
    lanes = np.arange(rows, dtype=np.uint64)
    bits = (values[:, None, :] >> np.arange(words)[:, None]) & 1
    return np.bitwise_or.reduce(bits.astype(np.uint64) << lanes, axis=2)


def neuron(fields, constants, pool, psum, *, rows, acc_bits, membrane_frac):
    """Run one NEURON descriptor.

    Args:
        fields: Fields of the descriptor (``hw.descriptor.unpack(Neuron, ...)``).
        constants: The tile's 2 * rows constant words, as integers.
        pool: Pool words, uint64, a power of two of them; written in place.
        psum: Partial sums, (words, rows) int64.
        rows, acc_bits, membrane_frac: As in ``hw.config.CoreConfig``.

    Returns:
        A :class:`NeuronResult`.
    """
    channels = [int(constants[2 * c]) & _MASK | (int(constants[2 * c + 1]) & _MASK) << 64
                for c in range(rows)]
    count, stride = fields["count"], fields["membrane_stride"]
    fire, summing = fields["function"] == 0, fields["source"] == 1
    word_type = np.dtype(f"<u{rows // 8}")

    def membranes():
        words = pool[_addresses(fields["membrane_in"], stride, count, _MEMBRANE_WORDS, len(pool))]
        return words.astype(word_type).view("<i2").astype(np.int64)

    if summing:
        acc, count = membranes().sum(axis=0, keepdims=True), 1
    else:
        acc = psum[fields["psum"] + np.arange(count)]

    level, value, u_saturated, z_saturated = None, None, 0, 0
    plane_words = 0
    if fire:
        width = acc_bits + 1
        thresholds = [[_signed(c >> (k * width), width) for k in range(4)] for c in channels]
        level = golden.level_fire(acc, thresholds, invert=[bool(c >> 127) for c in channels])
    else:
        y = golden.scale_shift(acc, [_signed(c, 24) for c in channels],
                               [_signed(c >> 24, 48) for c in channels],
                               [c >> 72 & 31 for c in channels])
        if fields["write_planes"]:
            plane_words = fields["planes"]
            value = golden.saturate(y, plane_words)
            z_saturated = int((value != y).sum())
        else:
            y = y + membranes() if fields["add"] else y
            value = golden.saturate(y, 16)
            u_saturated = int((value != y).sum())
            if fields["write_levels"]:
                level = golden.fire_membrane(value, u_frac=membrane_frac)
    if level is not None:
        plane_words = _LEVEL_PLANES

    words, addresses = [], []
    if fields["write_membrane"] and not fire:
        words.append(np.ascontiguousarray(value.astype("<i2")).view(word_type).astype(np.uint64))
        addresses.append(_addresses(fields["membrane_out"], stride, count, _MEMBRANE_WORDS,
                                    len(pool)))
    if plane_words:
        words.append(_planes(value if level is None else level, plane_words, rows))
        addresses.append(_addresses(fields["plane_out"], fields["plane_stride"], count, plane_words,
                                    len(pool)))
    words, addresses = np.concatenate(words, axis=1), np.concatenate(addresses, axis=1)
    pool[addresses] = words
    events = 0 if level is None else int(level.sum())
    return NeuronResult(signature(words, rows=rows), events & 0xffff_ffff, u_saturated,
                        z_saturated)
