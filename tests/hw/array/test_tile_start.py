# amaranth: UnusedElaboratable=no
import random

import pytest

from hw.array.tile_start import TileStart
from sim.drive.ports import simulate, take_stream
from tests.hw.array.tile_headers import feed_headers


def random_case(rng, extreme):
    """Fields of a descriptor and of the headers of its tiles."""
    def number(low, high):
        return rng.choice([low, high]) if extreme else rng.randint(low, high)

    fields = {"source": number(0, 0xFFFF), "row_stride": number(0, 0xFFFF),
              "position_stride": number(0, 0xFFF), "planes": number(2, 16),
              "stride": number(1, 3), "first_row": number(-512, 511)}
    headers = [{"offset": number(0, 0xFFFF), "dy": number(-128, 127), "dx": number(-128, 127),
                "high": rng.randrange(2)}
               for _ in range(rng.randint(1, 4))]
    return fields, headers


def start_of(fields, header):
    """Input coordinates and address of the first position of a tile."""
    iy = fields["first_row"] * fields["stride"] + header["dy"]
    ix = header["dx"]
    address = (fields["source"] + header["offset"] + iy * fields["row_stride"]
               + ix * fields["position_stride"] + fields["planes"] - 1)
    return address % (1 << 16), iy, ix


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("stall, wide_weights", [(0.0, False), (0.9, False), (0.4, True)])
def test_starts(stall, wide_weights, extreme):
    """Descriptors of some tiles each, one after the other."""
    rng = random.Random(int(extreme))
    dut = TileStart(wide_weights=wide_weights)
    waiting = []                # headers that have not been given yet
    flags = []

    async def watch(ctx):
        while True:
            _, _, taken, high = await ctx.tick().sample(dut.o.valid & dut.o.ready, dut.high)
            if taken:
                flags.append(high)

    async def testbench(ctx):
        for _ in range(30):
            fields, headers = random_case(rng, extreme)
            for name, value in fields.items():
                ctx.set(getattr(dut.descriptor, name), value)
            ctx.set(dut.begin, 1)
            await ctx.tick()
            ctx.set(dut.begin, 0)
            take, starts = take_stream(dut.o, len(headers), rng=rng, stall=stall)
            waiting.extend(headers)
            flags.clear()
            await take(ctx)
            if wide_weights:
                await ctx.tick()
                assert flags == [header["high"] for header in headers]
            assert [(start.address, start.iy, start.ix) for start in starts] == [
                start_of(fields, header) for header in headers]
            assert ctx.get(dut.row_step) == fields["stride"] * fields["row_stride"] % (1 << 16)
            assert ctx.get(dut.position_step) == fields["stride"] * fields["position_stride"]

    simulate(dut, testbench, background=[
        feed_headers(dut.headers, waiting, rng=rng, stall=stall),
        *([watch] if wide_weights else [])])


def test_cycles():
    """14 cycles from ``begin`` to the first header, 18 from a header to its start."""
    dut = TileStart()
    times = []

    async def testbench(ctx):
        for name in ("first_row", "planes", "stride"):
            ctx.set(getattr(dut.descriptor, name), 2)
        ctx.set(dut.headers.valid, 1)
        ctx.set(dut.o.ready, 1)
        ctx.set(dut.begin, 1)
        for cycle in range(100):
            if ctx.get(dut.o.valid):
                times.append(cycle)
            await ctx.tick()
            ctx.set(dut.begin, 0)

    simulate(dut, testbench)
    # A cycle more between two of them, in which the start is taken.
    assert times == [14 + 18, 14 + 18 + 19, 14 + 18 + 2 * 19, 14 + 18 + 3 * 19]
