"""ATTENTION, bit exact: what hw.attention.unit.AttentionUnit must do to the partial sums. NumPy
only."""

import numpy as np

from hw.config import attention_cap
from sim.reference.lanes import from_planes
from sim.reference.state import Outcome, Undefined


__all__ = ["attention"]


def attention(fields, memories):
    """Run one ATTENTION descriptor.

    Args:
        fields: Fields of the descriptor (``hw.descriptor.unpack(Attention, ...)``).
        memories: A :class:`sim.reference.state.Memories`; K^T V stays in it.

    Returns:
        A :class:`sim.reference.state.Outcome`; ``saturated`` counts elements of both products,
        "ktv" and "qktv", at the cap of K^T V or above.
    """
    rows, words, bits = memories.rows, fields["words"], memories.attention_bits
    planes = memories.level_planes

    def read(base, stride, tokens, count):
        found = memories.read(base + np.arange(tokens)[:, None] * stride
                              + np.arange(planes * count))
        return found.reshape(tokens, count, planes)

    def levels(found):
        # For matrix products: exact in float64, and much faster than in integers.
        return from_planes(found, rows=rows).reshape(len(found), -1).astype(np.float64)

    cap, saturated = attention_cap(bits), {"ktv": 0}
    query = read(fields["query"], fields["position_stride"], fields["queries"], words)
    taken = [query]
    if not fields["keep"]:
        key = read(fields["key"], fields["position_stride"], fields["tokens"], words)
        value = read(fields["value"], fields["value_stride"], fields["tokens"], 1)
        slot = np.arange(rows) >> fields["slot_log2"]
        same = np.tile(slot, words)[:, None] == slot
        # Every term is >= 0: saturating the sums is the same as saturating at every step.
        ktv = np.where(same, levels(key).T @ levels(value), 0)
        saturated["ktv"] = int((ktv >= cap).sum())
        memories.ktv = np.minimum(ktv, cap)
        taken.append(key)
    elif memories.ktv is None or len(memories.ktv) != words * rows:
        raise Undefined(f"K^T V of {words} words is to be kept, and there is none")
    sums = (levels(query) @ memories.ktv).astype(np.int64)
    saturated["qktv"] = int((sums >= cap).sum())
    # What does not fit keeps its lower bits, below one that says so.
    over = 1 << bits
    memories.put_sums(fields["psum"], np.where(sums < over, sums, over + sums % over))
    events = sum(int(np.bitwise_count(x).sum(dtype=np.int64)) for x in taken)
    return Outcome(events & 0xFFFF_FFFF, saturated=saturated)
