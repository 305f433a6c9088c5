"""Processes of the cost model: units, sequencer, streams and memory port of a running program."""

from bisect import bisect_left

from gen.isa.cycles import (
    AFTER_OTHER,
    AFTER_OWN,
    attention_cycles,
    BEGIN,
    BURST_CYCLES,
    depthwise_cycles,
    DISPATCH,
    END,
    FETCH_AHEAD,
    FETCH_WORDS,
    is_stream,
    move_cycles,
    neuron_cycles,
    SET_CYCLES,
    set_words,
    tile_cycles,
    TO_START,
)
from hw.config import BURST_WORDS, RECORD_WORDS
from hw.descriptor import DESCRIPTOR_WORDS, Destination, UnitKind


__all__ = ["Model", "Port"]


class Port:
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


class Model:
    """Processes of one program; every method ending in ``_process`` yields when it is blocked."""

    def __init__(self, program, memory):
        self.program, self.memory, self.config = program, memory, program.config
        self.port = Port(memory)
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
        self._held, self._tile_begun = 0, 0    # of the tile of constants in use

    def run(self):
        """(cycles of the program, (start, end) of every descriptor)."""
        processes = [self._dispatch_process(), *(
            self._unit_process(UnitKind(unit)) for unit in range(len(self.lists)))]
        while processes:
            before = self._progress()
            processes = [p for p in processes if next(p, "ended") != "ended"]
            if processes and self._progress() == before:
                raise RuntimeError("The program deadlocks: its descriptors wait for each other")
        cycles = max((done[-1] for done in self.done if done), default=0) + END
        return round(cycles), [(round(start), round(end)) for start, end in self.times]

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
        if not is_stream(f):
            through = self.port.transfer(now, self._occupied(f))
            return max(through, now + move_cycles(f)) + self.memory.latency
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
        return max(through + 4, start + 12 + move_cycles(f))
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
        sets, words = config.rows // config.load_rows, set_words(config)
        now = fire = start + 2
        for lookups in tile_cycles(descriptor.fields, descriptor.taps):
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
        words, cycles = depthwise_cycles(descriptor.fields, self.config)
        stream = self.streams[Destination.DEPTHWISE]
        taken = yield from self._consume(stream, words, start)
        return taken + 2 + cycles

    def _attention(self, descriptor, start):
        return start + attention_cycles(descriptor, self.config)
        yield  # as above

    def _neuron(self, descriptor, start):
        # Constants are taken while the tile before is in use.
        taken = 0
        if not self._held:
            taken = yield from self._consume(
                self.streams[Destination.CONST], self.config.tile_const_words, self._tile_begun)
            self._tile_begun = start
        self._held = descriptor.fields.get("hold", 0)
        return max(start, taken + 4) + neuron_cycles(descriptor.fields, self.config)
