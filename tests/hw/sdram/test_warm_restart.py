# amaranth: UnusedElaboratable=no
"""Restarts of the board: with or without another calibration of the memory."""
from dataclasses import replace

from amaranth import ClockDomain, Elaboratable, Module, ResetSignal, Signal

from hw.register import MEMORY_STATUS_BITS
from sim.drive.ports import feed_stream
from sim.twin.sdram_chip import broken_rules
from sim.twin.sdram_system import SdramSystem
from tests.hw.sdram.test_memory import CONFIG, run


WORDS = [0x0123456789ABCDEF, 0xFEDCBA9876543210, 0, (1 << 64) - 1]


class Board(Elaboratable):
    """The memory and its chip in domains that ``restart`` resets. What the chip holds, and the
    phase of its clock, stay."""

    def __init__(self, config, **pins):
        self.system = SdramSystem(config, **pins)
        self.config = config
        self.restart = Signal()

    def elaborate(self, platform):
        m = Module()
        m.domains.sync, m.domains.sdram = ClockDomain("sync"), ClockDomain("sdram")
        m.submodules.system = self.system
        m.d.comb += [ResetSignal("sync").eq(self.restart), ResetSignal("sdram").eq(self.restart)]
        return m


def test_warm_restart_keeps_calibration_and_content():
    """Phase 1 alone is good. A cold restart begins where the clock is: there is no way to know."""
    board = Board(replace(CONFIG, row_bits=1, column_bits=4), phases=2, command_at=0, data_at=0,
                  unsure=1)
    dut = board.system
    found, port = [], dut.memory

    async def boot(ctx):
        cycles = 0
        while not ctx.get(dut.status.ready):
            await ctx.tick()
            cycles += 1
        found.append((cycles, {name: ctx.get(getattr(dut.status, name))
                               for name in MEMORY_STATUS_BITS}))

    async def restart(ctx, *, warm):
        ctx.set(dut.warm, warm)
        ctx.set(board.restart, 1)
        for _ in range(8):
            await ctx.tick()
        ctx.set(board.restart, 0)
        await ctx.tick()
        assert not ctx.get(dut.status.ready)
        await boot(ctx)

    async def read(ctx):
        received = []
        ctx.set(port.r_data.ready, 1)
        await feed_stream(port.commands, [{"address": 9, "length": 4, "write": 0}],
                          rng=None)(ctx)
        for _ in WORDS:
            word, = await ctx.tick().sample(port.r_data.payload).until(port.r_data.valid)
            received.append(word)
        ctx.set(port.r_data.ready, 0)
        return received

    async def bench(ctx):
        await boot(ctx)
        await feed_stream(port.commands, [{"address": 9, "length": 4, "write": 1}],
                          rng=None)(ctx)
        await feed_stream(port.w_data, WORDS, rng=None)(ctx)
        assert await read(ctx) == WORDS
        for _ in range(2):
            await restart(ctx, warm=1)
            assert await read(ctx) == WORDS
        assert broken_rules(ctx.get(dut.violations)) == []
        await restart(ctx, warm=0)
        assert await read(ctx) != WORDS

    run(board, bench)
    (first, status), *warm, (cold, again) = found
    assert (status["ready"], status["phase"], status["window"]) == (1, 1, 1)
    assert [after for _, after in warm] == [status] * 2 and again == status
    assert max(cycles for cycles, _ in warm) < first / 8 and cold > first / 2
