"""Sequencer: fetches descriptors, dispatches them to unit queues, records their completion."""

from amaranth import *
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import MEMORY_BITS
from hw.descriptor import DESCRIPTOR_WORDS, Header, UnitKind, WAIT_BITS
from hw.port import Memory, RunRecord, Unit


__all__ = ["Fetch", "UnitQueue", "Recorder", "QUEUED", "Record", "UNITS"]


UNITS = [UnitKind.LOAD, UnitKind.STORE, UnitKind.ARRAY, UnitKind.DEPTHWISE, UnitKind.ATTENTION,
         UnitKind.NEURON]
"""Units in the order of their index (value of :class:`UnitKind`)."""

QUEUED = data.StructLayout({"word": MEMORY_BITS, "index": 16})
"""One word of a descriptor on its way to a unit, and the descriptor's number in the program."""


class Record(data.Struct):
    """Completion of one descriptor; two memory words of the log (docs/architecture.md)."""
    sig: 32
    events: 32
    start: 32
    end: 32
    index: 16


class Fetch(wiring.Component):
    """Read descriptors from memory and hand them to the queues in program order, word by word.

    Prefetches up to 32 memory words; one word per two cycles at best, a descriptor per 6. After an
    END descriptor it waits for the words already asked for and raises ``ended`` until the next
    ``start``.

    Members
    -------
    start : ``In(1)``
        Begin at ``program`` (memory word address); only when ended.
    ended : ``Out(1)``
    dispatched : ``Out(16)``
        Descriptors that the queues took whole since ``start``.
    memory : ``Out(Memory())``
    o : ``Out(stream.Signature(QUEUED)).array(6)``
        The words of every descriptor one after the other, header first; END goes nowhere.
    """

    def __init__(self):
        super().__init__({
            "start": In(1),
            "program": In(24),
            "ended": Out(1, init=1),
            "dispatched": Out(16),
            "memory": Out(Memory()),
            "o": Out(stream.Signature(QUEUED)).array(len(UNITS)),
        })

    def elaborate(self, platform):
        m = Module()
        depth, burst = 32, 12
        m.submodules.buffer = buffer = fifo.SyncFIFOBuffered(width=MEMORY_BITS, depth=depth)
        address = Signal(24)
        flight = Signal(range(depth + burst + 1))
        fetching = Signal()
        command = self.memory.commands
        word = self.memory.r_data

        offered = Signal()
        room = Signal()
        m.d.comb += [
            command.payload.address.eq(address), command.payload.length.eq(burst),
            command.valid.eq(fetching & (room | offered)),
            buffer.w_data.eq(word.payload), buffer.w_en.eq(word.valid & fetching),
            word.ready.eq(1),
        ]
        issued = command.valid & command.ready
        arrived = word.valid & word.ready
        m.d.sync += [
            # A cycle late, when the buffer can only be emptier, unless a burst was just asked for.
            room.eq((buffer.level + flight + burst <= depth) & ~issued),
            offered.eq(command.valid & ~command.ready),
            flight.eq(flight + Mux(issued, burst, 0) - arrived),
        ]
        with m.If(issued):
            m.d.sync += address.eq(address + burst)

        # One word at a time, in a register common to all queues.
        offer = Signal(QUEUED["word"].shape)
        kind = Signal(UnitKind)
        count = Signal(range(DESCRIPTOR_WORDS))
        header = data.View(Header, buffer.r_data)
        for port in self.o:
            m.d.comb += [port.payload.word.eq(offer), port.payload.index.eq(self.dispatched)]

        quiet = Signal()                   # nothing comes any more
        with m.FSM() as fsm:
            with m.State("ENDED"):
                with m.If(self.start):
                    m.d.sync += [
                        address.eq(self.program), fetching.eq(1), self.ended.eq(0),
                        self.dispatched.eq(0),
                    ]
                    m.next = "TAKE"
            with m.State("TAKE"):
                m.d.comb += buffer.r_en.eq(1)
                m.d.sync += offer.eq(buffer.r_data)
                with m.If(count == 0):
                    m.d.sync += kind.eq(header.kind)
                with m.If(buffer.r_rdy):
                    m.next = "OFFER"
            with m.State("OFFER"):
                with m.Switch(kind):
                    for unit in UNITS:
                        with m.Case(unit):
                            port = self.o[unit.value]
                            m.d.comb += port.valid.eq(1)
                            with m.If(port.ready):
                                m.d.sync += count.eq(count + 1)
                                with m.If(count == DESCRIPTOR_WORDS - 1):
                                    m.d.sync += [
                                        count.eq(0), self.dispatched.eq(self.dispatched + 1),
                                    ]
                                m.next = "TAKE"
                    with m.Default():
                        # No new bursts; what is under way or buffered is dropped.
                        m.d.sync += fetching.eq(0)
                        m.next = "FLUSH"
            with m.State("FLUSH"):
                m.d.comb += buffer.r_en.eq(1)
                with m.If(quiet):
                    m.d.sync += self.ended.eq(1)
                    m.next = "ENDED"
        m.d.sync += quiet.eq(fsm.ongoing("FLUSH") & (flight == 0) & ~offered & ~buffer.r_rdy
                             & (buffer.level == 0))
        # A command already offered when END is met must still be taken.
        with m.If(offered):
            m.d.comb += command.valid.eq(1)
        return m


class UnitQueue(wiring.Component):
    """Queue in front of one unit: holds descriptors until what they wait for has completed.

    ``depth`` descriptors wait in LUT-RAM, word by word, and one more in the head, which is loaded
    while the one before it runs. At least 3 cycles from one descriptor's completion to the next
    one's start, and from the last word taken to the start of an idle unit.

    Members
    -------
    i : ``In(stream.Signature(QUEUED))``
        The words of every descriptor one after the other, header first.
    completed : ``In(ArrayLayout(WAIT_BITS, 6))``
        Completed descriptors of every unit.
    time : ``In(32)``
        Cycle counter for the records.
    unit : ``Out(Unit(layout))``
    record : ``Out(stream.Signature(Record))``
    done, idle, busy, waiting, marked : ``Out(1)``
        A descriptor completed in this cycle; nothing queued (not even a part), running or
        unrecorded; one is running; one waits for its dependencies and none is running; one with
        ``mark`` starts in this cycle.
    """

    def __init__(self, *, layout, depth):
        self._layout = layout
        self._depth = depth
        super().__init__({
            "i": In(stream.Signature(QUEUED)),
            "completed": In(data.ArrayLayout(WAIT_BITS, len(UNITS))),
            "time": In(32),
            "unit": Out(Unit(layout)),
            "record": Out(stream.Signature(Record)),
            "done": Out(1),
            "idle": Out(1),
            "busy": Out(1),
            "waiting": Out(1),
            "marked": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        width = Shape.cast(self._layout).width
        m.submodules.fifo = queue = fifo.SyncFIFO(
            width=QUEUED.size, depth=DESCRIPTOR_WORDS * self._depth)
        m.d.comb += [
            queue.w_data.eq(self.i.payload), queue.w_en.eq(self.i.valid),
            self.i.ready.eq(queue.w_rdy),
        ]

        # The word that the head waits for, one-hot; its last bit: none, the head is whole. Only
        # these registers enable the head's, which take what there is until the word has come.
        place = Signal(DESCRIPTOR_WORDS + 1, init=1)
        whole = place[-1]
        queued = data.View(QUEUED, queue.r_data)
        header = data.View(Header, queued.word)
        waits = Signal.like(header.waits)
        index = Signal(16)
        mark = Signal()
        fields = Signal(width)
        m.d.comb += queue.r_en.eq(~whole)
        with m.If(queue.r_rdy & ~whole):
            m.d.sync += place.eq(place << 1)
        with m.If(place[0]):
            m.d.sync += [waits.eq(header.waits), index.eq(queued.index),
                         mark.eq(header.mark)]
        for number in range(1, DESCRIPTOR_WORDS):
            start = (number - 1) * MEMORY_BITS
            with m.If(place[number]):
                m.d.sync += fields[start:start + MEMORY_BITS].eq(queued.word)

        met = Signal(len(UNITS))
        # A cycle late: of this head when it is whole, for its waits came first. Counts only grow,
        # so a comparison found true stays true.
        for unit in range(len(UNITS)):
            behind = Signal(WAIT_BITS, name=f"behind_{unit}")
            m.d.comb += behind.eq(self.completed[unit] - waits[unit])
            m.d.sync += met[unit].eq(~behind[-1])

        record = Signal(Record)
        recorded = Signal(init=1)
        m.d.comb += [
            self.record.payload.eq(record), self.record.valid.eq(~recorded),
            self.unit.run.payload.eq(fields),
        ]
        with m.If(self.record.ready):
            m.d.sync += recorded.eq(1)

        # A unit that is ready stays so until it is started: seen through a register, so that the
        # way to the unit and back is no single path.
        ready = Signal()
        m.d.sync += ready.eq(self.unit.run.ready)
        with m.FSM():
            with m.State("WAIT"):
                m.d.comb += [
                    self.idle.eq(place[0] & ~queue.r_rdy & recorded), self.waiting.eq(whole),
                ]
                with m.If(whole & met.all() & recorded & ready):
                    m.next = "START"
            with m.State("START"):
                m.d.comb += [self.unit.run.valid.eq(1), self.marked.eq(mark)]
                # The unit has the fields: the head is free.
                m.d.sync += [record.start.eq(self.time), record.index.eq(index), place.eq(1)]
                m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += self.busy.eq(1)
                with m.If(self.unit.done):
                    m.d.comb += self.done.eq(1)
                    m.d.sync += [
                        record.sig.eq(self.unit.sig), record.events.eq(self.unit.events),
                        record.end.eq(self.time), recorded.eq(0),
                    ]
                    m.next = "WAIT"
        return m


class Recorder(wiring.Component):
    """Write completion records into the log: two memory words at ``log + 2 * index``, and those
    of whole runs below it (:data:`hw.register.RING_BITS`).

    Members
    -------
    log : ``In(24)``
    i : ``In(stream.Signature(Record)).array(6)``
    run : ``In(stream.Signature(RunRecord))``
        Comes alone: when all others are written.
    memory : ``Out(Memory())``
    idle : ``Out(1)``
    """

    def __init__(self):
        super().__init__({
            "log": In(24),
            "i": In(stream.Signature(Record)).array(len(UNITS)),
            "run": In(stream.Signature(RunRecord)),
            "memory": Out(Memory()),
            "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        # A record stays in its queue until it is written: only one word of it is multiplexed.
        chosen = Signal(range(len(UNITS) + 1))
        record = Signal(Record)
        index = Signal(signed(len(record.index) + 1))
        m.d.comb += index.eq(record.index)
        with m.Switch(chosen):
            with m.Case(len(UNITS)):
                run = self.run.payload
                m.d.comb += [record.sig.eq(run.left), record.events.eq(run.errors),
                             record.end.eq(run.end), index.eq(Cat(~run.slot, 1))]
            for place in range(len(UNITS)):
                with m.Case(place):
                    m.d.comb += record.eq(self.i[place].payload)
        # The chosen record's address and words go through registers, away from the multiplexer.
        command = self.memory.commands
        data = self.memory.w_data
        m.d.comb += [command.payload.length.eq(2), command.payload.write.eq(1)]
        with m.FSM():
            with m.State("IDLE"):
                waiting = Cat(*(port.valid for port in self.i), self.run.valid)
                m.d.comb += self.idle.eq(~waiting.any())
                m.d.sync += chosen.eq(len(UNITS))
                for place in reversed(range(len(UNITS))):
                    with m.If(self.i[place].valid):
                        m.d.sync += chosen.eq(place)
                with m.If(waiting.any()):
                    m.next = "LOOK"
            with m.State("LOOK"):
                m.d.sync += [
                    command.payload.address.eq(self.log + (index << 1)),
                    data.payload.eq(Cat(record.sig, record.events)),
                ]
                m.next = "COMMAND"
            with m.State("COMMAND"):
                m.d.comb += command.valid.eq(1)
                with m.If(command.ready):
                    m.next = "HASH"
            with m.State("HASH"):
                m.d.comb += data.valid.eq(1)
                with m.If(data.ready):
                    m.d.sync += data.payload.eq(Cat(record.start, record.end))
                    m.next = "TIME"
            with m.State("TIME"):
                m.d.comb += data.valid.eq(1)
                with m.If(data.ready):
                    for place, port in enumerate([*self.i, self.run]):
                        m.d.comb += port.ready.eq(chosen == place)
                    m.next = "IDLE"
        return m
