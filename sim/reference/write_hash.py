"""Write hash, bit exact: what :class:`hw.lib.write_hash.WriteHash` computes. NumPy only."""

from functools import cache

import numpy as np

from hw.config import FEEDBACK, FOLD


__all__ = ["write_hash"]


@cache
def _power_table(bits, log2):
    """Table ``[byte number, byte]`` of what bytes of a state become after ``2**log2`` steps."""
    if log2 == 0:
        mask = (1 << bits) - 1
        basis = [((1 << k) << 1 & mask) ^ (FEEDBACK[bits] if k == bits - 1 else 0)
                 for k in range(bits)]
    else:
        half = _power_table(bits, log2 - 1)
        basis = [int(_step(half, _step(half, np.uint64(1 << k)))) for k in range(bits)]
    table = np.zeros((bits // 8, 256), np.uint64)
    for k, value in enumerate(basis):
        bit = k % 8
        table[k // 8, 1 << bit:2 << bit] = table[k // 8, :1 << bit] ^ np.uint64(value)
    return table


def _step(table, states):
    """States after the steps of ``table``."""
    result = np.uint64(0)
    for number, of_byte in enumerate(table):
        result = result ^ of_byte[(states >> np.uint64(8 * number)) & np.uint64(255)]
    return result


def write_hash(words, *, rows):
    """Hash of pool words of ``rows`` bits, an int.

    Neighbours are added up level by level: the earlier of the two makes the later one's steps.
    """
    bits = 32 if rows <= 32 else 64
    words = np.asarray(words, np.uint64).reshape(-1)
    # The initial state is one more word, in front; zeros before it change nothing.
    levels = len(words).bit_length()
    states = np.zeros(1 << levels, np.uint64)
    states[len(states) - len(words):] = words
    states[len(states) - len(words) - 1] = (1 << bits) - 1
    for level in range(levels):
        states = _step(_power_table(bits, level), states[::2]) ^ states[1::2]
    state = int(states[0])
    if bits == 32:
        return state
    low, high = state & 0xFFFF_FFFF, state >> 32
    return low ^ high ^ (high << FOLD & 0xFFFF_FFFF | high >> 32 - FOLD)
