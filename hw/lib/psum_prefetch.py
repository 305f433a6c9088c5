"""Read ahead from the partial sums: rows of consecutive addresses, two at most in advance."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.lib.spread import spread
from hw.port import PSUM_LATENCY, PsumRead


__all__ = ["PsumPrefetch"]


class PsumPrefetch(wiring.Component):
    """Keep up to two rows of one lane group requested or waiting.

    A row for every two and a half cycles if the port never stalls, the first one
    ``PSUM_LATENCY + 2`` cycles after ``more``. Cost: two rows of flip-flops; requests start at
    registers.

    Parameters
    ----------
    config : CoreConfig
    lanes : int
        Of the port.
    width : int
        Low bits of each sum that are kept.

    Members
    -------
    start : ``In(1)``
        Begin at ``address``; nothing may be requested or waiting.
    address : ``In(10)``
    more : ``In(1)``
        A row is wanted behind those asked for.
    step : ``Out(1)``
        It has been asked for.
    data : ``Out(ArrayLayout(width, lanes))``
        The oldest row, while ``valid``; a register.
    valid : ``Out(1)``
    take : ``In(1)``
        It is used; while ``valid``. The next one comes two cycles later at the earliest.
    empty : ``Out(1)``
        No row is requested or waiting.
    psum : ``Out(PsumRead(config, lanes))``
        Without its ``group``.
    """

    def __init__(self, *, config, lanes, width):
        self._config = config
        self._lanes = lanes
        self._width = width
        super().__init__({
            "start": In(1),
            "address": In(10),
            "more": In(1),
            "step": Out(1),
            "data": Out(data.ArrayLayout(width, lanes)),
            "valid": Out(1),
            "take": In(1),
            "empty": Out(1),
            "psum": Out(PsumRead(config, lanes)),
        })

    @property
    def config(self):
        return self._config

    def elaborate(self, platform):
        m = Module()

        psum = self.psum
        waiting = Signal(data.ArrayLayout(self._width, self._lanes), reset_less=True)
        waiting_valid = Signal()
        unused = Signal(2)                 # rows requested or here
        # ~valid, for the data: one for each half of the lanes, which initial values keep apart.
        free = [Signal(name=f"free_{half}", init=1 - half) for half in range(2)]
        free_next = (free[0] & ~waiting_valid) | self.take
        # psum.data_valid, for the data of each quarter.
        arrives = spread(m, "arrives", self.step, steps=PSUM_LATENCY, most=4)
        m.d.comb += [
            psum.valid.eq(self.more & (~unused[1] | self.take)),
            self.step.eq(psum.valid & psum.ready),
            self.empty.eq(unused == 0),
        ]
        m.d.sync += unused.eq(unused + self.step - self.take)
        with m.If(self.step):
            m.d.sync += psum.address.eq(psum.address + 1)
        with m.If(self.start):
            m.d.sync += psum.address.eq(self.address)

        # A row waits for a cycle at least, and longer only while the one before is not used.
        m.d.sync += [copy.eq(free_next) for copy in free]
        with m.If(free[0]):
            m.d.sync += [self.valid.eq(waiting_valid), waiting_valid.eq(0)]
        with m.If(self.take):
            m.d.sync += self.valid.eq(0)
        with m.If(psum.data_valid):
            m.d.sync += waiting_valid.eq(1)
        for lane in range(self._lanes):
            with m.If(free[2 * lane // self._lanes]):
                m.d.sync += self.data[lane].eq(waiting[lane])
            with m.If(arrives[4 * lane // self._lanes]):
                m.d.sync += waiting[lane].eq(psum.data[lane])

        return m
