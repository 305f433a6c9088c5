"""Depthwise unit: stride-1 depthwise convolution of levels or of exact partial sums."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import MEMORY_BITS
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


class _State:
    """The descriptor and its passes: signals that the parts of :class:`DepthwiseUnit` share."""

    def __init__(self):
        self.job = Signal(Depthwise)
        self.partial = Signal()
        self.width_last = Signal(9)
        self.group = Signal()
        pool_group, psum_group = Signal.like(self.group), Signal.like(self.group)
        self.pool_group, self.psum_group = pool_group, psum_group    # of passes under way

        # The rows of this pass that lie inside the map.
        self.pass_psum = Signal(10)
        self.pass_rows = Signal(10)

        self.load = Signal()
        self.loading = Signal()
        self.idle = Signal()               # nothing needs weights, and none are on their way
        self.early = Signal()              # LevelTaps reads ahead while the last sums are written
        self.enable = Signal()
        self.done = Signal()
        self.spikes = Signal(32)


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

    - LEVEL: ``max(9 + 3 * p, depthwise_lanes / 2 + 6) * kernel + p * n``, p = ``level_planes``;
    - PARTIAL: ``max(17, depthwise_lanes / 2 + 9) * kernel + 4 * n``;

    plus at most one for each output row and kernel row whose input row lies above the map: the
    sum over the lane groups + 33, of LEVEL + 34. With ``half`` there is one lane group only.

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

        m.submodules.rows = rows = InputRows()
        m.submodules.level = level = LevelTaps(config=self._config)
        m.submodules.partial = taps = PartialTaps(config=self._config)
        m.submodules.accumulate = accumulate = DepthwiseAccumulate(config=self._config)

        state = _State()
        self._connect(m, state, rows, level, taps, accumulate)
        self._load_weights(m, load=state.load, loading=state.loading,
                           targets=(level.weights, taps.weights))
        m.d.comb += [
            self.control.events.eq(state.spikes),
            self.control.sig.eq(0),
            self.control.done.eq(state.done),
            self.control.stall.pool.eq(self.pool.valid & ~self.pool.ready),
            self.control.stall.psum.eq((self.psum_read.valid & ~self.psum_read.ready)
                                       | accumulate.waiting),
            self.control.stall.stream.eq(self.weights.ready & ~self.weights.valid),
        ]
        self._passes(m, state, rows, level, taps, accumulate)

        return m

    def _connect(self, m, state, rows, level, taps, accumulate):
        """Connect the parts of the datapath with each other, the memories and the pass."""
        job = state.job
        wiring.connect(m, level.pool, wiring.flipped(self.pool))
        wiring.connect(m, taps.psum, wiring.flipped(self.psum_read))
        wiring.connect(m, accumulate.psum, wiring.flipped(self.psum))
        m.d.comb += [
            rows.first.eq(job.first_row - job.kernel[1:]),
            rows.source_row.eq(Mux(state.partial, job.source_row, 0)),
            rows.pitch.eq(Mux(state.partial, job.width, job.row_stride)),
            rows.ring.eq(job.ring * RING_UNIT),
            rows.step.eq(level.row_step),
            level.row_address.eq(rows.address),
            level.group.eq(state.pool_group),
            level.position_stride.eq(job.position_stride),
            taps.address.eq(rows.address),
            taps.advance_next.eq(accumulate.advance_next),
            accumulate.address.eq(state.pass_psum),
            accumulate.halves.eq(level.halves),
            accumulate.window.eq(taps.window),
            accumulate.use.eq(taps.use),
            accumulate.negative.eq(taps.negative),
            accumulate.valid.eq(level.valid | taps.valid),
            accumulate.last.eq(level.last | taps.last),
            accumulate.end.eq(level.end | taps.end),
            self.psum_read.group.eq(state.psum_group),
            accumulate.group.eq(state.psum_group),
            state.idle.eq(~level.active & ~taps.active & accumulate.advance
                          & ~state.load & ~state.loading),
        ]
        for part in (level, taps, accumulate):
            m.d.comb += [part.rows.eq(state.pass_rows), part.width_last.eq(state.width_last)]
        for part in (level, taps):
            m.d.comb += [
                part.enable.eq(state.enable),
                part.advance.eq(accumulate.advance),
                part.advance_lanes.eq(accumulate.advance_lanes),
            ]

    def _passes(self, m, state, rows, level, taps, accumulate):
        """Take a descriptor and begin its passes, one per kernel row and half of the channels."""
        control, job = self.control, state.job
        kernel_row = Signal(3)
        last_kernel_row = Signal()
        last_group = Signal()
        below = Signal(signed(ROW_BITS + 1))    # rows from there to the end of the map
        first_of_map = Signal()            # their first one
        has_ring = Signal()

        m.d.comb += [
            last_kernel_row.eq(kernel_row == job.kernel - 1),
            last_group.eq((state.group | job.half) if self._config.depthwise_half else state.group),
        ]
        m.d.sync += [
            state.done.eq(0), state.load.eq(0), state.spikes.eq(state.spikes + level.spikes),
            level.start.eq(0), taps.start.eq(0), accumulate.start.eq(0),
            state.enable.eq(~state.loading & ~state.early),
            # LevelTaps starts at the highest plane.
            rows.source.eq(job.source + Mux(state.partial, 0, self._config.level_planes - 1)),
        ]

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += control.run.ready.eq(~state.done)
                m.d.sync += [
                    job.eq(control.run.payload),
                    state.partial.eq(control.run.p.mode == DepthwiseMode.PARTIAL),
                    kernel_row.eq(0),
                    state.group.eq(0),
                    state.spikes.eq(0),
                ]
                with m.If(control.run.valid & ~state.done):
                    m.next = "PLACE_MAP"
            with m.State("PLACE_MAP"):
                m.d.comb += rows.place.eq(1)
                m.d.sync += [state.width_last.eq(job.width - 1), has_ring.eq(job.ring != 0)]
                m.next = "PLACE_PASS"
            with m.State("PLACE_PASS"):
                m.d.comb += rows.rewind.eq(1)
                m.d.sync += [state.pass_psum.eq(job.psum), state.pass_rows.eq(job.out_rows)]
                with m.If(rows.ready):
                    m.next = "SKIP_ROWS"
            with m.State("SKIP_ROWS"):
                m.d.sync += below.eq(job.height - rows.row)
                with m.If((rows.row < 0) & ~has_ring & (state.pass_rows != 0)):
                    m.d.comb += rows.step.eq(1)
                    m.d.sync += [
                        state.pass_psum.eq(state.pass_psum + job.width),
                        state.pass_rows.eq(state.pass_rows - 1),
                    ]
                with m.Else():
                    m.next = "CUT_ROWS"
            with m.State("CUT_ROWS"):
                m.d.sync += first_of_map.eq((rows.row == 0) & ~has_ring)
                with m.If(below < 0):
                    m.d.sync += state.pass_rows.eq(0)
                with m.Elif(below < state.pass_rows):
                    m.d.sync += state.pass_rows.eq(below)
                m.next = "WAIT_TAPS"
            with m.State("WAIT_TAPS"):
                # Nothing needs the weights of the pass before any more.
                with m.If(state.idle):
                    m.d.sync += state.load.eq(1)
                    m.next = "NEXT"
                    with m.If(state.pass_rows != 0):
                        m.d.sync += [
                            level.start.eq(~state.partial),
                            state.pool_group.eq(state.group),
                            state.early.eq(1),
                        ]
                        m.next = "WAIT_SUMS"
            with m.State("WAIT_SUMS"):
                with m.If(~accumulate.busy):
                    m.d.sync += [
                        taps.start.eq(state.partial), accumulate.start.eq(1), state.early.eq(0),
                        state.psum_group.eq(state.group),
                        accumulate.initialise.eq(Cat(first_of_map, kernel_row == 0)),
                    ]
                    m.next = "FETCH"
            with m.State("FETCH"):
                with m.If(~level.fetching):
                    m.next = "NEXT"
            with m.State("NEXT"):
                m.d.sync += state.group.eq(state.group + 1)
                m.next = "PLACE_PASS"
                with m.If(last_group):
                    m.d.comb += rows.advance.eq(1)
                    m.d.sync += [state.group.eq(0), kernel_row.eq(kernel_row + 1)]
                    with m.If(last_kernel_row):
                        m.next = "FINISH"
            with m.State("FINISH"):
                with m.If(state.idle & ~accumulate.busy):
                    m.d.sync += state.done.eq(1)
                    m.next = "IDLE"

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
