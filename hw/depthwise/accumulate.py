"""Back end of the depthwise unit: sums of taps, accumulated into the partial-sum memory."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.depthwise.level import HALF_BITS
from hw.depthwise.partial import PARTIAL_BITS, TAPS
from hw.depthwise.walk import Walk
from hw.lib.packed_add import guard_bit, packed_add
from hw.lib.spread import spread
from hw.port import PSUM_ADD_LATENCY, PsumHalf


__all__ = ["DepthwiseAccumulate"]


PAIR_BITS = PARTIAL_BITS + 1
SUM_BITS = PARTIAL_BITS + 2
"""Three inputs of 18 bits."""

RESULT_BITS = 23
"""A kernel row: three inputs of 18 bits times -8..7."""


class DepthwiseAccumulate(wiring.Component):
    """Add up taps, then planes or weight bits, then add the results to the partial sums.

    A sum is that of ``halves`` and of the taps of ``window`` that ``use`` selects; one of the two
    is 0, so that both modes share the adders. ``acc = 2 * acc + sum`` for the sums of a
    position; the last one gives the result, that is added to the partial sum of the position, or
    written where ``initialise`` says so. One sum per cycle; a result every third cycle at most. A
    last sum waits until the addition to the partial sums can begin; behind that nothing stops.
    Each is added to once in a pass, so that there is no hazard inside a pass.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    start : ``In(1)``
        Begin a pass; while not ``busy``. ``width_last`` and ``initialise`` are stable until the
        end of the pass. Its sums come after this cycle.
    rows, width_last : ``In(9)``
    address : ``In(10)``
        Partial sum of the first position; the others follow.
    group : ``In(1)``
        Half of the channels.
    initialise : ``In(2)``
        Write instead of add: bit 0 in the first row, bit 1 in all rows.
    halves, window, use : ``In``
        See the taps.
    negative : ``In(1)``
        The sum counts as negative; only that of ``window``.
    valid, last, end : ``In(1)``
        A sum, the last one of a position, of the pass too.
    advance : ``Out(1)``
        Sums are taken.
    advance_lanes : ``Out(4)``
        A cycle later: what is done for ``advance`` in the lanes, where all is a cycle later than
        the flags. Copies for quarters of the lanes.
    advance_next : ``Out(1)``
        ``advance`` in the next cycle.
    busy : ``Out(1)``
        From the cycle after ``start`` until the last addition of the pass can be read.
    waiting : ``Out(1)``
        A last sum does, for the partial sums.
    psum : ``Out(PsumHalf(config))``
    """

    def __init__(self, *, config):
        self._config = config
        lanes = config.depthwise_lanes
        super().__init__({
            "start": In(1),
            "rows": In(9),
            "width_last": In(9),
            "address": In(10),
            "group": In(1),
            "initialise": In(2),
            "halves": In(data.ArrayLayout(data.ArrayLayout(HALF_BITS, 2), lanes)),
            "window": In(data.ArrayLayout(data.ArrayLayout(PARTIAL_BITS, lanes), TAPS)),
            "use": In(data.ArrayLayout(TAPS, lanes)),
            "negative": In(1),
            "valid": In(1),
            "last": In(1),
            "end": In(1),
            "advance": Out(1, init=1),
            "advance_lanes": Out(4),
            "advance_next": Out(1),
            "busy": Out(1),
            "waiting": Out(1),
            "psum": Out(PsumHalf(config)),
        })

    @property
    def config(self):
        return self._config

    def elaborate(self, platform):
        m = Module()

        self._place(m)
        pair_negative, sum_negative = Signal(), Signal()
        end, add_sum, add_last, advance_lanes = self._flow(m, pair_negative, sum_negative)
        self._busy(m, add_last & end)

        lanes = self._config.depthwise_lanes
        # The lanes lie all over the chip, where the partial sums are: what goes to all of them does
        # so from copies for halves of them, and everything there is a cycle later than here.
        quarters = [copy for k, source in enumerate((self.advance, advance_lanes))
                    for copy in spread(m, f"advance_lanes_{k}", source, steps=1, most=2)]
        m.d.comb += self.advance_lanes.eq(Cat(quarters))

        advance = [quarters[4 * j // lanes] for j in range(lanes)]
        negative = self._halves(m, "lanes_negative", self.negative)
        negative_pair = self._halves(m, "lanes_pair_negative", pair_negative)
        negative_sum = self._halves(m, "lanes_sum_negative", sum_negative)

        guard, sums = self._add_taps(m, advance, negative, negative_pair)
        self._accumulate(m, sums, guard, negative_sum, add_sum=add_sum, add_last=add_last)

        return m

    def _registers(self, name, width):
        """A register for each lane."""
        return [Signal(width, name=f"{name}_{j}", reset_less=True)
                for j in range(self._config.depthwise_lanes)]

    def _halves(self, m, name, source):
        """For each lane, the copy of ``source`` in its half of the lanes, a cycle later."""
        lanes = self._config.depthwise_lanes
        copies = spread(m, name, source, steps=1, most=2)
        return [copies[2 * j // lanes] for j in range(lanes)]

    def _place(self, m):
        """Where results go, and whether they are written or added there."""
        psum = self.psum
        m.submodules.walk = walk = Walk()
        m.d.comb += [
            walk.start.eq(self.start),
            walk.rows.eq(self.rows),
            walk.width_last.eq(self.width_last),
            walk.step.eq(psum.valid),
            psum.half.eq(self.group),
            psum.accumulate.eq(~(self.initialise[1] | (self.initialise[0] & walk.first_row))),
        ]

    def _flow(self, m, pair_negative, sum_negative):
        """Flags beside the sums: which are valid, which wait, and what the next cycle does."""
        psum = self.psum
        # Flags travel beside the sums: behind pairs, behind sums.
        flags = {name: Signal(name=f"pair_{name}") for name in ("valid", "last", "end")}
        valid, last, end = (Signal(name=f"sum_{name}") for name in ("valid", "last", "end"))

        # A last sum stops, and those behind it, until the addition of its result can begin. A
        # register, for it enables every stage. Three registers of one signal, each for its own
        # part of the loads. They differ in reset value or polarity, or Yosys would merge them;
        # nothing is valid at reset.
        add_sum, add_last = Signal(), Signal()
        hold, hold_next = Signal(), Signal()
        advance_lanes = Signal()
        valid_next = Mux(hold, valid, flags["valid"])
        last_next = Mux(hold, valid & last, flags["valid"] & flags["last"])
        m.d.comb += [
            hold_next.eq(last_next & ~psum.free),
            psum.claim.eq(last_next),
            self.advance_next.eq(~hold_next),
            self.waiting.eq(hold),
            psum.valid.eq(add_last),
        ]
        m.d.sync += [
            hold.eq(hold_next),
            self.advance.eq(~hold_next), advance_lanes.eq(~hold_next),
            # What the next cycle does with `sums`, known now: these enable whole rows of lanes.
            add_sum.eq(valid_next & ~hold_next),
            add_last.eq(last_next & ~hold_next),
        ]
        with m.If(~hold):
            m.d.sync += [
                *(flags[name].eq(getattr(self, name)) for name in flags),
                valid.eq(flags["valid"]),
                pair_negative.eq(self.negative), sum_negative.eq(pair_negative),
                last.eq(flags["last"]),
                end.eq(flags["end"]),
            ]
        with m.If(add_last):
            m.d.sync += psum.address.eq(psum.address + 1)
        with m.If(self.start):
            m.d.sync += psum.address.eq(self.address)
        return end, add_sum, add_last, advance_lanes

    def _busy(self, m, ends):
        """``busy`` until the last addition of the pass, that after ``ends``, has been made."""
        ending = Signal(PSUM_ADD_LATENCY)
        m.d.sync += ending.eq(Cat(ends, ending))
        with m.If(ending[-1]):
            m.d.sync += self.busy.eq(0)
        with m.If(self.start):
            m.d.sync += self.busy.eq(1)

    def _add_taps(self, m, advance, negative, negative_pair):
        """Taps -> pairs and thirds -> sums; also the guard bit of the adders."""
        lanes = self._config.depthwise_lanes
        # A negative sum -a-b-c is ~a + ~b + ~c and a carry into each of the additions that follow,
        # whose lowest bit is there for it.
        guard = guard_bit(m, "guard", self.valid)
        pairs = self._registers("pair", PAIR_BITS)
        thirds = self._registers("third", PARTIAL_BITS)
        sums = self._registers("sum", SUM_BITS)
        additions = []
        for j in range(lanes):
            terms = [(self.window[t][j] & self.use[j][t].replicate(PARTIAL_BITS))
                     ^ negative[j].replicate(PARTIAL_BITS) for t in range(TAPS)]
            operands = [_extend(terms[k] | _extend(self.halves[j][k], PARTIAL_BITS), PAIR_BITS)
                        for k in range(2)]
            additions.append((Cat(negative[j], operands[0], guard),
                              Cat(negative[j], operands[1])))
            with m.If(advance[j]):
                m.d.sync += thirds[j].eq(terms[2])
        self._take(m, "pair_adders", pairs, additions, advance)
        additions = [(Cat(negative_pair[j], _extend(pairs[j], SUM_BITS), guard),
                      Cat(negative_pair[j], _extend(thirds[j], SUM_BITS))) for j in range(lanes)]
        self._take(m, "sum_adders", sums, additions, advance)
        return guard, sums

    def _accumulate(self, m, sums, guard, negative_sum, *, add_sum, add_last):
        """Sums -> acc -> result, for the partial-sum memory."""
        lanes = self._config.depthwise_lanes
        bits = min(RESULT_BITS, self._config.acc_bits)
        # The lowest bit of 2 * acc is free for a carry. The gate of a position's first sum lies in
        # the tables of the adders (gen.pnr.passes.absorb_operands). A cycle after its last sum
        # `acc` moves on, while the first one of the next position may be added to 0.
        acc, result = self._registers("acc", bits), self._registers("result", bits)
        follow, moving = Signal(), Signal()
        with m.If(add_sum):
            m.d.sync += follow.eq(~add_last)
        with m.If(self.start):
            m.d.sync += follow.eq(0)
        m.d.sync += moving.eq(add_last)
        follow, moving, add = (self._halves(m, f"lanes_{name}", source) for name, source in (
            ("follow", follow), ("moving", moving), ("add", add_sum)))
        totals = packed_add(m, "acc_adders", [
            (Cat(negative_sum[j], acc[j][:-1] & follow[j].replicate(bits - 1), guard),
             _extend(sums[j], bits)) for j in range(lanes)])
        for j in range(lanes):
            with m.If(add[j]):
                m.d.sync += acc[j].eq(totals[j])
            with m.If(moving[j]):
                m.d.sync += result[j].eq(acc[j])
            with m.Else():
                m.d.sync += result[j].eq(0)
            m.d.comb += self.psum.data[j].eq(result[j].as_signed())

    @staticmethod
    def _take(m, name, registers, additions, enables):
        """Registers of sums whose operands have a carry below and a guard bit above them."""
        sums = packed_add(m, name, additions)
        for register, value, enable in zip(registers, sums, enables, strict=True):
            with m.If(enable):
                m.d.sync += register.eq(value[1:])


def _extend(value, width):
    """Two's complement bits, with the sign up to ``width``."""
    return Cat(value, value[-1].replicate(width - len(value)))
