"""Cost model: cycles of a compiled program without simulating it.

Every unit is a process that takes its descriptors in order, as the hardware does: dispatch in
program order into bounded queues, waits on counts of other units, weights and constants that
stream ahead only as far as their buffers, and one memory port that loads, stores, descriptors and
records share. A process computes times as soon as those that it depends on are known. Nothing is
simulated cycle by cycle, so a network of 15 M weights takes seconds. Held to the RTL by tests.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gen.isa.cycles import is_stream, work_cycles
from gen.machine.processes import Model
from hw.config import MEMORY_BITS, RECORD_WORDS
from hw.descriptor import DESCRIPTOR_WORDS, UnitKind


__all__ = ["LayerCost", "MemoryTiming", "ON_CHIP", "Prediction", "layer_cycles", "predict",
           "spans"]


SDRAM_EFFICIENCY = 0.922
"""Share of the SDRAM bus that long runs use, refreshes and turnarounds included. In RTL, the
layers of qsdt_t that nothing else holds up reach 0.84 (downsample2) to 0.965 (block4.0.mlp.fc2)."""

SDRAM_LATENCY_NS = 250
"""From a burst at the core's port to its first word, row opened: arbiter, two clock crossings,
ACTIVATE, READ, pads."""


@dataclass(frozen=True, kw_only=True)
class MemoryTiming:
    """The memory behind the core, as its one port sees it.

    Attributes
    ----------
    name : str
        For reports.
    words_per_cycle : float
        64-bit words per engine cycle in long runs of either direction, at most 1.
    latency : int
        Engine cycles from a read command to its first word.
    queue : int
        Bursts that a new one finds before it where the memory is the wall.
    """

    name: str
    words_per_cycle: float
    latency: int
    queue: int = 4

    def __post_init__(self):
        if not 0 < self.words_per_cycle <= 1:
            raise ValueError(f"Words per cycle must be above 0 and at most 1, "
                             f"not {self.words_per_cycle!r}")

    @classmethod
    def of_sdram(cls, *, clock_hz, engine_hz, data_bits=16, efficiency=SDRAM_EFFICIENCY):
        """A synchronous DRAM: ``clock_hz * data_bits * efficiency`` bits per second."""
        rate = clock_hz * data_bits * efficiency / (MEMORY_BITS * engine_hz)
        return cls(name="SDRAM", words_per_cycle=min(1.0, rate),
                   latency=round(SDRAM_LATENCY_NS * engine_hz * 1e-9))


ON_CHIP = MemoryTiming(name="memory", words_per_cycle=1.0, latency=2)


@dataclass(frozen=True)
class LayerCost:
    """What one layer costs.

    Attributes
    ----------
    cycles : int
        By which it prolongs the run.
    bytes_in, bytes_out : int
        Read from and written to memory, descriptors and records left out.
    weight_bytes : int
        Of ``bytes_in``, weights and constants.
    busy : dict
        Cycles from start to end of its descriptors, by unit; they include waiting.
    work : dict
        Cycles that each unit, and the memory port, would need for it if never waiting.
    bound : str
        The wall: whichever of ``work`` is largest.
    """

    cycles: int
    bytes_in: int
    bytes_out: int
    weight_bytes: int
    busy: dict
    work: dict
    bound: str

    @property
    def memory_bytes(self):
        return self.bytes_in + self.bytes_out


@dataclass(frozen=True)
class Prediction:
    """Cycles per image, per-layer costs, and (start, end) of every descriptor."""

    cycles: int
    layers: dict
    times: list

    @cached_property
    def memory_bytes(self):
        """Bytes in and out of memory per image, descriptors and records included."""
        return (sum(layer.memory_bytes for layer in self.layers.values())
                + 8 * len(self.times) * (DESCRIPTOR_WORDS + RECORD_WORDS))


def predict(program, memory=ON_CHIP):
    """Predict cycles of a :class:`gen.isa.program.Program` behind a memory.

    Parameters
    ----------
    program : Program
    memory : MemoryTiming

    Returns
    -------
    Prediction
    """
    cycles, times = Model(program, memory).run()
    return Prediction(cycles, layer_cycles(program, times, memory), times)


def layer_cycles(program, times, memory=ON_CHIP):
    """Per-layer costs from (start, end) of every descriptor, predicted or measured.

    A layer's cycles are those by which its descriptors prolong the run: the end of each minus
    that of all before it in the program. Layers may take turns, strip by strip.
    """
    layers = {}
    finish = 0
    for descriptor, (start, end) in zip(program.descriptors, times, strict=True):
        entry = layers.setdefault(descriptor.layer, {
            "busy": {}, "work": {}, "in": 0, "out": 0, "weights": 0, "cycles": 0})
        name, f = descriptor.unit.name.lower(), descriptor.fields
        entry["busy"][name] = entry["busy"].get(name, 0) + end - start
        entry["cycles"] += max(0, end - finish)
        finish = max(finish, end)
        words = DESCRIPTOR_WORDS + RECORD_WORDS
        if descriptor.unit in (UnitKind.LOAD, UnitKind.STORE):
            moved = f["length"] * f["count"]
            words += moved
            entry["in" if descriptor.unit is UnitKind.LOAD else "out"] += 8 * moved
            entry["weights"] += 8 * moved if is_stream(f) else 0
        else:
            work = work_cycles(descriptor, program.config)
            entry["work"][name] = entry["work"].get(name, 0) + work
        entry["work"][memory.name] = (entry["work"].get(memory.name, 0)
                                      + words / memory.words_per_cycle)
    costs = {}
    for name, entry in layers.items():
        work = {unit: round(cycles) for unit, cycles in entry["work"].items()}
        costs[name] = LayerCost(entry["cycles"], entry["in"], entry["out"], entry["weights"],
                                entry["busy"], work, max(work, key=work.get))
    return costs


def spans(records):
    """(start, end) of every descriptor from the core's log (two memory words a record)."""
    times = np.asarray(records, np.uint64)[1::2]
    return [(int(t & np.uint64(0xFFFFFFFF)), int(t >> np.uint64(32))) for t in times]
