"""ATTENTION, bit exact: what hw.attention.unit.AttentionUnit must do to the pool. NumPy only."""

from typing import NamedTuple

import numpy as np

from sim.reference.lanes import from_planes, to_planes
from sim.reference.signature import signature


__all__ = ["AttentionResult", "attention"]


_CAP = 224
_LEVEL_PLANES = 3


class AttentionResult(NamedTuple):
    """Completion of a descriptor."""
    signature: int
    events: int


def attention(fields, pool, *, rows):
    """Run one ATTENTION descriptor.

    Args:
        fields: Fields of the descriptor (``hw.descriptor.unpack(Attention, ...)``).
        pool: Pool words, uint64, a power of two of them; written in place.
        rows: As in ``hw.config.CoreConfig``.

    Returns:
        An :class:`AttentionResult`.
    """
    tokens, words = fields["tokens"], fields["words"]
    token = np.arange(tokens)[:, None] * fields["position_stride"]

    def indices(base, count):
        return ((base + token + np.arange(count)) & 0xffff) & (len(pool) - 1)

    def read(base, count):
        return pool[indices(base, _LEVEL_PLANES * count)].reshape(tokens, count, _LEVEL_PLANES)

    key, query = read(fields["key"], words), read(fields["query"], words)
    events = np.bitwise_count(key).sum(dtype=np.int64) + np.bitwise_count(query).sum(dtype=np.int64)
    k = from_planes(key, rows=rows).reshape(tokens, words * rows)
    q = from_planes(query, rows=rows).reshape(tokens, words * rows)
    v = from_planes(read(fields["value"], 1), rows=rows).reshape(tokens, rows)

    slot = np.arange(rows) >> fields["slot_log2"]
    same = np.tile(slot, words)[:, None] == slot
    # Every term is >= 0: saturating the sums is the same as saturating at every step.
    ktv = np.where(same, np.minimum(k.T @ v, _CAP), 0)
    out = np.minimum(q @ ktv, _CAP)
    written = to_planes((out + 32) >> 6, bits=_LEVEL_PLANES)
    pool[indices(fields["output"], _LEVEL_PLANES)] = written
    return AttentionResult(signature(written, rows=rows), int(events) & 0xffffffff)
