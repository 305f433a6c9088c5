"""Depthwise unit: stride-1 depthwise convolution of levels or of exact partial sums."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import MEMORY_BITS
from hw.depthwise_accumulate import DepthwiseAccumulate
from hw.depthwise_level import LevelTaps
from hw.depthwise_partial import PartialTaps
from hw.descriptor import Depthwise, DepthwiseMode
from hw.port import PoolRead, PSUM_LATENCY, PsumRead, PsumWrite, Unit


__all__ = ["DepthwiseUnit"]


LEVEL_WEIGHT_BITS = 32
PARTIAL_WEIGHT_BITS = 16
"""A lane's weights of one kernel row in the stream."""

POSITION_BITS = 16
"""Bits of a product of a row number and a row stride: addresses wrap."""


class DepthwiseUnit(wiring.Component):
    """Unit for DEPTHWISE descriptors (docs/architecture.md).

    Bit-exact model: :func:`sim.reference.depthwise.depthwise`.

    One pass over the output rows per kernel row, that adds to the partial sums (the first kernel
    row inside the map writes instead), so that only the weights of one kernel row are held. A
    pass takes its weights from the stream, R/2 memory words (LEVEL) or R/4 (PARTIAL), when the
    pass before has written its last sum; it also takes them if it has no row to add. Events:
    LEVEL counts the set bits of the words read; PARTIAL counts 0. ``crc`` is 0. ``height``,
    ``width`` and ``out_rows`` are at least 1.

    Cycles without stalls, where n is the positions of the output rows that a kernel row adds to,
    summed over the kernel rows (its input row lies inside the map):

    - LEVEL: ``46 + (rows / 2 + 18) * (kernel - 1) + 3 * n``;
    - PARTIAL: ``79 + 4 * n``;

    plus at most one for each output row and kernel row whose input row lies above the map.

    Measured cost for ``rows=32`` alone in an LFE5U-85F-6: 10400 COMB, 10200 FF, 109 MHz (yosys
    0.70 without flattening, nextpnr 0.11.1).

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    control : ``In(Unit(Depthwise))``
    weights : ``In(stream.Signature(64))``
    pool : ``Out(PoolRead(config))``
    psum_read : ``Out(PsumRead(config, rows))``
    psum_write : ``Out(PsumWrite(config, rows))``
    """

    def __init__(self, *, config):
        self._config = config
        super().__init__({
            "control": In(Unit(Depthwise)),
            "weights": In(stream.Signature(MEMORY_BITS)),
            "pool": Out(PoolRead(config)),
            "psum_read": Out(PsumRead(config, config.rows)),
            "psum_write": Out(PsumWrite(config, config.rows)),
        })

    @property
    def config(self):
        return self._config

    def elaborate(self, platform):
        m = Module()

        control = self.control

        job = Signal(Depthwise)
        # Twice, for control and for wide data; another reset value keeps Yosys from merging them.
        partial, partial_data = Signal(), Signal(init=1)
        width_last = Signal(9)
        half = job.kernel[1:]
        kernel_row = Signal(3)
        last_kernel_row = Signal()

        # Where the pass of `kernel_row` finds row `first_row`: its input row and address.
        input_row = Signal(signed(10))
        origin = Signal(POSITION_BITS)
        pitch = Signal(POSITION_BITS)      # from row to row of the input
        factor = Signal(signed(POSITION_BITS))
        bits_left = Signal(range(POSITION_BITS))

        # The rows of this pass that lie inside the map.
        pass_input_row = Signal(signed(10))
        pass_address = Signal(POSITION_BITS)
        pass_psum = Signal(10)
        pass_rows = Signal(10)
        below = Signal(signed(11))         # rows from there to the end of the map
        initialise = Signal(2)

        start = Signal()
        load = Signal()
        loading = Signal()
        done = Signal()

        m.submodules.level = level = LevelTaps(config=self._config)
        m.submodules.partial = taps = PartialTaps(config=self._config)
        m.submodules.accumulate = accumulate = DepthwiseAccumulate(config=self._config)
        m.submodules.reads = reads = _MergeReads(config=self._config)
        wiring.connect(m, level.pool, wiring.flipped(self.pool))
        wiring.connect(m, accumulate.psum_read, reads.a)
        wiring.connect(m, taps.psum, reads.b)
        wiring.connect(m, reads.psum, wiring.flipped(self.psum_read))
        wiring.connect(m, accumulate.psum_write, wiring.flipped(self.psum_write))
        m.d.comb += [
            level.start.eq(start & ~partial),
            level.address.eq(pass_address),
            level.row_stride.eq(job.row_stride),
            level.position_stride.eq(job.position_stride),
            level.enable.eq(~loading),
            taps.start.eq(start & partial),
            taps.address.eq(pass_address),
            taps.enable.eq(~loading),
            accumulate.start.eq(start),
            accumulate.address.eq(pass_psum),
            accumulate.initialise.eq(initialise),
            accumulate.partial.eq(partial_data),
            accumulate.level_sums.eq(level.sums),
            accumulate.partial_sums.eq(taps.sums),
            accumulate.valid.eq(level.valid | taps.valid),
            accumulate.negative.eq(taps.negative),
            accumulate.last.eq(Mux(partial, taps.last, level.last)),
            accumulate.end.eq(Mux(partial, taps.end, level.end)),
        ]
        for part in (level, taps, accumulate):
            m.d.comb += [part.rows.eq(pass_rows), part.width_last.eq(width_last)]
        for part in (level, taps):
            m.d.comb += [
                part.advance.eq(accumulate.advance),
                part.advance_data.eq(accumulate.advance_data),
            ]

        self._load_weights(m, load=load, loading=loading, partial=partial, level=level, taps=taps)

        spikes = Signal(32)
        m.d.comb += [
            control.events.eq(spikes),
            control.crc.eq(0),
            control.done.eq(done),
            control.stall.pool.eq(self.pool.valid & ~self.pool.ready),
            control.stall.psum.eq((self.psum_read.valid & ~self.psum_read.ready)
                                  | (self.psum_write.valid & ~self.psum_write.ready)),
            control.stall.stream.eq(self.weights.ready & ~self.weights.valid),
            last_kernel_row.eq(kernel_row == job.kernel - 1),
        ]
        m.d.sync += [done.eq(0), start.eq(0), load.eq(0), spikes.eq(spikes + level.spikes)]

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += control.run.ready.eq(~done)
                m.d.sync += [job.eq(control.run.payload), kernel_row.eq(0), spikes.eq(0)]
                with m.If(control.run.valid & ~done):
                    m.d.sync += load.eq(1)
                    is_partial = control.run.p.mode == DepthwiseMode.PARTIAL
                    m.d.sync += [partial.eq(is_partial), partial_data.eq(is_partial)]
                    m.next = "PLACE_MAP"
            with m.State("PLACE_MAP"):
                m.d.sync += [
                    width_last.eq(job.width - 1),
                    input_row.eq(job.first_row - half),
                    pitch.eq(Mux(partial, job.width, job.row_stride)),
                    origin.eq(0),
                    bits_left.eq(POSITION_BITS - 1),
                ]
                m.next = "PLACE_ROW"
            with m.State("PLACE_ROW"):
                m.d.sync += factor.eq(input_row - Mux(partial, job.source_row, 0))
                m.next = "MULTIPLY"
            with m.State("MULTIPLY"):
                # Modulo 2**16, so that a negative row needs no care.
                m.d.sync += [
                    origin.eq((origin << 1) + Mux(factor[-1], pitch, 0)),
                    factor.eq(factor << 1),
                    bits_left.eq(bits_left - 1),
                ]
                with m.If(bits_left == 0):
                    m.next = "PLACE_SOURCE"
            with m.State("PLACE_SOURCE"):
                m.d.sync += origin.eq(origin + job.source)
                m.next = "PLACE_PASS"
            with m.State("PLACE_PASS"):
                m.d.sync += [
                    pass_input_row.eq(input_row),
                    # LevelTaps starts at the highest plane.
                    pass_address.eq(origin + Mux(partial, 0, 2)),
                    pass_psum.eq(job.psum),
                    pass_rows.eq(job.out_rows),
                ]
                m.next = "SKIP_ROWS"
            with m.State("SKIP_ROWS"):
                m.d.sync += below.eq(job.height - pass_input_row)
                with m.If((pass_input_row < 0) & (pass_rows != 0)):
                    m.d.sync += [
                        pass_input_row.eq(pass_input_row + 1),
                        pass_address.eq(pass_address + pitch),
                        pass_psum.eq(pass_psum + job.width),
                        pass_rows.eq(pass_rows - 1),
                    ]
                with m.Else():
                    m.next = "CUT_ROWS"
            with m.State("CUT_ROWS"):
                m.d.sync += initialise.eq(Cat(pass_input_row == 0, kernel_row == 0))
                with m.If(below < 0):
                    m.d.sync += pass_rows.eq(0)
                with m.Elif(below < pass_rows):
                    m.d.sync += pass_rows.eq(below)
                m.next = "START"
            with m.State("START"):
                with m.If(pass_rows == 0):
                    m.next = "NEXT"
                with m.Else():
                    m.d.sync += start.eq(1)
                    m.next = "RUN"
            with m.State("RUN"):
                with m.If(accumulate.finish):
                    m.next = "NEXT"
            with m.State("NEXT"):
                with m.If(~load & ~loading):
                    m.d.sync += [
                        kernel_row.eq(kernel_row + 1),
                        input_row.eq(input_row + 1),
                        origin.eq(origin + pitch),
                        done.eq(last_kernel_row),
                        load.eq(~last_kernel_row),
                    ]
                    m.next = "PLACE_PASS"
                    with m.If(last_kernel_row):
                        m.next = "IDLE"

        return m

    def _load_weights(self, m, *, load, loading, partial, level, taps):
        """Shift the weights of a kernel row in from the stream, the last lanes at the far end.

        ``load`` is high for a cycle while nothing is computed, ``loading`` from the next one on.
        """
        rows = self._config.rows
        per_word = MEMORY_BITS // LEVEL_WEIGHT_BITS, MEMORY_BITS // PARTIAL_WEIGHT_BITS
        level_weights = Signal(level.weights.shape(), reset_less=True)
        partial_weights = Signal(taps.weights.shape(), reset_less=True)
        words_left = Signal(range(rows // per_word[0]))
        taken = self.weights.valid & self.weights.ready
        m.d.comb += [
            self.weights.ready.eq(loading),
            level.weights.eq(level_weights),
            taps.weights.eq(partial_weights),
        ]
        with m.If(load):
            m.d.sync += [
                loading.eq(1),
                words_left.eq(Mux(partial, rows // per_word[1], rows // per_word[0]) - 1),
            ]
        with m.If(taken):
            m.d.sync += words_left.eq(words_left - 1)
            with m.If(words_left == 0):
                m.d.sync += loading.eq(0)
        for mode, weights, lanes, bits in (
                (~partial, level_weights, per_word[0], LEVEL_WEIGHT_BITS),
                (partial, partial_weights, per_word[1], PARTIAL_WEIGHT_BITS)):
            width = len(Value.cast(weights[0]))
            word = Cat(self.weights.payload.word_select(i, bits)[:width] for i in range(lanes))
            with m.If(taken & mode):
                m.d.sync += weights.eq(Cat(Value.cast(weights)[lanes * width:], word))


class _MergeReads(wiring.Component):
    """Two readers of the partial sums on one port; ``a`` goes first."""

    def __init__(self, *, config):
        super().__init__({
            "a": In(PsumRead(config, config.rows)),
            "b": In(PsumRead(config, config.rows)),
            "psum": Out(PsumRead(config, config.rows)),
        })

    def elaborate(self, platform):
        m = Module()

        a, b, psum = self.a, self.b, self.psum
        # A refused request must not change: the choice is kept.
        held, held_b = Signal(), Signal()
        choose_b = Mux(held, held_b, ~a.valid)
        from_b = Signal(PSUM_LATENCY)
        m.d.comb += [
            psum.valid.eq(a.valid | b.valid),
            psum.address.eq(Mux(choose_b, b.address, a.address)),
            a.ready.eq(psum.ready & ~choose_b),
            b.ready.eq(psum.ready & choose_b),
            a.data.eq(psum.data),
            b.data.eq(psum.data),
            a.data_valid.eq(psum.data_valid & ~from_b[-1]),
            b.data_valid.eq(psum.data_valid & from_b[-1]),
        ]
        m.d.sync += [
            held.eq(psum.valid & ~psum.ready),
            held_b.eq(choose_b),
            from_b.eq(Cat(b.valid & choose_b, from_b)),
        ]

        return m
