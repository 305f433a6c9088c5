"""ArrayUnit: the ARRAY unit, SpikeArray passes over the positions of a strip."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.array.reader import ArrayReader
from hw.array.spike_array import SpikeArray
from hw.array.table_loader import TableLoader
from hw.descriptor import Array
from hw.lib.plane_repeat import RepeatRead
from hw.port import PoolRead, PSUM_ADD_LATENCY, PSUM_ROW_DATA, PsumRow, Unit


__all__ = ["ArrayUnit"]


class _Tiles:
    """The descriptor in the unit, and where its tiles are."""

    def __init__(self):
        self.descriptor = Signal(Array)
        self.begin = Signal()
        self.fetches_left = Signal(14)
        self.tiles_left = Signal(14)
        self.more_tiles = Signal()          # a header comes next
        self.running = Signal()
        self.drained = Signal(init=1)
        self.accumulate = Signal()
        self.finish = Signal()
        self.settled = Signal()             # nothing of the tile before is in flight
        self.started = Signal()


class ArrayUnit(wiring.Component):
    """Run ARRAY descriptors (docs/architecture.md): tiles of weights over a strip of positions.

    Bit-exact model: :func:`sim.reference.array.run_array`; cycles:
    :func:`sim.reference.array.array_cycles`.

    A tile's tables are loaded in ``17 * rows / load_rows`` cycles, behind the last lookup of
    the tile before it, while that one's results drain; its first set of rows and its first spike
    words are fetched earlier. A tile then looks up a plane per cycle. Without stalls
    the period of a tile is its lookups + ``17 * rows / load_rows + 1`` cycles.

    An addition to the partial sums is announced ``PSUM_ROW_DATA`` cycles before its sums are ready.
    The positions of a tile are distinct, and a tile waits until the last addition of the one
    before was made, so none is read before it is written.

    Nothing stops the array on its way: the partial sums serve it at once, ahead of all others.
    The pool may stall at any time.

    ``events``: set bits of the words looked up. ``sig`` is 0.

    Parameters
    ----------
    config : :class:`hw.config.CoreConfig`

    Members
    -------
    control : ``In(Unit(Array))``
        ``out_rows`` and ``out_width`` must be at least 1, ``planes`` at least 2 (a position takes
        two cycles of the partial sums), ``out_rows * out_width`` at most ``psum_words``.
    weights : ``In(stream.Signature(weight_bits))``
        Weight tiles with headers, a header in the lowest bits of a word. Nothing is taken beyond
        the descriptor's tiles.
    pool : ``Out(PoolRead(config))``
    psum : ``Out(PsumRow(config))``
    repeats : ``Out(RepeatRead())``
        Planes to leave out; with ``plane_skip`` only.
    """

    def __init__(self, config):
        self._config = config

        super().__init__({
            "control": In(Unit(Array)),
            "weights": In(stream.Signature(config.weight_bits)),
            "pool": Out(PoolRead(config)),
            "psum": Out(PsumRow(config)),
            **({"repeats": Out(RepeatRead())} if config.plane_skip else {}),
        })

    @property
    def config(self):
        return self._config

    def elaborate(self, platform):
        m = Module()

        config = self._config
        control = self.control
        m.submodules.reader = reader = ArrayReader(config)
        m.submodules.loader = loader = TableLoader(
            rows=config.rows, load_rows=config.load_rows, word_bits=config.weight_bits)
        m.submodules.array = array = SpikeArray(rows=config.rows, acc_bits=config.acc_bits,
                                                load_rows=config.load_rows)
        wiring.connect(m, reader.pool, wiring.flipped(self.pool))

        now = _Tiles()
        m.d.comb += [
            reader.descriptor.eq(now.descriptor),
            reader.begin.eq(now.begin),
            control.events.eq(reader.events),
        ]

        if config.plane_skip:
            wiring.connect(m, reader.repeats, wiring.flipped(self.repeats))

        self._weights(m, now, reader, loader)
        m.d.comb += [
            reader.o.ready.eq(now.running & now.settled),
            now.finish.eq(reader.o.valid & reader.o.ready
                          & reader.o.p.tag.plane & reader.o.p.tag.last),
        ]
        self._sequence(m, now, reader, loader)
        self._accumulate(m, now, reader)
        self._lookups(m, now, reader, loader, array)
        self._additions(m, now, reader, array)

        return m

    def _weights(self, m, now, reader, loader):
        """Weight stream: header to the reader, the rest of the tile to the loader."""
        # Its `ready` goes far, and is a register; it skips a cycle where the words change their
        # receiver.
        config = self._config
        weights = self.weights
        tile_words = config.tile_weight_words // config.tile_header_words
        words_left = Signal(range(tile_words + 1))
        in_tile = Signal()                          # words_left != 0
        taken = Signal()
        m.d.sync += now.more_tiles.eq((now.fetches_left != 0) & ~in_tile)
        m.d.comb += [
            taken.eq(weights.valid & weights.ready),
            loader.i.payload.eq(weights.payload),
            loader.i.valid.eq(taken & in_tile),
            reader.headers.payload.eq(weights.payload),
            reader.headers.valid.eq(taken & ~in_tile),
        ]
        m.d.sync += weights.ready.eq(Mux(
            in_tile, loader.room & ~(taken & (words_left == 1)),
            now.more_tiles & reader.headers.ready & ~taken))
        with m.If(taken & in_tile):
            m.d.sync += [words_left.eq(words_left - 1), in_tile.eq(words_left != 1)]
        with m.If(taken & ~in_tile):
            m.d.sync += [
                words_left.eq(tile_words), in_tile.eq(1),
                now.more_tiles.eq(0), now.fetches_left.eq(now.fetches_left - 1),
            ]

    def _sequence(self, m, now, reader, loader):
        """Take a descriptor, and load and run its tiles one after the other."""
        control = self.control
        with m.FSM(name="tiles"):
            with m.State("IDLE"):
                m.d.comb += control.run.ready.eq(1)
                m.d.sync += [
                    now.descriptor.eq(control.run.payload),
                    now.tiles_left.eq(control.run.p.tiles),
                    now.started.eq(0),
                ]
                if self._config.plane_skip:
                    planes = control.run.p.planes
                    some = planes[4] & planes[:4].any()
                    m.d.sync += [reader.skip_planes.eq(some),
                                 now.descriptor.planes[4].eq(planes[4] & ~some)]
                with m.If(control.run.valid):
                    m.d.sync += [
                        now.fetches_left.eq(control.run.p.tiles),
                        now.more_tiles.eq(control.run.p.tiles != 0),
                    ]
                    m.next = "BEGIN"
            with m.State("BEGIN"):
                m.d.comb += now.begin.eq(1)
                m.d.sync += now.accumulate.eq(now.descriptor.accumulate)
                m.next = "LOAD"
                with m.If(now.tiles_left == 0):
                    m.next = "DRAIN"
            with m.State("LOAD"):
                m.d.comb += [
                    loader.start.eq(1),
                    control.stall.stream.eq(loader.starved),
                ]
                with m.If(loader.done):
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += now.running.eq(1)
                with m.If(reader.o.valid & reader.o.ready & reader.o.p.tag.end):
                    m.d.sync += [
                        now.tiles_left.eq(now.tiles_left - 1),
                        now.started.eq(1),
                    ]
                    m.next = "LOAD"
                    with m.If(now.tiles_left == 1):
                        m.next = "DRAIN"
            with m.State("DRAIN"):
                with m.If(now.drained):
                    m.d.comb += control.done.eq(1)
                    m.next = "IDLE"

    def _accumulate(self, m, now, reader):
        """Add to the sums from the second tile on; the switch waits for the first to drain."""
        with m.If(reader.o.valid & reader.o.ready & reader.o.p.tag.end):
            m.d.sync += now.settled.eq(0)
        with m.Elif(now.drained):
            m.d.sync += now.settled.eq(1)
            with m.If(now.started):
                m.d.sync += now.accumulate.eq(1)

    def _lookups(self, m, now, reader, loader, array):
        """Give the array its planes and its tables; report what the unit waits for."""
        control, item = self.control, reader.o.p
        m.d.comb += [
            array.word.eq(item.word),
            array.plane.eq(reader.o.valid & reader.o.ready & item.tag.plane),
            array.last.eq(item.tag.last),
            array.negate.eq(item.tag.negate),
            array.entries.eq(loader.entries),
            array.entry_address.eq(loader.entry_address),
            array.entry_write.eq(loader.entry_write),
            control.stall.pool.eq(self.pool.valid & ~self.pool.ready),
            control.stall.psum.eq(now.running & reader.o.valid & ~now.settled),
        ]

    def _additions(self, m, now, reader, array):
        """Add the sums of finished positions, and know when all are added."""
        finished, address = [now.finish], [reader.o.p.tag.psum]
        for stage in range(array.latency - PSUM_ROW_DATA + PSUM_ADD_LATENCY + 2):
            finished.append(Signal(name=f"finish_{stage}"))
            m.d.sync += finished[-1].eq(finished[-2])
        announce = array.latency - PSUM_ROW_DATA
        for stage in range(announce):
            address.append(Signal(10, name=f"psum_{stage}", reset_less=True))
            m.d.sync += address[-1].eq(address[-2])
        m.d.comb += [
            self.psum.valid.eq(finished[announce]),
            self.psum.address.eq(address[announce]),
            self.psum.accumulate.eq(now.accumulate),
            self.psum.data.eq(array.sums),
        ]

        # `drained` is in_flight == 0, in a register, for much follows in its cycle.
        in_flight = Signal(range(len(finished) + 1))
        in_flight_next = Signal.like(in_flight)
        m.d.comb += in_flight_next.eq(in_flight + now.finish - finished[-1])
        m.d.sync += [in_flight.eq(in_flight_next), now.drained.eq(in_flight_next == 0)]
