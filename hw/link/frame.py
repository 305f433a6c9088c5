"""Frames of 64-bit words, guarded by a CRC-32, over a byte stream.

On the line a frame is ``COBS(words, little endian | CRC-32 of them, little endian) 0x00``.
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.lib.skid_buffer import SkidBuffer
from hw.link.cobs import CobsDecoder, CobsEncoder


__all__ = ["FrameWord", "FrameReceiver", "FrameTransmitter"]


class FrameWord(data.Struct):
    """A word of a frame; ``last`` marks the frame's last one."""
    data: 64
    last: 1


class FrameReceiver(wiring.Component):
    """Pass on the words of intact frames.

    A frame is stored whole and appears at ``o`` only after its CRC matched. Two frames of up to
    127 words fit; a frame that finds no room, is cut short, too long, no whole number of words or
    fails its CRC leaves no trace but a pulse of ``error``.

    Latency is 12 cycles from the delimiter to the first word, throughput one word in 10 cycles.
    One block RAM (2048 x 8), 313 COMB and 183 FF.

    Members
    -------
    i : ``In(stream.Signature(8, always_ready=True))``
        Bytes as received.
    o : ``Out(stream.Signature(FrameWord))``
        Words of intact frames.
    error : ``Out(1)``
        High for a cycle when a frame was dropped.
    busy : ``Out(1)``
        An intact frame has not been read to its end.
    """

    i: In(stream.Signature(8, always_ready=True))
    o: Out(stream.Signature(FrameWord))
    error: Out(1)
    busy: Out(1)

    def elaborate(self, platform):
        m = Module()

        m.submodules.decoder = decoder = CobsDecoder()
        m.submodules.crc = crc = CRC32_ISO_HDLC(data_width=8).create()
        m.submodules.frames = frames = Memory(shape=8, depth=2048, init=[])
        write = frames.write_port()
        read = frames.read_port()
        wiring.connect(m, wiring.flipped(self.i), decoder.i)

        full = Signal(2)                        # one bit for each half of the memory
        words = Signal(data.ArrayLayout(7, 2))

        half = Signal()
        count = Signal(10)
        bad = Signal()
        # A cycle late: decoding a byte and judging a frame are each long enough for one.
        token = Signal(decoder.o.p.shape())
        token_valid = Signal()
        m.d.sync += [token.eq(decoder.o.p), token_valid.eq(decoder.o.valid)]
        room = ~full.bit_select(half, 1)
        m.d.comb += [
            write.addr.eq(Cat(count, half)),
            write.data.eq(token.byte),
            crc.data.eq(token.byte),
        ]
        with m.If(token_valid):
            with m.If(token.end):
                m.d.comb += crc.start.eq(1)
                m.d.sync += count.eq(0)
                m.d.sync += bad.eq(0)
                with m.If(crc.match_detected & ~bad & ~token.error & (count[:3] == 4)
                          & (count[3:] != 0)):
                    m.d.sync += [
                        full.bit_select(half, 1).eq(1),
                        words[half].eq(count[3:]),
                        half.eq(~half),
                    ]
                with m.Else():
                    m.d.comb += self.error.eq((count != 0) | token.error)
            with m.Else():
                m.d.comb += crc.valid.eq(1)
                m.d.comb += write.en.eq(room)
                m.d.sync += count.eq(count + 1)
                with m.If(~room | count.all()):
                    m.d.sync += bad.eq(1)

        reading = Signal()
        index = Signal(10)
        left = Signal(7)
        word = Signal(64)
        arrived = Signal()
        m.d.comb += [
            read.addr.eq(Cat(index, reading)),
            read.en.eq(0),                      # its default is 1
            self.o.p.data.eq(word),
            self.o.p.last.eq(left == 1),
            self.busy.eq(full.any()),
        ]
        m.d.sync += arrived.eq(read.en)
        with m.If(arrived):
            m.d.sync += word.eq(Cat(word[8:], read.data))
        with m.FSM(name="read"):
            with m.State("WAIT_FRAME"):
                m.d.sync += index.eq(0)
                m.d.sync += left.eq(words[reading])
                with m.If(full.bit_select(reading, 1)):
                    m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += read.en.eq(1)
                m.d.sync += index.eq(index + 1)
                with m.If(index[:3] == 7):
                    m.next = "TAKE"
            with m.State("TAKE"):
                m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.d.sync += left.eq(left - 1)
                    m.next = "FETCH"
                    with m.If(left == 1):
                        m.d.sync += full.bit_select(reading, 1).eq(0)
                        m.d.sync += reading.eq(~reading)
                        m.next = "WAIT_FRAME"

        return m


class FrameTransmitter(wiring.Component):
    """Send frames of words, with their CRC.

    Throughput is one word in 9 cycles where ``o`` takes a byte in 3, else what ``o`` takes. One
    block RAM (in the COBS encoder), 339 COMB and 179 FF.

    Members
    -------
    i : ``In(stream.Signature(FrameWord))``
        Words of frames of any length.
    o : ``Out(stream.Signature(8))``
        Bytes to send.
    busy : ``Out(1)``
        A frame is being sent.
    """

    i: In(stream.Signature(FrameWord))
    o: Out(stream.Signature(8))
    busy: Out(1)

    def elaborate(self, platform):
        m = Module()

        m.submodules.crc = crc = CRC32_ISO_HDLC(data_width=8).create()
        m.submodules.encoder = encoder = CobsEncoder()
        wiring.connect(m, encoder.o, wiring.flipped(self.o))
        # The encoder lies at its block RAM, the rest where the answers come from.
        m.submodules.stage = stage = SkidBuffer(encoder.i.payload.shape())
        wiring.connect(m, stage.o, encoder.i)

        word = Signal(64)
        last = Signal()
        left = Signal(3)
        token = stage.i.p
        sent = stage.i.ready
        m.d.comb += [
            token.byte.eq(word[:8]),
            crc.data.eq(word[:8]),
        ]
        with m.If(stage.i.valid & sent):
            m.d.sync += word.eq(word >> 8)
            m.d.sync += left.eq(left - 1)
        with m.FSM(name="send") as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("IDLE") | stage.o.valid | encoder.busy)
            with m.State("IDLE"):
                m.d.comb += crc.start.eq(1)
                with m.If(self.i.valid):
                    m.next = "WORD"
            with m.State("WORD"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [
                    word.eq(self.i.p.data),
                    last.eq(self.i.p.last),
                    left.eq(7),
                ]
                with m.If(self.i.valid):
                    m.next = "BYTES"
            with m.State("BYTES"):
                m.d.comb += stage.i.valid.eq(1)
                m.d.comb += crc.valid.eq(sent)
                with m.If(sent & (left == 0)):
                    m.next = "WORD"
                    with m.If(last):
                        m.next = "CRC"
            with m.State("CRC"):
                m.d.sync += left.eq(3)
                m.next = "CRC_BYTES"
            with m.State("CRC_BYTES"):
                m.d.comb += stage.i.valid.eq(1)
                m.d.comb += token.byte.eq(crc.crc.word_select(~left[:2], 8))
                with m.If(sent & (left == 0)):
                    m.next = "END"
            with m.State("END"):
                m.d.comb += stage.i.valid.eq(1)
                m.d.comb += token.end.eq(1)
                with m.If(sent):
                    m.next = "IDLE"

        return m
