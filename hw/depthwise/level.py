"""Depthwise datapath for spike levels: one plane of one position per cycle."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.depthwise.walk import ADDRESS_BITS, Walk
from hw.lib.packed_add import guard_bit, packed_add
from hw.lib.pool_prefetch import PoolPrefetch
from hw.lib.spread import spread
from hw.port import PoolRead


__all__ = ["LevelTaps", "HALF_BITS", "TAPS", "WEIGHT_BITS"]


TAPS = 7
CENTRE = TAPS // 2
WEIGHT_BITS = 4
PAIR_BITS = WEIGHT_BITS + 1
HALF_BITS = WEIGHT_BITS + 2
"""Four weights of -8..7."""


class LevelTaps(wiring.Component):
    """Sums of seven horizontal taps per lane, plane by plane, the highest first.

    The positions of all rows form one sequence, so that a row costs no filling: taps that fall
    beyond the ends of their row are masked. A single delay line of planes * 7 words serves all
    planes. A cycle per position and plane, 3 * planes to fill the line and one where its last word
    has come, if words come and sums are taken.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    start : ``In(1)``
        Begin a pass; ``group``, ``position_stride``, ``rows`` and ``width_last`` are stable
        until its last sum is taken.
    row_address : ``In(16)``
        The highest plane of the first position of a row: the first one with ``start``, the next
        one from the cycle after ``row_step``.
    row_step : ``Out(1)``
    group : ``In(range(rows / lanes))``
        Lane group, of ``depthwise_lanes``.
    position_stride : ``In(12)``
    rows, width_last : ``In(9)``
    fetching : ``Out(1)``
        Rows of the pass are still to come.
    active : ``Out(1)``
        From the cycle after ``start`` up to the last step; ``weights`` are needed up to the
        first cycle with ``advance`` that follows.
    enable : ``In(1)``
        ``weights`` are valid and sums may be taken; low may only delay them.
    weights : ``In(ArrayLayout(ArrayLayout(4, 7), lanes))``
        Two's complement.
    advance : ``In(1)``
        The sums, valid or not, are taken.
    advance_lanes : ``In(4)``
        A cycle later; copies for quarters of the lanes.
    halves : ``Out(ArrayLayout(ArrayLayout(6, 2), lanes))``
        Sums of four and of three taps, two's complement, a cycle behind their flags; 0 outside of a
        pass.
    valid, last, end : ``Out(1)``
        Sums are valid, of the lowest plane, of the last position too; 0 outside of a pass.
    spikes : ``Out(range(lanes + 1))``
        Set bits of the lanes of a word taken from the pool, 0 in a cycle without one.
    pool : ``Out(PoolRead(config))``
    """

    def __init__(self, *, config):
        self._config = config
        self._planes = config.level_planes
        lanes = config.depthwise_lanes
        super().__init__({
            "start": In(1),
            "row_address": In(ADDRESS_BITS),
            "row_step": Out(1),
            "group": In(range(max(2, config.rows // lanes))),
            "position_stride": In(12),
            "rows": In(9),
            "width_last": In(9),
            "fetching": Out(1),
            "active": Out(1),
            "enable": In(1),
            "weights": In(data.ArrayLayout(data.ArrayLayout(WEIGHT_BITS, TAPS), lanes)),
            "advance": In(1),
            "advance_lanes": In(4),
            "halves": Out(data.ArrayLayout(data.ArrayLayout(HALF_BITS, 2), lanes)),
            "valid": Out(1),
            "last": Out(1),
            "end": Out(1),
            "spikes": Out(range(lanes + 1)),
            "pool": Out(PoolRead(config)),
        })

    @property
    def config(self):
        return self._config

    def elaborate(self, platform):
        m = Module()

        rows, lanes = self._config.rows, self._config.depthwise_lanes
        m.submodules.prefetch = prefetch = PoolPrefetch(config=self._config)
        m.submodules.input = read = Walk()
        m.submodules.output = output = Walk()
        # Only the lanes of the group go on: the rest of the queue vanishes in synthesis.
        m.d.comb += [
            self.pool.address.eq(prefetch.pool.address),
            self.pool.valid.eq(prefetch.pool.valid),
            prefetch.pool.ready.eq(self.pool.ready),
            prefetch.pool.data_valid.eq(self.pool.data_valid),
            prefetch.pool.data.eq(self.pool.data if lanes == rows
                                  else self.pool.data.word_select(self.group, lanes)),
        ]
        for walk in (read, output):
            m.d.comb += [
                walk.start.eq(self.start),
                walk.rows.eq(self.rows),
                walk.width_last.eq(self.width_last),
            ]
        self._fetch(m, read, prefetch.addresses)

        # Words into the line. Behind the last position anything may follow: it is masked.
        plane = Signal(range(self._planes))
        fill = Signal(range(CENTRE + 1))
        ready = Signal()
        step = Signal()
        drained = Signal()
        m.d.sync += drained.eq(prefetch.empty & ~read.active & ~self.start)
        m.d.comb += [
            self.fetching.eq(read.active),
            self.active.eq(output.active),
            # What fills the line needs no weights.
            ready.eq((self.enable | (fill != 0)) & self.advance & output.active),
            prefetch.words.ready.eq(ready),
            step.eq(ready & (prefetch.words.valid | drained)),
            output.step.eq(step & (plane == 0) & (fill == 0)),
        ]
        left_mask = Signal(CENTRE)
        with m.If(self.start):
            m.d.sync += [plane.eq(self._planes - 1), fill.eq(CENTRE), left_mask.eq(0)]
        with m.Elif(step):
            m.d.sync += plane.eq(Mux(plane == 0, self._planes - 1, plane - 1))
            with m.If((plane == 0) & (fill != 0)):
                m.d.sync += fill.eq(fill - 1)
            with m.If(output.step):
                m.d.sync += left_mask.eq(Mux(output.row_end, 0, Cat(1, left_mask)))

        # Line -> pairs -> halves. Left taps are masked by the positions passed, right taps by the
        # positions to come, all of them outside of a pass.
        mask = Signal(TAPS)
        inside = Cat(left_mask[::-1], 1, (output.x_left > t for t in range(CENTRE)))
        flags = {"valid": step & (fill == 0), "last": output.active & (plane == 0),
                 "end": output.active & output.end}
        with m.If(self.advance):
            m.d.sync += mask.eq(inside & output.active.replicate(TAPS))
            for stage in ("line", "pairs"):
                for name, flag in flags.items():
                    moved = Signal(name=f"{stage}_{name}")
                    m.d.sync += moved.eq(flag)
                    flags[name] = moved
            m.d.sync += [self.valid.eq(flags["valid"]), self.last.eq(flags["last"]),
                         self.end.eq(flags["end"])]

        # The lanes lie all over the chip: what goes to all of them does so from registers for
        # halves of them, a cycle later.
        taken = prefetch.words.valid & prefetch.words.ready
        word, word_taken = Signal(lanes, reset_less=True), Signal()
        m.d.sync += [word.eq(prefetch.words.payload[:lanes]), word_taken.eq(taken)]
        masks, steps = (spread(m, name, source, steps=1, most=2)
                        for name, source in (("lanes_mask", mask), ("lanes_step", step)))
        line = [Signal(self._planes * (TAPS - 1) + 1, name=f"line_{j}", reset_less=True)
                for j in range(lanes)]
        advance = [self.advance_lanes[4 * j // lanes] for j in range(lanes)]
        guard = guard_bit(m, "guard", self.enable)
        pairs, halves = [], []
        for j in range(lanes):
            with m.If(steps[2 * j // lanes]):
                m.d.sync += line[j].eq(Cat(word[j], line[j]))
            terms = [self.weights[j][t] & (line[j][self._planes * (TAPS - 1 - t)]
                                           & masks[2 * j // lanes][t]).replicate(WEIGHT_BITS)
                     for t in range(TAPS)]
            terms = [Cat(term, term[-1]) for term in terms]
            pairs += [(Cat(terms[t], guard), terms[t + 1]) for t in range(0, TAPS - 1, 2)]
            single = Signal(WEIGHT_BITS, name=f"single_{j}", reset_less=True)
            with m.If(advance[j]):
                m.d.sync += single.eq(terms[-1])
            halves.append(Cat(single, single[-1]))
        pairs = self._add(m, "pair", pairs, PAIR_BITS, advance)
        terms = [(*pairs[3 * j:3 * j + 3], halves[j]) for j in range(lanes)]
        halves = self._add(m, "half", [
            (Cat(a, a[-1], guard), Cat(b, b[-1]))
            for lane in terms for a, b in (lane[:2], lane[2:])], HALF_BITS, advance)
        m.d.comb += self.halves.eq(Cat(halves))

        self._count(m, word, word_taken)

        return m

    def _add(self, m, name, additions, bits, advance):
        """Registers of the sums of the additions, without the guard bit."""
        registers = [Signal(bits, name=f"{name}_{k}", reset_less=True)
                     for k in range(len(additions))]
        sums = packed_add(m, f"{name}_adders", additions)
        for k, (register, value) in enumerate(zip(registers, sums, strict=True)):
            with m.If(advance[k * len(advance) // len(additions)]):
                m.d.sync += register.eq(value)
        return registers

    def _fetch(self, m, walk, addresses):
        """Addresses of the planes of every position, the highest plane first."""
        plane = Signal(range(self._planes))
        position = Signal(ADDRESS_BITS)    # the next position of the row
        taken = addresses.valid & addresses.ready
        next_row = taken & (plane == 0) & walk.row_end
        m.d.comb += [
            addresses.valid.eq(walk.active),
            walk.step.eq(taken & (plane == 0)),
            self.row_step.eq(self.start | next_row),
        ]
        target = Mux(self.start | walk.row_end, self.row_address, position)
        with m.If(taken):
            m.d.sync += [plane.eq(plane - 1), addresses.payload.eq(addresses.payload - 1)]
        with m.If(self.start | (taken & (plane == 0))):
            m.d.sync += [
                plane.eq(self._planes - 1),
                addresses.payload.eq(target),
                position.eq(target + self.position_stride),
            ]

    def _count(self, m, word, taken):
        """Set bits of the words, two cycles behind them."""
        level = [Mux(taken, bit, 0) for bit in word]
        step = 0
        while len(level) > 1:
            level = [sum(level[i:i + 2]) for i in range(0, len(level), 2)]
            step += 1
            if step == 3:                  # eights: a register in the middle of the tree
                level = [self._register(m, value) for value in level]
        m.d.sync += self.spikes.eq(level[0])

    @staticmethod
    def _register(m, value):
        register = Signal(Value.cast(value).shape(), name="spikes_part")
        m.d.sync += register.eq(value)
        return register
