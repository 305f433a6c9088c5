# amaranth: UnusedElaboratable=no
import pytest

from hw.bringup.block_rams import RegisteredRam, WIDTHS
from hw.bringup_shell import BringupConfig, BringupShell
from hw.memory.onchip_memory import OnChipMemory
from hw.register import config_digest
from sim.drive.ports import simulate


SMALL = {5: 8, 2: 32}


class Wrong(RegisteredRam):
    """One of another depth than it is tested for."""

    def __init__(self, *, width, depth):
        super().__init__(width=width, depth=depth // 2 if width == 5 else depth)


@pytest.fixture
def shell(monkeypatch):
    monkeypatch.setattr("hw.bringup_shell.BLINK_BITS", 6)

    def make(**options):
        return BringupShell(memory=OnChipMemory(words=16), divisor=4, widths=SMALL, **options)
    return make


@pytest.mark.parametrize("options, errors", [({}, 0), ({"ram": Wrong}, 1)])
def test_without_a_host(shell, options, errors):
    """It tests the block RAMs, shows what came of it, and blinks."""
    dut = shell(**options)
    seen = []

    async def testbench(ctx):
        await ctx.tick().repeat(2)
        assert ctx.get(dut.leds[0])
        await ctx.tick().until(~dut.leds[0])
        await ctx.tick().repeat(2)
        assert ctx.get(dut.leds[3]) == errors and ctx.get(dut.leds[4:7]) == 2
        for _ in range(256):
            await ctx.tick()
            seen.append(ctx.get(dut.leds[7]))
    simulate(dut, testbench)
    assert sum(seen) == 128 and sum(a != b for a, b in zip(seen, seen[1:], strict=False)) == 8


def test_config_is_no_networks():
    assert config_digest(BringupConfig()) == config_digest(BringupConfig())
    assert set(BringupConfig().to_dict()["widths"]) == {str(width) for width in WIDTHS}
