"""Tests of all of a memory at full speed, see :class:`hw.register.MemoryTest`."""

from typing import NamedTuple

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.port import MemoryCommand
from hw.register import MEMORY_TEST_BITS, MemoryTest
from hw.sdram_config import DATA_BITS


__all__ = ["SdramMemoryTest"]


BURST = 16
"""Words of a burst, where every pin shall switch."""

QUIET_BITS = 9
"""Base-2 logarithm of the cycles without an access before a test begins."""

SCATTER = 3
"""Distance of the index bits that are added for a scattered order."""


class _Pass(NamedTuple):
    """One way through the memory."""
    number: Signal
    reads: Signal
    writes: Signal
    both: Signal        # each word is read, then written
    down: Signal
    scattered: Signal
    long: Signal        # bursts of BURST words; else single ones
    last: Signal


class SdramMemoryTest(wiring.Component):
    """Commands of the tests, and the count of what came back wrong.

    The data lie elsewhere (:class:`hw.sdram.calibration.SdramCalibration`), for they are those of
    the calibration, too: a pattern, which ``load`` sets to ``fill`` in every bit (to a random word
    if ``step``) and which then changes with every word if ``step``. A word is twice the pattern's
    16 lower bits and twice the 16 upper ones, the second of each inverted if ``invert``. Words read
    are compared with the inverse of all that if ``flip``.

    ``MARCH`` is March C- with whole words: (w0), up (r0 w1), up (r1 w0), down (r0 w1),
    down (r1 w0), (r0), each word read and written before the next one. Commands and words are
    pipelined: nothing waits for the answer. A test begins once no access has been seen for a while.

    Parameters
    ----------
    words_bits : int
        Base-2 logarithm of the words that every part has.
    optional : bool
        Some parts have twice the words.

    Members
    -------
    start, test, status, errors, address, pins
        As in :class:`hw.port.MemoryTests`; NONE and unknown tests do nothing.
    ready : ``In(1)``
        The memory can be used.
    quiet : ``In(1)``
        Nobody uses it now.
    larger : ``In(1)``
        It has twice the words.
    active : ``Out(1)``
        Commands and data are the test's.
    command : ``Out(MemoryCommand)``, command_valid : ``Out(1)``, command_ready : ``In(1)``
    writing : ``Out(1)``, written : ``In(1)``
        A word is offered; it is taken.
    load, fill, step, invert, flip : ``Out(1)``
        See above.
    compared : ``In(1)``, wrong : ``In(16)``
        A word was read; the data pins that were wrong.
    """

    def __init__(self, *, words_bits, optional):
        self._words_bits = words_bits
        self._optional = int(optional)
        super().__init__({
            "start": In(1), "test": In(3),
            "status": Out(data.StructLayout(MEMORY_TEST_BITS)),
            "errors": Out(32), "address": Out(24), "pins": Out(DATA_BITS),
            "ready": In(1), "quiet": In(1), "larger": In(1),
            "active": Out(1),
            "command": Out(MemoryCommand), "command_valid": Out(1), "command_ready": In(1),
            "writing": Out(1), "written": In(1),
            "load": Out(1), "fill": Out(1), "step": Out(1), "invert": Out(1), "flip": Out(1),
            "compared": In(1), "wrong": In(DATA_BITS),
        })

    def elaborate(self, platform):
        m = Module()
        bits = self._words_bits + self._optional
        now = self._pass(m)
        index = Signal(bits + 1)
        asked = Signal(range(32 * BURST))       # words on their way back
        sent = Signal.like(asked)
        second = Signal()                       # of a word that is read, then written
        done = Signal()
        large = self.larger if self._optional else C(0)
        m.d.comb += [
            done.eq(Mux(large, index[-1], index[self._words_bits])),
            self.command.address.eq(self._place(index, now.scattered, now.down)),
            self.command.length.eq(Mux(now.long, BURST, 1)),
            self.command.write.eq(now.writes & (~now.reads | second)),
        ]
        m.d.sync += asked.eq(asked + sent - (self.active & self.compared))

        begin = Signal()
        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.start & self.ready & (self.test != MemoryTest.NONE)
                          & (self.test <= MemoryTest.SWITCHING)):
                    m.d.comb += begin.eq(1)
                    m.d.sync += [
                        self.status.running.eq(1), self.status.ended.eq(0),
                        self.status.test.eq(self.test), now.number.eq(0), index.eq(0),
                    ]
                    m.next = "QUIET"
            with m.State("QUIET"):
                m.d.sync += index.eq(Mux(self.quiet, index + 1, 0))
                with m.If(index[min(QUIET_BITS, bits)]):
                    m.d.sync += self.active.eq(1)
                    m.next = "BEGIN"
            with m.State("BEGIN"):
                m.d.comb += self.load.eq(1)
                m.d.sync += [index.eq(0), second.eq(0)]
                m.next = "COMMAND"
            with m.State("COMMAND"):
                m.d.comb += self.command_valid.eq(~done & (asked < 16 * BURST))
                with m.If(done):
                    m.next = "DRAIN"
                with m.Elif(self.command_valid & self.command_ready):
                    with m.If(self.command.write):
                        m.next = "WRITE"
                    with m.Else():
                        m.d.comb += sent.eq(self.command.length)
                        m.d.sync += second.eq(now.both)
                        with m.If(~now.both):
                            m.d.sync += index.eq(index + self.command.length[:5])
            with m.State("WRITE"):
                m.d.comb += self.writing.eq(1)
                with m.If(self.written):
                    m.d.sync += [index.eq(index + 1), second.eq(0)]
                    with m.If(~now.long | index[:4].all()):
                        m.next = "COMMAND"
            with m.State("DRAIN"):
                with m.If(asked == 0):
                    m.d.sync += now.number.eq(now.number + 1)
                    m.next = "BEGIN"
                    with m.If(now.last):
                        m.d.sync += [self.active.eq(0), self.status.running.eq(0),
                                     self.status.ended.eq(1)]
                        m.next = "IDLE"
        self._count(m, now, begin, large)
        return m

    def _count(self, m, now, begin, large):
        """Errors. The index of the words that come back stops at the first that is wrong."""
        every, bits = self._words_bits, self._words_bits + self._optional
        found, found_down = Signal(), Signal()
        count = Signal(bits + 3)        # needs no limit: a word is read five times at most
        back = Signal(bits)
        with m.If(begin):
            m.d.sync += [found.eq(0), count.eq(0), self.pins.eq(0), found_down.eq(0)]
        with m.If(self.load & ~found):
            m.d.sync += back.eq(0)
        with m.If(self.active & self.compared):
            m.d.sync += [self.pins.eq(self.pins | self.wrong),
                         count.eq(count + self.wrong.any())]
            with m.If(~found):
                m.d.sync += [found.eq(self.wrong.any()), found_down.eq(now.down)]
                with m.If(~self.wrong.any()):
                    m.d.sync += back.eq(back + 1)
        place = self._place(back, now.scattered, found_down)
        m.d.comb += [
            self.errors.eq(count),
            self.address.eq(Cat(place[:every], place[every:] & large)),
        ]

    def _pass(self, m):
        """What the current way through the memory does."""
        number, test = Signal(3), self.status.test
        now = _Pass(number, *(Signal(name=name) for name in _Pass._fields[1:]))
        march = Signal()
        m.d.comb += [
            march.eq(test == MemoryTest.MARCH),
            now.scattered.eq(test == MemoryTest.RANDOM),
            now.long.eq(test == MemoryTest.SWITCHING),
            now.reads.eq(number != 0),
            now.last.eq(Mux(march, number == 5, number == 1)),
            now.writes.eq(~now.last),
            now.both.eq(now.reads & now.writes),
            now.down.eq(march & ((number == 3) | (number == 4))),
            self.step.eq(now.scattered), self.invert.eq(~march),
            self.fill.eq(march & number[0] & ~now.last), self.flip.eq(now.both),
        ]
        return now

    def _place(self, index, scattered, down):
        """Word address of an index: each one once. The optional bit is the highest."""
        every, bits = self._words_bits, self._words_bits + self._optional
        mixed = index[:every] ^ index[SCATTER:every]
        return Mux(scattered, Cat(mixed[::-1], index[every:bits]),
                   index[:bits] ^ down.replicate(bits))
