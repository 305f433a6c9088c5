# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from hw.array.unit import ArrayUnit
from hw.config import CoreConfig, PLANES_MIN
from hw.descriptor import Array, pack, SKIP_PLANES, TileHeader, unpack
from hw.port import POOL_LATENCY
from sim.drive.ports import feed_stream, run_unit, serve_read, serve_rows, simulate
from sim.reference.array import array_cycles, run_array
from sim.reference.state import Memories


def random_tile(rng, config, *, offset=0, dy=0, dx=0, high=0):
    header = pack(TileHeader, offset=offset, dy=dy, dx=dx, high=high)
    words = rng.integers(0, 1 << 64, size=config.tile_weight_words, dtype=np.uint64)
    return [header, *[0] * (config.tile_header_words - 1), *words.tolist()]


class Machine:
    """An ArrayUnit with its memories, run descriptor by descriptor beside the golden model."""

    def __init__(self, *, rng, stall=0.0, **config):
        self.config = CoreConfig(**{"rows": 16, **config})
        self.rng, self.stall = rng, stall
        self.pool = rng.integers(0, 1 << self.config.rows, size=1 << 16, dtype=np.uint64)
        high = 1 << (self.config.acc_bits - 1)
        self.psum = rng.integers(-high, high, size=(1024, self.config.rows))
        # Any number of planes may be left out: the highest that is read is the sign.
        self.repeats = rng.integers(0, 7, size=(1 << 16) // PLANES_MIN)
        self.jobs = []

    def add(self, tiles, **fields):
        fields = {"planes": 3, "stride": 1, "tiles": len(tiles), **fields}
        self.jobs.append((fields, tiles))

    def run(self, cycles=5_000):
        """Run all jobs; returns the cycles each took."""
        config, rng, stall = self.config, self.rng, self.stall
        dut = ArrayUnit(config)
        actual = [row.tolist() for row in self.psum]
        expected = self.psum.copy()
        memories = Memories(pool=self.pool, psum=expected, rows=config.rows,
                            acc_bits=config.acc_bits, repeats=self.repeats)
        taken = []

        def add(address, accumulate, data):
            before = actual[address] if accumulate else [0] * config.rows
            low = -1 << config.acc_bits - 1
            actual[address] = [(total + data[k] - low) % (1 << config.acc_bits) + low
                               for k, total in enumerate(before)]

        async def control(ctx):
            for number, (fields, tiles) in enumerate(self.jobs):
                packed = unpack(Array, pack(Array, **fields))
                outcome = run_array(packed, [w for tile in tiles for w in tile], memories,
                                    config=config)
                self.now = 0
                sig, counted = await run_unit(ctx, dut.control, packed)
                taken.append(self.now)
                assert (sig, counted) == outcome.completion, f"descriptor {number}: {fields}"
                np.testing.assert_array_equal(actual, expected, f"descriptor {number}: {fields}")

        async def clock(ctx):
            while True:
                await ctx.tick()
                self.now += 1

        async def serve_repeats(ctx):
            port = dut.repeats
            while True:
                _, _, enable, address = await ctx.tick().sample(port.enable, port.address)
                if enable:
                    ctx.set(port.count, int(self.repeats[address // PLANES_MIN]))

        ratio = config.tile_header_words
        words = [w for _, tiles in self.jobs for tile in tiles for w in tile]
        words = [sum(w << 64 * k for k, w in enumerate(words[at:at + ratio]))
                 for at in range(0, len(words), ratio)]
        simulate(dut, control, background=[
            clock, feed_stream(dut.weights, words, rng=rng, stall=stall),
            serve_read(dut.pool, lambda a: int(self.pool[a]), latency=POOL_LATENCY, rng=rng,
                       stall=stall),
            serve_rows(dut.psum, add),
            *([serve_repeats] if config.plane_skip else []),
        ], cycles=cycles)
        return taken


def random_fields(rng, *, planes=None):
    """Random geometry with everything that the descriptor can say, small enough to simulate."""
    return {
        "source": int(rng.integers(1 << 16)), "row_stride": int(rng.integers(1 << 16)),
        "position_stride": int(rng.integers(1 << 12)), "stride": int(rng.integers(1, 4)),
        "planes": int(rng.integers(2, 17)) if planes is None else planes,
        "signed": int(rng.integers(2)), "height": int(rng.integers(1, 9)),
        "width": int(rng.integers(1, 9)), "first_row": int(rng.integers(4)),
        "out_rows": int(rng.integers(1, 4)), "out_width": int(rng.integers(1, 6)),
        "psum": int(rng.integers(1 << 10)), "accumulate": int(rng.integers(2)),
    } | (random_ring(rng) if rng.integers(2) else {})


def random_ring(rng):
    """Fields that make a descriptor read over the end of a ring of rows."""
    return {"ring": int(rng.integers(1, 1 << 14)), "first_row": int(rng.integers(-4, 3))}


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("load_rows", [4, 16])
def test_convolution_3x3(load_rows, stall):
    rng = np.random.default_rng(1)
    machine = Machine(rng=rng, stall=stall, load_rows=load_rows)
    tiles = [random_tile(rng, machine.config, dy=dy, dx=dx, offset=int(rng.integers(1 << 16)))
             for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    machine.add(tiles, source=65_000, row_stride=15, position_stride=3, height=5, width=5,
                first_row=0, out_rows=3, out_width=5, psum=7)
    machine.add(tiles[:2], source=1, row_stride=40_000, position_stride=4095, height=9, width=7,
                first_row=3, out_rows=2, out_width=4, psum=1020, accumulate=1, stride=2)
    # Rows -3..1 of a ring of 6 rows; -7..-1; strides over its end.
    machine.add(tiles, source=65_000, row_stride=16, position_stride=3, height=5, width=5,
                first_row=-2, out_rows=3, out_width=5, psum=7, ring=24)
    machine.add(tiles[:6], source=900, row_stride=16, position_stride=3, height=9, width=5,
                first_row=-6, out_rows=5, out_width=5, ring=24)
    machine.add(tiles[3:], source=5, row_stride=16, position_stride=3, height=3, width=5,
                first_row=-2, out_rows=4, out_width=3, stride=2, ring=24)
    machine.run(cycles=10_000)


def test_wide_weight_stream():
    """64 rows and 16 load rows: four memory words of weights a cycle."""
    rng = np.random.default_rng(2)
    machine = Machine(rng=rng, stall=0.2, rows=64, load_rows=16, acc_bits=20)
    tiles = [random_tile(rng, machine.config, dy=dy, dx=dx) for dy, dx in ((0, 0), (1, -1))]
    machine.add(tiles, source=65_000, row_stride=15, position_stride=3, height=3, width=3,
                first_row=0, out_rows=2, out_width=3, psum=7)
    machine.run()


@pytest.mark.parametrize("seed", range(4))
def test_random(seed):
    """Random descriptors under random stalls, padding and skipped tiles included."""
    rng = np.random.default_rng(seed)
    machine = Machine(rng=rng, stall=[0.1, 0.5][seed % 2], load_rows=[4, 4, 8, 16][seed])
    for _ in range(6):
        reach = int(rng.choice([0, 2, 127]))
        machine.add([random_tile(rng, machine.config, offset=int(rng.integers(1 << 16)),
                                 dy=int(rng.integers(-reach - 1, reach + 1)),
                                 dx=int(rng.integers(-reach - 1, reach + 1)))
                     for _ in range(int(rng.integers(1, 4)))], **random_fields(rng))
    machine.run(cycles=30_000)


@pytest.mark.parametrize("seed", range(4))
def test_random_plane_skip(seed):
    """Descriptors with and without it, for every number of planes that can be left out."""
    rng = np.random.default_rng(seed)
    machine = Machine(rng=rng, stall=[0.0, 0.5][seed % 2], load_rows=16, plane_skip=True)
    for _ in range(6):
        planes = int(rng.choice([2, 3, 12, 16, *(SKIP_PLANES + rng.integers(8, 16, size=6))]))
        machine.add([random_tile(rng, machine.config, offset=int(rng.integers(1 << 16)),
                                 dy=int(rng.integers(-1, 2)), dx=int(rng.integers(-1, 2)))
                     for _ in range(int(rng.integers(1, 4)))], **random_fields(rng, planes=planes))
    machine.run(cycles=30_000)


@pytest.mark.parametrize("seed", range(3))
def test_random_wide_weights(seed):
    """Upper halves among others: of levels, of images, padded, and with planes left out."""
    rng = np.random.default_rng(seed)
    machine = Machine(rng=rng, stall=[0.0, 0.5, 0.2][seed], load_rows=16, wide_weights=True,
                      plane_skip=seed == 2)
    for _ in range(6):
        planes = int(rng.choice([2, 3, 8, 16, *([SKIP_PLANES + 9] if seed == 2 else [])]))
        machine.add([random_tile(rng, machine.config, offset=int(rng.integers(1 << 16)),
                                 dy=int(rng.integers(-1, 2)), dx=int(rng.integers(-1, 2)),
                                 high=int(rng.integers(2)))
                     for _ in range(int(rng.integers(1, 4)))], **random_fields(rng, planes=planes))
    machine.run(cycles=30_000)


def test_high_without_wide_weights():
    """Other cores do not look at the flag."""
    rng = np.random.default_rng(0)
    machine = Machine(rng=rng, load_rows=16)
    machine.add([random_tile(rng, machine.config, high=1)], position_stride=3, height=1, width=4,
                out_rows=1, out_width=4)
    machine.run()


def test_plane_skip_saves_cycles():
    """A lookup for every plane that is left out."""
    spent = []
    for planes in (12, SKIP_PLANES + 12):
        rng = np.random.default_rng(0)
        machine = Machine(rng=rng, load_rows=16, plane_skip=True)
        machine.repeats[:] = 7
        machine.add([random_tile(rng, machine.config) for _ in range(3)], planes=planes, signed=1,
                    position_stride=12, row_stride=60, height=4, width=5, out_rows=4, out_width=5)
        spent += machine.run()
    assert spent[0] - spent[1] == 3 * 20 * 7


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("planes", [2, 3])
def test_one_position(planes, stall):
    """Every tile adds to the same partial sum: a stale one would lose a tile."""
    rng = np.random.default_rng(0)
    machine = Machine(rng=rng, stall=stall, load_rows=16, acc_bits=20)
    tiles = [random_tile(rng, machine.config) for _ in range(6)]
    machine.add(tiles, planes=planes, height=1, width=1, out_rows=1, out_width=1)
    machine.run()


def test_extremes():
    """All weights and bits at their ends, 16 signed planes, sums that wrap."""
    rng = np.random.default_rng(0)
    machine = Machine(rng=rng, load_rows=8, acc_bits=20)
    machine.pool[:64] = 0xFFFF
    machine.pool[64:128] = np.arange(64) % 16 // 15 * 0xFFFF
    machine.psum[:3] = 2**19 - 1
    machine.psum[3:6] = -2**19
    header = pack(TileHeader)
    low, high = ([header] + [nibble * 0x1111_1111_1111_1111] * 16 for nibble in (8, 7))
    for source in (0, 64):
        for tile in (low, high):
            machine.add([tile, low, high], source=source, position_stride=16, row_stride=0,
                        planes=16, signed=1, height=1, width=4, out_rows=1, out_width=4,
                        accumulate=1)
    machine.run()


@pytest.mark.parametrize("load_rows, accumulate, wide", [(4, 0, False), (8, 1, False),
                                                          (4, 1, True), (8, 0, True)])
def test_cycles(load_rows, accumulate, wide):
    rng = np.random.default_rng(0)
    machine = Machine(rng=rng, load_rows=load_rows, wide_weights=wide)
    machine.add([], height=1, width=1, out_rows=1, out_width=1)
    for planes, height, width in [(2, 3, 4), (3, 4, 5), (3, 1, 1), (8, 2, 3)]:
        for shifts in [[(0, 0)], [(1, -1), (0, 1)], [(0, 1), (5, 5), (-1, 0)], [(0, 0), (5, 5)]]:
            machine.add([random_tile(rng, machine.config, dy=dy, dx=dx,
                                     high=int(wide and k % 2 == 0))
                         for k, (dy, dx) in enumerate(shifts)],
                        row_stride=15, position_stride=3, planes=planes, height=height,
                        width=width, out_rows=height, out_width=width, accumulate=accumulate)

    taken = machine.run(cycles=20_000)

    expected = [array_cycles(unpack(Array, pack(Array, **fields)), [tile[0] for tile in tiles],
                             config=machine.config) for fields, tiles in machine.jobs]
    assert taken == expected
