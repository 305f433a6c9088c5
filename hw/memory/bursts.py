"""Walk rows of memory words as bursts, for the units that move them."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import BURST_WORDS
from hw.port import Memory


__all__ = ["Bursts"]



class Bursts(wiring.Component):
    """Walk rows of memory words as bursts of at most :data:`hw.config.BURST_WORDS`.

    ``start`` (with the row geometry held until ``busy`` falls) begins; one burst is offered at a
    time, and a burst never crosses the end of a row. Four cycles from one burst to the next, so
    that every decision starts and ends in a register. ``taken`` tells, a cycle late, that a burst
    of ``words`` was accepted; ``allow`` is looked at two cycles after it at the earliest.
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
            "words": Out(range(BURST_WORDS + 1)),
            "taken": Out(1),
            "commands": Out(Memory().members["commands"].signature),
        })

    def elaborate(self, platform):
        m = Module()
        row = Signal(24)
        address = Signal(24)
        left = Signal(16)
        rows = Signal(16)
        measure = Signal()    # find out how long the burst is
        offer = Signal()      # ... and ask for it as soon as that is allowed
        row_last = Signal()   # it is the last one of its row
        rows_last = Signal()  # ... and that row the last
        command = self.commands
        m.d.comb += [
            command.payload.address.eq(address),
            command.payload.length.eq(self.words),
            command.payload.write.eq(self.write),
        ]
        m.d.sync += [
            self.taken.eq(command.valid & command.ready),
            measure.eq(self.start | (self.taken & ~(row_last & rows_last))),
        ]
        with m.If(command.ready):
            m.d.sync += command.valid.eq(0)
        with m.If(measure):
            m.d.sync += [
                self.words.eq(Mux(left > BURST_WORDS, BURST_WORDS, left)),
                row_last.eq(left <= BURST_WORDS), rows_last.eq(rows == 1), offer.eq(1),
            ]
        with m.If(offer & self.allow):
            m.d.sync += [command.valid.eq(1), offer.eq(0)]
        with m.If(self.start):
            m.d.sync += [
                self.busy.eq(1), row.eq(self.address), address.eq(self.address),
                left.eq(self.length), rows.eq(self.count),
            ]
        with m.Elif(self.taken):
            m.d.sync += [address.eq(address + BURST_WORDS), left.eq(left - BURST_WORDS)]
            with m.If(row_last):
                m.d.sync += [
                    row.eq(row + self.stride), address.eq(row + self.stride),
                    left.eq(self.length), rows.eq(rows - 1),
                ]
                with m.If(rows_last):
                    m.d.sync += self.busy.eq(0)
        return m
