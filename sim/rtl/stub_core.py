"""A core that copies: every image to its result, word by word; same ports as hw.core.Core."""

from amaranth import Module, Signal
from amaranth.lib import wiring

from hw.port import core_members
from hw.register import Counter


HUNG = 0xFFFFFF
"""Address of a program that never ends."""


class StubCore(wiring.Component):
    """For each of ``count`` images, ``image_stride`` words go from ``image`` to ``result``, each
    plus one. The counters count cycles, images and words; the others hold their own number. It
    hangs in the program at :data:`HUNG`."""

    def __init__(self):
        super().__init__(core_members())

    def elaborate(self, platform):
        m = Module()

        memory, host, counters = self.memory, self.host, self.counters
        for counter in Counter:
            if counter not in (Counter.CYCLES, Counter.IMAGES, Counter.READ_WORDS):
                m.d.comb += counters[counter].eq(0x1000 + counter)
        m.d.comb += counters[Counter.ERRORS].eq(0)
        source, target, word = Signal(24), Signal(24), Signal(24)
        left = Signal(8)                    # words of the host's burst
        value = Signal(64)
        with m.If(self.busy):
            m.d.sync += counters[Counter.CYCLES].eq(counters[Counter.CYCLES] + 1)
        with m.FSM() as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("IDLE") & ~fsm.ongoing("HOST_READ")
                                     & ~fsm.ongoing("HOST_WRITE"))
            with m.State("IDLE"):
                m.d.comb += memory.commands.payload.eq(host.commands.payload)
                with m.If(self.start):
                    m.d.sync += [counters[Counter.CYCLES].eq(0), counters[Counter.IMAGES].eq(0),
                                 counters[Counter.READ_WORDS].eq(0), word.eq(0),
                                 source.eq(self.image), target.eq(self.result)]
                    m.next = "READ"
                    with m.If(self.program == HUNG):
                        m.next = "HUNG"
                with m.Else():
                    m.d.sync += left.eq(host.commands.p.length)
                    m.d.comb += memory.commands.valid.eq(host.commands.valid)
                    m.d.comb += host.commands.ready.eq(memory.commands.ready)
                    with m.If(host.commands.valid & memory.commands.ready):
                        m.next = "HOST_READ"
                        with m.If(host.commands.p.write):
                            m.next = "HOST_WRITE"
            with m.State("HOST_READ"):
                m.d.comb += [host.r_data.valid.eq(memory.r_data.valid),
                             host.r_data.payload.eq(memory.r_data.payload),
                             memory.r_data.ready.eq(host.r_data.ready)]
                with m.If(host.r_data.valid & host.r_data.ready):
                    m.d.sync += left.eq(left - 1)
                    with m.If(left == 1):
                        m.next = "IDLE"
            with m.State("HOST_WRITE"):
                m.d.comb += [memory.w_data.valid.eq(host.w_data.valid),
                             memory.w_data.payload.eq(host.w_data.payload),
                             host.w_data.ready.eq(memory.w_data.ready)]
                with m.If(host.w_data.valid & host.w_data.ready):
                    m.d.sync += left.eq(left - 1)
                    with m.If(left == 1):
                        m.next = "IDLE"
            with m.State("HUNG"):
                pass
            with m.State("READ"):
                m.d.comb += [memory.commands.valid.eq(1), memory.commands.p.length.eq(1),
                             memory.commands.p.address.eq(source + word)]
                with m.If(memory.commands.ready):
                    m.next = "TAKE"
            with m.State("TAKE"):
                m.d.comb += memory.r_data.ready.eq(1)
                m.d.sync += value.eq(memory.r_data.payload + 1)
                with m.If(memory.r_data.valid):
                    m.d.sync += counters[Counter.READ_WORDS].eq(counters[Counter.READ_WORDS] + 1)
                    m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += [memory.commands.valid.eq(1), memory.commands.p.length.eq(1),
                             memory.commands.p.write.eq(1),
                             memory.commands.p.address.eq(target + word)]
                with m.If(memory.commands.ready):
                    m.next = "PUT"
            with m.State("PUT"):
                m.d.comb += [memory.w_data.valid.eq(1), memory.w_data.payload.eq(value)]
                with m.If(memory.w_data.ready):
                    m.d.sync += word.eq(word + 1)
                    m.next = "READ"
                    with m.If(word + 1 == self.image_stride):
                        m.d.sync += [word.eq(0), source.eq(source + self.image_stride),
                                     target.eq(target + self.result_stride),
                                     counters[Counter.IMAGES].eq(counters[Counter.IMAGES] + 1)]
                        with m.If(counters[Counter.IMAGES] + 1 == self.count):
                            m.next = "IDLE"

        return m
