"""Queue in block RAM between a source that knows its room and a stream."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out


__all__ = ["StreamBuffer"]


class StreamBuffer(wiring.Component):
    """Queue of ``depth`` words in block RAM, read through the block's output register.

    Whatever is given is taken: the source watches ``level``. A word is on ``o`` 3 cycles after it
    was given at the earliest; throughput one word per cycle.

    Parameters
    ----------
    width : int
    depth : int
        A power of two.

    Members
    -------
    w_data, w_en : ``In(width)``, ``In(1)``
    level : ``Out(range(depth + 1))``
        A register behind the count of words given before the last cycle and not yet taken, but for
        the two in the output stages. The source may lie far from here.
    o : ``Out(stream.Signature(width))``
        The payload is a register.
    """

    def __init__(self, *, width, depth):
        self._width = width
        self._depth = depth
        super().__init__({
            "w_data": In(width),
            "w_en": In(1),
            "level": Out(range(depth + 1)),
            "o": Out(stream.Signature(width)),
        })

    @property
    def width(self):
        return self._width

    @property
    def depth(self):
        return self._depth

    def elaborate(self, platform):
        m = Module()

        m.submodules.memory = memory = Memory(shape=self._width, depth=self._depth, init=[])
        write = memory.write_port()
        read = memory.read_port()
        count = Signal.like(self.level)
        waiting = Signal()                 # count != 0
        fetched = Signal()                 # a word is on its way to the output register
        step = Signal()                    # ... which is free
        m.d.comb += [
            write.data.eq(self.w_data),
            write.en.eq(self.w_en),
            step.eq(self.o.ready | ~self.o.valid),
            read.en.eq(waiting & (step | ~fetched)),
        ]
        m.d.sync += [
            write.addr.eq(write.addr + self.w_en),
            read.addr.eq(read.addr + read.en),
            count.eq(count + self.w_en - read.en), self.level.eq(count),
            waiting.eq(self.w_en | (count > 1) | (waiting & ~read.en)),
            fetched.eq(read.en | (fetched & ~step)),
        ]
        with m.If(step):
            m.d.sync += [self.o.valid.eq(fetched), self.o.payload.eq(read.data)]

        return m
