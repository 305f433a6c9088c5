"""Moves between memory and the pool or the stream buffers: the LOAD and STORE units."""

from amaranth import *
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import BURST_WORDS, MEMORY_BITS
from hw.descriptor import Destination, Load, Store
from hw.lib.pool_write import PoolWriteQueue
from hw.lib.skid_buffer import SkidBuffer
from hw.lib.stream_buffer import StreamBuffer
from hw.lib.write_hash import WriteHash
from hw.memory.bursts import Bursts
from hw.port import Memory, POOL_LATENCY, PoolRead, PoolWrite, Unit


__all__ = ["LoadUnit", "StoreUnit"]


class _LoadStates:
    """States of the load unit, one register each, for each of them enables many others."""

    def __init__(self, streams):
        self.idle = Signal(init=1)
        self.starting, self.started = Signal(), Signal(name="started")
        self.moving = Signal()
        self.settling = Signal()
        self.into_pool = Signal()
        self.into = {destination: Signal(name=f"into_{destination.name.lower()}")
                     for destination in streams}


class LoadUnit(wiring.Component):
    """LOAD unit of docs/architecture.md, with the stream buffers that it fills.

    A burst for a stream is asked for only when its buffer has room for all of it, so that read
    data never waits for a consumer (which might wait for another client's data), but for a cycle
    between two rows. One memory word per cycle into a stream, one pool word per cycle into the
    pool; about 10 cycles of overhead and the memory's latency per descriptor, a cycle per row.

    Members
    -------
    control : ``In(Unit(Load))``
        ``events`` counts memory words read.
    image : ``In(24)``
        Address of the current image, added for descriptors with ``image`` set.
    memory : ``Out(Memory())``
    write : ``Out(PoolWrite(config))``
    weights : ``Out(stream.Signature(weight_bits))``
        Wider than memory where the array takes several memory words a cycle; loads bring whole
        words of it.
    constants, depthwise : ``Out(stream.Signature(64))``
    """

    def __init__(self, config):
        self._config = config
        super().__init__({
            "control": In(Unit(Load)),
            "image": In(24),
            "memory": Out(Memory()),
            "write": Out(PoolWrite(config)),
            "weights": Out(stream.Signature(config.weight_bits)),
            "constants": Out(stream.Signature(MEMORY_BITS)),
            "depthwise": Out(stream.Signature(MEMORY_BITS)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.bursts = bursts = Bursts()

        run = Signal(Load)
        m.d.comb += [
            bursts.length.eq(run.length), bursts.count.eq(run.count),
            bursts.stride.eq(run.memory_stride),
        ]
        wiring.connect(m, bursts.commands, wiring.flipped(self.memory.commands))

        buffers = self._buffers(m)
        entered = Signal(range(max(per_word for _, per_word, _ in buffers.values()) + 1))
        arrived = Signal()
        self._room(m, run, bursts, buffers, entered)
        state = self._states(m, run, bursts, buffers)

        # Memory words into a stream buffer (there is room) or, slot by slot, into the pool.
        m.submodules.arrival = arrival = SkidBuffer(MEMORY_BITS)
        wiring.connect(m, wiring.flipped(self.memory.r_data), arrival.i)
        reload = Signal()                        # the fields of a row
        arrived_pool = Signal()                  # late: off the path of the data
        m.d.sync += [arrived_pool.eq(arrived & state.into_pool), entered.eq(arrived_pool)]
        self._into_buffers(m, buffers, state.into, arrival.o, reload, entered)
        m.submodules.port = port = PoolWriteQueue(config=self._config)
        wiring.connect(m, port.write, wiring.flipped(self.write))
        self._rows(m, run, state, arrival.o, port, arrived, reload)

        m.d.sync += self.control.done.eq(0)
        with m.If(state.settling & ~port.busy):
            m.d.sync += [state.settling.eq(0), self.control.done.eq(1)]
        m.d.comb += self.control.sig.eq(
            Mux(run.destination == Destination.POOL, port.sig, 0))
        with m.If(self.control.done):
            m.d.sync += state.idle.eq(1)
        return m

    def _buffers(self, m):
        """The stream buffers by destination, each with its memory words per entry and depth."""
        config = self._config
        buffers = {}
        for destination, name, depth, port in (
                (Destination.WEIGHT, "weight", config.weight_fifo_words, self.weights),
                (Destination.CONST, "const", config.const_fifo_words, self.constants),
                (Destination.DEPTHWISE, "depthwise", config.depthwise_fifo_words,
                 self.depthwise)):
            per_word = len(port.payload) // MEMORY_BITS
            buffer = StreamBuffer(width=len(port.payload), depth=depth // per_word)
            m.submodules[f"{name}_buffer"] = buffer
            wiring.connect(m, buffer.o, wiring.flipped(port))
            buffers[destination] = (buffer, per_word, depth)
        return buffers

    def _room(self, m, run, bursts, buffers, entered):
        """Allow a burst where the buffer has room; ``entered`` counts words that reached it."""
        # Words in the buffer plus words asked for must stay within its depth. Compared one
        # cycle late against the fill of two cycles ago; a buffer only drains meanwhile. A word is
        # off the count of those asked for when it is in the buffer's level, perhaps with others.
        asked = Signal(range(max(d for _, _, d in buffers.values()) + BURST_WORDS + 1))
        room = Signal()
        with m.Switch(run.destination):
            for destination, (buffer, per_word, depth) in buffers.items():
                with m.Case(destination):
                    m.d.sync += room.eq(buffer.level * per_word + asked <= depth - BURST_WORDS)
            with m.Default():
                m.d.sync += room.eq(1)
        m.d.comb += bursts.allow.eq(room)
        m.d.sync += asked.eq(asked + Mux(bursts.taken, bursts.words, 0) - entered)

    def _states(self, m, run, bursts, buffers):
        """Take a descriptor and start it; returns the states, which end elsewhere."""
        state = _LoadStates(buffers)
        m.d.comb += [
            self.control.run.ready.eq(state.idle),
            bursts.start.eq(state.starting),
            bursts.address.eq(run.memory_address + Mux(run.image, self.image, 0)),
        ]
        m.d.sync += [state.starting.eq(state.idle & self.control.run.valid),
                     state.started.eq(state.starting)]
        with m.If(state.idle):
            m.d.sync += [run.eq(self.control.run.payload),
                         state.idle.eq(~self.control.run.valid)]
        with m.If(state.starting):
            m.d.sync += [state.moving.eq(1),
                         state.into_pool.eq(run.destination == Destination.POOL)]
            m.d.sync += [flag.eq(run.destination == destination)
                         for destination, flag in state.into.items()]
        return state

    def _into_buffers(self, m, buffers, into, word, reload, entered):
        """Memory words into the stream buffer whose flag of ``into`` is high."""
        # Once more in a register on its way to the buffers, which may lie far from here.
        late = Signal(MEMORY_BITS, reset_less=True)
        m.d.sync += late.eq(word.payload)
        for destination, (buffer, per_word, _) in buffers.items():
            present = Signal(name=f"present_{destination.name.lower()}")
            # Neither `moving` nor the pool decides: while `into` is high, a word waits for a new
            # row only.
            m.d.sync += present.eq(into[destination] & word.valid & ~reload)
            if per_word == 1:
                m.d.comb += [buffer.w_data.eq(late), buffer.w_en.eq(present)]
            else:
                entry = Signal(per_word * MEMORY_BITS, reset_less=True)
                part = Signal(range(per_word))
                complete = Signal()
                m.d.comb += [buffer.w_data.eq(entry), buffer.w_en.eq(complete)]
                m.d.sync += complete.eq(present & (part == per_word - 1))
                with m.If(present):
                    m.d.sync += [entry.eq(Cat(entry, late) >> MEMORY_BITS),
                                 part.eq(Mux(part == per_word - 1, 0, part + 1))]
            with m.If(buffer.w_en):
                m.d.sync += entered.eq(per_word)

    def _rows(self, m, run, state, word, port, arrived, reload):
        """Count words and rows to the end of a descriptor, and cut words into those of the pool."""
        ratio = self._config.words_per_memory_word
        words_left = Signal(16)
        words_last = Signal()                    # words_left == 1
        rows_left = Signal(16)
        rows_last = Signal()
        pool_row = Signal(16)
        pool_address = Signal(16)
        pool_left = Signal(16)
        pool_last, pool_none = Signal(), Signal()   # pool_left == 1, pool_left == 0
        slot = Signal(range(ratio) if ratio > 1 else 1)
        last_slot = slot == ratio - 1
        push = Signal()
        present = state.into_pool & word.valid & ~pool_none & ~reload
        m.d.comb += [
            port.start.eq(state.starting),
            push.eq(present & port.ready),
            port.valid.eq(push),
            port.address.eq(pool_address),
            port.data.eq(word.payload.word_select(slot, self._config.rows)),
            # The last word of a row may hold fewer pool words, or none.
            word.ready.eq(state.moving & ~reload & (~state.into_pool | pool_none
                                                    | (port.ready & (last_slot | pool_last)))),
            arrived.eq(word.valid & word.ready),
            self.control.stall.pool.eq(present & ~port.ready),
            self.control.stall.stream.eq(state.moving & ~word.valid),
        ]
        with m.If(push):
            m.d.sync += [
                pool_address.eq(pool_address + 1), pool_left.eq(pool_left - 1),
                pool_last.eq(pool_left == 2), pool_none.eq(pool_last),
                slot.eq(Mux(last_slot, 0, slot + 1)),
            ]
        with m.If(arrived):
            m.d.sync += [
                words_left.eq(words_left - 1), words_last.eq(words_left == 2),
                self.control.events.eq(self.control.events + 1),
            ]
        # A row's fields go to many registers, a cycle after the end of the row before.
        m.d.sync += reload.eq(state.starting | (arrived & words_last))
        with m.If(reload):
            m.d.sync += [
                words_left.eq(run.length), words_last.eq(run.length == 1),
                pool_left.eq(run.pool_words), slot.eq(0),
                pool_last.eq(run.pool_words == 1), pool_none.eq(run.pool_words == 0),
            ]
        with m.If(state.starting):
            m.d.sync += [
                rows_left.eq(run.count), rows_last.eq(run.count == 1), self.control.events.eq(0),
                pool_row.eq(run.pool_address), pool_address.eq(run.pool_address),
            ]
        with m.Elif(reload & ~state.started):
            m.d.sync += [
                rows_left.eq(rows_left - 1), rows_last.eq(rows_left == 2),
                pool_row.eq(pool_row + run.pool_stride),
                pool_address.eq(pool_row + run.pool_stride),
            ]
            with m.If(rows_last):
                m.d.sync += [state.moving.eq(0), state.into_pool.eq(0), state.settling.eq(1)]
                m.d.sync += [flag.eq(0) for flag in state.into.values()]


class StoreUnit(wiring.Component):
    """STORE unit of docs/architecture.md: rows of pool words into memory.

    One pool word per cycle. ``sig`` covers the pool words moved; ``events`` counts memory words
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
        m.submodules.bursts = bursts = Bursts()
        m.submodules.sign = write_hash = WriteHash(config.rows)
        depth = 16
        m.submodules.words = words = fifo.SyncFIFOBuffered(width=config.rows, depth=depth)

        run = Signal(Store)
        starting = Signal()
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
        asking = Signal()
        m.submodules.request = request = SkidBuffer(16)    # the pool's `ready` ends here
        accepted = request.i.valid & request.i.ready
        m.d.comb += [
            request.i.payload.eq(address), request.i.valid.eq(reading & asking),
            self.read.address.eq(request.o.payload), self.read.valid.eq(request.o.valid),
            request.o.ready.eq(self.read.ready),
            words.w_data.eq(self.read.data), words.w_en.eq(self.read.data_valid),
            write_hash.start.eq(starting),
            write_hash.data.eq(self.read.data),
            write_hash.valid.eq(self.read.data_valid),
            self.control.stall.pool.eq(self.read.valid & ~self.read.ready),
        ]
        # In two steps: the queue's fill decides in a register whether another word is asked for.
        m.d.sync += asking.eq((flight < depth - 1) | (request.i.valid & ~request.i.ready))
        left_last = Signal()   # left == 1
        rows_last = Signal()   # rows == 1
        with m.If(accepted):
            m.d.sync += [address.eq(address + 1), left.eq(left - 1), left_last.eq(left == 2)]
            with m.If(left_last):
                m.d.sync += [
                    row.eq(row + run.pool_stride), address.eq(row + run.pool_stride),
                    left.eq(run.pool_words), left_last.eq(run.pool_words == 1),
                    rows.eq(rows - 1), rows_last.eq(rows == 2),
                ]
                with m.If(rows_last):
                    m.d.sync += reading.eq(0)

        # Packer: words of the queue into memory words, each row ending on a whole one.
        packed = Signal(MEMORY_BITS)
        full = Signal()
        m.submodules.data = stage = SkidBuffer(MEMORY_BITS)    # the memory's `ready` ends here
        wiring.connect(m, stage.o, wiring.flipped(self.memory.w_data))
        slot = Signal(range(ratio) if ratio > 1 else 1)
        pack_left = Signal(16)
        rows_left = Signal(16)
        m.d.comb += [stage.i.payload.eq(packed), stage.i.valid.eq(full)]
        sent = full & stage.i.ready
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

        # States, one register each, for each of them enables many others.
        idle = Signal(init=1)
        moving = Signal()
        m.d.comb += [
            self.control.run.ready.eq(idle),
            bursts.start.eq(starting),
            bursts.address.eq(run.memory_address + Mux(run.image, self.result, 0)),
            self.control.stall.stream.eq(full & ~stage.i.ready),
            self.control.sig.eq(write_hash.o),
        ]
        m.d.sync += [starting.eq(idle & self.control.run.valid), self.control.done.eq(0)]
        with m.If(idle):
            m.d.sync += [run.eq(self.control.run.payload), idle.eq(~self.control.run.valid)]
        with m.If(starting):
            m.d.sync += [
                moving.eq(1),
                row.eq(run.pool_address), address.eq(run.pool_address),
                left.eq(run.pool_words), left_last.eq(run.pool_words == 1),
                rows.eq(run.count), rows_last.eq(run.count == 1), reading.eq(1),
                pack_left.eq(run.pool_words), rows_left.eq(run.count), slot.eq(0),
                self.control.events.eq(0),
            ]
        with m.If(moving & (rows_left == 0) & ~full & ~stage.o.valid & ~bursts.busy):
            m.d.sync += [moving.eq(0), self.control.done.eq(1)]
        with m.If(self.control.done):
            m.d.sync += idle.eq(1)
        return m
