"""Cost model: cycles of a compiled program without simulating it.

Every unit is a process that takes its descriptors in order, as the hardware does: dispatch in
program order into bounded queues, waits on counts of other units, weights and constants that
stream ahead only as far as their buffers, and one memory port that loads, stores, descriptors and
records share. A process computes times as soon as those that it depends on are known. Nothing is
simulated cycle by cycle, so a network of 15 M weights takes seconds. Held to the RTL by tests.
"""

from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hw.config import MEMORY_BITS
from hw.descriptor import (
    DepthwiseMode,
    DESCRIPTOR_WORDS,
    Destination,
    NeuronFunction,
    NeuronSource,
    planes_of,
    UnitKind,
)


__all__ = ["LayerCost", "MemoryTiming", "ON_CHIP", "Prediction", "layer_cycles", "predict",
           "spans"]


# Cycles between events of the sequencer (hw/sequencer.py), measured in RTL.
DISPATCH = 6      # from one descriptor to the next
TO_START = 4      # from dispatch, of the last word, to the earliest start
AFTER_OWN = 4     # from a unit's done to its next start
AFTER_OTHER = 3   # from another unit's done to a start that waited for it
BEGIN = 26        # from start of the core to the first dispatch, memory latency left out
END = 14          # from the last done to idle

BURST_WORDS, BURST_CYCLES = 16, 5
"""Longest burst of the move units and cycles from one to the next (hw/memory/bursts.py)."""

FETCH_WORDS, FETCH_AHEAD = 12, 20
"""Burst of the descriptor fetch, and words it may have ahead when it asks for one."""

RECORD_WORDS = 2

SPIKES = 0.05
"""Assumed share of set bits in the planes of q and k; what attention costs depends on it."""

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


# -- work of a descriptor -----------------------------------------------------------------------


def _neuron_cycles(f, config):
    groups = config.rows // config.neuron_lanes
    words = 0
    if f["function"] is NeuronFunction.FIRE:
        words = 3
    elif f.get("write_planes"):
        words = f["planes"]
    else:
        words = 16 * f.get("write_membrane", 0) + 3 * f.get("write_levels", 0)
    if f["source"] is NeuronSource.MEMBRANE_SUM:
        return 16 * f["count"] + 42
    reads = 16 if f.get("add") else 0
    return f["count"] * max(groups, words, reads) + (44 if reads else 25)


def _inside(first, count, stride, shift, size, ring=0):
    """How many k in first..first+count-1 have 0 <= k*stride + shift < size.

    With a ``ring``, rows below 0 count as well.
    """
    low = first if ring else max(first, -(shift // stride))
    high = min(first + count, -((shift - size) // stride))
    return max(0, high - low)


def _tile_cycles(f, tiles):
    """Lookup cycles of every tile of an ARRAY descriptor; the most, where planes are left out."""
    every = f["out_rows"] * f["out_width"]
    planes, _ = planes_of(f)
    cycles = []
    for index, (dy, dx) in enumerate(tiles):
        read = (_inside(f["first_row"], f["out_rows"], f["stride"], dy, f["height"],
                        f.get("ring", 0))
                * _inside(0, f["out_width"], f["stride"], dx, f["width"]))
        if index == 0 and not f.get("accumulate"):
            cycles.append(read * planes + 2 * (every - read))
        else:
            cycles.append(max(read, 1) * planes + (read < every))
    return cycles


def _set_words(config):
    """Memory words of a set of the table loader."""
    return config.load_rows * config.rows * 4 // MEMORY_BITS


SET_CYCLES = 17
"""Cycles from one set of the table loader to the next."""


def _load_cycles(config):
    """Least cycles to load the tables of a tile whose first set is at hand."""
    return config.rows // config.load_rows * SET_CYCLES


def _depthwise_cycles(f, config):
    """(stream words, cycles besides taking them), see :class:`hw.depthwise.unit.DepthwiseUnit`."""
    level = f["mode"] is DepthwiseMode.LEVEL
    kernel = f["kernel"]
    words = kernel * config.rows // 2
    per_position = 3 if level else 4
    load = config.depthwise_lanes // 2
    per_pass = max(18, load + 6) if level else max(17, load + 9)
    positions = 0
    for ky in range(kernel):
        valid = _inside(f["first_row"], f["out_rows"], 1, ky - kernel // 2, f["height"],
                        f.get("ring", 0))
        positions += valid * f["width"]
    return words, 2 * (positions * per_position + kernel * per_pass) + 33 + level - words


def _attention_cycles(f, config):
    events = 3 * f["words"] * config.rows * SPIKES
    key = max(3 + 3 * f["words"], events, (events + 10) / 2)
    query = max(3 * f["words"], events + 2)
    return round(f["tokens"] * (key + query) + 23)


def _is_stream(f):
    return f.get("destination", Destination.POOL) is not Destination.POOL


def _move_cycles(f):
    """Cycles of a move to or from the pool on a memory that never makes it wait."""
    bursts = f["count"] * -(-f["length"] // BURST_WORDS)
    return max(f["count"] * max(f["length"], f["pool_words"]), BURST_CYCLES * bursts)


def _work(descriptor, config):
    """Cycles that the descriptor's unit needs if it never waits."""
    f, kind = descriptor.fields, descriptor.unit
    if kind is UnitKind.LOAD:
        return f["length"] * f["count"] if _is_stream(f) else _move_cycles(f)
    if kind is UnitKind.STORE:
        return _move_cycles(f)
    if kind is UnitKind.ARRAY:
        tiles = descriptor.taps
        return len(tiles) * (_load_cycles(config) + 1) + sum(_tile_cycles(f, tiles)) + 15
    if kind is UnitKind.DEPTHWISE:
        return sum(_depthwise_cycles(f, config))
    if kind is UnitKind.ATTENTION:
        return _attention_cycles(f, config)
    return _neuron_cycles(f, config)


# -- memory and streams -------------------------------------------------------------------------


class _Port:
    """The memory port as a flow: words per cycle, booked into the earliest free cycles."""

    SPAN = 64
    """Cycles that are booked together."""

    def __init__(self, timing):
        self._rate = timing.words_per_cycle
        self._queue = timing.queue
        self._room = self._rate * self.SPAN
        self._free = []       # words still free in every span
        self._next = []       # span to look at instead, for full ones

    def _find(self, span):
        """First span from ``span`` on that is not full."""
        path = []
        while True:
            while span >= len(self._free):
                self._next.append(len(self._free))
                self._free.append(self._room)
            if self._next[span] == span:
                break
            path.append(span)
            span = self._next[span]
        for passed in path:
            self._next[passed] = span
        return span

    def transfer(self, start, words):
        """Book ``words`` from cycle ``start`` on; when the last one is through."""
        left, span = words, int(start) // self.SPAN
        while True:
            span = self._find(span)
            taken = min(left, self._free[span])
            self._free[span] -= taken
            left -= taken
            if self._free[span] < 1e-6:
                self._next[span] = span + 1
            if left <= 1e-6:
                break
        full = (span + 1) * self.SPAN - self._free[span] / self._rate
        return max(start + words / self._rate, min(full, (span + 1) * self.SPAN))


    def wait(self, time):
        """Cycles that a burst asked for at ``time`` queues behind others."""
        span = int(time) // self.SPAN
        if span >= len(self._free):
            return 0
        return (1 - self._free[span] / self._room) * self._queue * BURST_WORDS / self._rate


class _Stream:
    """A stream buffer: when words came in and when they were taken, as (count so far, time)."""

    def __init__(self, depth):
        self.depth = depth
        self.chunk = max(BURST_WORDS, min(64, depth // 4))
        self.came, self.came_times = [0], [0]
        self.gone, self.gone_times = [0], [0]

    def arrive(self, words, time):
        self.came.append(self.came[-1] + words)
        self.came_times.append(time)

    def take(self, words, time):
        self.gone.append(self.gone[-1] + words)
        self.gone_times.append(time)

    def arrived(self, count):
        """When word number ``count`` was there, or None."""
        if self.came[-1] < count:
            return None
        return self.came_times[bisect_left(self.came, count)]

    def taken(self, count):
        """When word number ``count`` had been taken, or None."""
        if self.gone[-1] < count:
            return None
        return self.gone_times[bisect_left(self.gone, count)]


# -- processes ----------------------------------------------------------------------------------


class _Model:
    """Processes of one program; every method ending in ``_process`` yields when it is blocked."""

    def __init__(self, program, memory):
        self.program, self.memory, self.config = program, memory, program.config
        self.port = _Port(memory)
        config = self.config
        self.streams = {Destination.WEIGHT: _Stream(config.weight_fifo_words),
                        Destination.CONST: _Stream(config.const_fifo_words),
                        Destination.DEPTHWISE: _Stream(config.depthwise_fifo_words)}
        self.lists = [[] for _ in range(len(UnitKind) - 1)]
        for index, descriptor in enumerate(program.descriptors):
            self.lists[descriptor.unit.value].append(index)
        self.dispatched = []
        self.started = [[] for _ in self.lists]
        self.done = [[] for _ in self.lists]
        self.times = [None] * len(program.descriptors)

    def run(self):
        processes = [self._dispatch_process(), *(
            self._unit_process(UnitKind(unit)) for unit in range(len(self.lists)))]
        while processes:
            before = self._progress()
            processes = [p for p in processes if next(p, "ended") != "ended"]
            if processes and self._progress() == before:
                raise RuntimeError("The program deadlocks: its descriptors wait for each other")
        cycles = max((done[-1] for done in self.done if done), default=0) + END
        times = [(round(start), round(end)) for start, end in self.times]
        return Prediction(round(cycles), layer_cycles(self.program, times, self.memory), times)

    def _progress(self):
        """A number that grows with everything that becomes known."""
        return (len(self.dispatched) + sum(map(len, self.started)) + sum(map(len, self.done))
                + sum(len(s.came) + len(s.gone) for s in self.streams.values()))

    def _dispatch_process(self):
        config = self.config
        position = [0] * len(self.lists)
        per_burst = FETCH_WORDS // DESCRIPTOR_WORDS
        ahead = FETCH_AHEAD // DESCRIPTOR_WORDS
        arrived, now = 0, BEGIN - DISPATCH
        for index, descriptor in enumerate(self.program.descriptors):
            unit = descriptor.unit.value
            # The queue and the head behind it are full until an earlier one starts.
            earlier = position[unit] - config.queue_depth - 1
            position[unit] += 1
            while earlier >= len(self.started[unit]):
                yield
            if index % per_burst == 0:
                asked = self.dispatched[index - ahead] if index >= ahead else 0
                arrived = self.port.transfer(asked, FETCH_WORDS) + self.memory.latency
            now = max(now, arrived) + DISPATCH
            if earlier >= 0:
                now = max(now, self.started[unit][earlier] + DISPATCH)
            self.dispatched.append(now)

    def _unit_process(self, unit):
        """Take the unit's descriptors one after the other."""
        run = {UnitKind.LOAD: self._load, UnitKind.STORE: self._store,
               UnitKind.ARRAY: self._array, UnitKind.DEPTHWISE: self._depthwise,
               UnitKind.ATTENTION: self._attention, UnitKind.NEURON: self._neuron}[unit]
        mine, recorded = unit.value, 0
        for index in self.lists[mine]:
            descriptor = self.program.descriptors[index]
            needed = [(other, wait) for other, wait in enumerate(descriptor.waits)
                      if other != mine and wait]
            while len(self.dispatched) <= index or any(
                    len(self.done[other]) < wait for other, wait in needed):
                yield
            start = max(self.dispatched[index] + TO_START, recorded)
            for other, wait in needed:
                start = max(start, self.done[other][wait - 1] + AFTER_OTHER)
            self.started[mine].append(start)
            end = yield from run(descriptor, start)
            # A unit starts again when the record of the one before is written.
            recorded = end + AFTER_OWN + self.port.wait(end)
            self.port.transfer(end, RECORD_WORDS)
            self.done[mine].append(end)
            self.times[index] = (start, end)

    def _load(self, descriptor, start):
        f = descriptor.fields
        now = start + BURST_CYCLES
        if not _is_stream(f):
            through = self.port.transfer(now, self._occupied(f))
            return max(through, now + _move_cycles(f)) + self.memory.latency
        stream = self.streams[f["destination"]]
        left, end = f["length"] * f["count"], now
        while left:
            words = min(left, stream.chunk)
            room = stream.came[-1] + words - stream.depth
            while stream.taken(room) is None:
                yield
            now = max(now, stream.taken(room) + 2 if room > 0 else now)
            through = self.port.transfer(now, words)
            end = through + self.memory.latency
            stream.arrive(words, end)
            now = max(now + BURST_CYCLES * -(-words // BURST_WORDS), through - stream.depth)
            left -= words
        return end

    def _occupied(self, f):
        """Words that could pass the port while a move to or from the pool has it: bursts are
        served in order, so one whose words come or go slowly keeps others waiting."""
        return max(f["length"] * f["count"],
                   f["count"] * f["pool_words"] * self.memory.words_per_cycle)

    def _store(self, descriptor, start):
        f = descriptor.fields
        through = self.port.transfer(start + 8, self._occupied(f))
        return max(through + 4, start + 12 + _move_cycles(f))
        yield  # a process as the others, that never waits

    def _consume(self, stream, words, now, *, rate=1):
        """Take ``words`` from a stream, ``rate`` a cycle from ``now`` on; when the last one is."""
        left = words
        while left:
            step = min(left, stream.chunk)
            while stream.arrived(stream.gone[-1] + step) is None:
                yield
            now = max(now + step / rate, stream.arrived(stream.gone[-1] + step))
            stream.take(step, now)
            left -= step
        return now

    def _array(self, descriptor, start):
        config = self.config
        stream = self.streams[Destination.WEIGHT]
        sets, words = config.rows // config.load_rows, _set_words(config)
        now = fire = start + 2
        for lookups in _tile_cycles(descriptor.fields, descriptor.taps):
            collected = fire
            for index in range(sets):
                # A set is collected while the one before it is written.
                header = config.tile_header_words if index == 0 else 0
                collected = yield from self._consume(stream, words + header, collected,
                                                     rate=config.tile_header_words)
                fire = max(collected + 1, fire + SET_CYCLES, now + 1 if index == 0 else 0)
                collected = fire
            now = fire + SET_CYCLES + lookups
        return now + 12

    def _depthwise(self, descriptor, start):
        words, cycles = _depthwise_cycles(descriptor.fields, self.config)
        stream = self.streams[Destination.DEPTHWISE]
        taken = yield from self._consume(stream, words, start)
        return taken + 2 + cycles

    def _attention(self, descriptor, start):
        return start + _attention_cycles(descriptor.fields, self.config)
        yield  # as above

    def _neuron(self, descriptor, start):
        # Constants are taken while the tile before still runs.
        started = self.started[UnitKind.NEURON.value]
        before = started[-2] if len(started) > 1 else 0
        taken = yield from self._consume(
            self.streams[Destination.CONST], self.config.tile_const_words, before)
        return max(start, taken + 4) + _neuron_cycles(descriptor.fields, self.config)


def predict(program, memory=ON_CHIP):
    """Predict cycles of a :class:`gen.compile.compiler.Program` behind a memory.

    Parameters
    ----------
    program : Program
    memory : MemoryTiming

    Returns
    -------
    Prediction
    """
    return _Model(program, memory).run()


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
            entry["weights"] += 8 * moved if _is_stream(f) else 0
        else:
            entry["work"][name] = entry["work"].get(name, 0) + _work(descriptor, program.config)
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
