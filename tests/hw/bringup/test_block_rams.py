# amaranth: UnusedElaboratable=no
import json
import random

from amaranth import *
from amaranth.back import rtlil
from amaranth.lib.memory import Memory as BlockRam
import pytest

from boards import find_board
from gen.flow.synth import synthesize
from gen.flow.toolchain import find_toolchain
from hw.bringup.block_rams import (
    BlockRamTest,
    history,
    pattern,
    RegisteredRam,
    results,
    WIDTHS,
)
from hw.register import Counter
from sim.drive.ports import simulate


SMALL = {5: 8, 2: 32}


class Faulty(RegisteredRam):
    """As :class:`RegisteredRam`, with one thing wrong in the memory of 5 bits."""

    def __init__(self, fault, *, width, depth):
        super().__init__(width=width, depth=depth)
        self.fault, self.shape, self.depth = fault if width == 5 else None, width, depth

    def elaborate(self, platform):
        m = Module()
        fault = self.fault
        init = [pattern(address, self.shape) for address in range(self.depth)]
        if fault == "one wrong bit":
            init[3] ^= 4
        m.submodules.memory = memory = BlockRam(
            shape=self.shape, depth=self.depth, init=[] if fault == "not initialised" else init)
        read, write = memory.read_port(), memory.write_port()
        held, fresh = Signal(self.shape), Signal()
        m.d.comb += [
            read.addr.eq(self.r_address), write.addr.eq(self.w_address), write.data.eq(self.w_data),
            read.en.eq(fault == "address not held" or self.read),
            write.en.eq(self.write & (fault != "never written")),
            self.r_data.eq(read.data if fault == "no output register" else held),
        ]
        latch = {"latch needs read": self.latch & self.read,
                 "latch without read only": self.latch & ~self.read,
                 "latched behind a read": self.latch | fresh}.get(fault, self.latch)
        m.d.sync += fresh.eq(self.read)
        with m.If(latch):
            m.d.sync += held.eq(read.data)
        return m


def _run(ram, rounds=3):
    """Counters after a test, by name."""
    dut = BlockRamTest(SMALL, ram)
    found = {}

    async def testbench(ctx):
        ctx.set(dut.count, rounds)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        await ctx.tick().until(~dut.busy)
        found.update({counter.name: ctx.get(dut.counters[counter]) for counter in Counter})

    simulate(dut, testbench)
    return found


def test_good_memories():
    counters = _run(RegisteredRam)
    assert results(counters, SMALL) == {5: (0, []), 2: (0, [])}
    assert counters["ERRORS"] == 0 and counters["IMAGES"] == 3
    assert counters["CYCLES"] == 16 * 32 * 3


def test_first_rounds_run_by_themselves():
    """They need no host; the next ones are as many as it asks for."""
    dut = BlockRamTest(SMALL, rounds=2)

    async def testbench(ctx):
        for rounds in (2, 3):
            await ctx.tick()
            assert ctx.get(dut.busy)
            ctx.set(dut.start, 0)
            await ctx.tick().until(~dut.busy)
            assert ctx.get(dut.counters[Counter.IMAGES]) == rounds
            assert ctx.get(dut.counters[Counter.ERRORS]) == 0
            await ctx.tick().repeat(5)
            assert not ctx.get(dut.busy)
            ctx.set(dut.count, 3)
            ctx.set(dut.start, 1)

    simulate(dut, testbench)


def test_restarts_in_the_middle():
    """They find no fault that is not there, forget none that is, and none after configuration."""
    for fault in (None, "one wrong bit"):
        dut = BlockRamTest(SMALL, lambda fault=fault, **shape: Faulty(fault, **shape), rounds=2)
        reset = Signal()

        async def testbench(ctx, dut=dut, reset=reset, fault=fault):
            rng = random.Random(0)
            for restart in range(12):
                # Not in the first round, of 512 cycles: its contents count.
                await ctx.tick().repeat(700 if restart == 0 else rng.randrange(1, 1700))
                ctx.set(reset, 1)
                await ctx.tick()
                ctx.set(reset, 0)
            await ctx.tick().repeat(2)
            await ctx.tick().until(~dut.busy)
            counters = {counter.name: ctx.get(dut.counters[counter]) for counter in Counter}
            assert counters["IMAGES"] == 2
            assert results(counters, SMALL) == {5: (0, []), 2: (0, [])}
            assert history(counters, SMALL) == (True, [5] if fault else [])
            assert counters["ERRORS"] == (fault is not None)

        simulate(ResetInserter(reset)(dut), testbench)


def test_contents_after_configuration_were_not_read():
    dut = BlockRamTest(SMALL, rounds=2)
    reset = Signal()

    async def testbench(ctx):
        await ctx.tick().repeat(300)
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        await ctx.tick().repeat(2)
        await ctx.tick().until(~dut.busy)
        counters = {counter.name: ctx.get(dut.counters[counter]) for counter in Counter}
        assert history(counters, SMALL) == (False, []) and counters["IMAGES"] == 2

    simulate(ResetInserter(reset)(dut), testbench)


@pytest.mark.parametrize("fault, kinds, wrong", [
    (None, [], 0),
    ("one wrong bit", ["CONTENTS", "HOLD", "PIPELINE"], 4),
    ("not initialised", ["CONTENTS", "PIPELINE"], None),
    ("never written", ["CONTENTS", "PIPELINE"], None),
    ("address not held", ["CONTENTS", "PIPELINE"], None),
    ("no output register", ["HOLD"], None),
    ("latch needs read", ["CONTENTS", "HOLD"], None),
    ("latch without read only", ["PIPELINE"], 24),
    ("latched behind a read", ["HOLD"], 24),
])
def test_faulty_memories(fault, kinds, wrong):
    """What is wrong with one memory shows in its result alone."""
    counters = _run(lambda **shape: Faulty(fault, **shape))
    found = results(counters, SMALL)
    assert found[2] == (0, [])
    assert set(kinds) <= set(found[5][1]) and bool(kinds) == bool(found[5][1]), found
    assert (found[5][0] == wrong if wrong is not None else found[5][0] > 0), found
    assert counters["ERRORS"] == bool(kinds)


@pytest.mark.synth
def test_every_width_in_one_block_ram(tmp_path):
    """As the tools build it: the widths as named, each through the block's own register."""
    dut = BlockRamTest()
    m = Module()
    m.domains.sync = domain = ClockDomain(reset_less=True)
    m.submodules.dut = dut
    (tmp_path / "top.il").write_text(rtlil.convert(
        m, name="top", emit_src=False,
        ports=[domain.clk, dut.start, dut.count, dut.busy, dut.counters.as_value()]))
    result = synthesize(find_board("ulx3s-12f"), tmp_path, find_toolchain())
    blocks = [cell["parameters"] for cell in json.loads((tmp_path / "top.json").read_text())
              ["modules"]["top"]["cells"].values() if cell["type"] == "DP16KD"]
    widths = sorted(int(block["DATA_WIDTH_B"], 2) for block in blocks)
    assert widths == sorted(WIDTHS)
    assert all(block["REGMODE_B"] == "OUTREG" for block in blocks)
    assert result.data["absorbed_ff"] == sum(WIDTHS)
