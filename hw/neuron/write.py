"""Result side of the neuron core: groups of lanes in, pool words in the order written out."""

from typing import NamedTuple

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import MEMBRANE_BITS, PLANES_MIN, WRITE_HASH_BITS
from hw.lib.pipeline_queue import PipelineQueue
from hw.lib.plane_repeat import RepeatCounter, RepeatWrite
from hw.lib.pool_write import PoolWriteQueue
from hw.port import PoolWrite


__all__ = ["PositionWriter"]


class _Queues(NamedTuple):
    """The queues of results, and what the planes are made of."""

    values: PipelineQueue
    levels: PipelineQueue
    has_planes: Signal
    value_planes: Signal


class _Collected(NamedTuple):
    """The planes of a position, collected from its groups."""

    fill: Signal
    full: Signal
    load: Signal            # they are taken
    collect: Signal         # a group leaves its queue


class PositionWriter(wiring.Component):
    """Write the results of whole positions: membrane words first, then bit-planes.

    Results come group by group, 0.. of each position, at most one group of values and one of
    levels per cycle. Membrane words leave the value queue directly; values (z) or levels that
    become planes are collected over the groups of a position while the planes of the position
    before are written. Throughput: one word per cycle, ``max(groups, words)`` cycles a position.

    Members
    -------
    start : ``In(1)``
        Begin with ``count`` positions; all configuration is stable from this cycle on.
    count : ``In(16)``
    membrane : ``In(1)``, membrane_address : ``In(16)``, membrane_stride : ``In(12)``
        Whether values are written as 16 membrane words per position.
    planes : ``In(5)``, plane_address : ``In(16)``, plane_stride : ``In(12)``
        Plane words per position: 0, ``level_planes`` for levels, up to 16 for values.
    levels : ``In(1)``
        The planes are those of the levels, not of the values.
    reserve : ``In(1)``, room : ``Out(1)``
        A group enters the pipeline; allowed while ``room``, a register.
    values : ``In(ArrayLayout(16, neuron_lanes))``, values_valid : ``In(1)``
    level : ``In(ArrayLayout(level_planes, neuron_lanes))``, level_valid : ``In(1)``
        Results; ignored where the configuration does not use them.
    write : ``Out(PoolWrite(config))``
    idle : ``Out(1)``
        Every word has been accepted and is in ``sig``. Low from the cycle after ``start``.
    sig : ``Out(32)``
        Of the words since ``start``.
    repeats : ``Out(RepeatWrite())``
        Of at least 8 planes of values; with ``plane_skip`` only.
    """

    def __init__(self, config):
        self._config = config
        self._rows = config.rows
        self._lanes = config.neuron_lanes
        self._groups = config.rows // config.neuron_lanes
        self._words = config.membrane_words
        self._level_planes = config.level_planes
        super().__init__({
            "start": In(1),
            "count": In(16),
            "membrane": In(1),
            "membrane_address": In(16),
            "membrane_stride": In(12),
            "planes": In(5),
            "plane_address": In(16),
            "plane_stride": In(12),
            "levels": In(1),
            "reserve": In(1),
            "room": Out(1),
            "values": In(data.ArrayLayout(MEMBRANE_BITS, self._lanes)),
            "values_valid": In(1),
            "level": In(data.ArrayLayout(self._level_planes, self._lanes)),
            "level_valid": In(1),
            "write": Out(PoolWrite(config)),
            "idle": Out(1),
            "sig": Out(WRITE_HASH_BITS),
            **({"repeats": Out(RepeatWrite())} if config.plane_skip else {}),
        })

    def elaborate(self, platform):
        m = Module()

        queues = self._queues(m)
        collected = self._collect(m, queues)
        self._serialise(m, queues, collected)

        return m

    def _queues(self, m):
        """Queue the results that the configuration uses; returns :class:`_Queues`."""
        m.submodules.values = values = PipelineQueue(width=MEMBRANE_BITS * self._lanes, spare=4)
        # The lanes take more than 16 cycles from a reservation to a level.
        m.submodules.levels = levels = PipelineQueue(
            width=self._level_planes * self._lanes, depth=32, spare=4)
        value_planes = Signal()
        use_values = Signal()
        has_planes = Signal()
        m.d.sync += [
            self.room.eq(values.room & levels.room),
            has_planes.eq(self.planes != 0),
            value_planes.eq(~self.levels & (self.planes != 0)),
            use_values.eq(self.membrane | (~self.levels & (self.planes != 0))),
        ]
        m.d.comb += [
            values.reserve.eq(self.reserve & use_values),
            values.w_data.eq(self.values),
            values.w_en.eq(self.values_valid & use_values),
            levels.reserve.eq(self.reserve & self.levels),
            levels.w_data.eq(self.level),
            levels.w_en.eq(self.level_valid & self.levels),
        ]

        return _Queues(values, levels, has_planes, value_planes)

    def _collect(self, m, queues):
        """Arrange lane bits of all groups of a position as planes; returns :class:`_Collected`."""
        values, levels, has_planes, value_planes = queues
        fill = Signal(data.ArrayLayout(self._rows, MEMBRANE_BITS))
        fill_group = Signal(range(self._groups))
        full = Signal()
        load = Signal()
        collect = Signal()
        collected = Signal(self._groups)
        head = Signal(data.ArrayLayout(MEMBRANE_BITS, self._lanes))
        m.d.comb += collect.eq(has_planes & (~full | load)
                               & Mux(value_planes, values.ready, levels.ready))
        for lane in range(self._lanes):
            level = levels.r_data.word_select(lane, self._level_planes)
            value = values.r_data.word_select(lane, MEMBRANE_BITS)
            m.d.sync += head[lane].eq(Cat(Mux(value_planes, value[:self._level_planes], level),
                                          value[self._level_planes:]))
        m.d.sync += collected.eq(0)
        with m.If(load):
            m.d.sync += full.eq(0)
        with m.If(collect):
            m.d.sync += [fill_group.eq(fill_group + 1), collected.eq(1 << fill_group)]
            with m.If(fill_group == self._groups - 1):
                m.d.sync += [fill_group.eq(0), full.eq(1)]
        for group in range(self._groups):
            with m.If(collected[group]):
                for plane in range(MEMBRANE_BITS):
                    m.d.sync += fill[plane].word_select(group, self._lanes).eq(
                        Cat(head[lane][plane] for lane in range(self._lanes)))

        return _Collected(fill, full, load, collect)

    def _serialise(self, m, queues, collected):
        """Write membrane words and planes, one word a cycle, and count the positions."""
        # What is decided in one cycle is done to the wide registers in the next, so that their
        # selects and enables are registers, and `drain` takes `fill` just before a group of the
        # next position comes. `port` has room for the word on its way.
        values, levels, has_planes, value_planes = queues
        fill, full, load, collect = collected
        m.submodules.port = port = PoolWriteQueue(config=self._config)
        wiring.connect(m, port.write, wiring.flipped(self.write))
        drain = Signal(data.ArrayLayout(self._rows, MEMBRANE_BITS))
        drain_valid = Signal()
        left = Signal(16)
        word = Signal(range(self._words))
        in_planes = Signal()
        plane_last = Signal(range(self._words))
        word_last = Signal()               # word == plane_last; there are at least 2 planes
        membrane_base = Signal(16)
        membrane_next = Signal(16)
        plane_base = Signal(16)
        plane_next = Signal(16)
        push_membrane = Signal()
        push_plane = Signal()
        load_drain = Signal()
        shift_drain = Signal()
        from_drain = Signal()
        membrane_word = Signal(self._rows)
        position_done = Signal()
        done_late = Signal()
        banks = self._words // self._groups

        m.d.sync += plane_last.eq(self.planes - 1)
        m.d.comb += [
            membrane_next.eq(membrane_base + self.membrane_stride),
            plane_next.eq(plane_base + self.plane_stride),
            push_membrane.eq(~in_planes & values.ready & self.membrane & port.ready),
            push_plane.eq(in_planes & drain_valid & port.ready),
            port.data.eq(Mux(from_drain, drain[0], membrane_word)),
            values.r_en.eq((push_membrane & (word % banks == banks - 1))
                           | (collect & value_planes)),
            levels.r_en.eq(collect & ~value_planes),
        ]
        m.d.sync += [
            port.valid.eq(push_membrane | push_plane),
            port.address.eq(Mux(in_planes, plane_base, membrane_base) + word),
            membrane_word.eq(values.r_data.word_select(word % banks, self._rows)),
            from_drain.eq(in_planes),
            shift_drain.eq(push_plane | load),
            load_drain.eq(load),
        ]
        with m.If(shift_drain):
            m.d.sync += drain.eq(Mux(load_drain, fill, Cat(*drain[1:], Const(0, self._rows))))
        with m.If(push_membrane):
            m.d.sync += word.eq(word + 1)
            with m.If(word == self._words - 1):
                m.d.sync += [membrane_base.eq(membrane_next), in_planes.eq(has_planes)]
                m.d.comb += position_done.eq(~has_planes)
        with m.If(push_plane):
            m.d.sync += [word.eq(word + 1), word_last.eq(word == plane_last - 1)]
            with m.If(word_last):
                m.d.sync += [word.eq(0), word_last.eq(0), drain_valid.eq(0),
                             plane_base.eq(plane_next),
                             in_planes.eq(~self.membrane)]
                m.d.comb += position_done.eq(1)
        m.d.comb += load.eq(full & (~drain_valid | (push_plane & word_last)))
        with m.If(load):
            m.d.sync += drain_valid.eq(1)
        m.d.sync += [done_late.eq(position_done), left.eq(left - done_late)]

        if self._config.plane_skip:
            self._count_repeats(m, port, drain, word, word_last,
                                from_drain, value_planes)

        m.d.comb += [
            port.start.eq(self.start),
            self.sig.eq(port.sig),
            self.idle.eq((left == 0) & ~port.busy),
        ]
        with m.If(self.start):
            m.d.sync += [
                left.eq(self.count),
                word.eq(0),
                word_last.eq(0),
                in_planes.eq(~self.membrane),
                membrane_base.eq(self.membrane_address),
                plane_base.eq(self.plane_address),
            ]

    def _count_repeats(self, m, port, drain, word, word_last, from_drain, value_planes):
        """Count the planes of values that repeat their sign, as they are written."""
        m.submodules.counter = counter = RepeatCounter(self._rows)
        wiring.connect(m, counter.write, wiring.flipped(self.repeats))
        counted = Signal()
        m.d.sync += [counter.first.eq(word == 0), counter.last.eq(word_last),
                     counted.eq(value_planes & (self.planes >= PLANES_MIN))]
        m.d.comb += [
            counter.valid.eq(port.valid & from_drain & counted),
            counter.address.eq(port.address),
            counter.plane.eq(drain[0]),
            counter.above.eq(drain[1]),
        ]
