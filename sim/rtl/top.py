"""Simulation top: the core and a memory, controls and traces in registers for a C++ harness."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.core import Core
from hw.register import Counter


__all__ = ["RtlTop", "CONTROLS"]


CONTROLS = ("program", "log", "image", "image_stride", "result", "result_stride")
"""24-bit control inputs of the core, in the order of the harness's run command."""


class RtlTop(wiring.Component):
    """Core and memory; the controls, the counters and the traces are outside.

    Nothing combinational hangs on an input, because a simulator evaluates all that does again at
    every clock edge (a third of its time): every one passes a register, and there is no reset but
    the initial state.

    Parameters
    ----------
    config : CoreConfig
    memory : functools.partial
        Makes a component with the member ``memory``, ``In(Memory())``; its content lies in one
        :class:`sim.twin.storage.Storage` in Verilog, which the harness fills and reads. One with a
        ``status`` (:class:`sim.twin.sdram_system.SdramSystem`) is used once that is ready; its
        clock domain ``sdram`` runs on ``sdram_clk``, and the rules it saw broken are
        ``violations``.
    """

    def __init__(self, config, *, memory):
        self._core = Core(config)
        self._memory = memory()
        rows = config.rows
        super().__init__({
            "clk": In(1), "sdram_clk": In(1), "ready": Out(1), "violations": Out(32),
            "start": In(1), "busy": Out(1), "count": In(16), "ring": In(32),
            "phase_changes": Out(32),
            **{name: In(24) for name in CONTROLS},
            "counters": Out(32 * len(Counter)),
            "trace_valid": Out(1), "trace_address": Out(16), "trace_data": Out(rows),
        })

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = domain = ClockDomain(reset_less=True)
        m.d.comb += domain.clk.eq(self.clk)
        if "status" in self._memory.signature.members:
            m.domains.sdram = domain = ClockDomain(reset_less=True)
            m.d.comb += domain.clk.eq(self.sdram_clk)
            m.d.sync += [
                self.ready.eq(self._memory.status.ready),
                self.violations.eq(self._memory.violations),
            ]
        else:
            m.d.comb += self.ready.eq(1)
        m.submodules.core = core = self._core
        m.submodules.memory = memory = self._memory
        wiring.connect(m, core.memory, memory.memory)
        # Busy from the cycle of `start` on, although the core sees it later.
        m.d.sync += [
            *(getattr(core, name).eq(getattr(self, name))
              for name in ("start", "count", *CONTROLS)),
            core.ring.eq(self.ring),
            self.busy.eq(self.start | core.start | core.busy),
            self.counters.eq(core.counters.as_value()),
        ]
        # Of the core's phase, since the start.
        phase = Signal()
        m.d.sync += phase.eq(core.phase)
        with m.If(core.start):
            m.d.sync += self.phase_changes.eq(0)
        with m.Elif(phase ^ core.phase):
            m.d.sync += self.phase_changes.eq(self.phase_changes + 1)
        for part in ("valid", "address", "data"):
            m.d.sync += getattr(self, f"trace_{part}").eq(getattr(core.trace, part))
        return m
