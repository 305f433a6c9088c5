"""Depthwise datapath for exact partial sums: one weight bit of one position per cycle."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.depthwise_walk import Walk
from hw.port import PsumRead


__all__ = ["PartialTaps", "PARTIAL_BITS", "partial_sum_bits"]


TAPS = 3
WEIGHT_BITS = 4
PARTIAL_BITS = 18
"""Significant bits of an input."""


def partial_sum_bits(config):
    """Width of a sum of three inputs; wraps where ``acc_bits`` wraps anyway."""
    return min(PARTIAL_BITS + 2, config.acc_bits)


class PartialTaps(wiring.Component):
    """Sums of three horizontal taps per lane, weight bit by weight bit, the sign first.

    No multiplier: a sum has the inputs whose weight has the bit. The sign's sum is inverted and
    must count as negative: ``-s = ~s + 1``. As in :class:`hw.depthwise_level.LevelTaps` all rows
    form one sequence. Four cycles per position, if inputs come and sums are taken: an input is
    asked for as soon as the one before has entered the window.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    start : ``In(1)``
        Begin a pass; ``rows`` and ``width_last`` are stable until its last sum is taken.
    address : ``In(10)``
        Partial sums of the first position; the others follow.
    enable : ``In(1)``
        ``weights`` are valid; low may only delay the sums.
    weights : ``In(ArrayLayout(ArrayLayout(4, 3), rows))``
    advance, advance_data : ``In(1)``
        The sums, valid or not, are taken; twice the same, for control and for wide data.
    sums : ``Out(ArrayLayout(signed(partial_sum_bits(config)), rows))``
        One addition behind registers.
    valid, negative, last, end : ``Out(1)``
        Sums are valid, of the sign bit, of the lowest bit, of the last position too.
    psum : ``Out(PsumRead(config, rows))``
    """

    def __init__(self, *, config):
        self._config = config
        super().__init__({
            "start": In(1),
            "address": In(10),
            "rows": In(9),
            "width_last": In(9),
            "enable": In(1),
            "weights": In(data.ArrayLayout(data.ArrayLayout(WEIGHT_BITS, TAPS), config.rows)),
            "advance": In(1),
            "advance_data": In(1),
            "sums": Out(data.ArrayLayout(signed(partial_sum_bits(config)), config.rows)),
            "valid": Out(1),
            "negative": Out(1),
            "last": Out(1),
            "end": Out(1),
            "psum": Out(PsumRead(config, config.rows)),
        })

    @property
    def config(self):
        return self._config

    def elaborate(self, platform):
        m = Module()

        rows = self._config.rows
        bits = min(PARTIAL_BITS, self._config.acc_bits)
        m.submodules.input = read = Walk()
        m.submodules.output = output = Walk()
        for walk in (read, output):
            m.d.comb += [
                walk.start.eq(self.start),
                walk.rows.eq(self.rows),
                walk.width_last.eq(self.width_last),
            ]

        # One input is on its way or waits in `buffer`.
        buffer = Signal(data.ArrayLayout(signed(bits), rows))
        full, asked = Signal(), Signal()
        push = Signal()
        accepted = self.psum.valid & self.psum.ready
        m.d.comb += [
            self.psum.valid.eq(read.active & ~full & ~asked),
            read.step.eq(accepted),
        ]
        with m.If(push):
            m.d.sync += full.eq(0)
        with m.If(accepted):
            m.d.sync += [asked.eq(1), self.psum.address.eq(self.psum.address + 1)]
        with m.If(self.psum.data_valid):
            m.d.sync += [asked.eq(0), full.eq(1)]
            m.d.sync += (buffer[j].eq(self.psum.data[j]) for j in range(rows))

        # The window moves with the first bit of a position; the first move only fills it.
        # Behind the last position anything may follow: it is masked.
        # Twice, for control and for the weights of all lanes; see `partial` in hw/depthwise.py.
        bit = Signal(range(WEIGHT_BITS))
        bit_data = Signal(range(WEIGHT_BITS), init=WEIGHT_BITS - 1)
        fill = Signal()
        ready = Signal()
        first = bit == WEIGHT_BITS - 1
        step = Signal()
        m.d.comb += [
            ready.eq(self.enable & self.advance & output.active),
            push.eq(ready & first & (full | (~read.active & ~asked))),
            step.eq(ready & (push | ~first)),
            output.step.eq(step & (bit == 0)),
        ]
        window = Signal(data.ArrayLayout(data.ArrayLayout(signed(bits), rows), TAPS))
        left_mask = Signal()
        with m.If(self.start):
            m.d.sync += [
                self.psum.address.eq(self.address),
                bit.eq(WEIGHT_BITS - 1), bit_data.eq(WEIGHT_BITS - 1),
                fill.eq(1),
                left_mask.eq(0),
            ]
        with m.Elif(step):
            m.d.sync += fill.eq(0)
            with m.If(~fill):
                m.d.sync += [bit.eq(bit - 1), bit_data.eq(bit - 1)]
            with m.If(output.step):
                m.d.sync += left_mask.eq(~output.row_end)
        with m.If(push):
            m.d.sync += Cat(window).eq(Cat(window[1], window[2], buffer))

        # Window -> pair and third -> sums.
        mask = Cat(left_mask, 1, ~output.row_end)
        window_valid, window_bit, window_end = Signal(), Signal.like(bit), Signal()
        use = Signal(data.ArrayLayout(TAPS, rows))
        pairs = Signal(data.ArrayLayout(signed(bits + 1), rows))
        thirds = Signal(data.ArrayLayout(signed(bits), rows))
        with m.If(self.advance_data):
            m.d.sync += [
                window_valid.eq(step & ~fill),
                window_bit.eq(bit),
                window_end.eq(output.end),
                self.valid.eq(window_valid),
                self.negative.eq(window_bit == WEIGHT_BITS - 1),
                self.last.eq(window_bit == 0),
                self.end.eq(window_end),
            ]
            for j in range(rows):
                m.d.sync += use[j].eq(
                    Cat(self.weights[j][t].bit_select(bit_data, 1) for t in range(TAPS)) & mask)
                terms = [window[t][j] & use[j][t].replicate(bits).as_signed()
                         for t in range(TAPS)]
                m.d.sync += [pairs[j].eq(terms[0] + terms[1]), thirds[j].eq(terms[2])]
        for j in range(rows):
            m.d.comb += self.sums[j].eq(pairs[j] + thirds[j])

        return m
