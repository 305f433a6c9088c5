import numpy as np
import pytest

from gen.compile.fold import Fold, fold_weight
from gen.compile.maps import make_maps
from gen.compile.tiles import make_tiles
from gen.compile.wide import has_wide, lowered
from hw.config import CoreConfig
from hw.descriptor import TileHeader, unpack
from model.families.sdt_v3 import SdtV3Spec
from model.integer.graph import Conv, RepConv
from sim.reference.array import tile_weights
from sim.reference.lanes import signed
from tests.gen.random_cases import folding_network, random_case


def case_of(kind, number):
    if kind == "sdt_v3":
        found, config = random_case(number, family=SdtV3Spec)
        return lowered(found.network), config
    if kind == "random":
        found, config = random_case(number)
        return found.network, config
    return folding_network(32, number), CoreConfig(rows=32, load_rows=8, neuron_lanes=4)


@pytest.mark.parametrize("case", [("random", 0), ("random", 1), ("random", 2), ("fold", 2),
                                  ("sdt_v3", 1), ("sdt_v3", 3), ("sdt_v3", 5),
                                  ("fold", 4)])
def test_tiles_are_the_weights(case):
    """The weights put together again from the tiles of an operator; what no tile has is 0."""
    network, config = case_of(*case)
    layout = make_maps(network, config, 64)
    tiles = make_tiles(network, layout, config)
    assert tiles.keys() == {op.name for op in network.ops if isinstance(op, Conv | RepConv)}
    for op in network.ops:
        if op.name not in tiles or op.source == "image":
            continue
        fold = layout.folds.get(op.name, Fold())
        if isinstance(op, RepConv):
            weight, target = op.pointwise[:, :, None, None], layout.maps[op.epilogue.z]
            up = left = 0
        else:
            weight, left = fold_weight(op.weight, fold, stride=op.stride, padding=op.padding)
            up, target = op.padding, layout.maps[next(iter(op.outputs))]
        source = layout.maps[op.source].folded(fold.source)
        total = np.zeros(weight.shape, np.int64)
        for group, some in enumerate(tiles[op.name]):
            outputs = target.lanes[group * config.rows:][:config.rows]
            assert len({words[0] for _, words in some}) == len(some)
            assert bool(some) == (outputs >= 0).any()
            for (dy, dx, high), words in some:
                header = unpack(TileHeader, int(words[0]))
                assert (dy, dx) == tuple(signed(header[name], 8) for name in ("dy", "dx"))
                row, at = divmod(header["offset"], source.row_words if fold.rows > 1 else 1 << 16)
                assert row < fold.rows
                at, rest = divmod(at, source.planes)
                assert rest == 0
                inputs = source.lanes[at * config.rows:][:config.rows]
                tile = tile_weights(words[config.tile_header_words:], order=config.tile_order)
                assert header["high"] == high
                tile = tile << 4 if high else tile
                # Lanes without a channel have no weights.
                assert not tile[outputs < 0].any() and not tile[:, inputs < 0].any()
                where = np.ix_(outputs[outputs >= 0], inputs[inputs >= 0],
                               [fold.rows * dy + row + up], [dx + left])
                total[where] += tile[outputs >= 0][:, inputs >= 0][:, :, None, None]
        np.testing.assert_array_equal(total, weight)
        assert has_wide(op) == any(tap.high for some in tiles[op.name] for tap, _ in some)
