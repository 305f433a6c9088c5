# amaranth: UnusedElaboratable=no
import random

import numpy as np
import pytest

from hw.config import CoreConfig
from hw.neuron.buffer import MembraneFetch, TileConstants
from hw.port import POOL_LATENCY
from sim.drive.ports import feed_stream, serve_read, simulate


def two_complement(value, bits):
    value %= 1 << bits
    return value - (value >> bits - 1 << bits)


def config_of(**settings):
    return CoreConfig(**{"rows": 16, "load_rows": 4, "neuron_lanes": 8, **settings})


@pytest.mark.parametrize("settings", [
    {}, {"levels": 3}, {"levels": 1, "acc_bits": 30},
    {"neuron_lanes": 4, "acc_bits": 30, "multiplier_bits": 18},
    {"rows": 32, "neuron_lanes": 16, "acc_bits": 20, "multiplier_bits": 8}])
@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_constants(settings, stall):
    """Every field of every channel, at its own group address; tiles take turns."""
    rng = random.Random(1)
    config = config_of(**settings)
    dut = TileConstants(config)
    lanes, groups = config.neuron_lanes, config.rows // config.neuron_lanes
    tiles = [[rng.choice([0, (1 << 128) - 1, rng.getrandbits(128), rng.getrandbits(128)])
              for _ in range(config.rows)] for _ in range(6)]
    width = config.acc_bits + 1

    def fields(bits):
        return {"multiplier": two_complement(bits, config.multiplier_bits),
                "bias": two_complement(bits >> 24, 44), "shift": bits >> 72 & 31,
                "thresholds": [two_complement(bits >> k * width, width)
                               for k in range(config.levels)],
                "invert": bits >> 127}

    async def testbench(ctx):
        for tile in tiles:
            while not ctx.get(dut.ready):
                await ctx.tick()
            for _ in range(8):
                at = [rng.randrange(groups) for _ in range(3)]
                if rng.random() < 0.4:
                    at = at[:1] * 3
                for name, group in zip(("group", "bias_group", "shift_group"), at, strict=True):
                    ctx.set(getattr(dut, name), group)
                await ctx.tick()
                for lane in range(lanes):
                    multiplier, bias, shift = (fields(tile[group * lanes + lane]) for group in at)
                    found = dut.lanes[lane]
                    assert ctx.get(found.multiplier) == multiplier["multiplier"]
                    assert ctx.get(found.bias) == bias["bias"]
                    assert ctx.get(found.shift) == shift["shift"]
                    if len(set(at)) == 1:           # thresholds lie in all three
                        assert [ctx.get(found.thresholds[k]) for k in range(config.levels)] == (
                            shift["thresholds"])
                        assert ctx.get(found.invert) == shift["invert"]
            await ctx.tick().repeat(rng.choice([1, 1, 30, 90]))
            ctx.set(dut.release, 1)
            await ctx.tick()
            ctx.set(dut.release, 0)
            await ctx.tick()
        await ctx.tick()
        assert not ctx.get(dut.ready)

    words = [bits >> 64 * half & (1 << 64) - 1 for tile in tiles for bits in tile
             for half in range(2)]
    simulate(dut, testbench, cycles=20_000, background=[
        feed_stream(dut.constants, words, rng=rng, stall=stall)])


def test_two_tiles_wait():
    """A third tile is taken when the first one is released, not before."""
    dut = TileConstants(config_of())
    taken = 0

    async def testbench(ctx):
        nonlocal taken
        ctx.set(dut.constants.valid, 1)
        for cycle in range(200):
            ctx.set(dut.release, cycle == 120)
            if cycle == 120:
                assert taken == 4 * 16
            _, _, ready = await ctx.tick().sample(dut.constants.ready)
            taken += ready
        assert taken == 6 * 16

    simulate(dut, testbench)


@pytest.mark.parametrize("settings", [
    {}, {"neuron_lanes": 2}, {"rows": 64, "load_rows": 16, "neuron_lanes": 16}])
@pytest.mark.parametrize(("pool_stall", "claim_rate", "take_rate"), [
    (0.0, 1.0, 1.0), (0.6, 1.0, 1.0), (0.0, 0.3, 1.0), (0.3, 1.0, 0.2)])
def test_membranes(settings, pool_stall, claim_rate, take_rate):
    """Groups of the positions in order, from rows of pool words a stride apart; read ahead only as
    far as there is place."""
    rng = np.random.default_rng(2)
    config = config_of(**settings)
    dut = MembraneFetch(config)
    lanes, groups = config.neuron_lanes, config.rows // config.neuron_lanes
    pool, reads = {}, []

    def read(address):
        reads.append(address)
        return pool[address]

    async def testbench(ctx):
        for case in range(4):
            count = (5, 1, 0, 7)[case]
            address, stride = int(rng.integers(1 << 16)), int(rng.integers(16, 1 << 12))
            values = rng.integers(-1 << 15, 1 << 15, (count, config.rows))
            values[:, ::3] = rng.choice([-1 << 15, (1 << 15) - 1], values[:, ::3].shape)
            pool.clear()
            reads.clear()
            for position, row in enumerate(values.tolist()):
                bits = sum(value % (1 << 16) << 16 * lane for lane, value in enumerate(row))
                for word in range(16):
                    pool[(address + position * stride + word) % (1 << 16)] = (
                        bits >> config.rows * word & (1 << config.rows) - 1)
            for name, value in (("address", address), ("stride", stride), ("count", count),
                                ("start", 1)):
                ctx.set(getattr(dut, name), value)
            await ctx.tick()
            ctx.set(dut.start, 0)
            assert [ctx.get(dut.lanes[lane]) for lane in range(lanes)] == [0] * lanes
            claimed = taken = 0
            while taken < count * groups:
                claim = ctx.get(dut.available) and rng.random() < claim_rate
                take = taken < claimed * groups and rng.random() < take_rate
                ctx.set(dut.claim, claim)
                ctx.set(dut.take, take)
                await ctx.tick()
                claimed += claim
                taken += take
                if taken:
                    position, group = divmod(taken - 1, groups)
                    assert [ctx.get(dut.lanes[lane]) for lane in range(lanes)] == (
                        values[position, group * lanes:(group + 1) * lanes].tolist())
                # Two positions or four have a place; one more may be asked for but not read.
                assert len(reads) <= 16 * (taken // groups + (4 if groups <= 4 else 2))
            ctx.set(dut.claim, 0)
            ctx.set(dut.take, 0)
            await ctx.tick().repeat(40)
            assert len(reads) == 16 * count and not ctx.get(dut.available)

    simulate(dut, testbench, cycles=20_000, background=[
        serve_read(dut.read, read, latency=POOL_LATENCY, rng=rng, stall=pool_stall)])


def test_a_word_per_cycle():
    """Where nothing waits, one position after the other is read without a gap."""
    dut = MembraneFetch(config_of())
    asked = []

    async def testbench(ctx):
        ctx.set(dut.count, 12)
        ctx.set(dut.stride, 16)
        ctx.set(dut.start, 1)
        left = 0
        for cycle in range(12 * 16 + 40):
            ctx.set(dut.claim, ctx.get(dut.available) and not left)
            ctx.set(dut.take, left > 0)
            left = left - 1 if left else 2 * ctx.get(dut.available)
            if ctx.get(dut.read.valid):
                asked.append(cycle)
            await ctx.tick()
            ctx.set(dut.start, 0)

    simulate(dut, testbench, background=[
        serve_read(dut.read, lambda address: 0, latency=POOL_LATENCY,
                   rng=np.random.default_rng(0))])
    assert asked == list(range(asked[0], asked[0] + 12 * 16))


def test_claims_while_positions_arrive():
    """A position claimed in any cycle, also that in which another one is complete, counts once."""
    dut = MembraneFetch(config_of())

    async def testbench(ctx):
        for delay in range(1, 20):
            ctx.set(dut.count, 2)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            for _ in range(2):
                while not ctx.get(dut.available):
                    await ctx.tick()
                await ctx.tick().repeat(delay)
                ctx.set(dut.claim, 1)
                await ctx.tick()
                ctx.set(dut.claim, 0)
            await ctx.tick().repeat(40)
            assert not ctx.get(dut.available)
            ctx.set(dut.take, 1)
            await ctx.tick().repeat(2 * 2)
            ctx.set(dut.take, 0)

    simulate(dut, testbench, cycles=5000, background=[
        serve_read(dut.read, lambda address: 0, latency=POOL_LATENCY,
                   rng=np.random.default_rng(0))])
