"""A calibration with its memory tests on a memory of a few words that can be broken."""
from hw.sdram.calibration import SdramCalibration
from hw.sdram_config import SdramConfig
from sim.drive.ports import simulate


CONFIG = SdramConfig(clock_hz=100_000_000, trcd_ns=20, trp_ns=20, tras_ns=45, trc_ns=66,
                     trfc_ns=70, twr_ns=15, trrd_ns=15, row_bits=1, column_bits=4)
"""32 words."""


class Plain:
    """A memory that works: what each access does."""

    def __init__(self, words=CONFIG.words):
        self.words = [0] * words

    def write(self, address, word):
        self.words[address % len(self.words)] = word

    def read(self, address):
        return self.words[address % len(self.words)]


class Bench:
    """Boots, then ``script(ctx, bench)`` goes on; ``passes(delay, phase)`` says which settings
    work at all."""

    def __init__(self, memory, *, config=CONFIG, phases=1, passes=lambda delay, phase: True):
        self.dut = SdramCalibration(config, phases=phases)
        self.memory, self.phases, self.passes = memory, phases, passes
        self.phase, self.commands = 0, []

    async def chip(self, ctx):
        """The place of the scheduler: one access after the other, a word in each cycle."""
        dut = self.dut
        port, pulse = dut.memory, 0
        ctx.set(port.commands.ready, 1)
        command, left, reads = None, 0, []
        while True:
            word, written, read, restart, step = (ctx.get(value) for value in (
                port.w_data.payload, port.w_data.valid & port.w_data.ready,
                port.r_data.valid & port.r_data.ready, dut.restart, dut.phase_step))
            offered = ctx.get(port.commands.valid & port.commands.ready)
            payload = ctx.get(port.commands.payload) if offered else None
            await ctx.tick()
            ctx.set(dut.initialised, not restart)
            if pulse and not step:
                self.phase = (self.phase + 1) % self.phases
            pulse = step
            if read:
                reads.pop(0)
            if written:
                self.memory.write(command[0], word)
                command, left = (command[0] + 1, *command[1:]), left - 1
            if offered:
                address, length, write = payload.address, payload.length, payload.write
                self.commands.append((address, length, write))
                if write:
                    command, left = (address,), length
                else:
                    good = self.passes(ctx.get(dut.delay), self.phase)
                    reads += [self.memory.read(address + k) if good else 0xBAD
                              for k in range(length)]
            ctx.set(port.w_data.ready, left > 0)
            ctx.set(port.commands.ready, left == 0)
            ctx.set(port.r_data.valid, bool(reads))
            ctx.set(port.r_data.payload, reads[0] if reads else 0)

    def run(self, script):
        async def bench(ctx):
            status = self.dut.status
            while not (ctx.get(status.ready) or ctx.get(status.fault)):
                await ctx.tick()
            await ctx.tick().repeat(2)
            await script(ctx, self)
        simulate(self.dut, bench, background=[self.chip], cycles=100_000)

    async def test(self, ctx, test):
        """Errors, first address and pins of a test of the memory."""
        tests = self.dut.tests
        ctx.set(tests.test, test)
        ctx.set(tests.start, 1)
        await ctx.tick()
        ctx.set(tests.start, 0)
        await ctx.tick()
        running = ctx.get(tests.status)
        assert (running.running, running.test, running.ended) == (1, test, 0)
        await ctx.tick().until(~tests.status.running)
        ended = ctx.get(tests.status)
        assert (ended.running, ended.test, ended.ended) == (0, test, 1)
        return tuple(ctx.get(getattr(tests, name)) for name in ("errors", "address", "pins"))
