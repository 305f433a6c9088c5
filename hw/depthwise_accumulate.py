"""Back end of the depthwise unit: bit-serial accumulation into the partial-sum memory."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.depthwise_level import LEVEL_SUM_BITS
from hw.depthwise_partial import partial_sum_bits
from hw.depthwise_walk import Walk
from hw.port import PsumRead, PsumWrite


__all__ = ["DepthwiseAccumulate"]


RESULT_BITS = 23
"""A kernel row: three inputs of 18 bits times -8..7."""


class DepthwiseAccumulate(wiring.Component):
    """Add up sums of planes or weight bits, then add the results to the partial sums.

    ``acc = 2 * acc + sum`` for the sums of a position; the last one gives the result, that is
    added to the partial sum of the position, or written where ``initialise`` says so. One sum
    per cycle; a result every third cycle. A partial sum is read ahead of its result; each is
    read and written once in a pass, so that there is no hazard inside a pass.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    start : ``In(1)``
        Begin a pass; at least 2 cycles after ``finish`` of the one before. ``rows``,
        ``width_last`` and ``initialise`` are stable up to ``finish``.
    address : ``In(10)``
        Partial sum of the first position; the others follow.
    initialise : ``In(2)``
        Write instead of add: bit 0 in the first row, bit 1 in all rows.
    partial : ``In(1)``
        Take ``partial_sums`` (inverted where ``negative``), not ``level_sums``.
    valid, negative, last, end : ``In(1)``
        See the taps.
    advance, advance_data : ``Out(1)``
        Sums are taken. The same signal from two registers: one for control, one for wide data.
    finish : ``Out(1)``
        High for a cycle after the last write of the pass was accepted.
    psum_read : ``Out(PsumRead(config, rows))``
    psum_write : ``Out(PsumWrite(config, rows))``
    """

    def __init__(self, *, config):
        self._config = config
        super().__init__({
            "start": In(1),
            "rows": In(9),
            "width_last": In(9),
            "address": In(10),
            "initialise": In(2),
            "partial": In(1),
            "level_sums": In(data.ArrayLayout(signed(LEVEL_SUM_BITS), config.rows)),
            "partial_sums": In(data.ArrayLayout(signed(partial_sum_bits(config)), config.rows)),
            "valid": In(1),
            "negative": In(1),
            "last": In(1),
            "end": In(1),
            "advance": Out(1, init=1),
            "advance_data": Out(1),
            "finish": Out(1),
            "psum_read": Out(PsumRead(config, config.rows)),
            "psum_write": Out(PsumWrite(config, config.rows)),
        })

    @property
    def config(self):
        return self._config

    def elaborate(self, platform):
        m = Module()

        rows, acc_bits = self._config.rows, self._config.acc_bits
        bits = min(RESULT_BITS, acc_bits)
        read, write = self.psum_read, self.psum_write

        def lanes(width):
            return Signal(data.ArrayLayout(signed(width), rows), reset_less=True,
                          src_loc_at=1)

        sums = lanes(partial_sum_bits(self._config))
        acc, result = lanes(bits), lanes(bits)
        target, written = lanes(acc_bits), lanes(acc_bits)
        valid, negative, last, end = (Signal(name=f"sum_{name}")
                                      for name in ("valid", "negative", "last", "end"))
        result_valid, result_end = Signal(), Signal()
        target_valid, target_asked = Signal(), Signal()
        written_end = Signal()

        # Result and target -> written.
        add = Signal()
        add_sum = Signal()
        add_last, clear_acc = Signal(), Signal()
        # Three registers of one signal, each for its own part of some 2,500 loads. They differ
        # in reset value or polarity, or Yosys would merge them; nothing is valid at reset.
        hold = Signal()
        m.d.comb += [
            add.eq(result_valid & target_valid & ~write.valid),
        ]
        # Stop the sums before a last one meets a result that is not added yet. A register,
        # for it enables every stage; it may stop them a cycle more than needed.
        valid_next = Mux(hold, valid, self.valid)
        last_next = Mux(hold, valid & last, self.valid & self.last)
        hold_next = Signal()
        m.d.comb += hold_next.eq(last_next & ((result_valid & ~add) | add_last))
        m.d.sync += [
            hold.eq(hold_next),
            self.advance.eq(~hold_next), self.advance_data.eq(~hold_next),
            # What the next cycle does with `sums`, known now: these enable whole rows of lanes.
            add_sum.eq(valid_next & ~hold_next),
            add_last.eq(last_next & ~hold_next),
            clear_acc.eq((last_next & ~hold_next) | self.start),
        ]

        with m.If(~hold):
            m.d.sync += [
                valid.eq(self.valid),
                negative.eq(self.partial & self.negative),
                last.eq(self.last),
                end.eq(self.end),
            ]
            for j in range(rows):
                bit_sum = self.partial_sums[j]
                inverted = bit_sum ^ self.negative.replicate(len(bit_sum))
                m.d.sync += sums[j].eq(Mux(self.partial, inverted.as_signed(),
                                           self.level_sums[j]))

        # Sums -> acc, or result with the last one. The carry of a negative sum comes from one
        # more bit below.
        for j in range(rows):
            total = (Cat(negative, 0, acc[j][:-1]).as_signed()
                     + Cat(negative, sums[j]).as_signed())[1:bits + 1]
            with m.If(clear_acc):
                m.d.sync += acc[j].eq(0)
            with m.Elif(add_sum):
                m.d.sync += acc[j].eq(total)
            with m.If(add_last):
                m.d.sync += result[j].eq(total)
        with m.If(add):
            m.d.sync += result_valid.eq(0)
        with m.If(add_last):
            m.d.sync += [result_valid.eq(1), result_end.eq(end)]

        # Read the next target as soon as the last one is used; nothing to read where 0 is added.
        m.submodules.walk = walk = Walk()
        zero = self.initialise[1] | (self.initialise[0] & walk.first_row)
        want = Signal()
        clear = Signal()
        accepted = read.valid & read.ready
        m.d.comb += [
            walk.start.eq(self.start),
            walk.rows.eq(self.rows),
            walk.width_last.eq(self.width_last),
            want.eq(walk.active & ~target_asked & (~target_valid | add)),
            read.valid.eq(want & ~zero),
            clear.eq(want & zero),
            walk.step.eq(accepted | clear),
        ]
        with m.If(add):
            m.d.sync += target_valid.eq(0)
        with m.If(accepted):
            m.d.sync += target_asked.eq(1)
        with m.If(walk.step):
            m.d.sync += read.address.eq(read.address + 1)
        with m.If(read.data_valid):
            m.d.sync += target_asked.eq(0)
        with m.If(read.data_valid | clear):
            m.d.sync += target_valid.eq(1)
        with m.If(clear):
            m.d.sync += target.eq(0)
        with m.Elif(read.data_valid):
            m.d.sync += target.eq(read.data)

        m.d.comb += write.data.eq(written)
        m.d.sync += self.finish.eq(write.valid & write.ready & written_end)
        with m.If(write.valid & write.ready):
            m.d.sync += [write.valid.eq(0), write.address.eq(write.address + 1)]
        with m.If(add):
            m.d.sync += [write.valid.eq(1), written_end.eq(result_end)]
            m.d.sync += (written[j].eq(target[j] + result[j]) for j in range(rows))

        with m.If(self.start):
            m.d.sync += [read.address.eq(self.address), write.address.eq(self.address)]

        return m
