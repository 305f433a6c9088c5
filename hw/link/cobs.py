"""Consistent overhead byte stuffing (COBS): frames without zero bytes, delimited by zeros.

Cheshire, Baker: Consistent Overhead Byte Stuffing, IEEE/ACM Transactions on Networking 7(2), 1999.
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out


__all__ = ["Token", "CobsDecoder", "CobsEncoder"]


_BLOCK = 254
"""Most data bytes behind one code byte."""


class Token(data.Struct):
    """A byte of a frame, or (``end``) the end of the frame: ``byte`` is then 0, and ``error`` set
    if the frame broke off inside a block."""
    byte: 8
    end: 1
    error: 1


class CobsDecoder(wiring.Component):
    """Undo the byte stuffing.

    Latency is 0 cycles (combinational to ``o``), throughput one byte per cycle. Every zero in the
    input gives an end token, so a line that idles with zeros gives empty frames. About 25 LUT
    and 10 FF.

    Members
    -------
    i : ``In(stream.Signature(8, always_ready=True))``
        Bytes as received.
    o : ``Out(stream.Signature(Token, always_ready=True))``
        Bytes of the frames, and their ends.
    """

    i: In(stream.Signature(8, always_ready=True))
    o: Out(stream.Signature(Token, always_ready=True))

    def elaborate(self, platform):
        m = Module()

        left = Signal(8)                        # data bytes to come before the next code byte
        zero = Signal()                         # the finished block stands for a zero as well
        at_code = left == 0
        token = self.o.p
        with m.If(self.i.valid):
            with m.If(self.i.payload == 0):
                m.d.comb += [
                    self.o.valid.eq(1),
                    token.end.eq(1),
                    token.error.eq(~at_code),
                ]
                m.d.sync += left.eq(0)
                m.d.sync += zero.eq(0)
            with m.Elif(at_code):
                m.d.comb += self.o.valid.eq(zero)
                m.d.sync += left.eq(self.i.payload - 1)
                m.d.sync += zero.eq(self.i.payload != _BLOCK + 1)
            with m.Else():
                m.d.comb += self.o.valid.eq(1)
                m.d.comb += token.byte.eq(self.i.payload)
                m.d.sync += left.eq(left - 1)

        return m


class CobsEncoder(wiring.Component):
    """Stuff frames and put a zero behind each.

    One block of up to 254 bytes is collected while the one before is sent, so a source that is
    faster than the sink keeps it busy. Latency is one block and 3 cycles; throughput at most one
    byte in 3 cycles (a UART needs 40). One block RAM, about 100 COMB and 50 FF.

    Members
    -------
    i : ``In(stream.Signature(Token))``
        Bytes of the frames, and their ends; ``error`` is ignored.
    o : ``Out(stream.Signature(8))``
        Bytes to send.
    busy : ``Out(1)``
        A finished block has not been sent yet.
    """

    i: In(stream.Signature(Token))
    o: Out(stream.Signature(8))
    busy: Out(1)

    def elaborate(self, platform):
        m = Module()

        m.submodules.blocks = blocks = Memory(shape=8, depth=512, init=[])
        write = blocks.write_port()
        read = blocks.read_port()

        full = Signal(2)                        # one bit for each half of the memory
        code = Signal(data.ArrayLayout(8, 2))
        final = Signal(2)

        half = Signal()
        count = Signal(8)
        close = Signal()
        token = self.i.p
        m.d.comb += [
            self.i.ready.eq(~full.bit_select(half, 1)),
            write.addr.eq(Cat(count, half)),
            write.data.eq(token.byte),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.comb += close.eq(token.end | (token.byte == 0) | (count == _BLOCK - 1))
            m.d.comb += write.en.eq(1)
            m.d.sync += count.eq(count + 1)
            with m.If(close):
                m.d.sync += [
                    full.bit_select(half, 1).eq(1),
                    final.bit_select(half, 1).eq(token.end),
                    code[half].eq(Mux(token.end | (token.byte == 0), count + 1, _BLOCK + 1)),
                    half.eq(~half),
                    count.eq(0),
                ]

        sending = Signal()
        index = Signal(8)
        byte = Signal(8)
        m.d.comb += [
            read.addr.eq(Cat(index, sending)),
            read.en.eq(0),                      # its default is 1
            self.o.payload.eq(byte),
            self.busy.eq(full.any()),
        ]
        with m.FSM(name="send"):
            with m.State("WAIT_BLOCK"):
                m.d.sync += index.eq(0)
                m.d.sync += byte.eq(code[sending])
                with m.If(full.bit_select(sending, 1)):
                    m.next = "SEND"
            with m.State("FETCH"):
                # The data byte at `index` is at the memory's output after this cycle.
                m.d.comb += read.en.eq(1)
                m.next = "TAKE"
            with m.State("TAKE"):
                m.d.sync += byte.eq(read.data)
                m.d.sync += index.eq(index + 1)
                m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    with m.If(index + 1 != code[sending]):
                        m.next = "FETCH"
                    with m.Elif(final.bit_select(sending, 1)):
                        m.next = "DELIMIT"
                    with m.Else():
                        m.next = "RELEASE"
            with m.State("DELIMIT"):
                m.d.comb += self.o.payload.eq(0)
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "RELEASE"
            with m.State("RELEASE"):
                m.d.sync += full.bit_select(sending, 1).eq(0)
                m.d.sync += sending.eq(~sending)
                m.next = "WAIT_BLOCK"
        return m
