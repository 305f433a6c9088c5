"""The source against a model of the flash."""

from itertools import pairwise

import pytest

from hw.boot.flash import FlashSource
from sim.drive.ports import simulate
from sim.drive.spi import serve_spi
from sim.twin.spi_flash import SpiFlashTwin


HALF = 2


async def read(ctx, dut, count, *, pause=lambda index: 0):
    """``count`` bytes of a source, each taken after some cycles."""
    got = bytearray()
    source = dut.source
    ctx.set(source.go, 1)
    while len(got) < count:
        await ctx.tick().repeat(pause(len(got)) + 1)
        ctx.set(source.bytes.ready, 1)
        byte, = await ctx.tick().sample(source.bytes.payload).until(source.bytes.valid)
        got.append(byte)
        ctx.set(source.bytes.ready, 0)
    return bytes(got)


@pytest.mark.parametrize("pause", [0, 50])
def test_reads_from_its_address(pause):
    """Whatever the bytes, and however slowly they are taken; again after a stop, from the start."""
    content = bytes((7 * k * k + 0xA5) & 0xFF for k in range(40))
    flash = SpiFlashTwin({0x1234F0: content})
    dut = FlashSource(half=HALF, address=0x1234F0)
    got = []

    async def run(ctx):
        for count in (40, 5):
            got.append(await read(ctx, dut, count, pause=lambda index: pause * (index % 3 == 1)))
            ctx.set(dut.source.go, 0)
            await ctx.tick().repeat(40)
            assert not ctx.get(dut.pins.select)

    simulate(dut, run, background=[serve_spi(dut.pins, flash)])
    assert got == [content, content[:5]]
    assert not flash.violations
    assert flash.early_clocks >= 16


def test_cycles_of_a_byte():
    """As docs/tutorials/stand-alone.md counts the time of loading."""
    flash = SpiFlashTwin({0: bytes(range(100))})
    dut = FlashSource(half=HALF, address=0)
    times = []

    async def run(ctx):
        ctx.set(dut.source.go, 1)
        ctx.set(dut.source.bytes.ready, 1)
        for cycle in range(3000):
            _, _, valid = await ctx.tick().sample(dut.source.bytes.valid)
            if valid:
                times.append(cycle)

    simulate(dut, run, background=[serve_spi(dut.pins, flash)])
    assert {after - before for before, after in pairwise(times)} == {16 * HALF + 1}


@pytest.mark.parametrize("parameters, message", [
    ({"half": 1}, "Half must be a power of two of at least 2 cycles, not 1"),
    ({"half": 3}, "Half must be a power of two of at least 2 cycles, not 3"),
    ({"half": 2, "address": 1 << 24}, "Address must fit in 24 bits, not 16777216")])
def test_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        FlashSource(**parameters)
