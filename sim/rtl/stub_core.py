"""A core that copies: every image to its result, word by word; same ports as hw.core.Core."""

from amaranth import Module, Signal
from amaranth.lib import wiring

from hw.port import core_members
from hw.register import Counter
from hw.run_sequence import RunSequence
from hw.sequencer import Recorder


HUNG = 0xFFFFFF
"""Address of a program that never ends."""


class StubCore(wiring.Component):
    """For each of ``count`` images, ``image_stride`` words go from its address to that of its
    result, each plus one. The sequence of the runs and their records are those of the core. The
    counters count cycles, images and words; the others hold their own number. It hangs in the
    program at :data:`HUNG`."""

    capabilities = ("rings",)

    def __init__(self):
        super().__init__(core_members())

    def elaborate(self, platform):
        m = Module()

        memory, host, counters = self.memory, self.host, self.counters
        for counter in Counter:
            if counter not in (Counter.CYCLES, Counter.IMAGES, Counter.READ_WORDS):
                m.d.comb += counters[counter].eq(0x1000 + counter)
        m.d.comb += counters[Counter.ERRORS].eq(0)
        m.submodules.runs = runs = RunSequence()
        m.submodules.recorder = recorder = Recorder()
        for name in ("start", "count", "image", "image_stride", "result", "result_stride", "ring"):
            m.d.comb += getattr(runs, name).eq(getattr(self, name))
        wiring.connect(m, runs.record, recorder.run)
        m.d.comb += [
            recorder.log.eq(self.log), self.busy.eq(runs.busy),
            runs.time.eq(counters[Counter.CYCLES]), runs.errors.eq(counters[Counter.ERRORS]),
        ]
        word = Signal(24)
        left = Signal(8)                    # words of the host's burst
        value = Signal(64)
        with m.If(self.busy):
            m.d.sync += counters[Counter.CYCLES].eq(counters[Counter.CYCLES] + 1)
        with m.If(runs.finished):
            m.d.sync += counters[Counter.IMAGES].eq(counters[Counter.IMAGES] + 1)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += memory.commands.payload.eq(host.commands.payload)
                with m.If(self.start):
                    m.d.sync += [counters[Counter.CYCLES].eq(0), counters[Counter.IMAGES].eq(0),
                                 counters[Counter.READ_WORDS].eq(0), word.eq(0)]
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
                             memory.commands.p.address.eq(runs.image_address + word)]
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
                             memory.commands.p.address.eq(runs.result_address + word)]
                with m.If(memory.commands.ready):
                    m.next = "PUT"
            with m.State("PUT"):
                m.d.comb += [memory.w_data.valid.eq(1), memory.w_data.payload.eq(value)]
                with m.If(memory.w_data.ready):
                    m.d.sync += word.eq(word + 1)
                    m.next = "READ"
                    with m.If(word + 1 == self.image_stride):
                        m.next = "DRAINED"
            with m.State("DRAINED"):
                # The recorder has the memory, and after the last run the host.
                m.d.comb += [
                    runs.drained.eq(1),
                    memory.commands.valid.eq(recorder.memory.commands.valid),
                    memory.commands.payload.eq(recorder.memory.commands.payload),
                    recorder.memory.commands.ready.eq(memory.commands.ready),
                    memory.w_data.valid.eq(recorder.memory.w_data.valid),
                    memory.w_data.payload.eq(recorder.memory.w_data.payload),
                    recorder.memory.w_data.ready.eq(memory.w_data.ready),
                ]
                with m.If(runs.begin):
                    m.d.sync += word.eq(0)
                    m.next = "READ"
                with m.Elif(~self.busy):
                    m.next = "IDLE"

        return m
