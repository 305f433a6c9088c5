"""The top for the bring-up of a board: link, SDRAM and the test of the block RAMs, no network."""

from amaranth import Signal

from hw.bringup.block_rams import BlockRamTest, WIDTHS
from hw.shell import Shell


__all__ = ["BringupConfig", "BringupShell", "ROUNDS"]


ROUNDS = 2
"""Rounds of the test of the block RAMs after configuration and after each restart."""

BLINK_BITS = 26
"""Base-2 logarithm of the cycles from one blink to the next."""


class BringupConfig:
    """In the place of :class:`hw.config.CoreConfig`: what ``Register.CONFIG`` is the digest of."""

    def to_dict(self):
        return {"bringup": 1, "widths": {str(width): depth for width, depth in WIDTHS.items()}}


class BringupShell(Shell):
    """:class:`hw.shell.Shell` around :class:`hw.bringup.block_rams.BlockRamTest`.

    The core tests the block RAMs by itself as soon as its clock runs, before any host says
    anything. LED 7 blinks: that ``sync`` runs is seen without a host, too. LED 3 is lit where a
    block RAM or the SDRAM failed; the others are those of the shell.

    Parameters
    ----------
    memory, divisor
        As for :class:`hw.shell.Shell`.
    ram : callable
        As for :class:`hw.bringup.block_rams.BlockRamTest`.
    """

    def __init__(self, *, memory, divisor, **ram):
        super().__init__(BringupConfig(), memory=memory, divisor=divisor,
                         core=BlockRamTest(rounds=ROUNDS, **ram))

    def elaborate(self, platform):
        m = super().elaborate(platform)
        count = Signal(BLINK_BITS)
        m.d.sync += count.eq(count + 1)
        m.d.comb += self.leds[7].eq(count[-1])
        return m
