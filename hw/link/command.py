"""Command processor: link frames in, memory and register accesses, answers out."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.link.frame import FrameWord
from hw.port import Memory
from hw.register import FRAME_WORDS, Opcode, REFUSED, REGISTER_BITS, REPLY


__all__ = ["REGISTER_LATENCY", "RegisterBus", "FrameHeader", "CommandProcessor"]


REGISTER_LATENCY = 2
"""Cycles from a stable register number to its value."""


class RegisterBus(wiring.Signature):
    """Registers of 32 bits: ``write`` is high for one cycle with address and data; ``read_data``
    belongs to an address that has been there for :data:`REGISTER_LATENCY` cycles, and is what the
    register held in the first of these."""

    def __init__(self):
        super().__init__({
            "address": Out(REGISTER_BITS),
            "write": Out(1),
            "write_data": Out(32),
            "read_data": In(32),
        })


class FrameHeader(data.Struct):
    """First word of every frame, either way. ``address`` is a memory word or a register number,
    ``length`` the number of words read or written; an answer repeats the header of its request
    with ``REPLY`` (and ``REFUSED``) set in ``opcode``."""
    opcode: 8
    length: 8
    sequence: 16
    address: 32


class CommandProcessor(wiring.Component):
    """Execute frames, one after the other, and answer each.

    A write is answered when the memory has taken its last word. A frame with an unknown opcode
    or a length that is 0, above ``FRAME_WORDS`` or not that of the frame is answered with
    ``REFUSED`` and length 0 (when a write turns out too short or too long, the words up to there
    have been written). Memory is accessed in bursts of one word, so the core behind the same
    memory never waits for the slow link.

    Throughput is one word in 3 cycles and the memory's latency, 4 cycles for registers. 252
    COMB and 135 FF.

    Members
    -------
    i : ``In(stream.Signature(FrameWord))``
        Requests.
    o : ``Out(stream.Signature(FrameWord))``
        Answers.
    memory : ``Out(Memory())``
        Port of the memory.
    registers : ``Out(RegisterBus())``
        Port of the registers.
    busy : ``Out(1)``
        A frame is being executed.
    """

    i: In(stream.Signature(FrameWord))
    o: Out(stream.Signature(FrameWord))
    memory: Out(Memory())
    registers: Out(RegisterBus())
    busy: Out(1)

    def elaborate(self, platform):
        m = Module()

        header = Signal(FrameHeader)
        refused = Signal()
        address = Signal(24)
        left = Signal(8)
        last = Signal()

        is_write = header.opcode[0]
        is_register = header.opcode[1]
        command = self.memory.commands.p
        m.d.comb += [
            command.address.eq(address),
            command.length.eq(1),
            command.write.eq(is_write),
            self.memory.w_data.payload.eq(self.i.p.data),
            self.registers.address.eq(address),
            self.registers.write_data.eq(self.i.p.data),
        ]

        with m.If(self.i.ready):
            m.d.sync += last.eq(self.i.p.last)
        with m.FSM(name="execute") as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("HEADER"))
            self._receive(m, header, address, left, refused)
            self._write(m, is_register, address, left, last, refused)
            self._answer(m, header, refused, is_write)
            self._read(m, is_register, address, left)

        return m

    def _receive(self, m, header, address, left, refused):
        """States that take a header, or the rest of a frame that is refused."""
        request = FrameHeader(self.i.p.data)
        with m.State("HEADER"):
            m.d.comb += self.i.ready.eq(1)
            m.d.sync += [
                header.eq(request),
                address.eq(request.address),
                left.eq(request.length),
                refused.eq(0),
            ]
            with m.If(self.i.valid):
                known = request.opcode[2:] == Opcode.READ_MEMORY >> 2
                fits = (request.length != 0) & (request.length <= FRAME_WORDS)
                m.next = "ANSWER"
                with m.If(~known | ~fits | (request.opcode[0] == self.i.p.last)):
                    m.d.sync += refused.eq(1)
                    with m.If(~self.i.p.last):
                        m.next = "DROP"
                with m.Elif(request.opcode[0]):
                    m.next = "WRITE"
        with m.State("DROP"):
            m.d.comb += self.i.ready.eq(1)
            with m.If(self.i.valid & self.i.p.last):
                m.next = "ANSWER"

    def _write(self, m, is_register, address, left, last, refused):
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
            with m.If(last | (left == 1)):
                m.d.sync += refused.eq(~last | (left != 1))
                m.next = "ANSWER"
                with m.If(~last):
                    m.next = "DROP"

    def _answer(self, m, header, refused, is_write):
        """State that sends the header of the answer."""
        with m.State("ANSWER"):
            answer = FrameHeader(self.o.p.data)
            m.d.comb += [
                answer.eq(header),
                answer.opcode.eq(header.opcode | REPLY | Mux(refused, REFUSED, 0)),
                self.o.p.last.eq(refused | is_write),
                self.o.valid.eq(1),
            ]
            with m.If(refused):
                m.d.comb += answer.length.eq(0)
            with m.If(self.o.ready):
                m.next = "READ"
                with m.If(self.o.p.last):
                    m.next = "HEADER"

    def _read(self, m, is_register, address, left):
        """States that read words and send them."""
        register = Signal(32)
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
            m.d.sync += register.eq(self.registers.read_data)
            with m.If(wait == 0):
                m.next = "SEND_REGISTER"
        with m.State("SEND_REGISTER"):
            m.d.comb += [
                self.o.p.data.eq(register),
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
