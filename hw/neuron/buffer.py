"""Operand buffers of the neuron core: constants of a tile, membranes of a position."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.config import BIAS_BITS, MEMBRANE_BITS, MEMORY_BITS, SHIFT_MAX
from hw.port import PoolRead


__all__ = ["LaneConstants", "TileConstants", "MembraneFetch"]


_TILES = 2

_MULTIPLIER_AT, _BIAS_AT, _SHIFT_AT, _INVERT_AT = 0, 24, 72, 127
"""Places of the fields among the 128 bits of a channel (docs/architecture.md)."""


class LaneConstants(data.StructLayout):
    """Both readings of a channel's constants; they share bits, so only one is meaningful."""

    def __init__(self, config):
        super().__init__({
            "thresholds": data.ArrayLayout(signed(config.acc_bits + 1), config.levels),
            "invert": 1,
            "multiplier": signed(config.multiplier_bits),
            "bias": signed(BIAS_BITS),
            "shift": range(SHIFT_MAX + 1),
        })


class TileConstants(wiring.Component):
    """Neuron constants of two tiles: one in use while the next is loaded.

    Takes the constant stream by itself, 2 * rows words a tile, as long as one of the two places is
    free. The fields of a SCALE tile are read at different steps of the pipeline, so the multiplier,
    the bias and the shift have their own group address; thresholds spread over all of them, and
    FIRE drives the same group on all three. Outputs come one cycle after the addresses.

    Cost: LUT-RAM of about ``levels * (acc_bits + 1)`` bits per lane and group of two tiles.

    Members
    -------
    constants : ``In(stream.Signature(64))``
    ready : ``Out(1)``
        A whole tile is there; its lanes may be read.
    release : ``In(1)``
        The tile in use is done with. ``ready`` tells about the next one two cycles later.
    group, bias_group, shift_group : ``In(range(rows // neuron_lanes))``
    lanes : ``Out(ArrayLayout(LaneConstants(config), neuron_lanes))``
    """

    def __init__(self, config):
        self._config = config
        self._lanes = config.neuron_lanes
        self._groups = config.rows // config.neuron_lanes
        super().__init__({
            "constants": In(stream.Signature(MEMORY_BITS)),
            "ready": Out(1),
            "release": In(1),
            "group": In(range(self._groups)),
            "bias_group": In(range(self._groups)),
            "shift_group": In(range(self._groups)),
            "lanes": Out(data.ArrayLayout(LaneConstants(config), self._lanes)),
        })

    def elaborate(self, platform):
        m = Module()
        lanes, config = self._lanes, self._config

        # Loading: word 2*c + h is half h of channel c.
        tiles = Signal(range(_TILES + 1))
        half = Signal()
        lane = Signal(range(lanes))
        load_group = Signal(range(self._groups))
        load_slot = Signal()
        word = Signal(MEMORY_BITS)
        low_en = Signal(lanes)
        high_en = Signal(lanes)
        load_address = Signal(range(self._groups * _TILES))
        last = Signal()
        tiles_next = tiles + last - self.release
        m.d.sync += [
            self.constants.ready.eq(tiles_next != _TILES),
            low_en.eq(0),
            high_en.eq(0),
            word.eq(self.constants.payload),
            load_address.eq(Cat(load_group, load_slot)),
            self.ready.eq(tiles != 0),
        ]
        with m.If(self.constants.valid & self.constants.ready):
            m.d.sync += half.eq(~half)
            with m.If(~half):
                m.d.sync += low_en.eq(1 << lane)
            with m.Else():
                m.d.sync += [high_en.eq(1 << lane), lane.eq(lane + 1)]
                with m.If(lane == lanes - 1):
                    m.d.sync += [lane.eq(0), load_group.eq(load_group + 1)]
                    with m.If(load_group == self._groups - 1):
                        m.d.comb += last.eq(1)
                        m.d.sync += [load_group.eq(0), load_slot.eq(~load_slot)]

        slot = Signal()
        m.d.sync += tiles.eq(tiles_next)
        with m.If(self.release):
            m.d.sync += slot.eq(~slot)

        # One memory for every address, each as wide as the constants need.
        used = max(_SHIFT_AT + self.lanes[0].shift.shape().width,
                   config.levels * (config.acc_bits + 1))
        raw = [[] for _ in range(lanes)]
        for name, start, end, address in [
                ("multiplier", _MULTIPLIER_AT, _BIAS_AT, self.group),
                ("bias_low", _BIAS_AT, MEMORY_BITS, self.bias_group),
                ("bias_high", MEMORY_BITS, _SHIFT_AT, self.bias_group),
                ("shift", _SHIFT_AT, used, self.shift_group)]:
            bits = Cat(word[start % MEMORY_BITS:(end - 1) % MEMORY_BITS + 1])
            if name == "shift":
                bits = Cat(bits, word[_INVERT_AT % MEMORY_BITS])
            memory = Memory(shape=data.ArrayLayout(len(bits), lanes), init=[],
                            depth=self._groups * _TILES, attrs={"ram_style": "distributed"})
            m.submodules[name] = memory
            write_port = memory.write_port(granularity=1)
            read_port = memory.read_port(domain="comb")
            row = Signal(memory.shape, name=f"{name}_row")
            m.d.comb += [
                write_port.addr.eq(load_address),
                write_port.en.eq(low_en if end <= MEMORY_BITS else high_en),
                read_port.addr.eq(Cat(address, slot)),
            ]
            m.d.sync += row.eq(read_port.data)
            for index in range(lanes):
                m.d.comb += write_port.data[index].eq(bits)
                raw[index].append(row[index])

        for index in range(lanes):
            bits = Signal(used + 1, name=f"bits_{index}")
            lane_out = self.lanes[index]
            m.d.comb += [
                bits.eq(Cat(*raw[index])),
                lane_out.thresholds.eq(bits),
                lane_out.invert.eq(bits[used]),
                lane_out.multiplier.eq(bits[_MULTIPLIER_AT:]),
                lane_out.bias.eq(bits[_BIAS_AT:]),
                lane_out.shift.eq(bits[_SHIFT_AT:]),
            ]

        return m


class MembraneFetch(wiring.Component):
    """Read the membranes of successive positions from the pool, ahead of their use.

    A position is 16 pool words; it is asked for only when its place in the buffer is free, so the
    read port may stall and answer at any time. Sustains one word per cycle.

    Cost: LUT-RAM of ``16 * neuron_lanes`` bits, 16 deep for up to 4 groups.

    Members
    -------
    start : ``In(1)``
        Begin with ``count`` positions (0: none) from ``address``, ``stride`` words apart; all
        three are stable from this cycle on. Everything read earlier has been taken. Clears
        ``lanes``.
    read : ``Out(PoolRead(config))``
    available : ``Out(1)``
        At least one position is complete and not claimed.
    claim : ``In(1)``
        Claim the next position; while ``available``.
    take : ``In(1)``
        Put the next group of a claimed position on ``lanes``, from the next cycle on.
    lanes : ``Out(ArrayLayout(signed(16), neuron_lanes))``
    """

    def __init__(self, config):
        self._rows = config.rows
        self._lanes = config.neuron_lanes
        self._groups = config.rows // config.neuron_lanes
        self._words = config.membrane_words
        self._slots = 4 if self._groups <= 4 else 2
        super().__init__({
            "start": In(1),
            "address": In(16),
            "stride": In(12),
            "count": In(16),
            "read": Out(PoolRead(config)),
            "available": Out(1),
            "claim": In(1),
            "take": In(1),
            "lanes": Out(data.ArrayLayout(signed(MEMBRANE_BITS), self._lanes)),
        })

    def elaborate(self, platform):
        m = Module()

        # Ask, position by position; the slot is taken with the first word.
        asked = Signal(range(self._words))
        left = Signal(16)
        base = Signal(16)
        slots = Signal(range(self._slots + 1))
        reserve = Signal()
        free = Signal()
        more = Signal()
        last = Signal()
        m.d.comb += [
            last.eq(asked == self._words - 1),
            more.eq((left != 0) & (slots != self._slots)),
        ]
        with m.If(self.start):
            m.d.sync += [left.eq(self.count), base.eq(self.address)]
        with m.Elif(~self.read.valid | (self.read.ready & last)):
            m.d.sync += self.read.valid.eq(more)
            with m.If(more):
                m.d.comb += reserve.eq(1)
                m.d.sync += [left.eq(left - 1), base.eq(base + self.stride),
                             self.read.address.eq(base)]
        with m.Elif(self.read.ready):
            m.d.sync += self.read.address.eq(self.read.address + 1)
        with m.If(self.read.valid & self.read.ready):
            m.d.sync += asked.eq(asked + 1)
        m.d.sync += slots.eq(slots + reserve - free)

        # Word p holds the lanes of group p // banks: bank p % banks of the group's row.
        banks = self._words // self._groups
        shape = data.ArrayLayout(self._rows, banks)
        m.submodules.buffer = buffer = Memory(
            shape=shape, depth=self._slots * self._groups, init=[],
            attrs={"ram_style": "distributed"})
        write_port = buffer.write_port(granularity=1)
        read_port = buffer.read_port(domain="comb")
        arrived = Signal(range(self._slots * self._words))
        complete = Signal()
        word = arrived[:exact_log2(self._words)]
        m.d.comb += [
            write_port.addr.eq(arrived >> exact_log2(banks)),
            write_port.en.eq(self.read.data_valid << (word % banks)),
        ]
        for bank in range(banks):
            m.d.comb += write_port.data[bank].eq(self.read.data)
        with m.If(self.read.data_valid):
            m.d.sync += arrived.eq(arrived + 1)
            m.d.comb += complete.eq(word == self._words - 1)

        ready = Signal(range(self._slots + 1))
        ready_next = Signal.like(ready)
        m.d.comb += ready_next.eq(ready + complete - self.claim)
        m.d.sync += [ready.eq(ready_next), self.available.eq(ready_next != 0)]

        taken = Signal(range(self._slots * self._groups))
        m.d.comb += read_port.addr.eq(taken)
        with m.If(self.start):
            m.d.sync += self.lanes.eq(0)
        with m.If(self.take):
            m.d.sync += [self.lanes.eq(read_port.data), taken.eq(taken + 1)]
            m.d.comb += free.eq(taken % self._groups == self._groups - 1)

        return m
