"""Moves between memory and the pool or the stream buffers: the LOAD and STORE units."""

from amaranth import *
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.wiring import In, Out

from hw.config import MEMORY_BITS
from hw.descriptor import Destination, Load, Store
from hw.port import Memory, POOL_LATENCY, PoolRead, PoolWrite, Unit


__all__ = ["LoadUnit", "StoreUnit", "BURST_WORDS"]


BURST_WORDS = 16
"""Longest burst of the move units, in memory words."""


class _Bursts(wiring.Component):
    """Walk rows of memory words as bursts of at most :data:`BURST_WORDS`.

    ``start`` (with the row geometry held until ``busy`` falls) begins; one burst is offered at a
    time. A burst never crosses the end of a row.
    """

    def __init__(self):
        super().__init__({
            "start": In(1),
            "address": In(24),
            "length": In(16),
            "count": In(16),
            "stride": In(16),
            "write": In(1),
            "busy": Out(1),
            "allow": In(1),
            "words": Out(8),
            "issued": Out(1),
            "commands": Out(Memory().members["commands"].signature),
        })

    def elaborate(self, platform):
        m = Module()
        row = Signal(24)
        address = Signal(24)
        left = Signal(16)
        rows = Signal(16)
        with m.If(left > BURST_WORDS):
            m.d.comb += self.words.eq(BURST_WORDS)
        with m.Else():
            m.d.comb += self.words.eq(left)
        # Once offered, a command stays: "allow" may only rise while it waits.
        offered = Signal()
        m.d.comb += [
            self.commands.payload.address.eq(address),
            self.commands.payload.length.eq(self.words),
            self.commands.payload.write.eq(self.write),
            self.commands.valid.eq(self.busy & (self.allow | offered)),
            self.issued.eq(self.commands.valid & self.commands.ready),
        ]
        m.d.sync += offered.eq(self.commands.valid & ~self.commands.ready)
        with m.If(self.start):
            m.d.sync += [
                self.busy.eq(1), row.eq(self.address), address.eq(self.address),
                left.eq(self.length), rows.eq(self.count),
            ]
        with m.Elif(self.issued):
            with m.If(left <= BURST_WORDS):
                m.d.sync += [
                    row.eq(row + self.stride), address.eq(row + self.stride),
                    left.eq(self.length), rows.eq(rows - 1),
                ]
                with m.If(rows == 1):
                    m.d.sync += self.busy.eq(0)
            with m.Else():
                m.d.sync += [address.eq(address + BURST_WORDS), left.eq(left - BURST_WORDS)]
        return m


class LoadUnit(wiring.Component):
    """LOAD unit of docs/architecture.md, with the stream buffers that it fills.

    A burst for a stream is asked for only when its buffer has room for all of it, so that read
    data never waits for a consumer (which might wait for another client's data). One memory word
    per cycle into a stream, one pool word per cycle into the pool; about 8 cycles of overhead and
    the memory's latency per descriptor.

    Members
    -------
    control : ``In(Unit(Load))``
        ``events`` counts memory words read.
    image : ``In(24)``
        Address of the current image, added for descriptors with ``image`` set.
    memory : ``Out(Memory())``
    write : ``Out(PoolWrite(config))``
    weights, constants, depthwise : ``Out(stream.Signature(64))``
    """

    def __init__(self, config):
        self._config = config
        super().__init__({
            "control": In(Unit(Load)),
            "image": In(24),
            "memory": Out(Memory()),
            "write": Out(PoolWrite(config)),
            "weights": Out(stream.Signature(MEMORY_BITS)),
            "constants": Out(stream.Signature(MEMORY_BITS)),
            "depthwise": Out(stream.Signature(MEMORY_BITS)),
        })

    def elaborate(self, platform):
        m = Module()
        config = self._config
        ratio = config.words_per_memory_word
        m.submodules.bursts = bursts = _Bursts()
        m.submodules.crc = crc = CRC32_ISO_HDLC(data_width=config.rows).create()

        run = Signal(Load)
        m.d.comb += [
            bursts.length.eq(run.length), bursts.count.eq(run.count),
            bursts.stride.eq(run.memory_stride),
        ]
        wiring.connect(m, bursts.commands, wiring.flipped(self.memory.commands))

        buffers = {}
        for destination, name, depth, port in (
                (Destination.WEIGHT, "weight", config.weight_fifo_words, self.weights),
                (Destination.CONST, "const", config.const_fifo_words, self.constants),
                (Destination.DEPTHWISE, "depthwise", config.depthwise_fifo_words,
                 self.depthwise)):
            buffer = fifo.SyncFIFOBuffered(width=MEMORY_BITS, depth=depth)
            m.submodules[f"{name}_fifo"] = buffer
            wiring.connect(m, buffer.r_stream, wiring.flipped(port))
            buffers[destination] = (buffer, depth)

        # Room: words in the buffer plus words asked for must stay within its depth. Compared one
        # cycle late against the fill of one cycle ago; a buffer only drains meanwhile.
        asked = Signal(range(max(d for _, d in buffers.values()) + BURST_WORDS + 1))
        arrived = Signal()
        room = Signal()
        with m.Switch(run.destination):
            for destination, (buffer, depth) in buffers.items():
                with m.Case(destination):
                    m.d.sync += room.eq((buffer.level + asked <= depth - BURST_WORDS)
                                        & ~bursts.issued)
            with m.Default():
                m.d.sync += room.eq(1)
        m.d.comb += bursts.allow.eq(room)
        # Arrivals a cycle late: off the path of the data, and on the safe side.
        arrived_late = Signal()
        m.d.sync += [
            arrived_late.eq(arrived),
            asked.eq(asked + Mux(bursts.issued, bursts.words, 0) - arrived_late),
        ]

        # Receiver: where the words go.
        words_left = Signal(16)
        rows_left = Signal(16)
        pool_row = Signal(16)
        pool_address = Signal(16)
        pool_left = Signal(16)
        pool_last, pool_none = Signal(), Signal()   # pool_left == 1, pool_left == 0
        slot = Signal(range(ratio) if ratio > 1 else 1)
        word = self.memory.r_data
        crc_data = Signal(config.rows)
        crc_valid = Signal()
        m.d.comb += [crc.data.eq(crc_data), crc.valid.eq(crc_valid)]
        m.d.sync += crc_valid.eq(0)
        m.d.comb += arrived.eq(word.valid & word.ready)

        starting = Signal()   # in state START; a register, for it clears the wide CRC
        m.d.comb += crc.start.eq(starting)
        m.d.sync += starting.eq(0)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.control.run.ready.eq(1)
                m.d.sync += run.eq(self.control.run.payload)
                with m.If(self.control.run.valid):
                    m.d.sync += starting.eq(1)
                    m.next = "START"
            with m.State("START"):
                m.d.comb += bursts.start.eq(1)
                m.d.comb += bursts.address.eq(run.memory_address
                                              + Mux(run.image, self.image, 0))
                m.d.sync += [
                    words_left.eq(run.length), rows_left.eq(run.count),
                    pool_row.eq(run.pool_address), pool_address.eq(run.pool_address),
                    pool_left.eq(run.pool_words), slot.eq(0),
                    pool_last.eq(run.pool_words == 1), pool_none.eq(run.pool_words == 0),
                    self.control.events.eq(0),
                ]
                m.next = "MOVE"
            with m.State("MOVE"):
                with m.Switch(run.destination):
                    for destination, (buffer, _) in buffers.items():
                        with m.Case(destination):
                            m.d.comb += [
                                buffer.w_data.eq(word.payload), buffer.w_en.eq(word.valid),
                                word.ready.eq(buffer.w_rdy),
                            ]
                    with m.Default():
                        present = Signal()
                        m.d.comb += [
                            present.eq(word.valid & ~pool_none),
                            self.write.valid.eq(present),
                            self.write.address.eq(pool_address),
                            self.write.data.eq(
                                word.payload.word_select(slot, config.rows)),
                            self.control.stall.pool.eq(present & ~self.write.ready),
                        ]
                        last_slot = slot == ratio - 1
                        # The last word of a row may hold fewer pool words, or none.
                        m.d.comb += word.ready.eq(
                            pool_none | (self.write.ready & (last_slot | pool_last)))
                        # A cycle late, off the path of the pool's ready.
                        m.d.sync += [
                            crc_data.eq(self.write.data),
                            crc_valid.eq(present & self.write.ready),
                        ]
                        with m.If(present & self.write.ready):
                            m.d.sync += [
                                pool_address.eq(pool_address + 1),
                                pool_left.eq(pool_left - 1),
                                pool_last.eq(pool_left == 2), pool_none.eq(pool_last),
                                slot.eq(Mux(last_slot, 0, slot + 1)),
                            ]
                m.d.comb += self.control.stall.stream.eq(~word.valid)
                with m.If(arrived):
                    m.d.sync += [
                        words_left.eq(words_left - 1),
                        self.control.events.eq(self.control.events + 1),
                    ]
                    with m.If(words_left == 1):
                        m.d.sync += [
                            words_left.eq(run.length), rows_left.eq(rows_left - 1),
                            pool_row.eq(pool_row + run.pool_stride),
                            pool_address.eq(pool_row + run.pool_stride),
                            pool_left.eq(run.pool_words), slot.eq(0),
                            pool_last.eq(run.pool_words == 1), pool_none.eq(run.pool_words == 0),
                        ]
                        with m.If(rows_left == 1):
                            m.next = "SETTLE"
            with m.State("SETTLE"):
                m.next = "DONE"
            with m.State("DONE"):
                m.d.comb += [
                    self.control.done.eq(1),
                    self.control.crc.eq(Mux(run.destination == Destination.POOL, crc.crc, 0)),
                ]
                m.next = "IDLE"
        return m


class StoreUnit(wiring.Component):
    """STORE unit of docs/architecture.md: rows of pool words into memory.

    One pool word per cycle. ``crc`` covers the pool words moved; ``events`` counts memory words
    written.

    Members
    -------
    control : ``In(Unit(Store))``
    result : ``In(24)``
        Address of the current image's result, added for descriptors with ``image`` set.
    memory : ``Out(Memory())``
    read : ``Out(PoolRead(config))``
    """

    def __init__(self, config):
        self._config = config
        super().__init__({
            "control": In(Unit(Store)),
            "result": In(24),
            "memory": Out(Memory()),
            "read": Out(PoolRead(config)),
        })

    def elaborate(self, platform):
        m = Module()
        config = self._config
        ratio = config.words_per_memory_word
        m.submodules.bursts = bursts = _Bursts()
        m.submodules.crc = crc = CRC32_ISO_HDLC(data_width=config.rows).create()
        depth = 8
        m.submodules.words = words = fifo.SyncFIFOBuffered(width=config.rows, depth=depth)

        run = Signal(Store)
        m.d.comb += [
            bursts.length.eq(run.length), bursts.count.eq(run.count),
            bursts.stride.eq(run.memory_stride), bursts.write.eq(1), bursts.allow.eq(1),
        ]
        wiring.connect(m, bursts.commands, wiring.flipped(self.memory.commands))

        # Reader: asks only for words that the queue can still take.
        row = Signal(16)
        address = Signal(16)
        left = Signal(16)
        rows = Signal(16)
        reading = Signal()
        flight = Signal(range(POOL_LATENCY + depth + 2))
        accepted = self.read.valid & self.read.ready
        m.d.comb += [
            self.read.address.eq(address),
            words.w_data.eq(self.read.data), words.w_en.eq(self.read.data_valid),
            crc.data.eq(self.read.data), crc.valid.eq(self.read.data_valid),
            self.control.stall.pool.eq(self.read.valid & ~self.read.ready),
        ]
        offered = Signal()
        m.d.comb += self.read.valid.eq(reading & ((flight < depth) | offered))
        m.d.sync += offered.eq(self.read.valid & ~self.read.ready)
        with m.If(accepted):
            m.d.sync += [address.eq(address + 1), left.eq(left - 1)]
            with m.If(left == 1):
                m.d.sync += [
                    row.eq(row + run.pool_stride), address.eq(row + run.pool_stride),
                    left.eq(run.pool_words), rows.eq(rows - 1),
                ]
                with m.If(rows == 1):
                    m.d.sync += reading.eq(0)

        # Packer: words of the queue into memory words, each row ending on a whole one.
        packed = Signal(MEMORY_BITS)
        full = Signal()
        slot = Signal(range(ratio) if ratio > 1 else 1)
        pack_left = Signal(16)
        rows_left = Signal(16)
        m.d.comb += [
            self.memory.w_data.payload.eq(packed), self.memory.w_data.valid.eq(full),
        ]
        sent = full & self.memory.w_data.ready
        take = Signal()
        m.d.comb += [take.eq(words.r_rdy & (~full | sent)), words.r_en.eq(take)]
        m.d.sync += flight.eq(flight + accepted - take)
        with m.If(sent):
            m.d.sync += [full.eq(0), self.control.events.eq(self.control.events + 1)]
        with m.If(take):
            with m.If(slot == 0):
                m.d.sync += packed.eq(words.r_data)
            with m.Else():
                m.d.sync += packed.word_select(slot, config.rows).eq(words.r_data)
            m.d.sync += [slot.eq(slot + 1), pack_left.eq(pack_left - 1)]
            with m.If((slot == ratio - 1) | (pack_left == 1)):
                m.d.sync += [full.eq(1), slot.eq(0)]
            with m.If(pack_left == 1):
                m.d.sync += [pack_left.eq(run.pool_words), rows_left.eq(rows_left - 1)]

        starting = Signal()   # in state START; a register, for it clears the wide CRC
        m.d.comb += crc.start.eq(starting)
        m.d.sync += starting.eq(0)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.control.run.ready.eq(1)
                m.d.sync += run.eq(self.control.run.payload)
                with m.If(self.control.run.valid):
                    m.d.sync += starting.eq(1)
                    m.next = "START"
            with m.State("START"):
                m.d.comb += [
                    bursts.start.eq(1),
                    bursts.address.eq(run.memory_address + Mux(run.image, self.result, 0)),
                ]
                m.d.sync += [
                    row.eq(run.pool_address), address.eq(run.pool_address),
                    left.eq(run.pool_words), rows.eq(run.count), reading.eq(1),
                    pack_left.eq(run.pool_words), rows_left.eq(run.count), slot.eq(0),
                    self.control.events.eq(0),
                ]
                m.next = "MOVE"
            with m.State("MOVE"):
                m.d.comb += self.control.stall.stream.eq(full & ~self.memory.w_data.ready)
                with m.If((rows_left == 0) & ~full & ~bursts.busy):
                    m.next = "DONE"
            with m.State("DONE"):
                m.d.comb += [self.control.done.eq(1), self.control.crc.eq(crc.crc)]
                m.next = "IDLE"
        return m
