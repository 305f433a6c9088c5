"""Depthwise unit: stride-1 depthwise convolution of levels or of exact partial sums."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import LEVEL_PLANES, MEMORY_BITS
from hw.depthwise.accumulate import DepthwiseAccumulate
from hw.depthwise.level import LevelTaps, TAPS, WEIGHT_BITS
from hw.depthwise.partial import PartialTaps
from hw.depthwise.walk import InputRows, ROW_BITS
from hw.descriptor import Depthwise, DepthwiseMode, RING_UNIT
from hw.lib.spread import spread
from hw.port import PoolRead, PsumHalf, PsumRead, Unit


__all__ = ["DepthwiseUnit"]


LANE_BITS = 32
"""A lane's weights of one kernel row in the stream."""


class DepthwiseUnit(wiring.Component):
    """Unit for DEPTHWISE descriptors (docs/architecture.md).

    Bit-exact model: :func:`sim.reference.depthwise.depthwise`.

    One pass over the output rows per kernel row and half of the ``rows`` channels, that
    adds to the partial sums (the first kernel row inside the map writes instead), so that
    datapath, window and weights exist for one lane group, and weights for one kernel row. A pass
    takes its weights from the stream, ``depthwise_lanes / 2`` memory words, as soon as the pass
    before needs its own no more; it also takes them if it has no row to add. Events: LEVEL
    counts the set bits of the words read; PARTIAL counts 0. ``sig`` is 0. ``height``, ``width``
    and ``out_rows`` are at least 1.

    Cycles without stalls, where n is the positions of the output rows that a kernel row adds to,
    summed over the kernel rows (its input row lies inside the map), and a lane group needs

    - LEVEL: ``max(18, depthwise_lanes / 2 + 6) * kernel + 3 * n``;
    - PARTIAL: ``max(17, depthwise_lanes / 2 + 9) * kernel + 4 * n``;

    plus at most one for each output row and kernel row whose input row lies above the map: the
    sum over the lane groups + 33, of LEVEL + 34.

    Cost, its part of whole netlists (yosys): 3,930 COMB and 5,140 FF with 32 rows, 6,870 and 9,600
    with 64.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    control : ``In(Unit(Depthwise))``
    weights : ``In(stream.Signature(64))``
    pool : ``Out(PoolRead(config))``
    psum_read : ``Out(PsumRead(config, depthwise_lanes))``
        Inputs of PARTIAL.
    psum : ``Out(PsumHalf(config))``
        Results.
    """

    def __init__(self, *, config):
        self._config = config
        super().__init__({
            "control": In(Unit(Depthwise)),
            "weights": In(stream.Signature(MEMORY_BITS)),
            "pool": Out(PoolRead(config)),
            "psum_read": Out(PsumRead(config, config.depthwise_lanes)),
            "psum": Out(PsumHalf(config)),
        })

    @property
    def config(self):
        return self._config

    def elaborate(self, platform):
        m = Module()

        control = self.control
        job = Signal(Depthwise)
        partial = Signal()
        width_last = Signal(9)
        half = job.kernel[1:]
        kernel_row = Signal(3)
        last_kernel_row = Signal()
        group = Signal()
        last_group = Signal()
        pool_group, psum_group = Signal.like(group), Signal.like(group)    # of passes under way

        # The rows of this pass that lie inside the map.
        pass_psum = Signal(10)
        pass_rows = Signal(10)
        below = Signal(signed(ROW_BITS + 1))    # rows from there to the end of the map

        first_of_map = Signal()            # their first one
        has_ring = Signal()

        load = Signal()
        loading = Signal()
        idle = Signal()                    # nothing needs weights, and none are on their way
        early = Signal()                   # LevelTaps reads ahead while the last sums are written
        enable = Signal()
        done = Signal()

        m.submodules.rows = rows = InputRows()
        m.submodules.level = level = LevelTaps(config=self._config)
        m.submodules.partial = taps = PartialTaps(config=self._config)
        m.submodules.accumulate = accumulate = DepthwiseAccumulate(config=self._config)
        wiring.connect(m, level.pool, wiring.flipped(self.pool))
        wiring.connect(m, taps.psum, wiring.flipped(self.psum_read))
        wiring.connect(m, accumulate.psum, wiring.flipped(self.psum))
        m.d.comb += [
            rows.first.eq(job.first_row - half),
            rows.source_row.eq(Mux(partial, job.source_row, 0)),
            rows.pitch.eq(Mux(partial, job.width, job.row_stride)),
            rows.ring.eq(job.ring * RING_UNIT),
            rows.step.eq(level.row_step),
            level.row_address.eq(rows.address),
            level.group.eq(pool_group),
            level.position_stride.eq(job.position_stride),
            taps.address.eq(rows.address),
            taps.advance_next.eq(accumulate.advance_next),
            accumulate.address.eq(pass_psum),
            accumulate.halves.eq(level.halves),
            accumulate.window.eq(taps.window),
            accumulate.use.eq(taps.use),
            accumulate.negative.eq(taps.negative),
            accumulate.valid.eq(level.valid | taps.valid),
            accumulate.last.eq(level.last | taps.last),
            accumulate.end.eq(level.end | taps.end),
            self.psum_read.group.eq(psum_group),
            accumulate.group.eq(psum_group),
            idle.eq(~level.active & ~taps.active & accumulate.advance & ~load & ~loading),
        ]
        for part in (level, taps, accumulate):
            m.d.comb += [part.rows.eq(pass_rows), part.width_last.eq(width_last)]
        for part in (level, taps):
            m.d.comb += [
                part.enable.eq(enable),
                part.advance.eq(accumulate.advance),
                part.advance_lanes.eq(accumulate.advance_lanes),
            ]

        self._load_weights(m, load=load, loading=loading, targets=(level.weights, taps.weights))

        spikes = Signal(32)
        m.d.comb += [
            control.events.eq(spikes),
            control.sig.eq(0),
            control.done.eq(done),
            control.stall.pool.eq(self.pool.valid & ~self.pool.ready),
            control.stall.psum.eq((self.psum_read.valid & ~self.psum_read.ready)
                                  | accumulate.waiting),
            control.stall.stream.eq(self.weights.ready & ~self.weights.valid),
            last_kernel_row.eq(kernel_row == job.kernel - 1),
            last_group.eq(group),
        ]
        m.d.sync += [
            done.eq(0), load.eq(0), spikes.eq(spikes + level.spikes),
            level.start.eq(0), taps.start.eq(0), accumulate.start.eq(0),
            enable.eq(~loading & ~early),
            # LevelTaps starts at the highest plane.
            rows.source.eq(job.source + Mux(partial, 0, LEVEL_PLANES - 1)),
        ]

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += control.run.ready.eq(~done)
                m.d.sync += [
                    job.eq(control.run.payload),
                    partial.eq(control.run.p.mode == DepthwiseMode.PARTIAL),
                    kernel_row.eq(0),
                    group.eq(0),
                    spikes.eq(0),
                ]
                with m.If(control.run.valid & ~done):
                    m.next = "PLACE_MAP"
            with m.State("PLACE_MAP"):
                m.d.comb += rows.place.eq(1)
                m.d.sync += [width_last.eq(job.width - 1), has_ring.eq(job.ring != 0)]
                m.next = "PLACE_PASS"
            with m.State("PLACE_PASS"):
                m.d.comb += rows.rewind.eq(1)
                m.d.sync += [pass_psum.eq(job.psum), pass_rows.eq(job.out_rows)]
                with m.If(rows.ready):
                    m.next = "SKIP_ROWS"
            with m.State("SKIP_ROWS"):
                m.d.sync += below.eq(job.height - rows.row)
                with m.If((rows.row < 0) & ~has_ring & (pass_rows != 0)):
                    m.d.comb += rows.step.eq(1)
                    m.d.sync += [
                        pass_psum.eq(pass_psum + job.width),
                        pass_rows.eq(pass_rows - 1),
                    ]
                with m.Else():
                    m.next = "CUT_ROWS"
            with m.State("CUT_ROWS"):
                m.d.sync += first_of_map.eq((rows.row == 0) & ~has_ring)
                with m.If(below < 0):
                    m.d.sync += pass_rows.eq(0)
                with m.Elif(below < pass_rows):
                    m.d.sync += pass_rows.eq(below)
                m.next = "WAIT_TAPS"
            with m.State("WAIT_TAPS"):
                # Nothing needs the weights of the pass before any more.
                with m.If(idle):
                    m.d.sync += load.eq(1)
                    m.next = "NEXT"
                    with m.If(pass_rows != 0):
                        m.d.sync += [level.start.eq(~partial), pool_group.eq(group), early.eq(1)]
                        m.next = "WAIT_SUMS"
            with m.State("WAIT_SUMS"):
                with m.If(~accumulate.busy):
                    m.d.sync += [
                        taps.start.eq(partial), accumulate.start.eq(1), early.eq(0),
                        psum_group.eq(group),
                        accumulate.initialise.eq(Cat(first_of_map, kernel_row == 0)),
                    ]
                    m.next = "FETCH"
            with m.State("FETCH"):
                with m.If(~level.fetching):
                    m.next = "NEXT"
            with m.State("NEXT"):
                m.d.sync += group.eq(group + 1)
                m.next = "PLACE_PASS"
                with m.If(last_group):
                    m.d.comb += rows.advance.eq(1)
                    m.d.sync += [group.eq(0), kernel_row.eq(kernel_row + 1)]
                    with m.If(last_kernel_row):
                        m.next = "FINISH"
            with m.State("FINISH"):
                with m.If(idle & ~accumulate.busy):
                    m.d.sync += done.eq(1)
                    m.next = "IDLE"

        return m

    def _load_weights(self, m, *, load, loading, targets):
        """Shift the weights of a pass in from the stream, the last lanes at the far end.

        ``load`` is high for a cycle while nothing is computed, ``loading`` from the next one on.
        """
        lanes = self._config.depthwise_lanes
        per_word = MEMORY_BITS // LANE_BITS
        weights = Signal(data.ArrayLayout(data.ArrayLayout(WEIGHT_BITS, TAPS), lanes),
                         reset_less=True)
        words_left = Signal(range(lanes // per_word + 1))
        # The shift enables all weights: it comes from registers for halves of the lanes, two cycles
        # after the transfer. Nobody looks at weights as early as that after `loading`.
        word, shift = Signal(MEMORY_BITS, reset_less=True), Signal()
        shifts = spread(m, "lanes_shift", shift, steps=1, most=2)
        shifted = Signal(MEMORY_BITS, reset_less=True)
        m.d.comb += [
            *(target.eq(weights) for target in targets),
        ]
        m.d.sync += [word.eq(self.weights.payload), shifted.eq(word), shift.eq(0)]
        # `ready` is a register: words_left != 0.
        with m.If(load):
            m.d.sync += [loading.eq(1), words_left.eq(lanes // per_word), self.weights.ready.eq(1)]
        with m.Elif(self.weights.valid & self.weights.ready):
            m.d.sync += [shift.eq(1), words_left.eq(words_left - 1),
                         self.weights.ready.eq(words_left != 1)]
        with m.Elif(words_left == 0):
            m.d.sync += loading.eq(0)
        arrived = [shifted.word_select(i, LANE_BITS)[:WEIGHT_BITS * TAPS] for i in range(per_word)]
        following = [*(weights[lane] for lane in range(per_word, lanes)), *arrived]
        for lane, value in enumerate(following):
            with m.If(shifts[2 * lane // lanes]):
                m.d.sync += weights[lane].eq(value)
