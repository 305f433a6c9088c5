"""Queue from one clock to another."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2


__all__ = ["CrossingQueue"]


class CrossingQueue(wiring.Component):
    """Queue of ``depth`` words from ``w_domain`` to ``r_domain``; whatever is given is taken.

    What ``amaranth.lib.fifo.AsyncFIFO`` does, Gray-code pointers through synchronisers, without two
    things that were the longest paths of the SDRAM's clock at 125 MHz. The check for room is left
    to the writer, who may have asked for no more words than there is room for (it leads from the
    pointers to the enable of every LUT-RAM). And a reset of one side alone is not handed to the
    other side (it leads to every user of the words): both sides are reset together.

    Parameters
    ----------
    width : int
    depth : int
        A power of two.
    w_domain, r_domain : str

    Members
    -------
    w_data, w_en : ``In(width)``, ``In(1)``
        In ``w_domain``. To be given while ``w_rdy``, or while ``w_level`` is below ``depth``.
    w_rdy : ``Out(1)``
        There is room for a word, as far as ``w_domain`` knows.
    w_level : ``Out(range(depth + 1))``
        Words not taken yet, as far as ``w_domain`` knows: never less than there are.
    o : ``Out(stream.Signature(width))``
        In ``r_domain``.
    """

    def __init__(self, *, width, depth, w_domain, r_domain):
        self._width = width
        self._depth = depth
        self._w_domain = w_domain
        self._r_domain = r_domain
        super().__init__({
            "w_data": In(width),
            "w_en": In(1),
            "w_rdy": Out(1),
            "w_level": Out(range(depth + 1)),
            "o": Out(stream.Signature(width)),
        })

    def elaborate(self, platform):
        m = Module()

        bits = exact_log2(self._depth)
        m.submodules.memory = memory = Memory(shape=self._width, depth=self._depth, init=[])
        write = memory.write_port(domain=self._w_domain)
        read = memory.read_port(domain=self._r_domain)

        def gray(value):
            return value ^ (value >> 1)

        # Pointers have a bit more than addresses: full and empty differ.
        written = Signal(bits + 1)
        read_at = Signal(bits + 1)
        written_gray = Signal(bits + 1)
        read_gray = Signal(bits + 1)
        written_next = Signal(bits + 1)
        read_next = Signal(bits + 1)
        m.d.comb += [
            write.addr.eq(written[:-1]),
            write.data.eq(self.w_data),
            write.en.eq(self.w_en),
            written_next.eq(written + self.w_en),
            read_next.eq(read_at + (self.o.valid & self.o.ready)),
            read.addr.eq(read_next[:-1]),
            self.o.payload.eq(read.data),
        ]
        m.d[self._w_domain] += [written.eq(written_next), written_gray.eq(gray(written_next))]
        m.d[self._r_domain] += [read_at.eq(read_next), read_gray.eq(gray(read_next))]

        arrived = Signal(bits + 1)
        taken = Signal(bits + 1)
        m.submodules.written = FFSynchronizer(written_gray, arrived, o_domain=self._r_domain)
        m.submodules.taken = FFSynchronizer(read_gray, taken, o_domain=self._w_domain)
        # A word is read in the cycle in which its arrival shows, and here in the next one.
        m.d[self._r_domain] += self.o.valid.eq(arrived != gray(read_next))
        taken_binary = Signal(bits + 1)
        level_from = Signal(bits + 1)
        m.d.comb += [taken_binary[k].eq(taken[k:].xor()) for k in range(bits + 1)]
        m.d[self._w_domain] += level_from.eq(taken_binary)
        m.d.comb += [
            self.w_level.eq((written - level_from)[:bits + 1]),
            self.w_rdy.eq((written ^ level_from) != self._depth),
        ]

        return m
