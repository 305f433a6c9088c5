"""Depthwise datapath for exact partial sums: one weight bit of one position per cycle."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import PARTIAL_BITS
from hw.depthwise.level import TAPS as LEVEL_TAPS
from hw.depthwise.level import WEIGHT_BITS
from hw.depthwise.walk import Walk
from hw.lib.psum_prefetch import PsumPrefetch
from hw.lib.spread import spread
from hw.port import PsumRead


__all__ = ["PartialTaps", "TAPS"]


TAPS = 3
FIRST_TAP = (LEVEL_TAPS - TAPS) // 2


class PartialTaps(wiring.Component):
    """Three horizontal taps per lane and which of them to add, weight bit by weight bit, the sign
    first.

    No multiplier: a sum has the inputs whose weight has the bit. As in
    :class:`hw.depthwise.level.LevelTaps` all rows form one sequence. Four cycles per position,
    if inputs come and sums are taken.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    start : ``In(1)``
        Begin a pass; ``rows`` and ``width_last`` are stable until its last sum is taken.
    address : ``In(10)``
        Partial sums of the first position; the others follow.
    rows, width_last : ``In(9)``
    active : ``Out(1)``
        From the cycle after ``start`` up to the last step.
    enable : ``In(1)``
        ``weights`` are valid and sums may be taken; low may only delay them.
    weights : ``In(ArrayLayout(ArrayLayout(4, 7), lanes))``
        Of seven taps, the three in the middle are looked at.
    advance : ``In(1)``
        The taps, valid or not, are taken.
    advance_lanes : ``In(4)``
        A cycle later; copies for quarters of the lanes.
    advance_next : ``In(1)``
        ``advance`` in the next cycle.
    window : ``Out(ArrayLayout(ArrayLayout(18, lanes), 3))``
        Two's complement; the left tap first. A cycle behind the flags, as ``use``.
    use : ``Out(ArrayLayout(3, lanes))``
        Taps to be added; 0 outside of a pass.
    valid, negative, last, end : ``Out(1)``
        Taps are valid, of the sign bit, of the lowest bit, of the last position too; 0 outside
        of a pass.
    psum : ``Out(PsumRead(config, depthwise_lanes))``
        Without its ``group``.
    """

    def __init__(self, *, config):
        self._config = config
        lanes = config.depthwise_lanes
        super().__init__({
            "start": In(1),
            "address": In(10),
            "rows": In(9),
            "width_last": In(9),
            "active": Out(1),
            "enable": In(1),
            "weights": In(data.ArrayLayout(data.ArrayLayout(WEIGHT_BITS, LEVEL_TAPS), lanes)),
            "advance": In(1),
            "advance_lanes": In(4),
            "advance_next": In(1),
            "window": Out(data.ArrayLayout(data.ArrayLayout(PARTIAL_BITS, lanes), TAPS)),
            "use": Out(data.ArrayLayout(TAPS, lanes)),
            "valid": Out(1),
            "negative": Out(1),
            "last": Out(1),
            "end": Out(1),
            "psum": Out(PsumRead(config, lanes)),
        })

    @property
    def config(self):
        return self._config

    def elaborate(self, platform):
        m = Module()

        lanes = self._config.depthwise_lanes
        m.submodules.input = read = Walk()
        m.submodules.output = output = Walk()
        for walk in (read, output):
            m.d.comb += [
                walk.start.eq(self.start),
                walk.rows.eq(self.rows),
                walk.width_last.eq(self.width_last),
            ]

        push = Signal()
        m.submodules.inputs = inputs = PsumPrefetch(config=self._config, lanes=lanes,
                                                    width=PARTIAL_BITS)
        wiring.connect(m, inputs.psum, wiring.flipped(self.psum))
        m.d.comb += [
            inputs.start.eq(self.start),
            inputs.address.eq(self.address),
            inputs.more.eq(read.active),
            inputs.take.eq(push & inputs.valid),
            read.step.eq(inputs.step),
        ]

        # The window moves with the first bit of a position; the first move only fills it.
        # Behind the last position anything may follow: it is masked. `push` is a register, set in
        # the cycle before.
        bit = Signal(range(WEIGHT_BITS))
        fill = Signal()
        step = Signal()
        first = bit == WEIGHT_BITS - 1
        first_next = Mux(push, fill, first) | (step & (bit == 0) & ~output.end)
        present = (inputs.valid & ~push) | (~read.active & inputs.empty)
        m.d.comb += [
            self.active.eq(output.active),
            step.eq(push | (self.advance & output.active & ~first)),
            output.step.eq(step & (bit == 0)),
        ]
        push_next = self.advance_next & self.enable & output.active & first_next & present
        m.d.sync += push.eq(push_next)
        left_mask = Signal()
        with m.If(self.start):
            m.d.sync += [bit.eq(WEIGHT_BITS - 1), fill.eq(1), left_mask.eq(0)]
        with m.Elif(step):
            m.d.sync += fill.eq(0)
            with m.If(~fill):
                m.d.sync += bit.eq(bit - 1)
            with m.If(output.step):
                m.d.sync += left_mask.eq(~output.row_end)
        with m.If(self.advance):
            m.d.sync += [
                self.valid.eq(step & ~fill),
                self.negative.eq(output.active & first),
                self.last.eq(output.active & (bit == 0)),
                self.end.eq(output.active & output.end),
            ]

        # The lanes lie all over the chip: what goes to all of them does so from registers for
        # halves of them, a cycle later. (The row is still there: the next one comes two cycles
        # after it was taken.)
        mask = Cat(left_mask, 1, ~output.row_end) & output.active.replicate(TAPS)
        pushes, bits, masks = (
            spread(m, f"lanes_{name}", source, steps=1, most=2)
            for name, source in (("push", push), ("bit", bit), ("mask", mask)))
        for j in range(lanes):
            half, quarter = 2 * j // lanes, 4 * j // lanes
            with m.If(pushes[half]):
                m.d.sync += [window[j].eq(following) for window, following in zip(
                    self.window, (self.window[1][j], self.window[2][j], inputs.data[j]),
                    strict=True)]
            with m.If(self.advance_lanes[quarter]):
                m.d.sync += self.use[j].eq(masks[half] & Cat(
                    self.weights[j][FIRST_TAP + t].bit_select(bits[half], 1)
                    for t in range(TAPS)))

        return m
