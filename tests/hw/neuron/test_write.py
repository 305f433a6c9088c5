# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from hw.config import CoreConfig, PLANES_MIN
from hw.neuron.write import PositionWriter
from sim.drive.ports import serve_write, simulate
from sim.reference.write_hash import write_hash


VALUE_LATENCY, LEVEL_LATENCY = 7, 21
"""Cycles from a group's reservation to its results."""


def planes_of(values, count):
    """Words of bit-planes, least significant first: bit ``lane`` of each is that of a lane."""
    return [sum((value >> plane & 1) << lane for lane, value in enumerate(values))
            for plane in range(count)]


def words_of(job, rows, values, levels):
    """``(address, word)`` of what is written, position by position; and the counts of planes of
    values that repeat the sign, by the address of the most significant one."""
    written, repeats = [], []
    for position in range(job["count"]):
        if job["membrane"]:
            bits = sum(value % (1 << 16) << 16 * lane
                       for lane, value in enumerate(values[position]))
            base = job["membrane_address"] + position * job["membrane_stride"]
            written += [(base + word, bits >> rows * word & (1 << rows) - 1)
                        for word in range(16)]
        source = levels if job["levels"] else values
        planes = planes_of(source[position], job["planes"])
        base = job["plane_address"] + position * job["plane_stride"]
        written += [(base + plane, word) for plane, word in enumerate(planes)]
        if len(planes) >= PLANES_MIN and not job["levels"]:
            same = 0
            while same < len(planes) - 2 and planes[-same - 1] == planes[-same - 2]:
                same += 1
            repeats.append(((base + len(planes) - 1) % (1 << 16), same))
    return [(address % (1 << 16), word) for address, word in written], repeats


@pytest.mark.parametrize("settings", [
    {"rows": 16, "load_rows": 4, "neuron_lanes": 8},
    {"rows": 16, "load_rows": 4, "neuron_lanes": 8, "levels": 3},
    {"rows": 16, "load_rows": 4, "neuron_lanes": 2, "plane_skip": True},
    {"rows": 32, "load_rows": 8, "neuron_lanes": 8, "plane_skip": True}])
@pytest.mark.parametrize("stall", [0.0, 0.5, 0.85])
def test_words(settings, stall):
    """Words, their order and their hash, of positions of each kind of result."""
    rng = np.random.default_rng(3)
    config = CoreConfig(**settings)
    rows, lanes = config.rows, config.neuron_lanes
    groups = rows // lanes
    dut = PositionWriter(config)
    written, repeats = [], []

    async def position_writer(ctx, job, values, levels):
        for name in ("count", "membrane", "membrane_address", "membrane_stride", "planes",
                     "plane_address", "plane_stride", "levels"):
            ctx.set(getattr(dut, name), job[name])
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        assert not ctx.get(dut.idle)
        # The configuration is stable some cycles before the first result.
        await ctx.tick().repeat(3)
        entering = [(position, group) for position in range(job["count"])
                    for group in range(groups)]
        pipeline = [None] * LEVEL_LATENCY
        while entering or any(pipeline) or not ctx.get(dut.idle):
            reserve = bool(entering) and ctx.get(dut.room) and rng.random() < 0.9
            ctx.set(dut.reserve, reserve)
            pipeline = [entering.pop(0) if reserve else None, *pipeline[:-1]]
            for port, valid, source, latency in (
                    (dut.values, dut.values_valid, values, VALUE_LATENCY),
                    (dut.level, dut.level_valid, levels, LEVEL_LATENCY)):
                arriving = pipeline[latency - 1]
                ctx.set(valid, arriving is not None)
                if arriving:
                    position, group = arriving
                    ctx.set(port, [int(value) % (1 << 16 if port is dut.values
                                   else 1 << config.level_planes)
                                   for value in source[position][group * lanes:][:lanes]])
            await ctx.tick()

    async def testbench(ctx):
        for membrane, levels, planes in ((1, 0, 0), (1, 1, config.level_planes),
                                         (0, 1, config.level_planes), (0, 0, 16), (0, 0, 8),
                                         (0, 0, 4)):
            job = {"count": int(rng.integers(1, 6)), "membrane": membrane, "levels": levels,
                   "planes": planes, "membrane_address": int(rng.integers(1 << 16)),
                   "plane_address": int(rng.integers(1 << 16)),
                   "membrane_stride": int(rng.integers(1 << 12)),
                   "plane_stride": int(rng.integers(1 << 12))}
            # z has as many bits as it has planes; some positions have lanes of few bits only.
            bits = planes if planes and not levels else 16
            values = rng.integers(-1 << bits - 1, 1 << bits - 1, (job["count"], rows))
            values >>= rng.integers(0, bits, (job["count"], 1))
            values = values.tolist()
            level = rng.integers(0, 1 << config.level_planes, (job["count"], rows)).tolist()
            written.clear()
            repeats.clear()
            await position_writer(ctx, job, values, level)
            sig = ctx.get(dut.sig)
            await ctx.tick().repeat(4)                  # the last count comes behind its plane
            expected, counts = words_of(job, rows, values, level)
            assert written == expected
            assert sig == write_hash([word for _, word in expected], rows=rows)
            if config.plane_skip:
                assert repeats == counts

    async def see_repeats(ctx):
        while True:
            _, _, valid, address, count = await ctx.tick().sample(
                dut.repeats.valid, dut.repeats.address, dut.repeats.count)
            if valid:
                repeats.append((address, count))

    simulate(dut, testbench, cycles=30_000, background=[
        serve_write(dut.write, lambda *word: written.append(word), rng=rng, stall=stall),
        *([see_repeats] if config.plane_skip else [])])


@pytest.mark.parametrize(("membrane", "levels", "planes", "cycles"), [
    (1, 0, 0, 16), (0, 0, 16, 16), (0, 1, 3, 4), (1, 1, 3, 19)])
def test_cycles_of_a_position(membrane, levels, planes, cycles):
    """Where nothing waits: a cycle for a word, or for a group where a position has fewer words."""
    config = CoreConfig(rows=16, load_rows=4, neuron_lanes=4)
    dut = PositionWriter(config)
    count, groups, times = 12, 4, []

    async def testbench(ctx):
        for name, value in (("count", count), ("membrane", membrane), ("levels", levels),
                            ("planes", planes), ("start", 1)):
            ctx.set(getattr(dut, name), value)
        await ctx.tick()
        ctx.set(dut.start, 0)
        await ctx.tick().repeat(3)
        left, pipeline = count * groups, [False] * LEVEL_LATENCY
        for cycle in range(count * cycles + 100):
            reserve = left > 0 and ctx.get(dut.room)
            left -= reserve
            pipeline = [reserve, *pipeline[:-1]]
            ctx.set(dut.reserve, reserve)
            ctx.set(dut.values_valid, pipeline[VALUE_LATENCY - 1])
            ctx.set(dut.level_valid, pipeline[LEVEL_LATENCY - 1])
            if ctx.get(dut.write.valid):
                times.append(cycle)
            await ctx.tick()

    simulate(dut, testbench, background=[
        serve_write(dut.write, lambda *word: None, rng=np.random.default_rng(0))])
    words = 16 * membrane + planes
    firsts = times[::words]
    assert len(times) == count * words
    assert firsts[-1] - firsts[3] == (count - 1 - 3) * cycles
