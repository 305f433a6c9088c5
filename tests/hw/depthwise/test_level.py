# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from hw.config import CoreConfig
from hw.depthwise.level import LevelTaps
from hw.port import POOL_LATENCY
from sim.drive.ports import serve_read, simulate


def halves_of(levels, weights, width, planes):
    """Per position and plane, the highest first: sums of the left four and of the right three taps
    of every lane; ``levels`` (rows, width, lanes), ``weights`` (lanes, 7)."""
    padded = np.pad(levels, ((0, 0), (3, 3), (0, 0)))
    for y in range(len(levels)):
        for x in range(width):
            for plane in reversed(range(planes)):
                taps = (padded[y, x:x + 7].T >> plane & 1) * weights
                yield np.stack([taps[:, :4].sum(axis=1), taps[:, 4:].sum(axis=1)], axis=1).tolist()


@pytest.mark.parametrize("config", [CoreConfig(rows=16, load_rows=4),
                                    CoreConfig(rows=32, load_rows=8),
                                    CoreConfig(rows=16, load_rows=4, levels=3)])
@pytest.mark.parametrize(("pool_stall", "take_rate", "enable_rate"), [
    (0.0, 1.0, 1.0), (0.6, 1.0, 1.0), (0.0, 0.4, 1.0), (0.3, 0.7, 0.5)])
def test_sums(config, pool_stall, take_rate, enable_rate):
    """Passes over maps of some rows, narrow ones too, against a sum over seven taps."""
    rng = np.random.default_rng(4)
    dut = LevelTaps(config=config)
    planes, top = config.level_planes, (1 << config.level_planes) - 1
    lanes, groups = config.depthwise_lanes, config.rows // config.depthwise_lanes
    pool, spikes, asked = {}, 0, []

    def read(address):
        asked.append(address)
        return pool[address]

    async def testbench(ctx):
        nonlocal spikes
        for case, (rows, width) in enumerate([(1, 1), (3, 2), (2, 9), (5, 3), (1, 4)]):
            group, stride = int(rng.integers(groups)), int(rng.integers(planes, 1 << 12))
            addresses = rng.choice(np.arange(0, 1 << 16), rows, replace=False).tolist()
            levels = rng.integers(0, top + 1, (rows, width, config.rows))
            weights = rng.integers(-8, 8, (lanes, 7))
            if case == 2:
                levels[:] = top
                weights[:] = rng.choice([-8, 7], (lanes, 1))
            pool.clear()
            asked.clear()
            for y, x in np.ndindex(rows, width):
                for plane in range(planes):
                    bits = levels[y, x] >> plane & 1
                    # The address is that of the highest plane.
                    pool[(addresses[y] + x * stride + plane - planes + 1) % (1 << 16)] = sum(
                        int(bit) << lane for lane, bit in enumerate(bits))
            if len(pool) < planes * rows * width:
                continue                            # two rows happen to overlap
            mine = levels[..., group * lanes:(group + 1) * lanes]
            expected = list(halves_of(mine, weights, width, planes))
            for name, value in (("group", group), ("position_stride", stride), ("rows", rows),
                                ("width_last", width - 1), ("start", 1)):
                ctx.set(getattr(dut, name), value)
            for lane in range(lanes):
                ctx.set(dut.weights[lane], [int(w) % 16 for w in weights[lane]])
            spikes, found, next_row, advance, wanted = 0, [], 0, 0, None
            while len(found) < len(expected) or wanted:
                if next_row < rows:
                    ctx.set(dut.row_address, addresses[next_row])
                ctx.set(dut.advance_lanes, 15 * advance)
                advance = int(rng.random() < take_rate)
                ctx.set(dut.advance, advance)
                ctx.set(dut.enable, rng.random() < enable_rate)
                if wanted:                          # taken a cycle ago: here are its sums
                    found.append((wanted, [[ctx.get(dut.halves[lane][half]) for half in range(2)]
                                           for lane in range(lanes)]))
                valid = ctx.get(dut.valid) and advance
                wanted = (ctx.get(dut.last), ctx.get(dut.end)) if valid else None
                next_row += ctx.get(dut.row_step)
                await ctx.tick()
                ctx.set(dut.start, 0)
            for number, ((last, end), sums) in enumerate(found):
                assert sums == [[value % 64 for value in lane] for lane in expected[number]]
                assert last == (number % planes == planes - 1)
                if last:
                    assert end == (number == len(found) - 1)
            assert not ctx.get(dut.active) and not ctx.get(dut.fetching)
            assert len(asked) == planes * rows * width
            ctx.set(dut.advance, 0)
            await ctx.tick().repeat(4)
            assert spikes == sum(int(level).bit_count() for level in mine.reshape(-1))

    async def count(ctx):
        nonlocal spikes
        while True:
            _, _, bits = await ctx.tick().sample(dut.spikes)
            spikes += bits

    simulate(dut, testbench, cycles=20_000, background=[
        count, serve_read(dut.pool, read, latency=POOL_LATENCY, rng=rng, stall=pool_stall)])


@pytest.mark.parametrize("levels, planes", [(4, 3), (3, 2)])
def test_a_cycle_for_a_plane(levels, planes):
    """The rows of a pass are one sequence: a sum in every cycle, also from row to row; a cycle is
    lost where the last word has come, three positions before the end."""
    dut = LevelTaps(config=CoreConfig(rows=16, load_rows=4, levels=levels))
    times = []

    async def testbench(ctx):
        for name, value in (("rows", 4), ("width_last", 4), ("position_stride", 3), ("advance", 1),
                            ("advance_lanes", 15), ("enable", 1), ("start", 1)):
            ctx.set(getattr(dut, name), value)
        for cycle in range(120):
            if ctx.get(dut.valid):
                times.append(cycle)
            await ctx.tick()
            ctx.set(dut.start, 0)

    simulate(dut, testbench, background=[
        serve_read(dut.pool, lambda address: 0, latency=POOL_LATENCY,
                   rng=np.random.default_rng(0))])
    sums = 4 * 5 * planes
    assert [cycle - times[0] for cycle in times] == [
        number + (number >= sums - 3 * planes) for number in range(sums)]
