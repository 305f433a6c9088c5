"""Depthwise datapath for spike levels: one plane of one position per cycle."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import LEVEL_PLANES
from hw.depthwise_walk import Walk
from hw.pool_prefetch import PoolPrefetch
from hw.port import PoolRead


__all__ = ["LevelTaps", "LEVEL_SUM_BITS"]


TAPS = 7
CENTRE = TAPS // 2
WEIGHT_BITS = 4
LEVEL_SUM_BITS = 7
"""Seven weights of -8..7: -56..49."""


class LevelTaps(wiring.Component):
    """Sums of seven horizontal taps per lane, plane by plane, the highest first.

    The positions of all rows form one sequence, so that a row costs no filling: taps that fall
    beyond the ends of their row are masked. A single delay line of 3 * 7 words serves the three
    planes. Three cycles per position and 9 to fill the line, if words come and sums are taken.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    start : ``In(1)``
        Begin a pass; ``address``, ``row_stride``, ``position_stride``, ``rows`` and
        ``width_last`` are stable until its last sum is taken.
    address : ``In(16)``
        The highest plane of the first position of the first row.
    enable : ``In(1)``
        ``weights`` are valid; low may only delay the sums.
    weights : ``In(ArrayLayout(ArrayLayout(signed(4), 7), rows))``
    advance, advance_data : ``In(1)``
        The sums, valid or not, are taken; twice the same, for control and for wide data.
    sums : ``Out(ArrayLayout(signed(7), rows))``
        Two additions behind registers.
    valid, last, end : ``Out(1)``
        Sums are valid, of the lowest plane, of the last position too.
    spikes : ``Out(range(rows + 1))``
        Set bits of a word taken from the pool, 0 in a cycle without one.
    pool : ``Out(PoolRead(config))``
    """

    def __init__(self, *, config):
        self._config = config
        super().__init__({
            "start": In(1),
            "address": In(16),
            "row_stride": In(16),
            "position_stride": In(12),
            "rows": In(9),
            "width_last": In(9),
            "enable": In(1),
            "weights": In(data.ArrayLayout(data.ArrayLayout(signed(WEIGHT_BITS), TAPS),
                                           config.rows)),
            "advance": In(1),
            "advance_data": In(1),
            "sums": Out(data.ArrayLayout(signed(LEVEL_SUM_BITS), config.rows)),
            "valid": Out(1),
            "last": Out(1),
            "end": Out(1),
            "spikes": Out(range(config.rows + 1)),
            "pool": Out(PoolRead(config)),
        })

    @property
    def config(self):
        return self._config

    def elaborate(self, platform):
        m = Module()

        rows = self._config.rows
        m.submodules.prefetch = prefetch = PoolPrefetch(config=self._config)
        m.submodules.input = read = Walk()
        m.submodules.output = output = Walk()
        wiring.connect(m, prefetch.pool, wiring.flipped(self.pool))
        for walk in (read, output):
            m.d.comb += [
                walk.start.eq(self.start),
                walk.rows.eq(self.rows),
                walk.width_last.eq(self.width_last),
            ]
        self._fetch(m, read, prefetch.addresses)

        # Words into the line. Behind the last position anything may follow: it is masked.
        plane = Signal(range(LEVEL_PLANES))
        fill = Signal(range(CENTRE + 1))
        ready = Signal()
        step = Signal()
        drained = Signal()
        m.d.sync += drained.eq(prefetch.empty & ~read.active & ~self.start)
        m.d.comb += [
            ready.eq(self.enable & self.advance & output.active),
            prefetch.words.ready.eq(ready),
            step.eq(ready & (prefetch.words.valid | drained)),
            output.step.eq(step & (plane == 0) & (fill == 0)),
        ]
        line = Signal(data.ArrayLayout(rows, LEVEL_PLANES * (TAPS - 1) + 1))
        left_mask = Signal(CENTRE)
        with m.If(self.start):
            m.d.sync += [plane.eq(LEVEL_PLANES - 1), fill.eq(CENTRE), left_mask.eq(0)]
        with m.Elif(step):
            m.d.sync += [
                line.eq(Cat(prefetch.words.payload, line)),
                plane.eq(Mux(plane == 0, LEVEL_PLANES - 1, plane - 1)),
            ]
            with m.If((plane == 0) & (fill != 0)):
                m.d.sync += fill.eq(fill - 1)
            with m.If(output.step):
                m.d.sync += left_mask.eq(Mux(output.row_end, 0, Cat(1, left_mask)))

        # Line -> pairs -> sums.
        mask = Signal(TAPS)
        line_valid, line_last, line_end = Signal(), Signal(), Signal()
        pairs = [Signal(data.ArrayLayout(signed(WEIGHT_BITS + 1), TAPS // 2 + 1), name=f"pairs_{j}")
                 for j in range(rows)]
        with m.If(self.advance_data):
            m.d.sync += [
                line_valid.eq(step & (fill == 0)),
                line_last.eq(plane == 0),
                line_end.eq(output.end),
                # Left taps by the positions passed, right taps by the positions to come.
                mask.eq(Cat(left_mask[::-1], 1, (output.x_left > t for t in range(CENTRE)))),
                self.valid.eq(line_valid),
                self.last.eq(line_last),
                self.end.eq(line_end),
            ]
            for j in range(rows):
                terms = [self.weights[j][t]
                         & (line[LEVEL_PLANES * (TAPS - 1 - t)][j] & mask[t])
                         .replicate(WEIGHT_BITS).as_signed() for t in range(TAPS)]
                terms.append(C(0, 1))
                m.d.sync += (pairs[j][t // 2].eq(terms[t] + terms[t + 1])
                             for t in range(0, TAPS + 1, 2))
        for j in range(rows):
            p = pairs[j]
            m.d.comb += self.sums[j].eq((p[0] + p[1]) + (p[2] + p[3]))

        self._count(m, prefetch.words)

        return m

    def _fetch(self, m, walk, addresses):
        """Addresses of the planes of every position, the highest plane first."""
        plane = Signal(range(LEVEL_PLANES))
        position = Signal(16)              # the next position of the row
        row = Signal(16)                   # the next row
        taken = addresses.valid & addresses.ready
        m.d.comb += [
            addresses.valid.eq(walk.active),
            walk.step.eq(taken & (plane == 0)),
        ]
        with m.If(self.start):
            m.d.sync += [
                plane.eq(LEVEL_PLANES - 1),
                addresses.payload.eq(self.address),
                position.eq(self.address + self.position_stride),
                row.eq(self.address + self.row_stride),
            ]
        with m.Elif(taken):
            m.d.sync += [plane.eq(plane - 1), addresses.payload.eq(addresses.payload - 1)]
            with m.If(plane == 0):
                target = Mux(walk.row_end, row, position)
                m.d.sync += [
                    plane.eq(LEVEL_PLANES - 1),
                    addresses.payload.eq(target),
                    position.eq(target + self.position_stride),
                ]
                with m.If(walk.row_end):
                    m.d.sync += row.eq(row + self.row_stride)

    def _count(self, m, words):
        """Set bits of the words, two cycles late."""
        taken = words.valid & words.ready
        level = [Mux(taken, bit, 0) for bit in words.payload]
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
