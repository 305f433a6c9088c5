"""An SDRAM memory with its chip, as one memory backend for simulations."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.port import Memory, MemoryStatus, MemoryTests
from hw.sdram.memory import SdramMemory
from sim.twin.sdram_chip import SdramChip, SdramRule
from sim.twin.sdram_phy import SdramPhyTwin


__all__ = ["SdramSystem"]


class SdramSystem(wiring.Component):
    """Controller, pins and chip model. Clock domains ``sync`` and ``sdram``.

    Parameters
    ----------
    config : :class:`hw.sdram_config.SdramConfig`
        Of the controller.
    chip : :class:`hw.sdram_config.SdramConfig`
        Of the chip (see :class:`sim.twin.sdram_chip.SdramChip`); that of the controller unless
        given.
    phases : int
        Steps of the clock phase.
    verilog : bool
        See :class:`sim.twin.storage.Storage`.
    init_refreshes, stuck
        See :class:`sim.twin.sdram_chip.SdramChip`.
    pins
        Further arguments of :class:`sim.twin.sdram_phy.SdramPhyTwin`.

    Members
    -------
    memory, status, tests, warm
        As in :class:`hw.sdram.memory.SdramMemory`.
    violations, reads, writes, refreshes
        As in :class:`sim.twin.sdram_chip.SdramChip`; those before ``status.ready`` are forgotten
        if the phase can be wrong.
    """

    def __init__(self, config, *, chip=None, phases=1, verilog=False, init_refreshes=8,
                 stuck=None, **pins):
        self._sdram = SdramMemory(config, phases=phases)
        self._pins = SdramPhyTwin(phases=phases, **pins)
        self._chip = SdramChip(chip or config, verilog=verilog, init_refreshes=init_refreshes,
                               stuck=stuck)
        super().__init__({
            "memory": In(Memory()),
            "status": Out(MemoryStatus),
            "tests": In(MemoryTests()),
            "warm": In(1),
            "violations": Out(len(SdramRule)),
            "reads": Out(32), "writes": Out(32), "refreshes": Out(32),
        })

    @property
    def config(self):
        return self._sdram.config

    @property
    def words(self):
        return self._sdram.words

    def elaborate(self, platform):
        m = Module()
        m.submodules.sdram = sdram = self._sdram
        pins, chip = self._pins, self._chip
        m.submodules.pins = DomainRenamer("sdram")(pins)
        m.submodules.chip = DomainRenamer("sdram")(chip)
        wiring.connect(m, wiring.flipped(self.memory), sdram.memory)
        wiring.connect(m, wiring.flipped(self.tests), sdram.tests)
        wiring.connect(m, sdram.pins, pins.controller)
        wiring.connect(m, pins.chip, chip.pins)
        m.d.comb += [
            sdram.warm.eq(self.warm), self.status.eq(sdram.status),
            self.violations.eq(chip.violations),
            self.reads.eq(chip.reads), self.writes.eq(chip.writes),
            self.refreshes.eq(chip.refreshes),
        ]
        if sdram.phases > 1:
            m.d.comb += chip.clear.eq(~sdram.status.ready)
        return m
