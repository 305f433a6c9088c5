"""ArrayUnit: the ARRAY unit, SpikeArray passes over the positions of a strip."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.array_reader import ArrayReader
from hw.descriptor import Array
from hw.packed_add import guard_bit, packed_add
from hw.port import PoolRead, PSUM_LATENCY, PsumRead, PsumWrite, Unit
from hw.spike_array import SpikeArray
from hw.table_loader import TableLoader


__all__ = ["ArrayUnit"]


class ArrayUnit(wiring.Component):
    """Run ARRAY descriptors (docs/architecture.md): tiles of weights over a strip of positions.

    Bit-exact model: :func:`sim.reference.array.run_array`; cycles:
    :func:`sim.reference.array.array_cycles`.

    A tile's tables are loaded in ``17 * rows / load_columns`` cycles, behind the last lookup of
    the tile before it, while that one's results drain; its first column set and its first spike
    words are fetched earlier. A tile then looks up a plane per cycle. Without stalls
    the period of a tile is its lookups + ``17 * rows / load_columns + 1`` cycles.

    A partial sum is read ``PSUM_LATENCY + 1`` cycles before its sums are ready and written with
    them. The positions of a tile are distinct, and a tile waits until the last write of the one
    before was made, so none is read before it is written.

    Nothing stops the array on its way: the partial sums must serve it at once, ahead of all others.
    The pool may stall at any time.

    ``events``: set bits of the words looked up. ``sig`` is 0.

    Parameters
    ----------
    config : :class:`hw.config.CoreConfig`

    Members
    -------
    control : ``In(Unit(Array))``
        ``out_rows``, ``out_width`` and ``planes`` must be at least 1, ``out_rows * out_width``
        at most ``psum_words``.
    weights : ``In(stream.Signature(weight_bits))``
        Weight tiles with headers, a header in the lowest bits of a word. Nothing is taken beyond
        the descriptor's tiles.
    pool : ``Out(PoolRead(config))``
    psum_read : ``Out(PsumRead(config, rows))``
    psum_write : ``Out(PsumWrite(config, rows))``
        ``ready`` of both is not looked at: it must be high whenever ``valid`` is.
    """

    def __init__(self, config):
        self._config = config

        super().__init__({
            "control": In(Unit(Array)),
            "weights": In(stream.Signature(config.weight_bits)),
            "pool": Out(PoolRead(config)),
            "psum_read": Out(PsumRead(config, config.rows)),
            "psum_write": Out(PsumWrite(config, config.rows)),
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
            rows=config.rows, load_columns=config.load_columns, word_bits=config.weight_bits)
        m.submodules.array = array = SpikeArray(rows=config.rows, acc_bits=config.acc_bits,
                                                load_columns=config.load_columns)
        wiring.connect(m, reader.pool, wiring.flipped(self.pool))

        descriptor = Signal(Array)
        begin = Signal()
        fetches_left = Signal(14)
        tiles_left = Signal(14)
        m.d.comb += [
            reader.descriptor.eq(descriptor),
            reader.begin.eq(begin),
            control.events.eq(reader.events),
        ]

        # Weight stream: header to the reader, the rest of the tile to the loader.
        tile_words = config.tile_weight_words // config.tile_header_words
        words_left = Signal(range(tile_words + 1))
        in_tile = Signal()                          # words_left != 0
        more_tiles = Signal()                       # a header comes next
        m.d.sync += more_tiles.eq((fetches_left != 0) & ~in_tile)
        m.d.comb += [loader.i.payload.eq(self.weights.payload),
                     reader.headers.payload.eq(self.weights.payload)]
        with m.If(in_tile):
            m.d.comb += [loader.i.valid.eq(self.weights.valid),
                         self.weights.ready.eq(loader.i.ready)]
            with m.If(loader.i.valid & loader.i.ready):
                m.d.sync += [words_left.eq(words_left - 1), in_tile.eq(words_left != 1)]
        with m.Elif(more_tiles):
            m.d.comb += [
                reader.headers.valid.eq(self.weights.valid),
                self.weights.ready.eq(reader.headers.ready),
            ]
            with m.If(self.weights.valid & self.weights.ready):
                m.d.sync += [
                    words_left.eq(tile_words), in_tile.eq(1),
                    more_tiles.eq(0), fetches_left.eq(fetches_left - 1),
                ]

        running = Signal()
        drained = Signal(init=1)
        reading, unread = Signal(), Signal(init=1)  # each other's complement
        finish = Signal()
        item = reader.o.p
        settled = Signal()                          # nothing of the tile before is in flight
        started = Signal()
        m.d.comb += [
            reader.o.ready.eq(running & settled),
            finish.eq(reader.o.valid & reader.o.ready & item.tag.plane & item.tag.last),
        ]

        with m.FSM(name="tiles"):
            with m.State("IDLE"):
                m.d.comb += control.run.ready.eq(1)
                m.d.sync += [
                    descriptor.eq(control.run.payload),
                    tiles_left.eq(control.run.p.tiles),
                    started.eq(0),
                ]
                with m.If(control.run.valid):
                    m.d.sync += [
                        fetches_left.eq(control.run.p.tiles),
                        more_tiles.eq(control.run.p.tiles != 0),
                    ]
                    m.next = "BEGIN"
            with m.State("BEGIN"):
                m.d.comb += begin.eq(1)
                m.d.sync += [reading.eq(descriptor.accumulate), unread.eq(~descriptor.accumulate)]
                m.next = "LOAD"
                with m.If(tiles_left == 0):
                    m.next = "DRAIN"
            with m.State("LOAD"):
                m.d.comb += [
                    loader.start.eq(1),
                    control.stall.stream.eq(loader.starved),
                ]
                with m.If(loader.done):
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += running.eq(1)
                with m.If(reader.o.valid & reader.o.ready & item.tag.end):
                    m.d.sync += [
                        tiles_left.eq(tiles_left - 1),
                        started.eq(1),
                    ]
                    m.next = "LOAD"
                    with m.If(tiles_left == 1):
                        m.next = "DRAIN"
            with m.State("DRAIN"):
                with m.If(drained):
                    m.d.comb += control.done.eq(1)
                    m.next = "IDLE"

        # From the second tile on partial sums are read; the switch waits for the first to drain.
        with m.If(reader.o.valid & reader.o.ready & item.tag.end):
            m.d.sync += settled.eq(0)
        with m.Elif(drained):
            m.d.sync += settled.eq(1)
            with m.If(started):
                m.d.sync += [reading.eq(1), unread.eq(0)]

        m.d.comb += [
            array.word.eq(item.word),
            array.plane.eq(reader.o.valid & reader.o.ready & item.tag.plane),
            array.last.eq(item.tag.last),
            array.negate.eq(item.tag.negate),
            array.entries.eq(loader.entries),
            array.entry_address.eq(loader.entry_address),
            array.entry_write.eq(loader.entry_write),
            control.stall.pool.eq(self.pool.valid & ~self.pool.ready),
            control.stall.psum.eq(running & reader.o.valid & ~settled),
        ]
        self._finish(m, array, finish=finish, address=item.tag.psum,
                     reading=reading, unread=unread, drained=drained)

        return m

    def _finish(self, m, array, *, finish, address, reading, unread, drained):
        """Read-modify-write of the partial sums of finished positions."""
        config = self._config
        flags, addresses = [finish], [address]
        for stage in range(array.latency):
            flag = Signal(name=f"finish_{stage}")
            where = Signal(10, name=f"psum_{stage}", reset_less=True)
            m.d.sync += [flag.eq(flags[-1]), where.eq(addresses[-1])]
            flags.append(flag)
            addresses.append(where)

        # `before` is 0 unless partial sums are read (by its reset input, which is free, instead of
        # a gate per bit).
        request = array.latency - PSUM_LATENCY - 1
        before = Signal(data.ArrayLayout(signed(config.acc_bits), config.rows), reset_less=True)
        m.d.sync += before.eq(self.psum_read.data)
        with m.If(unread):
            m.d.sync += before.eq(0)

        # One bit more keeps the carry out.
        guard = guard_bit(m, "guard", flags[-1])
        totals = packed_add(m, "totals", [(Cat(array.sums[k], guard), before[k].as_unsigned())
                                          for k in range(config.rows)])
        read, write = self.psum_read, self.psum_write
        m.d.comb += [
            read.valid.eq(flags[request] & reading),
            read.address.eq(addresses[request]),
            write.valid.eq(flags[-1]),
            write.address.eq(addresses[-1]),
            *(write.data[k].eq(value[:-1]) for k, value in enumerate(totals)),
        ]

        # `drained` is in_flight == 0, in a register, for much follows in its cycle.
        in_flight = Signal(range(array.latency + 3))
        in_flight_next = Signal.like(in_flight)
        m.d.comb += in_flight_next.eq(in_flight + finish - write.valid)
        m.d.sync += [in_flight.eq(in_flight_next), drained.eq(in_flight_next == 0)]
