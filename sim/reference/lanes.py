"""Lanes of a pool word: bit planes to integers and back. NumPy only."""

import numpy as np


def from_planes(words, *, rows):
    """Unsigned integers of lanes whose bit p is in word p.

    Args:
        words: (..., P) uint64.

    Returns:
        (..., rows) int64 in 0..2**P - 1.
    """
    words = np.asarray(words, dtype=np.uint64)
    bits = words[..., None] >> np.arange(rows, dtype=np.uint64) & np.uint64(1)
    weights = 1 << np.arange(words.shape[-1], dtype=np.int64)
    return (bits.astype(np.int64) * weights[:, None]).sum(axis=-2)


def to_planes(values, *, bits):
    """Words of bit planes, two's complement: the reverse of :func:`from_planes`.

    Args:
        values: (..., rows) integers.

    Returns:
        (..., bits) uint64; bit i of word p is bit p of lane i.
    """
    values = np.asarray(values, dtype=np.int64)
    planes = values[..., None, :] >> np.arange(bits)[:, None] & 1
    lanes = np.arange(values.shape[-1], dtype=np.uint64)
    return (planes.astype(np.uint64) << lanes).sum(axis=-1, dtype=np.uint64)


def leading_repeats(words):
    """Most significant planes that may be left out, because the next one says the same.

    Args:
        words: (..., P) uint64, the sign in the last one.

    Returns:
        (...,) int64 in 0..P - 2: two planes stay in any case.
    """
    words = np.asarray(words, dtype=np.uint64)
    equal = words[..., :0:-1] == words[..., -2::-1]
    return np.minimum(np.cumprod(equal, axis=-1).sum(axis=-1), words.shape[-1] - 2)
