"""Serve a SPI device model in Amaranth's simulator."""

from sim.twin.spi_lines import SpiLines


__all__ = ["serve_spi"]


def serve_spi(pins, device):
    """Background process that connects ``pins``, those of a master
    (:class:`hw.port.SpiPins`), to a device of :class:`sim.twin.spi_lines.SpiLines`, with the
    flip-flop at the pad."""
    lines = SpiLines(device)

    async def process(ctx):
        level = SpiLines.FLOATING
        while True:
            ctx.set(pins.cipo, level)
            _, _, *levels = await ctx.tick().sample(pins.clk, pins.select, pins.copi)
            level = lines.step(*levels)
    return process
