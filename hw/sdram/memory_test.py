"""Tests of all of a memory at full speed, see :class:`hw.register.MemoryTest`."""

from amaranth import *
from amaranth.lib import data, fifo, wiring
from amaranth.lib.wiring import In, Out

from hw.register import MEMORY_TEST_BITS, MEMORY_TEST_COUNT_BITS, MemoryTest
from hw.sdram_config import DATA_BITS


__all__ = ["SdramMemoryTest", "LONG_BURST"]


LONG_BURST = 16
"""Words of a burst, where every pin shall switch."""

QUIET_BITS = 9
"""Base-2 logarithm of the cycles without an access before a test begins."""

COMMANDS = 16
"""Bursts that are read at most before the first of them is back."""


class SdramMemoryTest(wiring.Component):
    """Commands of the tests, and the count of what came back wrong.

    Places and data lie elsewhere (:func:`hw.sdram.pattern.connect_ports`), for they are those of
    the calibration, too.

    ``MARCH`` is March C- with whole words: (w0), up (r0 w1), up (r1 w0), down (r0 w1),
    down (r1 w0), up (r0), each word read and written before the next one. Commands and words are
    pipelined: nothing waits for the answer. A test begins once no access has been seen for a while.

    Parameters
    ----------
    address_bits : int
        Width of a place.

    Members
    -------
    start, test, status, errors, address, pins
        As in :class:`hw.port.MemoryTests`; NONE and unknown tests do nothing. Before the first
        test, ``pins`` are those that were wrong in every word read: each has both values in a word
        of the calibration, so that a pin that is stuck or open stays.
    ready : ``In(1)``
        The memory can be used.
    quiet : ``In(1)``
        Nobody uses it now.
    active : ``Out(1)``
        Commands and data are the test's.
    place : ``In(address_bits)``
        Where a burst begins; 0 before a test.
    round : ``In(1)``
        That is where a round of steps begins and ends: 0, or all bits 1 if ``down``.
    following : ``Out(1)``
        A step to the next place.
    scattered, down, long : ``Out(1)``
        It is a place far away, the one below, the one of the next long burst; else the one above.
        ``scattered`` is high without a test, too.
    command_valid : ``Out(1)``, command_ready : ``In(1)``, write : ``Out(1)``
    writing : ``Out(1)``, written : ``In(1)``
        A word is offered; it is taken.
    load, fill : ``Out(1)``
        The pattern begins again: ``fill`` in every bit, but random ones if ``scattered``.
    plain, flip : ``Out(1)``
        Transfers are not inverted in turn; what is written is inverted.
    compared : ``In(1)``, wrong : ``In(16)``
        A word was read; the data pins that were wrong.
    """

    def __init__(self, *, address_bits):
        super().__init__({
            "start": In(1), "test": In(3),
            "status": Out(data.StructLayout(MEMORY_TEST_BITS)),
            "errors": Out(32), "address": Out(24), "pins": Out(DATA_BITS, init=-1),
            "ready": In(1), "quiet": In(1), "active": Out(1),
            "place": In(address_bits), "round": In(1), "following": Out(1),
            "scattered": Out(1), "down": Out(1), "long": Out(1),
            "command_valid": Out(1), "command_ready": In(1), "write": Out(1),
            "writing": Out(1), "written": In(1),
            "load": Out(1), "fill": Out(1), "plain": Out(1), "flip": Out(1),
            "compared": In(1), "wrong": In(DATA_BITS),
        })

    def elaborate(self, platform):
        m = Module()
        number = Signal(3)      # of the way through the memory
        first, last, both, turns = Signal(), Signal(), Signal(), Signal()
        march, test = self.plain, self.status.test
        m.d.comb += [
            march.eq(test == MemoryTest.MARCH),
            self.long.eq(test == MemoryTest.SWITCHING),
            self.scattered.eq(~march & ~self.long),
            first.eq(number == 0),
            last.eq(Mux(march, number == 5, number == 1)),
            both.eq(~first & ~last),
            self.down.eq(march & ((number == 3) | (number == 4))),
            turns.eq(march & number[0] & (number != 1)),    # up to down, or down to up
            self.fill.eq(march & ~number[0] & ~first),
            self.flip.eq(both),
        ]

        # Bursts on their way back. One of several words is always LONG_BURST long, and aligned.
        m.submodules.asked = asked = fifo.SyncFIFO(width=len(self.place), depth=COMMANDS)
        offset = Signal(range(LONG_BURST))
        word, burst_ends = Signal(), Signal()
        second = Signal()       # of a place that is read, then written
        moved, done, begin = Signal(), Signal(), Signal()
        m.d.comb += [
            self.write.eq(first | second),
            done.eq(moved & self.round),
            asked.w_data.eq(self.place),
            burst_ends.eq(~self.long | offset.all()),
            asked.r_en.eq(self.active & self.compared & burst_ends),
        ]
        with m.If(self.long & word):
            m.d.sync += offset.eq(offset + 1)
        with m.If(self.following):
            m.d.sync += moved.eq(1)

        quiet_counts, quiet_broken = Signal(), Signal()
        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.start & self.ready & (self.test != MemoryTest.NONE)
                          & (self.test <= MemoryTest.SWITCHING)):
                    m.d.comb += begin.eq(1)
                    m.d.sync += [self.status.running.eq(1), self.status.ended.eq(0),
                                 self.status.test.eq(self.test), number.eq(0)]
                    m.next = "QUIET"
            with m.State("QUIET"):
                m.d.comb += [quiet_counts.eq(1), quiet_broken.eq(~self.quiet)]
                with m.If(self.errors[QUIET_BITS]):
                    m.d.comb += quiet_broken.eq(1)
                    m.d.sync += self.active.eq(1)
                    m.next = "BEGIN"
            with m.State("BEGIN"):
                # After a change of direction, the last place is the first one.
                m.d.comb += [self.load.eq(1), self.following.eq(turns)]
                m.d.sync += moved.eq(0)
                m.next = "COMMAND"
            with m.State("COMMAND"):
                m.d.comb += self.command_valid.eq(~done & asked.w_rdy)
                with m.If(done):
                    m.next = "DRAIN"
                with m.Elif(self.command_valid & self.command_ready):
                    with m.If(self.write):
                        m.next = "WRITE"
                    with m.Else():
                        m.d.comb += [asked.w_en.eq(1), self.following.eq(~both)]
                        m.d.sync += second.eq(both)
            with m.State("WRITE"):
                m.d.comb += self.writing.eq(1)
                with m.If(self.written & burst_ends):
                    m.d.comb += self.following.eq(1)
                    m.d.sync += second.eq(0)
                    m.next = "COMMAND"
            with m.State("DRAIN"):
                with m.If(~asked.r_rdy):
                    m.d.sync += number.eq(number + 1)
                    m.next = "BEGIN"
                    with m.If(last):
                        m.d.sync += [self.active.eq(0), self.status.running.eq(0),
                                     self.status.ended.eq(1)]
                        m.next = "IDLE"
        m.d.comb += word.eq(Mux(first, self.writing & self.written, self.active & self.compared))

        # Errors. Their counter measures the quiet time, too.
        count = Signal(MEMORY_TEST_COUNT_BITS)
        found, failed = Signal(), Signal()
        m.d.comb += [failed.eq(self.active & self.compared & self.wrong.any()),
                     self.errors.eq(count)]
        with m.If(begin | quiet_broken):
            m.d.sync += [count.eq(0), found.eq(0), self.pins.eq(0), self.address.eq(0)]
        with m.Else():
            with m.If(quiet_counts | (failed & ~count.all())):
                m.d.sync += count.eq(count + 1)
            with m.If(self.compared):
                m.d.sync += self.pins.eq(Mux(self.active, self.pins | self.wrong,
                                             self.pins & self.wrong))
        with m.If(failed):
            m.d.sync += found.eq(1)
            with m.If(~found):
                m.d.sync += self.address.eq(asked.r_data | offset)
        return m
