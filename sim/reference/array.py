"""What the ARRAY unit computes, and how long it takes. NumPy only."""

import numpy as np

from hw.config import PLANES_MIN
from hw.descriptor import HIGH_PLANES, planes_of, TileHeader, unpack
from sim.reference.lanes import from_nibbles, from_planes, signed, to_nibbles
from sim.reference.state import Outcome, row_address, rows_inside


__all__ = ["array_cycles", "pack_tile", "run_array", "stream_words", "tile_weights"]


def pack_tile(weight, config):
    """Weights -8..7 (outputs R, inputs R) -> memory words of one tile, without header."""
    sets, blocks, halves, weights, parts, columns, groups = config.tile_order
    weight = np.asarray(weight).reshape(halves, parts, blocks, columns, sets, groups, weights)
    return to_nibbles(weight.transpose(4, 2, 0, 6, 1, 3, 5))


def tile_weights(words, *, order):
    """The reverse of :func:`pack_tile`: int64 (outputs R, inputs R).

    ``order`` is :attr:`hw.config.CoreConfig.tile_order`.
    """
    rows = order[0] * order[6] * 4
    nibbles = from_nibbles(words).reshape(order)
    return nibbles.transpose(2, 4, 1, 5, 0, 6, 3).reshape(rows, rows).astype(np.int64)


def stream_words(fields, config):
    """Memory words that a descriptor takes from the weight stream."""
    return fields["tiles"] * config.tile_words


def _walk(fields, header):
    """Input coordinates of the output positions: iy, ix, inside, each (positions,)."""
    y, x = np.divmod(np.arange(fields["out_rows"] * fields["out_width"]), fields["out_width"])
    iy = (fields["first_row"] + y) * fields["stride"] + signed(header["dy"], 8)
    ix = x * fields["stride"] + signed(header["dx"], 8)
    return iy, ix, rows_inside(fields, iy) & (ix >= 0) & (ix < fields["width"])


def run_array(fields, words, memories, *, config):
    """Run an ARRAY descriptor.

    Parameters
    ----------
    fields : dict
        Fields of :class:`hw.descriptor.Array`, as :func:`hw.descriptor.unpack` gives them.
    words : uint64 (:func:`stream_words`,)
        Weight stream: for each tile its header, filled to a word of the stream, and weights.
    memories : sim.reference.state.Memories
        Their counts of repeated planes are used where the descriptor says so.
    config : hw.config.CoreConfig

    Returns
    -------
    sim.reference.state.Outcome
    """
    rows, (planes, skip) = config.rows, planes_of(fields)
    count = fields["out_rows"] * fields["out_width"]
    events = 0
    for tile, data in enumerate(np.asarray(words, np.uint64).reshape(-1, config.tile_words)):
        header = unpack(TileHeader, int(data[0]))
        weight = tile_weights(data[config.tile_header_words:], order=config.tile_order)
        if header["high"] and config.wide_weights:
            weight = weight << HIGH_PLANES
        iy, ix, inside = _walk(fields, header)
        iy, ix = iy[inside], ix[inside]
        at = (row_address(fields, iy) + header["offset"] + ix * fields["position_stride"])
        at = memories.at(at[:, None] + np.arange(planes))
        found = memories.pool[at]
        if skip:
            # As the array does it: the highest plane that it reads is the sign.
            left_out = memories.repeats[at[:, -1] // PLANES_MIN]
            read = np.arange(planes) < planes - left_out[:, None]
            events += int(np.bitwise_count(found[read]).sum(dtype=np.int64))
            sign = found[np.arange(len(found)), planes - 1 - left_out]
            found = np.where(read, found, sign[:, None] if fields["signed"] else 0)
        else:
            events += int(np.bitwise_count(found).sum(dtype=np.int64))
        values = from_planes(found, rows=rows, signed=bool(fields["signed"]))
        # Exact in float64: sums stay far below 2**53, and BLAS is much faster than integers.
        sums = np.zeros((count, rows), np.int64)
        sums[inside] = values.astype(np.float64) @ weight.T.astype(np.float64)
        memories.put_sums(fields["psum"], sums, add=tile > 0 or bool(fields["accumulate"]))
    return Outcome(events & 0xFFFF_FFFF)


def array_cycles(fields, headers, *, config):
    """Cycles from the one that takes the descriptor to ``done``, both counted, without stalls.

    ``headers`` are the packed tile headers. Exact if the tables load slower than the first 16
    planes are read (at least two column sets), and if the walk
    keeps ahead of the lookups: at most ``planes - 1`` skipped positions (a row outside counts
    one) between two that are read. Planes that repeat the sign are taken as read.
    """
    load = 17 * config.rows // config.load_rows
    levels = (config.rows // 4).bit_length() - 1
    planes, _ = planes_of(fields)
    if not headers:
        return 2
    # The first column set is collected, or the first words are read.
    cycles = max(config.load_rows * config.rows // 16 + load + 5, 40)
    drain = 0
    for tile, header in enumerate(headers):
        header = unpack(TileHeader, int(header))
        _, _, inside = _walk(fields, header)
        read = int(inside.sum())
        if tile:
            cycles += load + 1
        if header["high"]:
            cycles += read * HIGH_PLANES
        if tile or fields["accumulate"]:
            # A skipped last position costs a bubble.
            cycles += read * planes
            bubble = not inside[-1]
            cycles += bubble
            drain = (levels + 6 - bubble) if read else 1
        else:
            cycles += read * planes + 2 * (inside.size - read)
            drain = levels + 6
    return cycles + drain
