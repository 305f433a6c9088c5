# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from hw.array.spike_array import ENTRY_OFFSET, SpikeArray
from hw.array.table_loader import TableLoader
from hw.config import CoreConfig
from sim.drive.ports import feed_stream, simulate
from sim.reference.array import tile_weights


@pytest.mark.parametrize("rows, load_rows, word_bits", [
    (16, 4, 64), (16, 16, 64), (32, 8, 64), (32, 16, 128), (64, 16, 256)])
@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_tables(rows, load_rows, word_bits, stall):
    """Every entry of every table, and the time of each write."""
    rng = np.random.default_rng(0)
    dut = TableLoader(rows=rows, load_rows=load_rows, word_bits=word_bits)
    sets, groups = rows // load_rows, rows // 4
    tiles = rng.integers(0, 1 << 64, size=(3, rows * rows // 16), dtype=np.uint64)
    tiles[0, 0] = 0x8888_7777_0000_FFFF
    finished = []
    tables = np.zeros((rows, groups, 16), dtype=int)

    async def writes(ctx):
        coming = [(0, 0)] * SpikeArray.WRITE_LEAD
        while True:
            _, _, which, address, *entries = await ctx.tick().sample(
                dut.entry_write, dut.entry_address, *dut.entries)
            coming.append((which, address))
            which, address = coming.pop(0)
            if which:
                where = which.bit_length() - 1
                assert which == 1 << where
                tables[:, where * load_rows // 4:][:, :load_rows // 4, address] = np.reshape(
                    entries, (rows, load_rows // 4))

    async def control(ctx):
        for tile in tiles:
            ctx.set(dut.start, 1)
            cycles = 0
            tables[:] = 99
            while True:
                cycles += 1
                *_, done = await ctx.tick().sample(dut.done)
                if done:
                    break
            ctx.set(dut.start, 0)
            finished.append(cycles)
            await ctx.tick().repeat(3)
            order = CoreConfig(rows=rows, load_rows=load_rows).tile_order
            weights = tile_weights(tile, order=order).reshape(rows, groups, 4)
            picks = np.arange(16)[:, None] >> np.arange(4) & 1
            np.testing.assert_array_equal(tables - ENTRY_OFFSET, weights @ picks.T)
            for _ in range(40):                     # the next tile's first set is collected
                *_, which = await ctx.tick().sample(dut.entry_write)
                assert which == 0

    words = [sum(w << 64 * k for k, w in enumerate(part))
             for part in tiles.reshape(-1, word_bits // 64).tolist()]
    simulate(dut, control, background=[
        writes, feed_stream(dut.i, words, rng=rng, stall=stall)])

    if not stall:
        # `i.ready` is a register, and low in the first cycle of all.
        assert finished == [dut.set_words + 2 + 17 * sets, 1 + 17 * sets, 1 + 17 * sets]


def test_parameters_wrong():
    with pytest.raises(ValueError, match="^Load rows must be a multiple of 4 that divides 16 rows, "
                                         "not 5$"):
        TableLoader(rows=16, load_rows=5)
    with pytest.raises(ValueError, match="^Weights of a set must fill a multiple of 4 "
                                         "words of 64 bits, not 128 bits$"):
        TableLoader(rows=8, load_rows=4)
