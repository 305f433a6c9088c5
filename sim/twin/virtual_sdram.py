"""An SDRAM with controller, pins and chip in one clock domain, for the virtual board."""

from amaranth import DomainRenamer

from sim.twin.sdram_system import SdramSystem


__all__ = ["virtual_sdram"]


def virtual_sdram(config, **options):
    """A :class:`sim.twin.sdram_system.SdramSystem` whose domain ``sdram`` is ``sync``.

    ``options`` are those of that class; they may break the board.
    """
    return DomainRenamer({"sdram": "sync"})(SdramSystem(config, verilog=True, **options))
