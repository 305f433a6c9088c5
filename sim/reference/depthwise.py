"""DEPTHWISE, bit exact: what hw.depthwise.unit must do to the partial sums. NumPy only."""

from typing import NamedTuple

import numpy as np

from hw.descriptor import RING_UNIT
from model import golden
from sim.reference.lanes import from_planes


__all__ = ["DepthwiseResult", "depthwise", "weight_words"]


_TAPS = 7
_LEVEL_PLANES = 3
_PARTIAL_BITS = 18


class DepthwiseResult(NamedTuple):
    """Completion of a descriptor."""
    signature: int
    events: int


def weight_words(fields, *, rows):
    """Memory words that a descriptor takes from the weight stream."""
    return fields["kernel"] * rows // 2


def _kernel(fields, weights, rows):
    """(rows, kernel, kernel) weights out of the stream's words."""
    kernel = fields["kernel"]
    lanes = np.array([int(w) for w in weights], dtype="<u8").view("<u4").astype(np.int64)
    nibbles = lanes.reshape(kernel, rows, 1) >> 4 * np.arange(_TAPS) & 15
    edge = (_TAPS - kernel) // 2
    values = (nibbles ^ 8) - 8
    return values.transpose(1, 0, 2)[:, :, edge:_TAPS - edge]


def depthwise(fields, weights, pool, psum, *, rows, acc_bits):
    """Run one DEPTHWISE descriptor.

    Args:
        fields: Fields of the descriptor (``hw.descriptor.unpack(Depthwise, ...)``).
        weights: The :func:`weight_words` memory words of the group, as integers.
        pool: Pool words, uint64, a power of two of them.
        psum: Partial sums, (words, rows) int64, a power of two of words; written in place.
        rows, acc_bits: As in ``hw.config.CoreConfig``.

    Returns:
        A :class:`DepthwiseResult`.

    Raises:
        ValueError: If an input of mode PARTIAL needs more than 18 bits.
    """
    height, width = fields["height"], fields["width"]
    first, count = fields["first_row"], fields["out_rows"]
    kernel = _kernel(fields, weights, rows)
    half = fields["kernel"] // 2
    # The input rows that any output row uses, inside the map. In a ring, there are rows before 0.
    top, bottom = first - half, min(height, first + count + half)
    if not fields["ring"]:
        top = max(0, top)
    y, x = np.arange(top, bottom)[:, None], np.arange(width)
    events = 0
    if fields["mode"]:
        at = fields["source"] + (y - fields["source_row"]) * width + x
        values = psum[at & (len(psum) - 1)]
        if (values != golden.saturate(values, _PARTIAL_BITS)).any():
            raise ValueError(f"Inputs must fit {_PARTIAL_BITS} bits, not {np.abs(values).max()}")
    else:
        at = (fields["source"] + y * fields["row_stride"] + x * fields["position_stride"]
              + np.where(y < 0, fields["ring"] * RING_UNIT, 0))
        at = at[..., None] + np.arange(_LEVEL_PLANES)
        words = pool[(at & 0xffff) & (len(pool) - 1)]
        values = from_planes(words, rows=rows)
        bits = np.bitwise_count(words).sum(axis=(1, 2), dtype=np.int64)
        # An input row is read once for each output row within reach.
        uses = [min(r + half, first + count - 1) - max(r - half, first) + 1
                for r in range(top, bottom)]
        events = int(bits @ np.array(uses))

    padded = np.zeros((1, rows, count + 2 * half, width + 2 * half), dtype=np.int64)
    start = top - (first - half)
    padded[0, :, start:start + bottom - top, half:half + width] = values.transpose(2, 0, 1)
    acc = golden.depthwise(padded, kernel, padding=0)[0].transpose(1, 2, 0).reshape(-1, rows)
    target = (fields["psum"] + np.arange(len(acc))) & (len(psum) - 1)
    psum[target] = golden.saturate(((acc + (1 << acc_bits - 1)) & (1 << acc_bits) - 1)
                                   - (1 << acc_bits - 1), acc_bits)
    return DepthwiseResult(0, events & 0xffffffff)
