"""Weights of a network as tiles of the array."""

import numpy as np

from gen.compile.fold import fold_patches, fold_weight
from gen.compile.wide import split
from gen.isa.program import Tap
from hw.descriptor import pack, TileHeader
from model.integer.graph import Conv, RepConv
from sim.reference.array import pack_tile


__all__ = ["make_tiles"]


def make_tiles(network, layout, config):
    """Weight tiles of the array for every operator that has them.

    Parameters
    ----------
    network : model.integer.network.IntegerNetwork
    layout : gen.compile.maps.NetworkMaps
    config : CoreConfig

    Returns
    -------
    dict
        {operator: [tiles of every output group, none without channels]}; a tile is
        (:class:`gen.isa.program.Tap`, memory words). Weights of more than 4 bits have two, the
        upper halves first.
    """
    maps, folds, tiles = layout.maps, layout.folds, {}
    for op in network.ops:
        if isinstance(op, RepConv):
            source, target = maps[op.source].folded(1), maps[op.epilogue.z]
            weight, padding = op.pointwise[:, :, None, None], (0, 0)
        elif isinstance(op, Conv):
            fold = folds[op.name]
            target = maps[next(iter(op.outputs))]
            if op.source == "image":
                source, padding = maps["image"], (0, 0)
                weight = fold_patches(op.weight, fold.target, stride=op.stride,
                                      columns_first=layout.stem.get("columns_first", False))
            else:
                source = maps[op.source].folded(fold.source)
                weight, across = fold_weight(op.weight, fold, stride=op.stride,
                                             padding=op.padding)
                padding = op.padding, across
        else:
            continue
        rows = folds[op.name].rows if op.name in folds else 1
        used = set(target.used)
        tiles[op.name] = [_tiles(weight, source, target, group, padding, rows, config)
                          if group in used else [] for group in range(target.groups)]
    return tiles


def _tiles(weight, source, target, group, padding, rows, config):
    """Tiles of one output group: (Tap, memory words) each; so many ``rows`` of the source are seen
    as one."""
    _, _, height, width = weight.shape
    outputs = target.lanes[group * config.rows:(group + 1) * config.rows]
    tiles = []
    for ky in range(height):
        for kx in range(width):
            for g in range(source.groups):
                inputs = source.read_lanes[g * config.rows:(g + 1) * config.rows]
                tile = np.where((outputs[:, None] >= 0) & (inputs >= 0),
                                weight[outputs[:, None], inputs, ky, kx], 0)
                dy, row = divmod(ky - padding[0], rows)
                for half, high in zip(split(tile), (True, False), strict=True):
                    if half.any():
                        tiles.append((g * source.planes + row * source.row_words,
                                      Tap(dy, kx - padding[1], high), half))
    if not tiles:  # the partial sums must still be written
        tiles.append((0, Tap(0, 0), np.zeros((config.rows, config.rows), np.int64)))
    blank = [0] * (config.tile_header_words - 1)
    return [(tap, np.append(
        np.array([pack(TileHeader, offset=offset, dy=tap.dy, dx=tap.dx, high=tap.high), *blank],
                 np.uint64), pack_tile(tile, config))) for offset, tap, tile in tiles]
