"""Boot master: does what a script in a flash or on a card says, as a host would over the link."""

from amaranth import *
from amaranth.lib import enum, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.boot.scores import BestScore, DIGITS
from hw.boot_layout import BootFault, CHECK_BYTES, message, MESSAGE_LETTERS, MESSAGES, Record
from hw.link.cobs import CobsDecoder
from hw.port import SpiPins
from hw.register import REFUSED, Restart


__all__ = ["BootMaster"]


BLINK_BIT = -4
"""Bit of the timer that an LED follows."""

HEADER_BYTES = 8
"""Of an answer, before its words."""


class _State(enum.Enum):
    START = 0
    RECORD = 1
    BODY = 2
    ANSWER = 3
    HOLD = 4
    SAY = 5
    END = 6
    OVER = 7


class BootMaster(wiring.Component):
    """Read a script (:mod:`hw.boot_layout`) after power-up and carry it out.

    It sits where the host does: while it is ``active`` it gives the bytes of frames, and has those
    of the answers, which go no further; it has the line to itself for text. A host that speaks
    then is not heard, but in a ``PAUSE`` it ends the script. Otherwise the link works as if there
    were no boot master.

    It begins when the memory is ready, unless the host restarted the board. After a watchdog it
    only says so. 341 COMB with the flash, 507 with the card (yosys, ECP5).

    Parameters
    ----------
    source : component
        With ``source: In(BootSource())`` and ``pins: Out(SpiPins())``.
    timeout_bits : int
        Base-2 logarithm of the cycles that the source may take for its first byte, or for a record
        with the answer to its frame, at least 8; a pause takes half as many.

    Members
    -------
    pins : ``Out(SpiPins())``
    active, deaf : ``Out(1)``
        The link is its own; and what the host sends is ignored.
    frame : ``Out(8)``, frame_valid : ``Out(1)``
        Bytes of frames.
    answer : ``In(8)``, answer_valid : ``In(1)``
        Bytes of answers; all of them are taken.
    text : ``Out(stream.Signature(8))``
        Bytes for the line.
    heard : ``In(1)``
        The host has sent a byte.
    memory_ready, core_busy : ``In(1)``, cause : ``In(Restart)``
        The memory can be used; the core runs; of the last restart.
    shows : ``Out(1)``, leds : ``Out(8)``
        The LEDs are these, until the host speaks: a class in decimal, the ones in 0 to 3 and the
        tens in 4 to 6, with LED 7 lit; or a fault (:func:`hw.boot_layout.leds_of`).
    """

    def __init__(self, *, source, timeout_bits):
        if not isinstance(timeout_bits, int) or timeout_bits < 8:
            raise ValueError(f"Timeout bits must be at least 8, not {timeout_bits!r}")
        self._source, self._timeout_bits = source, timeout_bits
        super().__init__({
            "pins": Out(SpiPins()), "active": Out(1), "deaf": Out(1),
            "frame": Out(8), "frame_valid": Out(1), "answer": In(8), "answer_valid": In(1),
            "text": Out(stream.Signature(8)),
            **dict.fromkeys(("heard", "memory_ready", "core_busy"), In(1)),
            "cause": In(Restart), "shows": Out(1), "leds": Out(8),
        })

    @property
    def boots_from(self):
        """The source's name, one of :data:`hw.boot_layout.SOURCES`."""
        return self._source.name

    def elaborate(self, platform):
        m = Module()
        m.submodules.device = device = self._source
        m.submodules.best = best = BestScore()
        m.submodules.decoder = decoder = CobsDecoder()
        wiring.connect(m, device.pins, wiring.flipped(self.pins))
        source, token = device.source, decoder.o
        script = source.bytes
        byte = script.payload

        state = Signal(_State)
        fault, trusted = Signal(BootFault), Signal()    # trusted: a frame was answered
        kind = Signal(4)                        # of the record
        count = Signal(range(len(message(BootFault.HUNG))))
        found = Signal(8 * CHECK_BYTES)         # of an answer
        timer = Signal(self._timeout_bits + 1)
        late = timer[-1]
        taken = script.valid & script.ready
        m.d.sync += timer.eq(timer + 1)
        # A record has as long as its first byte: what broke off, or is no image, may not end.
        with m.If(late | (taken & (state == _State.RECORD))):
            m.d.sync += timer.eq(0)
        m.d.comb += [
            source.go.eq(self.active & (fault == 0)),
            decoder.i.payload.eq(self.answer), decoder.i.valid.eq(self.answer_valid),
            self.frame.eq(byte), best.score.eq(found),
            self.deaf.eq(self.active & (state != _State.HOLD) & (state != _State.END)),
        ]

        shift = Signal()
        with m.If(shift):
            m.d.sync += found.eq(Cat(found[8:], token.p.byte))
        failed, reason = Signal(), Signal(BootFault)
        m.d.comb += reason.eq(Mux(trusted, BootFault.DATA, BootFault.NO_IMAGE))
        with m.Switch(state):
            with m.Case(_State.START):
                m.d.comb += reason.eq(BootFault.HUNG)
                with m.If(self.memory_ready):
                    m.d.sync += state.eq(_State.OVER)
                    with m.If((self.cause != Restart.HOST) & (self.cause != Restart.ABORT)):
                        m.d.sync += [state.eq(_State.RECORD), self.active.eq(1), self.shows.eq(1)]
                        m.d.comb += failed.eq(self.cause == Restart.WATCHDOG)
            with m.Case(_State.RECORD):
                m.d.comb += script.ready.eq(1)
                m.d.sync += [kind.eq(byte), count.eq(0)]
                with m.If(script.valid):
                    m.d.sync += state.eq(_State.BODY)
                    with m.If(byte[2]):
                        m.d.sync += state.eq(_State.HOLD)
                        with m.If(byte[1]):
                            m.d.sync += state.eq(Mux(byte[0], _State.END, _State.SAY))
                    m.d.comb += failed.eq(((byte[:4] ^ byte[4:]) != 15)
                                          | (~trusted & (byte[:3] != 0)))
            with m.Case(_State.BODY):
                m.d.comb += failed.eq(script.valid & timer[-2])
                self._body(m, script, kind, count, found, shift, state, failed, reason)
            with m.Case(_State.ANSWER):
                self._answer(m, token, kind, count, shift, best, state, trusted, failed)
                with m.If(late):
                    m.d.comb += failed.eq(1)
            with m.Case(_State.HOLD):
                with m.If(Mux(kind[0], timer[-2], ~self.core_busy)):
                    m.d.sync += state.eq(_State.RECORD)
                with m.If(kind[0] & self.heard):
                    m.d.sync += state.eq(_State.END)
            with m.Case(_State.SAY):
                self._say(m, fault, count, best, state)
            with m.Case(_State.END):
                m.d.sync += [self.active.eq(0), state.eq(_State.OVER)]

        waiting = (state == _State.RECORD) | (state == _State.BODY)
        m.d.comb += source.late.eq(waiting & late)
        with m.If(failed | (waiting & (source.fault != 0))):
            m.d.sync += [state.eq(_State.SAY), count.eq(0),
                         fault.eq(Mux(source.fault != 0, source.fault, reason))]
        with m.If(self.heard & ~self.active):
            m.d.sync += self.shows.eq(0)
        m.d.comb += self.leds.eq(Mux(fault != 0, Cat(fault, 1, C(0, 3), timer[BLINK_BIT]),
                                     Cat(best.digits[:7], 1)))
        return m

    def _body(self, m, script, kind, count, found, shift, state, failed, reason):
        """Take the body of a record."""
        byte = script.payload
        is_text, is_check, is_frame = kind[:2] == Record.TEXT, kind[1], kind[3]
        taken = script.valid & script.ready
        m.d.comb += [
            script.ready.eq(is_frame | ~is_text | self.text.ready),
            self.text.payload.eq(byte), self.text.valid.eq(~is_frame & is_text & script.valid),
            self.frame_valid.eq(is_frame & script.valid),
        ]
        with m.If(taken & is_check):
            m.d.comb += shift.eq(1)
            m.d.sync += count.eq(count + 1)
            with m.If(count == CHECK_BYTES - 1):
                m.d.sync += state.eq(_State.RECORD)
            with m.If(found[:8] != byte):
                m.d.comb += failed.eq(1)
            with m.If(kind[0]):
                m.d.comb += reason.eq(BootFault.OLD_IMAGE)
        with m.Elif(taken & (byte == 0)):
            m.d.sync += state.eq(Mux(is_frame, _State.ANSWER, _State.RECORD))

    def _answer(self, m, token, kind, count, shift, best, state, trusted, failed):
        """Take an answer: a header, words, and a CRC of as many bytes as ``found`` holds.

        ``count`` goes up to the first byte behind those of ``found``, and on in twos: scores."""
        rest = HEADER_BYTES + CHECK_BYTES
        with m.If(token.valid):
            with m.If(token.p.end):
                m.d.sync += state.eq(_State.RECORD)
            with m.Else():
                m.d.sync += [trusted.eq(1), count.eq(count + 1)]
                with m.If(count == rest + 1):
                    m.d.sync += count.eq(rest)
                with m.If((count < rest) | kind[0]):
                    m.d.comb += shift.eq(1)
                m.d.comb += best.valid.eq((count == rest) & kind[0])
                with m.If(count == 0):
                    m.d.comb += failed.eq((token.p.byte & REFUSED) != 0)

    def _say(self, m, fault, count, best, state):
        """Write the message of a fault, or the digits of a class."""
        digits = [best.digits.word_select(place, 4) for place in reversed(range(DIGITS))]
        # Letters as five bits, 0 for a space.
        letter = Signal(5)
        length = len(message(BootFault.HUNG))
        for reason in MESSAGES:
            said = message(reason)[:MESSAGE_LETTERS]
            with m.If(fault == reason):
                with m.Switch(count):
                    for place, value in enumerate(said[:8]):
                        with m.Case(place, place | 8):
                            m.d.comb += letter.eq(value & 31)
                with m.If(count[3]):
                    m.d.comb += letter.eq(said[8] & 31)
        m.d.comb += [
            best.clear.eq(1), self.text.valid.eq(1),
            self.text.payload.eq(Cat(letter, 1, letter != 0)),
        ]
        for place, value in enumerate(message(BootFault.HUNG)[MESSAGE_LETTERS:], MESSAGE_LETTERS):
            with m.If(count == place):
                m.d.comb += self.text.payload.eq(value)
        last = count == length - 1
        with m.If(fault == 0):
            m.d.comb += self.text.payload.eq(Cat(Array(digits)[count[:2]], C(3, 4)))
        with m.If(self.text.ready):
            m.d.sync += count.eq(count + 1)
            with m.If((fault == 0) & (count[:2] == DIGITS - 1)):
                m.d.sync += state.eq(_State.RECORD)
            with m.If(last):
                m.d.sync += state.eq(_State.END)
