"""LOAD and STORE, bit exact: what hw.memory.move must do to memory and pool. NumPy only."""

import numpy as np

from hw.descriptor import Destination
from sim.reference.lanes import memory_words, pool_words
from sim.reference.state import Outcome
from sim.reference.write_hash import write_hash


__all__ = ["load", "store"]


_MEMORY_ADDRESSES = 1 << 24


def _row(memory, start, length):
    """What to index the memory with: a slice, or indices where the address wraps at 24 bits."""
    start %= _MEMORY_ADDRESSES
    if start + length <= len(memory):
        return slice(start, start + length)
    return (start + np.arange(length)) % _MEMORY_ADDRESSES


def load(fields, memory, memories, *, image=0):
    """Run one LOAD descriptor.

    Args:
        fields: Fields of the descriptor (``hw.descriptor.unpack(Load, ...)``).
        memory: Memory words, uint64.
        memories: A :class:`sim.reference.state.Memories`; only its pool is used.
        image: Address of the current image.

    Returns:
        An :class:`sim.reference.state.Outcome`, and the memory words that go into a stream (none
        if the destination is the pool).
    """
    base = fields["memory_address"] + (image if fields["image"] else 0)
    rows = [memory[_row(memory, base + row * fields["memory_stride"], fields["length"])]
            for row in range(fields["count"])]
    events = fields["length"] * fields["count"] & 0xFFFF_FFFF
    if Destination(fields["destination"]) is not Destination.POOL:
        return Outcome(events), np.concatenate(rows)
    count = fields["pool_words"]
    at = (fields["pool_address"] + np.arange(fields["count"])[:, None] * fields["pool_stride"]
          + np.arange(count))
    words = np.stack([pool_words(row, memories.rows)[:count] for row in rows])
    return memories.write(at, words, events=events), np.zeros(0, np.uint64)


def store(fields, memory, memories, *, result=0):
    """Run one STORE descriptor, the reverse of :func:`load`; ``memory`` is written in place.

    Args:
        result: Address of the current image's result.

    Returns:
        An :class:`sim.reference.state.Outcome`; its words are those read from the pool.
    """
    base = fields["memory_address"] + (result if fields["image"] else 0)
    at = (fields["pool_address"]
          + np.arange(fields["count"])[:, None] * fields["pool_stride"]
          + np.arange(fields["pool_words"]))
    found = memories.read(at)
    for row, words in enumerate(found):
        words = memory_words(words, memories.rows)
        memory[_row(memory, base + row * fields["memory_stride"], len(words))] = words
    words = found.reshape(-1)
    return Outcome(fields["length"] * fields["count"] & 0xFFFF_FFFF,
                   write_hash(words, rows=memories.rows), words=words)
