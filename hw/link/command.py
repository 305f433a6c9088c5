"""Command processor: link frames in, memory and register accesses, answers out."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.wiring import In, Out

from hw.link.frame import FrameWord
from hw.port import Memory
from hw.register import (
    FRAME_WORDS,
    Opcode,
    Refusal,
    REFUSED,
    REGISTER_BITS,
    REPLY,
    RUN_BITS,
    SESSION_BITS,
)


__all__ = ["REGISTER_LATENCY", "RegisterBus", "FrameHeader", "AnswerHeader",
           "CommandProcessor"]


REGISTER_LATENCY = 2
"""Cycles from a stable register number to its value."""


class RegisterBus(wiring.Signature):
    """Registers of 32 bits: ``write`` is high for one cycle with address and data; ``read_data``
    belongs to an address that has been there for :data:`REGISTER_LATENCY` cycles, and is what the
    register held in the first of these. In the cycle after ``write``, ``refusal`` is a
    :class:`hw.register.Refusal` if the write had no effect, else 0."""

    def __init__(self):
        super().__init__({
            "address": Out(REGISTER_BITS),
            "write": Out(1),
            "write_data": Out(32),
            "read_data": In(32),
            "refusal": In(Refusal),
        })


class FrameHeader(data.Struct):
    """First word of a request. ``address`` is a memory word or a register number, ``length`` the
    number of words read or written."""
    opcode: 8
    length: 8
    sequence: 16
    address: 32


class AnswerHeader(data.Struct):
    """First word of an answer: that of its request with ``REPLY`` (and ``REFUSED``) set in
    ``opcode``, and in place of the address ``session`` and ``run``, the values of
    ``Register.SESSION`` and ``Register.START`` at that moment. ``length`` of a refused one is a
    :class:`hw.register.Refusal`."""
    opcode: 8
    length: 8
    sequence: 16
    session: SESSION_BITS
    run: RUN_BITS


CRC_BURST = 16
"""Words of a burst of ``CRC_MEMORY``; the queue of the SDRAM holds as many."""


class CommandProcessor(wiring.Component):
    """Execute frames, one after the other, and answer each.

    A write is answered when the memory has taken its last word. A frame with an unknown opcode
    or a length that is 0, above ``FRAME_WORDS`` or not that of the frame is answered with
    ``REFUSED`` (when a write turns out too short or too long, the words up to there have been
    written); so is an access to a memory that is not ready, and a write that a register refuses,
    whose frame ends there. Memory is read and written in bursts of one word, so the core behind
    the same memory never waits for the slow link; ``CRC_MEMORY`` takes bursts of
    :data:`CRC_BURST`, and a byte each cycle.

    Throughput is one word in 3 cycles and the memory's latency, 4 cycles for registers. 562
    COMB and 165 FF.

    Members
    -------
    i : ``In(stream.Signature(FrameWord))``
        Requests.
    o : ``Out(stream.Signature(FrameWord))``
        Answers.
    memory : ``Out(Memory())``
        Port of the memory.
    memory_ready : ``In(1)``
        The memory can be used.
    registers : ``Out(RegisterBus())``
        Port of the registers.
    session : ``In(24)``, run : ``In(8)``
        For the header of answers.
    busy : ``Out(1)``
        A frame is being executed.
    """

    i: In(stream.Signature(FrameWord))
    o: Out(stream.Signature(FrameWord))
    memory: Out(Memory())
    memory_ready: In(1)
    registers: Out(RegisterBus())
    session: In(SESSION_BITS)
    run: In(RUN_BITS)
    busy: Out(1)

    def elaborate(self, platform):
        m = Module()

        request = Signal(data.StructLayout({"opcode": 8, "length": 8, "sequence": 16}))
        refused = Signal()
        refusal = Signal(Refusal)
        address = Signal(24)
        left = Signal(24)
        last = Signal()
        result = Signal(32)                     # of a register, or the CRC

        is_write = request.opcode[0]
        is_register = request.opcode[1]
        is_crc = request.opcode[2]
        command = self.memory.commands.p
        m.d.comb += [
            command.address.eq(address),
            command.length.eq(1),
            command.write.eq(is_write & ~is_crc),
            self.memory.w_data.payload.eq(self.i.p.data),
            self.registers.address.eq(address),
            self.registers.write_data.eq(self.i.p.data),
        ]
        with m.If(is_crc):
            m.d.comb += command.length.eq(Mux(left[:4] == 0, CRC_BURST, left[:4]))

        with m.If(self.i.ready):
            m.d.sync += last.eq(self.i.p.last)
        with m.FSM(name="execute") as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("HEADER"))
            self._receive(m, request, address, left, refused, refusal)
            self._write(m, is_register, address, left, last, refused, refusal)
            crc = self._check(m, address, left, refused)
            self._answer(m, request, refused, refusal, is_write, is_crc, result, crc)
            self._read(m, is_register, address, left, result)

        return m

    def _receive(self, m, request, address, left, refused, refusal):
        """States that take a header, or the rest of a frame that is refused."""
        header = FrameHeader(self.i.p.data)
        with m.State("HEADER"):
            m.d.comb += self.i.ready.eq(1)
            m.d.sync += [
                request.as_value().eq(self.i.p.data),
                address.eq(header.address),
                left.eq(header.length),
                refused.eq(0),
                refusal.eq(Refusal.MALFORMED),
            ]
            with m.If(self.i.valid):
                is_crc = header.opcode == Opcode.CRC_MEMORY
                known = (header.opcode[2:] == Opcode.READ_MEMORY >> 2) | is_crc
                fits = (header.length != 0) & (header.length <= FRAME_WORDS)
                fits &= ~is_crc | (header.length == 1)
                malformed = ~known | ~fits | (header.opcode[0] == self.i.p.last)
                m.next = "ANSWER"
                with m.If(malformed | (~header.opcode[1] & ~self.memory_ready)):
                    m.d.sync += refused.eq(1)
                    m.d.sync += refusal.eq(
                        Mux(malformed, Refusal.MALFORMED, Refusal.NOT_READY))
                    with m.If(~self.i.p.last):
                        m.next = "DROP"
                with m.Elif(is_crc):
                    m.next = "COUNT"
                with m.Elif(header.opcode[0]):
                    m.next = "WRITE"
        with m.State("DROP"):
            m.d.comb += self.i.ready.eq(1)
            with m.If(self.i.valid & self.i.p.last):
                m.next = "ANSWER"

    def _write(self, m, is_register, address, left, last, refused, refusal):
        """States that write the words of a frame."""
        with m.State("WRITE"):
            # Wait for the word before the command: an open burst holds up the core.
            with m.If(self.i.valid):
                with m.If(is_register):
                    m.d.comb += self.registers.write.eq(1)
                    m.d.comb += self.i.ready.eq(1)
                    m.next = "NEXT_WRITE"
                with m.Else():
                    m.d.comb += self.memory.commands.valid.eq(1)
                    with m.If(self.memory.commands.ready):
                        m.next = "WRITE_WORD"
        with m.State("WRITE_WORD"):
            m.d.comb += [
                self.memory.w_data.valid.eq(self.i.valid),
                self.i.ready.eq(self.memory.w_data.ready),
            ]
            with m.If(self.memory.w_data.ready):
                m.next = "NEXT_WRITE"
        with m.State("NEXT_WRITE"):
            m.d.sync += address.eq(address + 1)
            m.d.sync += left.eq(left - 1)
            m.next = "WRITE"
            stop = is_register & (self.registers.refusal != 0)
            with m.If(last | (left == 1) | stop):
                m.d.sync += refused.eq(~last | (left != 1) | stop)
                with m.If(stop):
                    m.d.sync += refusal.eq(self.registers.refusal)
                m.next = "ANSWER"
                with m.If(~last):
                    m.next = "DROP"

    def _check(self, m, address, left, refused):
        """States that read memory for its CRC, which they return."""
        m.submodules.crc = crc = CRC32_ISO_HDLC(data_width=8).create()
        index = Signal(3)
        taken = Signal()
        m.d.sync += [
            # A register between the memory and the CRC.
            crc.data.eq(self.memory.r_data.payload.word_select(index, 8)),
            crc.valid.eq(taken),
        ]
        with m.State("COUNT"):
            m.d.comb += [self.i.ready.eq(1), crc.start.eq(1)]
            m.d.sync += left.eq(self.i.p.data)
            with m.If(self.i.valid):
                m.next = "CRC"
                with m.If(~self.i.p.last | (self.i.p.data[:24] == 0)):
                    m.d.sync += refused.eq(1)
                    m.next = "ANSWER"
                with m.If(~self.i.p.last):
                    m.next = "DROP"
        with m.State("CRC"):
            m.d.comb += self.memory.commands.valid.eq(1)
            with m.If(self.memory.commands.ready):
                m.next = "CRC_WORD"
        with m.State("CRC_WORD"):
            m.d.comb += taken.eq(self.memory.r_data.valid)
            with m.If(taken):
                m.d.sync += index.eq(index + 1)
                with m.If(index == 7):
                    m.d.comb += self.memory.r_data.ready.eq(1)
                    m.d.sync += [address.eq(address + 1), left.eq(left - 1)]
                    with m.If(left[:4] == 1):
                        m.next = "CRC"
                        with m.If(left[4:] == 0):
                            m.next = "CRC_END"
        with m.State("CRC_END"):
            m.d.sync += left.eq(1)
            m.next = "ANSWER"
        return crc.crc

    def _answer(self, m, request, refused, refusal, is_write, is_crc, result, crc):
        """State that sends the header of the answer."""
        with m.State("ANSWER"):
            answer = AnswerHeader(self.o.p.data)
            m.d.comb += [
                answer.opcode.eq(request.opcode | REPLY | Mux(refused, REFUSED, 0)),
                answer.length.eq(Mux(refused, refusal, request.length)),
                answer.sequence.eq(request.sequence),
                answer.session.eq(self.session),
                answer.run.eq(self.run),
                self.o.p.last.eq(refused | (is_write & ~is_crc)),
                self.o.valid.eq(1),
            ]
            m.d.sync += result.eq(crc)
            with m.If(self.o.ready):
                m.next = "READ"
                with m.If(is_crc):
                    m.next = "SEND_RESULT"
                with m.If(self.o.p.last):
                    m.next = "HEADER"

    def _read(self, m, is_register, address, left, result):
        """States that read words, or have a CRC, and send them."""
        wait = Signal(range(REGISTER_LATENCY + 1))
        with m.State("READ"):
            m.d.sync += wait.eq(REGISTER_LATENCY)
            with m.If(is_register):
                m.next = "READ_REGISTER"
            with m.Else():
                m.d.comb += self.memory.commands.valid.eq(1)
                with m.If(self.memory.commands.ready):
                    m.next = "READ_WORD"
        with m.State("READ_REGISTER"):
            m.d.sync += wait.eq(wait - 1)
            m.d.sync += result.eq(self.registers.read_data)
            with m.If(wait == 0):
                m.next = "SEND_RESULT"
        with m.State("SEND_RESULT"):
            m.d.comb += [
                self.o.p.data.eq(result),
                self.o.p.last.eq(left == 1),
                self.o.valid.eq(1),
            ]
            with m.If(self.o.ready):
                m.next = "NEXT_READ"
        with m.State("READ_WORD"):
            m.d.comb += [
                self.o.p.data.eq(self.memory.r_data.payload),
                self.o.p.last.eq(left == 1),
                self.o.valid.eq(self.memory.r_data.valid),
                self.memory.r_data.ready.eq(self.o.ready),
            ]
            with m.If(self.o.valid & self.o.ready):
                m.next = "NEXT_READ"
        with m.State("NEXT_READ"):
            m.d.sync += address.eq(address + 1)
            m.d.sync += left.eq(left - 1)
            m.next = "READ"
            with m.If(left == 1):
                m.next = "HEADER"
