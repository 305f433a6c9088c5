"""Simulation top: the core with the memory twin, every port flat for a C++ or cocotb harness."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.core import Core
from hw.register import Counter
from sim.memory_twin import MemoryTwin


__all__ = ["RtlTop", "CONTROLS"]


CONTROLS = ("program", "log", "image", "image_stride", "result", "result_stride")
"""24-bit control inputs of the core, in the order of the harness's run command."""


class RtlTop(wiring.Component):
    """Core and memory twin; the host's memory port, the controls and the traces are outside.

    Parameters
    ----------
    config : CoreConfig
    memory_words : int
    latency : int
        Cycles from a read command to its first word, at least.
    stall : float
        Chance that a memory stream pauses in a cycle.
    seed : int
        Of the pauses.
    """

    def __init__(self, config, *, memory_words, latency=2, stall=0.0, seed=1):
        self._core = Core(config)
        self._memory = MemoryTwin(words=memory_words, latency=latency, stall=stall, seed=seed)
        rows = config.rows
        super().__init__({
            "command_address": In(24), "command_length": In(8), "command_write": In(1),
            "command_valid": In(1), "command_ready": Out(1),
            "w_data": In(64), "w_valid": In(1), "w_ready": Out(1),
            "r_data": Out(64), "r_valid": Out(1), "r_ready": In(1),
            "start": In(1), "busy": Out(1), "count": In(16),
            **{name: In(24) for name in CONTROLS},
            "counters": Out(32 * len(Counter)),
            "neuron_valid": Out(1), "neuron_address": Out(16), "neuron_data": Out(rows),
            "attention_valid": Out(1), "attention_address": Out(16), "attention_data": Out(rows),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.core = core = self._core
        m.submodules.memory = memory = self._memory
        wiring.connect(m, core.memory, memory.memory)
        host = core.host
        m.d.comb += [
            host.commands.payload.address.eq(self.command_address),
            host.commands.payload.length.eq(self.command_length),
            host.commands.payload.write.eq(self.command_write),
            host.commands.valid.eq(self.command_valid),
            self.command_ready.eq(host.commands.ready),
            host.w_data.payload.eq(self.w_data), host.w_data.valid.eq(self.w_valid),
            self.w_ready.eq(host.w_data.ready),
            self.r_data.eq(host.r_data.payload), self.r_valid.eq(host.r_data.valid),
            host.r_data.ready.eq(self.r_ready),
            core.start.eq(self.start), self.busy.eq(core.busy), core.count.eq(self.count),
            *(getattr(core, name).eq(getattr(self, name)) for name in CONTROLS),
            self.counters.eq(core.counters.as_value()),
        ]
        for name in ("neuron", "attention"):
            trace = getattr(core, f"trace_{name}")
            for part in ("valid", "address", "data"):
                m.d.comb += getattr(self, f"{name}_{part}").eq(getattr(trace, part))
        return m
