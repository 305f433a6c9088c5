"""What the ARRAY unit computes, and how long it takes. NumPy only."""

import numpy as np

from hw.descriptor import planes_of, RING_UNIT, TileHeader, unpack
from hw.lib.plane_repeat import PLANES_MIN


__all__ = ["tile_weights", "run_array", "array_cycles"]


def _signed(value, bits):
    return (value + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


def tile_weights(words, *, order):
    """Weights of a tile (without header) as int64 ``[column, row]``, -8..7.

    ``order`` is :attr:`hw.config.CoreConfig.tile_order`.
    """
    words = np.ascontiguousarray(words, dtype="<u8").view(np.uint8)
    nibbles = np.stack([words & 15, words >> 4], axis=-1).reshape(order)
    rows = order[0] * order[6] * 4
    weight = nibbles.transpose(2, 4, 1, 5, 0, 6, 3).reshape(rows, rows)
    return _signed(weight.astype(np.int64), 4)


def _word_bits(words, rows):
    """Bits of pool words, a new last axis of ``rows``."""
    words = np.ascontiguousarray(words, dtype="<u8")
    return np.unpackbits(words[..., None].view(np.uint8), axis=-1, bitorder="little")[..., :rows]


def _walk(fields, header):
    """Input coordinates of the output positions: iy, ix, inside, each ``[out_rows, out_width]``."""
    y, x = np.mgrid[:fields["out_rows"], :fields["out_width"]]
    iy = (fields["first_row"] + y) * fields["stride"] + _signed(header["dy"], 8)
    ix = x * fields["stride"] + _signed(header["dx"], 8)
    inside = ((iy >= 0) | (fields["ring"] > 0)) & (iy < fields["height"])
    inside &= (ix >= 0) & (ix < fields["width"])
    return iy, ix, inside


def run_array(fields, *, words, pool, psum, config, repeats=None):
    """Run an ARRAY descriptor.

    Parameters
    ----------
    fields : dict
        Fields of :class:`hw.descriptor.Array`, as :func:`hw.descriptor.unpack` gives them.
    words : iterator of int
        Weight stream in memory words, headers in one each; exactly the descriptor's tiles are
        taken from it.
    config : CoreConfig
    pool : array of uint64, ``[pool words]``
        Addresses wrap at its (power of two) length.
    psum : array of int64, ``[positions, rows]``
        Changed in place; values wrap at ``acc_bits``.
    repeats : array of int, ``[pool words // 8]``
        Planes to leave out, where the descriptor says so; by the address of the most significant
        plane, divided by 8.

    Returns
    -------
    int
        Events, modulo 2**32.
    """
    words, rows = iter(words), config.rows
    planes, skip = planes_of(fields)
    place = np.arange(planes)
    positions = fields["out_rows"] * fields["out_width"]
    index = (fields["psum"] + np.arange(positions)) % 1024 % len(psum)
    events = 0
    for tile in range(fields["tiles"]):
        header = unpack(TileHeader, int(next(words)))
        weights = tile_weights([next(words) for _ in range(rows * rows // 16)],
                               order=config.tile_order)
        iy, ix, inside = (axis.reshape(-1) for axis in _walk(fields, header))
        address = (fields["source"] + header["offset"] + iy * fields["row_stride"]
                   + np.where(iy < 0, fields["ring"] * RING_UNIT, 0)
                   + ix * fields["position_stride"])[:, None] + np.arange(planes)
        address = address % (1 << 16) % len(pool)
        # The highest plane that is read is the sign.
        last = planes - 1 - (repeats[address[:, -1:] // PLANES_MIN] if skip else 0)
        scale = np.where(place <= last, 1 << place, 0) * np.ones((positions, 1), np.int64)
        if fields["signed"]:
            scale = np.where(place == last, -scale, scale)
        read = inside[:, None, None] & (place <= last)[..., None]
        bits = _word_bits(pool[address], rows) * read
        events += int(bits.sum(dtype=np.int64))
        sums = np.einsum("npr,np->nr", bits.astype(np.int64), scale) @ weights.T
        if tile or fields["accumulate"]:
            sums += psum[index]
        psum[index] = _signed(sums, config.acc_bits)
    return events % (1 << 32)


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
        _, _, inside = _walk(fields, unpack(TileHeader, int(header)))
        read = int(inside.sum())
        if tile:
            cycles += load + 1
        if tile or fields["accumulate"]:
            # A skipped last position costs a bubble.
            cycles += read * planes
            bubble = not inside[-1, -1]
            cycles += bubble
            drain = (levels + 6 - bubble) if read else 1
        else:
            cycles += read * planes + 2 * (inside.size - read)
            drain = levels + 6
    return cycles + drain
