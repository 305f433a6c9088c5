# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from hw.memory.bursts import BURST_WORDS, Bursts
from sim.drive.ports import simulate


def expected(address, length, count, stride):
    """Address and length of every burst, row by row."""
    return [((address + row * stride + offset) % (1 << 24), min(BURST_WORDS, length - offset))
            for row in range(count) for offset in range(0, length, BURST_WORDS)]


@pytest.mark.parametrize("write", [0, 1])
@pytest.mark.parametrize("stall", [0.0, 0.6])
def test_rows_as_bursts(stall, write):
    """Bursts cover each row once, none crosses a row's end or comes while it is not allowed."""
    rng = np.random.default_rng(write)
    dut = Bursts()
    cases = [(100, 1, 1, 0), (200, 16, 2, 16), (300, 17, 3, 40), (400, 15, 2, 100),
             (500, 160, 1, 9), (0xFF_FFF8, 20, 2, 32)]

    async def bench(ctx):
        ctx.set(dut.write, write)
        for case in cases:
            for port, value in zip((dut.address, dut.length, dut.count, dut.stride), case,
                                   strict=True):
                ctx.set(port, value)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            found, told, waiting, allowed = [], [], False, False
            while ctx.get(dut.busy):
                allow, ready = rng.random() >= stall, rng.random() >= stall
                ctx.set(dut.allow, allow)
                ctx.set(dut.commands.ready, ready)
                if ctx.get(dut.taken):
                    told.append(ctx.get(dut.words))
                offered = bool(ctx.get(dut.commands.valid))
                assert not offered or waiting or allowed
                if offered and ready:
                    command = dut.commands.payload
                    found.append((ctx.get(command.address), ctx.get(command.length)))
                    assert ctx.get(command.write) == write
                waiting, allowed = offered and not ready, allow
                await ctx.tick()
            assert found == expected(*case)
            assert told == [words for _, words in found]

    simulate(dut, bench, cycles=3_000)


def test_four_cycles_a_burst():
    dut = Bursts()
    times = []

    async def bench(ctx):
        for port, value in ((dut.address, 0), (dut.length, 5 * BURST_WORDS), (dut.count, 1),
                            (dut.allow, 1), (dut.commands.ready, 1), (dut.start, 1)):
            ctx.set(port, value)
        await ctx.tick()
        ctx.set(dut.start, 0)
        for cycle in range(40):
            if ctx.get(dut.commands.valid):
                times.append(cycle)
            await ctx.tick()

    simulate(dut, bench)
    assert [b - a for a, b in zip(times, times[1:], strict=False)] == [4] * 4
