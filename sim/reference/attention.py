"""ATTENTION, bit exact: what hw.attention.unit.AttentionUnit must do to the pool. NumPy only."""

import numpy as np

from hw.config import LEVEL_PLANES
from model.integer.golden import ATTENTION_CAP
from sim.reference.lanes import from_planes, to_planes


__all__ = ["attention"]


def attention(fields, memories):
    """Run one ATTENTION descriptor.

    Args:
        fields: Fields of the descriptor (``hw.descriptor.unpack(Attention, ...)``).
        memories: A :class:`sim.reference.state.Memories`.

    Returns:
        A :class:`sim.reference.state.Outcome`; ``saturated`` counts elements of both products,
        "ktv" and "qktv", at their cap or above.
    """
    rows, tokens, words = memories.rows, fields["tokens"], fields["words"]
    token = np.arange(tokens)[:, None] * fields["position_stride"]

    def read(base, count):
        found = memories.read(base + token + np.arange(LEVEL_PLANES * count))
        return found.reshape(tokens, count, LEVEL_PLANES)

    def levels(found):
        # For matrix products: exact in float64, and much faster than in integers.
        return from_planes(found, rows=rows).reshape(tokens, -1).astype(np.float64)

    key, query = read(fields["key"], words), read(fields["query"], words)
    events = sum(int(np.bitwise_count(x).sum(dtype=np.int64)) for x in (key, query))
    slot = np.arange(rows) >> fields["slot_log2"]
    same = np.tile(slot, words)[:, None] == slot
    # Every term is >= 0: saturating the sums is the same as saturating at every step.
    ktv = np.where(same, levels(key).T @ levels(read(fields["value"], 1)), 0)
    qktv = levels(query) @ np.minimum(ktv, ATTENTION_CAP)
    level = (np.minimum(qktv, ATTENTION_CAP).astype(np.int64) + 32) >> 6
    return memories.write(fields["output"] + token + np.arange(LEVEL_PLANES),
                          to_planes(level, bits=LEVEL_PLANES), events=events & 0xFFFF_FFFF,
                          saturated={"ktv": int((ktv >= ATTENTION_CAP).sum()),
                                     "qktv": int((qktv >= ATTENTION_CAP).sum())})
