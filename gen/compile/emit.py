"""Descriptors and streamed words of a program under way, with the waits that hazards need."""

from dataclasses import replace

import numpy as np

from gen.compile.hazard import Hazards
from gen.compile.pool import Buffer
from gen.compile.view import MEMORY, POOL, PSUM, ROLLING, View
from gen.isa.limits import LOAD_WORDS
from gen.isa.program import Descriptor
from hw.descriptor import Destination, LAYOUTS, UnitKind


__all__ = ["Emitter"]


class _Stream:
    """Blocks of memory words laid end to end; equal blocks are stored once."""

    def __init__(self):
        self.parts = []
        self.size = 0
        self._known = {}

    def add(self, words):
        """Address of ``words``, relative to the start."""
        words = np.ascontiguousarray(words, np.uint64)
        key = words.tobytes()
        if key not in self._known:
            self._known[key] = self.size
            self.parts.append(words)
            self.size += len(words)
        return self._known[key]


class Emitter:
    """A program under way.

    Parameters
    ----------
    maps : dict
        Layouts by tensor (:class:`gen.compile.maps.NetworkMaps`).
    residency : gen.compile.residency.Residency
    config : CoreConfig
    results : dict
        Memory words of what is read out from the start of an image's result, by tensor.

    Attributes
    ----------
    descriptors : list of Descriptor
    streams
        Words of the payload; ``parts`` (list of arrays) and ``size``.
    layer : str
        The operator that the next descriptors are of.
    step : int
        The image of a sample that they are of.
    group : gen.compile.rings.Group
        The fused group under way.
    """

    def __init__(self, maps, residency, config, results):
        self.maps, self.residency, self.config = maps, residency, config
        self.results = results
        self.descriptors = []
        self.streams = _Stream()
        self.layer, self.step, self.group = "", 0, None
        self.hazards = Hazards(
            {POOL: config.pool_words, PSUM: config.psum_words,
             MEMORY: residency.memory_words}, len(LAYOUTS), config.queue_depth)
        self.psum_rings = {}
        self.loaded = {}

    def emit(self, unit, *, reads=(), writes=(), outputs=(), taps=(), lanes=None, **fields):
        """Append a descriptor; reads and writes are intervals of :class:`Hazards`."""
        waits = self.hazards.issue(unit.value, reads, writes)
        self.descriptors.append(Descriptor(unit, fields, waits, self.layer, tuple(outputs),
                                           tuple(taps), lanes, self.step))

    def stream(self, destination, words):
        """Load memory words of the payload into a stream buffer; equal words are stored once."""
        address = self.streams.add(words)
        left, start = len(words), address
        while left:
            length = min(left, LOAD_WORDS)
            self.emit(UnitKind.LOAD, destination=destination, memory_address=start,
                      length=length, count=1)
            left, start = left - length, start + length

    def begin(self, group, words):
        """Begin a group; ``words`` partial sums are for what is summed up beside others."""
        self.group, self.loaded = group, {}
        rest = [words, words, self.config.psum_words]
        self.psum_rings = {True: [0, 0, words] if words else rest, False: rest}

    def partial_sums(self, words, *, beside=False):
        """A ring through the partial sums: later tiles find room while earlier ones drain."""
        ring = self.psum_rings[beside]
        low, start, high = ring
        if start + words > high:
            start = low
        ring[1] = start + words
        return start

    def move(self, view, unit, low, high, *, read_out=False):
        """LOAD or STORE of rows that follow each other in the pool; with ``read_out`` for the host,
        as well as where the tensor lives."""
        tensor = view.map
        host = read_out or tensor.name in self.residency.outside
        home = self.results.get(tensor.name, 0) if host else self.residency.memory[tensor.name]
        if tensor.name == "image":
            home = self.step * tensor.memory_words
        words, address = tensor.memory_row_words, view.address(low)
        whole = self.maps[tensor.name]
        if tensor.groups != whole.folded(tensor.fold).groups:
            self._move_tile(view, unit, low, high)
            return
        pool = [(POOL, address, address + (high - low) * tensor.row_words)]
        memory = [] if host else [(MEMORY, home + low * words, home + high * words)]
        load = unit is UnitKind.LOAD
        fields = {"destination": Destination.POOL} if load else {}
        self.emit(unit, reads=memory if load else pool, writes=pool if load else memory,
                  image=int(host), memory_address=home + low * words, length=words,
                  count=high - low, memory_stride=words, pool_address=address,
                  pool_words=tensor.row_words, pool_stride=tensor.row_words, **fields)

    def _move_tile(self, view, unit, low, high):
        """The same for one channel group of a membrane: position by position."""
        tensor, whole = view.map, self.maps[view.map.name]
        ratio = self.config.words_per_memory_word
        words, stride = tensor.planes // ratio, whole.position_words // ratio
        home = self.residency.memory[tensor.name] + tensor.first_group * words
        start = home + low * whole.width * stride
        count = (high - low) * whole.width
        pool = view.intervals()
        memory = [(MEMORY, start, start + (count - 1) * stride + words)]
        load = unit is UnitKind.LOAD
        fields = {"destination": Destination.POOL} if load else {}
        self.emit(unit, reads=memory if load else pool, writes=pool if load else memory, image=0,
                  memory_address=start, length=words, count=count, memory_stride=stride,
                  pool_address=view.address(low), pool_words=tensor.planes,
                  pool_stride=tensor.planes, **fields)

    def view(self, name, role, low, high, fold=1):
        """Rows low..high of a tensor in the pool: where they are or, with ``role`` "out", will be.

        Rows of a tensor in memory that the group has not loaded yet are loaded. The view is
        folded by ``fold``.
        """
        low, high = int(low), int(high)
        tensor, buffers = self.maps[name].folded(fold), self.group.buffers
        if name in self.residency.pool:
            return View(tensor, Buffer(self.residency.pool[name], tensor.height), (low, high),
                         POOL)
        if (name, "") in buffers:
            return View(tensor, buffers[name, ""], (low, high), ROLLING)
        view = View(tensor, buffers[name, role], (low, high), MEMORY)
        if role == "in":
            missing = max(low, self.loaded.get(name, 0)), high
            if missing[0] < high:
                self.loaded[name] = high
                for part in replace(view, rows=missing).parts():
                    self.move(view, UnitKind.LOAD, *part)
        return view

    def finish(self, views):
        """Store those that live in memory or are read out."""
        for view in views:
            name = view.map.name
            if view.home == MEMORY:
                for part in view.parts():
                    self.move(view, UnitKind.STORE, *part)
            if name in self.results and name not in self.residency.outside:
                for part in view.parts():
                    self.move(view, UnitKind.STORE, *part, read_out=True)
