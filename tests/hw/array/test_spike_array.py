# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from hw.array.spike_array import ENTRY_OFFSET, SpikeArray
from hw.array.table_loader import TableLoader
from hw.config import CoreConfig
from sim.drive.ports import feed_stream, simulate
from sim.reference.array import tile_weights


ROWS = 8


def group_sum(weights, bits):
    return int(sum(w for k, w in enumerate(weights) if bits >> k & 1))


async def load(ctx, dut, weights):
    """Write all tables of a SpikeArray for ``weights[column, row]``."""
    for which in range(dut.sets):
        columns = weights[:, which * dut.load_rows:][:, :dut.load_rows].reshape(dut.rows, -1, 4)
        for address in range(16):
            ctx.set(dut.entry_address, address)
            ctx.set(dut.entry_write, 1 << which)
            await ctx.tick()
            ctx.set(dut.entry_write, 0)
            await ctx.tick().repeat(dut.WRITE_LEAD - 1)
            ctx.set(dut.entries, [ENTRY_OFFSET + group_sum(group, address)
                                  for column in columns for group in column])
            await ctx.tick()


@pytest.mark.parametrize("load_rows", [4, 8])
@pytest.mark.parametrize("extreme", [None, -8, 7])
def test_sums(load_rows, extreme):
    rng = np.random.default_rng(0)
    weights = rng.integers(-8, 8, size=(ROWS, ROWS))
    if extreme is not None:
        weights[:] = extreme
    dut = SpikeArray(rows=ROWS, load_rows=load_rows, acc_bits=12)
    # (word, plane, last, negate) per cycle: positions of 1 to 5 planes, with bubbles.
    cycles, expected = [], []
    for _ in range(40):
        planes = int(rng.integers(1, 6))
        sign = int(rng.integers(2))
        acc = 0
        for plane in range(planes):
            bits = rng.integers(0, 2, size=ROWS)
            if extreme is not None:
                bits[:] = 1
            total = weights @ bits
            acc = -total if sign and plane == 0 else 2 * acc + total
            while rng.random() < 0.3:
                cycles.append((int(rng.integers(1 << ROWS)), 0, int(rng.integers(2)), 1))
            word = int(bits @ (1 << np.arange(ROWS)))
            cycles.append((word, 1, plane == planes - 1, sign and plane == 0))
        expected.append((acc + 2048) % 4096 - 2048)
    cycles += [(0, 0, 0, 0)] * dut.latency
    received = []

    async def testbench(ctx):
        await load(ctx, dut, weights)
        arriving = [False] * dut.latency
        for word, plane, last, negate in cycles:
            for signal, value in [(dut.word, word), (dut.plane, plane), (dut.last, last),
                                  (dut.negate, negate)]:
                ctx.set(signal, value)
            if arriving.pop(0):
                received.append([ctx.get(dut.sums[k]) for k in range(ROWS)])
            arriving.append(plane and last)
            await ctx.tick()
        if arriving.pop(0):
            received.append([ctx.get(dut.sums[k]) for k in range(ROWS)])

    simulate(dut, testbench)

    np.testing.assert_array_equal(received, expected)


def test_lookup_before_write():
    """An entry written ``LOOKUP`` cycles after a word was given does not change its sums."""
    dut = SpikeArray(rows=8, load_rows=8, acc_bits=12)
    weights = np.full((8, 8), 3)
    sums = []

    async def testbench(ctx):
        await load(ctx, dut, weights)
        for cycle in range(dut.latency + 2):
            ctx.set(dut.word, 1)
            ctx.set(dut.plane, cycle < 2)
            ctx.set(dut.last, 1)
            ctx.set(dut.entries, [ENTRY_OFFSET + 5] * 16)
            ctx.set(dut.entry_address, 1)
            ctx.set(dut.entry_write, cycle == dut.LOOKUP - dut.WRITE_LEAD)
            if cycle >= dut.latency:
                sums.append(ctx.get(dut.sums[0]))
            await ctx.tick()

    simulate(dut, testbench)

    assert sums == [3, 5]


@pytest.mark.parametrize("rows, load_rows, word_bits", [
    (16, 4, 64), (16, 16, 64), (32, 8, 64), (32, 16, 128), (64, 16, 256)])
@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_loader(rows, load_rows, word_bits, stall):
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


@pytest.mark.parametrize("parameters, message", [
    ({"rows": 12, "load_rows": 4, "acc_bits": 24},
     "^Rows must be a power of two and at least 8, not 12$"),
    ({"rows": 16, "load_rows": 3, "acc_bits": 24},
     "^Load rows must be a multiple of 4 that divides 16 rows, not 3$"),
    ({"rows": 16, "load_rows": 4, "acc_bits": 9},
     "^Accumulator width must be at least 10 bits, not 9$"),
])
def test_parameters_wrong(parameters, message):
    with pytest.raises(ValueError, match=message):
        SpikeArray(**parameters)


def test_loader_parameters_wrong():
    with pytest.raises(ValueError, match="^Load rows must be a multiple of 4 that divides 16 rows, "
                                         "not 5$"):
        TableLoader(rows=16, load_rows=5)
    with pytest.raises(ValueError, match="^Weights of a set must fill a multiple of 4 "
                                         "words of 64 bits, not 128 bits$"):
        TableLoader(rows=8, load_rows=4)
