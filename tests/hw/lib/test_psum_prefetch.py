# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from hw.config import CoreConfig
from hw.lib.psum_prefetch import PsumPrefetch
from hw.port import PSUM_LATENCY
from sim.drive.ports import serve_read, simulate


LANES, WIDTH = 4, 18


def run(count, *, stall, taken_rate, seed=0):
    """Take ``count`` rows from address 5 on; returns (rows, what they should be, cycles)."""
    rng = np.random.default_rng(seed)
    config = CoreConfig(rows=16, load_rows=4)
    dut = PsumPrefetch(config=config, lanes=LANES, width=WIDTH)
    memory = rng.integers(-(1 << 23), 1 << 23, (64, LANES))
    rows, cycles = [], 0

    async def testbench(ctx):
        nonlocal cycles
        ctx.set(dut.address, 5)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        asked = 0
        while len(rows) < count:
            ctx.set(dut.more, asked < count)
            take = ctx.get(dut.valid) and rng.random() < taken_rate
            ctx.set(dut.take, take)
            if take:
                rows.append([ctx.get(dut.data[k]) for k in range(LANES)])
            _, _, step = await ctx.tick().sample(dut.step)
            asked += step
            cycles += 1
        ctx.set(dut.take, 0)
        assert ctx.get(dut.empty)

    simulate(dut, testbench, cycles=5000, background=[
        serve_read(dut.psum, lambda address: memory[address].tolist(), latency=PSUM_LATENCY,
                   rng=rng, stall=stall)])
    expected = [[int(value) & (1 << WIDTH) - 1 for value in memory[5 + k]] for k in range(count)]
    return rows, expected, cycles


@pytest.mark.parametrize("taken_rate", [0.2, 1.0])
@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_rows_come_in_order(stall, taken_rate):
    rows, expected, _ = run(50, stall=stall, taken_rate=taken_rate)
    assert rows == expected


def test_rate():
    """Two rows in five cycles, the first after the latency that the docstring promises."""
    _, _, cycles = run(40, stall=0.0, taken_rate=1.0)
    assert cycles == PSUM_LATENCY + 3 + (40 - 2) * 5 // 2 + 2
