"""Lanes of pool and memory words, as integers and back: the one owner of these layouts.

NumPy only; docs/architecture.md ("Data layouts") is the contract.
"""

import numpy as np

from hw.config import MEMBRANE_BITS, MEMORY_BITS


__all__ = ["from_membranes", "from_nibbles", "from_planes", "leading_repeats", "memory_words",
           "pool_words", "signed", "to_membranes", "to_nibbles", "to_planes"]


def signed(values, bits):
    """The low ``bits`` of integers (an int or an int64 array) as two's complement: what is left of
    a sum in a register so wide."""
    return (values + (1 << bits - 1) & (1 << bits) - 1) - (1 << bits - 1)


def from_planes(words, *, rows, signed=False):
    """Integers of lanes whose bit p is in word p.

    Args:
        words: (..., P) uint64; bits from ``rows`` on are not looked at.
        signed: Two's complement, the sign in the last word; else 0..2**P - 1.

    Returns:
        (..., rows) int64.
    """
    words = np.ascontiguousarray(words, dtype="<u8")
    octets = words.view(np.uint8).reshape(*words.shape, 8)[..., :rows // 8]
    bits = np.unpackbits(octets, axis=-1, bitorder="little")
    values = bits[..., -1, :].astype(np.int32)
    if signed:
        values = -values
    for plane in range(words.shape[-1] - 2, -1, -1):
        values += values
        values += bits[..., plane, :]
    return values.astype(np.int64)


def to_planes(values, *, bits):
    """Words of bit planes, two's complement: the reverse of :func:`from_planes`.

    Args:
        values: (..., rows) integers.

    Returns:
        (..., bits) uint64; bit i of word p is bit p of lane i.
    """
    values = np.asarray(values, dtype=np.int64)
    places = np.arange(bits, dtype=np.int64)[:, None]
    octets = np.packbits((values[..., None, :] >> places & 1).astype(np.uint8), axis=-1,
                         bitorder="little")
    words = np.zeros((*octets.shape[:-1], 8), np.uint8)
    words[..., :octets.shape[-1]] = octets
    return words.view("<u8")[..., 0].astype(np.uint64, copy=False)


def from_membranes(words, *, rows):
    """Membranes of lanes.

    Args:
        words: (..., 16) uint64.

    Returns:
        (..., rows) int64 of 16 bits.
    """
    words = np.ascontiguousarray(words, np.uint64).astype(f"<u{rows // 8}")
    return words.view("<i2").astype(np.int64)


def to_membranes(values):
    """Words of membranes, of which the low 16 bits are kept: the reverse of
    :func:`from_membranes`.

    Args:
        values: (..., rows) integers.

    Returns:
        (..., 16) uint64.
    """
    values = np.ascontiguousarray(values, np.int64)
    per_word = values.shape[-1] // MEMBRANE_BITS
    return values.astype("<i2").view(f"<u{2 * per_word}").astype(np.uint64)


def memory_words(pool, rows):
    """Pool words (N,) -> memory words; a last partial one is filled with zeros."""
    ratio = MEMORY_BITS // rows
    pool = np.asarray(pool, np.uint64)
    padded = np.zeros(-(-len(pool) // ratio) * ratio, f"<u{rows // 8}")
    padded[:len(pool)] = pool
    return padded.view("<u8").astype(np.uint64, copy=False)


def pool_words(memory, rows):
    """Memory words (N,) -> pool words."""
    memory = np.ascontiguousarray(memory, "<u8")
    return memory.view(f"<u{rows // 8}").astype(np.uint64)


def to_nibbles(values):
    """Integers -8..7, multiples of 16 of them -> memory words, the first in the lowest bits."""
    values = (np.ascontiguousarray(values, np.int64).reshape(-1, 2) & 15).astype(np.uint8)
    return (values[:, 0] | values[:, 1] << 4).view("<u8").astype(np.uint64, copy=False)


def from_nibbles(words):
    """Memory words (N,) -> int8 (16 N,), -8..7."""
    octets = np.ascontiguousarray(words, "<u8").view(np.int8)
    # Shifts of signed bytes repeat the sign.
    return np.stack([octets << 4 >> 4, octets >> 4], axis=-1).reshape(-1)


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
