"""The source against a model of the card."""

import random

import pytest

from hw.boot.card import CardSource, command_bytes
from hw.boot_layout import BootFault, CARD_OFFSET
from sim.drive.ports import simulate
from sim.drive.spi import serve_spi
from sim.twin.sd_card import SdCardTwin
from tests.hw.boot.test_flash import read


HALF, SLOW = 2, 4

CONTENT = random.Random(3).randbytes(3 * 512)

BOOT = ((0, 0), (8, 0x1AA), *((55, 0), (41, 1 << 30)) * 3, (58, 0))


def card_of(**options):
    return SdCardTwin(bytes(CARD_OFFSET) + CONTENT, slow=SLOW, **options)


def source():
    return CardSource(half=HALF, slow=SLOW)


def simulate_card(dut, card, run, cycles=200_000):
    simulate(dut, run, background=[serve_spi(dut.pins, card)], cycles=cycles)


@pytest.mark.parametrize("kind, argument", [
    ("sdhc", CARD_OFFSET // 512), ("sdsc", CARD_OFFSET), ("v1", CARD_OFFSET)])
def test_reads(kind, argument):
    """Block after block of each kind of card; then it is told to stop."""
    card, dut = card_of(kind=kind), source()

    async def run(ctx):
        assert await read(ctx, dut, 1100) == CONTENT[:1100]
        assert ctx.get(dut.source.fault) == BootFault.NONE
        ctx.set(dut.source.go, 0)
        await ctx.tick().repeat(3000)
        assert not ctx.get(dut.pins.select)

    simulate_card(dut, card, run)
    assert tuple(card.commands) == (*BOOT, (18, argument), (12, 0))
    assert not card.violations


async def failure(ctx, dut, *, late=True):
    """The fault that a source comes to, after it was told that its next byte is late."""
    ctx.set(dut.source.bytes.ready, 1)
    for cycle in range(20_000):
        if ctx.get(dut.source.fault):
            break
        ctx.set(dut.source.late, late and cycle % 2500 == 0)
        await ctx.tick()
    ctx.set(dut.source.late, 0)
    found = BootFault(ctx.get(dut.source.fault))
    ctx.set(dut.source.go, 0)
    await ctx.tick().repeat(20 * SLOW)          # behind the byte that is under way
    assert not ctx.get(dut.pins.select)
    assert ctx.get(dut.source.fault) == 0
    return found


def test_missing():
    """It is asked again and again, so one that comes late is found."""
    card, dut = card_of(), source()
    card.present = False

    async def run(ctx):
        ctx.set(dut.source.go, 1)
        await ctx.tick().repeat(10_000)
        assert await failure(ctx, dut) == BootFault.NO_CARD
        ctx.set(dut.source.go, 1)
        await ctx.tick().repeat(10_000)
        card.present = True
        assert await read(ctx, dut, 100) == CONTENT[:100]

    simulate_card(dut, card, run)
    assert not card.violations


@pytest.mark.parametrize("place", [20, 512])
def test_pulled(place):
    """Within a block its CRC is wrong, between two the next one does not come."""
    card, dut = card_of(), source()

    async def run(ctx):
        await read(ctx, dut, place)
        card.present = False
        assert await failure(ctx, dut) == BootFault.NO_CARD

    simulate_card(dut, card, run)


def test_damaged_block():
    card, dut = card_of(), source()
    card.damaged = {CARD_OFFSET + 600}

    async def run(ctx):
        assert await read(ctx, dut, 512) == CONTENT[:512]
        assert await failure(ctx, dut, late=False) == BootFault.DATA

    simulate_card(dut, card, run)
    assert not card.violations


def test_block_does_not_come():
    card, dut = card_of(), source()

    async def run(ctx):
        await read(ctx, dut, 512)
        card.stuck = True
        await ctx.tick().repeat(40_000)
        assert await failure(ctx, dut) == BootFault.TIMEOUT

    simulate_card(dut, card, run)
    assert not card.violations


def test_never_initialised():
    card, dut = card_of(busy=1 << 30), source()

    async def run(ctx):
        ctx.set(dut.source.go, 1)
        await ctx.tick().repeat(20_000)
        assert await failure(ctx, dut) == BootFault.TIMEOUT

    simulate_card(dut, card, run)
    assert not card.violations


def test_command_bytes():
    """CRC-7 of the two that the specification gives: CMD0 and CMD8 (4.5, 7.2.2)."""
    assert command_bytes(0, 0) == bytes.fromhex("400000000095")
    assert command_bytes(8, 0x1AA) == bytes.fromhex("48000001aa87")
