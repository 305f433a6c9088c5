"""Runs of a program one after the other, over a ring of images and a ring of results."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.port import Ring, RunRecord


__all__ = ["RunSequence"]


class RunSequence(wiring.Component):
    """Run the program ``count`` times, each time on the next image.

    The addresses of image and result advance by their strides from one run to the next. With
    ``ring.images`` not 0, those of the images begin again after so many of them; with
    ``ring.results`` not 0, those of the results likewise, and every run leaves a record, which
    says its number: so thousands of runs need no host, and no more memory than the rings.

    4 cycles from one run's end to the next one's fetch, and with records some 8 more and the
    memory's latency. 240 COMB, of which 88 are for rings and records, and 135 FF (yosys, ECP5).

    Members
    -------
    start : ``In(1)``
        Pulse; ignored while ``busy``.
    busy : ``Out(1)``
        From the cycle after ``start`` until the last record is written.
    count, image, image_stride, result, result_stride, ring : ``In(...)``
        As for :class:`hw.core.Core`; must stay while ``busy``.
    drained : ``In(1)``
        Everything has come to its end, the writing of records too; seen through one register.
    time : ``In(32)``, errors : ``In(2)``
        Cycles since ``start``, and the sticky errors, for the records.
    begin : ``Out(1)``
        High for the first cycle of each run.
    finished : ``Out(1)``
        High for the last cycle of each run.
    image_address, result_address : ``Out(24)``
        Of the current run.
    record : ``Out(stream.Signature(RunRecord))``
    """

    def __init__(self):
        super().__init__({
            "start": In(1),
            "busy": Out(1),
            "count": In(16),
            **dict.fromkeys(("image", "image_stride", "result", "result_stride"), In(24)),
            "ring": In(Ring),
            "drained": In(1),
            "time": In(32),
            "errors": In(2),
            "begin": Out(1),
            "finished": Out(1),
            "image_address": Out(24),
            "result_address": Out(24),
            "record": Out(stream.Signature(RunRecord)),
        })

    def elaborate(self, platform):
        m = Module()
        recording = Signal()
        record = self.record.payload
        rings = (("image", self.ring.images, Signal(16, name="image_slot")),
                 ("result", self.ring.results, record.slot))
        m.d.comb += record.errors.eq(self.errors)
        m.d.sync += recording.eq(self.ring.results != 0)

        def finish():
            m.d.comb += self.finished.eq(1)
            m.next = "BEGIN"
            with m.If(record.left <= 1):
                m.d.sync += self.busy.eq(0)
                m.next = "IDLE"

        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.start):
                    m.d.sync += [self.busy.eq(1), record.left.eq(self.count)]
                    m.next = "BEGIN"
            with m.State("BEGIN"):
                m.d.comb += self.begin.eq(1)
                m.next = "BEGUN"
            with m.State("BEGUN"):
                # `drained` still tells of the time before; skip it once.
                m.next = "SETTLE"
            with m.State("SETTLE"):
                m.next = "RUN"
            with m.State("RUN"):
                m.d.sync += record.end.eq(self.time)
                with m.If(self.drained):
                    with m.If(recording):
                        m.next = "RECORD"
                    with m.Else():
                        finish()
            with m.State("RECORD"):
                m.d.comb += self.record.valid.eq(1)
                with m.If(self.record.ready):
                    m.next = "RECORDED"
            with m.State("RECORDED"):
                with m.If(self.drained):
                    finish()

        with m.If(self.finished):
            m.d.sync += record.left.eq(record.left - 1)
        for name, size, slot in rings:
            address, last = getattr(self, f"{name}_address"), Signal(name=f"last_{name}")
            m.d.sync += last.eq(slot == 1)
            with m.If(self.finished):
                m.d.sync += [address.eq(address + getattr(self, f"{name}_stride")),
                             slot.eq(slot - 1)]
            with m.If(~self.busy | (self.finished & last)):
                m.d.sync += [address.eq(getattr(self, name)), slot.eq(size)]
        return m
