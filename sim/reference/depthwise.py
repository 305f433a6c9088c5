"""DEPTHWISE, bit exact: what hw.depthwise.unit must do to the partial sums. NumPy only."""

import numpy as np

from hw.config import PARTIAL_BITS
from hw.descriptor import DepthwiseMode
from model.integer import golden
from sim.reference.lanes import from_nibbles, from_planes, signed, to_nibbles
from sim.reference.state import Outcome, row_address, rows_inside, Undefined


__all__ = ["depthwise", "pack_depthwise", "weight_words"]


_TAPS = 7


def weight_words(fields, *, rows):
    """Memory words that a descriptor takes from the weight stream."""
    return fields["kernel"] * _lanes(fields, rows) // 2


def _lanes(fields, rows):
    """Channels that are computed: the others keep their partial sums."""
    return rows // 2 if fields["half"] else rows


def pack_depthwise(weight):
    """Weights -8..7 (R, k, k) -> memory words; rows of seven taps and a 0 per lane.

    A smaller kernel is centred.
    """
    lanes, rows, columns = weight.shape
    padded = np.zeros((rows, lanes, _TAPS + 1), np.int64)
    start = (_TAPS - columns) // 2
    padded[:, :, start:start + columns] = np.asarray(weight, np.int64).transpose(1, 0, 2)
    return to_nibbles(padded)


def _kernel(fields, words, lanes):
    """The reverse of :func:`pack_depthwise`. Outer taps are 0 and the hardware does not look."""
    kernel = fields["kernel"]
    edge = (_TAPS - kernel) // 2
    taps = from_nibbles(words).reshape(kernel, lanes, _TAPS + 1)[..., edge:_TAPS - edge]
    return taps.transpose(1, 0, 2).astype(np.int64)


def depthwise(fields, words, memories):
    """Run one DEPTHWISE descriptor.

    Inputs of mode PARTIAL wrap at 18 bits, as in the hardware (strict memories: Undefined).

    Args:
        fields: Fields of the descriptor (``hw.descriptor.unpack(Depthwise, ...)``).
        words: The :func:`weight_words` memory words of the group.
        memories: A :class:`sim.reference.state.Memories`.

    Returns:
        A :class:`sim.reference.state.Outcome`.
    """
    rows, width = memories.rows, fields["width"]
    lanes = _lanes(fields, rows)
    first, count = fields["first_row"], fields["out_rows"]
    half = fields["kernel"] // 2
    # The input rows that any output row uses, and those of them that exist.
    needed = np.arange(first - half, first + count + half)
    inside = rows_inside(fields, needed)
    y = needed[inside]
    events = 0
    if DepthwiseMode(fields["mode"]) is DepthwiseMode.PARTIAL:
        # Rows that exist follow each other: so do their partial sums.
        start = fields["source"] + (int(y[0] if len(y) else 0) - fields["source_row"]) * width
        sums = memories.sums(start, len(y) * width)
        values = signed(sums, PARTIAL_BITS)[:, :lanes]
        if memories.strict and (values != sums[:, :lanes]).any():
            raise Undefined(f"depthwise input beyond {PARTIAL_BITS} bits")
    else:
        at = row_address(fields, y)[:, None] + np.arange(width) * fields["position_stride"]
        found = memories.read(at[..., None] + np.arange(memories.level_planes))
        found = found & np.uint64((1 << lanes) - 1)
        values = from_planes(found, rows=rows)[..., :lanes]
        # An input row is read once for each output row within reach.
        uses = np.minimum(y + half, first + count - 1) - np.maximum(y - half, first) + 1
        events = int(np.bitwise_count(found).sum(axis=(1, 2), dtype=np.int64) @ uses)
    padded = np.zeros((1, lanes, len(needed), width + 2 * half), dtype=np.int64)
    padded[0][:, inside, half:half + width] = values.reshape(-1, width, lanes).transpose(2, 0, 1)
    acc = golden.depthwise(padded, _kernel(fields, words, lanes), padding=0)[0]
    sums = acc.transpose(1, 2, 0).reshape(-1, lanes)
    if lanes < rows:
        others = memories.sums(fields["psum"], len(sums))[:, lanes:]
        sums = np.concatenate([sums, others], axis=1)
    memories.put_sums(fields["psum"], sums)
    return Outcome(events & 0xFFFF_FFFF)
