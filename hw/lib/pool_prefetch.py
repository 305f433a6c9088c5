"""Read ahead from the pool: a stream of addresses in, the words in the same order out."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.lib.skid_buffer import SkidBuffer
from hw.port import PoolRead


__all__ = ["PoolPrefetch"]


DEPTH = 16
"""Words requested or waiting; the depth of one ECP5 LUT-RAM, more than the pool's latency."""


class PoolPrefetch(wiring.Component):
    """Queue that keeps up to 16 reads of the pool requested or waiting.

    Latency from an accepted address to its word is ``POOL_LATENCY + 2`` cycles, throughput one
    word per cycle. The pool's ``ready``, which comes late in its cycle, ends here: two addresses
    wait for it. Cost: ``rows / 4`` LUT-RAMs, about 50 LUTs and 60 FF.

    Parameters
    ----------
    config : CoreConfig
    note : callable(m, word), optional
        Makes a value of a word, one cycle after it, that is kept beside the word in the queue, so
        that the consumer has it early in the cycle. It takes one more cycle of latency.
    note_bits : int
        Width of that value; 0 without ``note``.

    Members
    -------
    addresses : ``In(stream.Signature(16))``
        ``ready`` comes from registers.
    words : ``Out(stream.Signature(config.rows))``
        The payload comes from a LUT-RAM, not from a register.
    note : ``Out(note_bits)``
        The note of ``words.payload``.
    pool : ``Out(PoolRead(config))``
        ``valid`` and ``address`` are registers.
    empty : ``Out(1)``
        Nothing is requested or waiting.
    """

    def __init__(self, *, config, note=None, note_bits=0):
        self._config = config
        self._note = note
        self._note_bits = note_bits
        super().__init__({
            "addresses": In(stream.Signature(16)),
            "words": Out(stream.Signature(config.rows)),
            "note": Out(note_bits),
            "pool": Out(PoolRead(config)),
            "empty": Out(1),
        })

    @property
    def config(self):
        return self._config

    def elaborate(self, platform):
        m = Module()

        m.submodules.memory = memory = Memory(shape=self._config.rows + self._note_bits,
                                              depth=DEPTH, init=[],
                                              attrs={"ram_style": "distributed"})
        write = memory.write_port()
        read = memory.read_port(domain="comb")

        entry, arrives = self.pool.data, self.pool.data_valid
        if self._note is not None:
            word = Signal(self._config.rows, reset_less=True)
            arrives = Signal()
            m.d.sync += [word.eq(self.pool.data), arrives.eq(self.pool.data_valid)]
            entry = Cat(word, self._note(m, self.pool.data))

        free = Signal(range(DEPTH + 1), init=DEPTH)
        room = Signal(init=1)              # free != 0
        level = Signal(range(DEPTH + 1))
        request = Signal()
        pop = Signal()
        returned = Signal()
        m.submodules.request = stage = SkidBuffer(16)
        m.d.comb += [
            self.addresses.ready.eq(room & stage.i.ready),
            request.eq(self.addresses.valid & self.addresses.ready),
            stage.i.valid.eq(request),
            stage.i.payload.eq(self.addresses.payload),
            self.pool.valid.eq(stage.o.valid),
            self.pool.address.eq(stage.o.payload),
            stage.o.ready.eq(self.pool.ready),
            write.data.eq(entry),
            write.en.eq(arrives),
            Cat(self.words.payload, self.note).eq(read.data),
            pop.eq(self.words.valid & self.words.ready),
            self.empty.eq((free == DEPTH) | ((free == DEPTH - 1) & returned)),
        ]
        m.d.sync += [
            # A cycle late: `words.ready` comes late in its cycle.
            returned.eq(pop),
            free.eq(free + returned - request),
            room.eq(returned | (free > 1) | (room & ~request)),
            level.eq(level + arrives - pop),
            # level != 0, as a register.
            self.words.valid.eq(arrives | (level > 1) | (self.words.valid & ~pop)),
            write.addr.eq(write.addr + arrives),
        ]
        with m.If(pop):
            m.d.sync += read.addr.eq(read.addr + 1)

        return m
