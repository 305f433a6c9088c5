"""ArrayReader: the spike words of a weight tile, position by position and plane by plane."""

from amaranth import *
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from hw import descriptor
from hw.array.tile_start import TileStart
from hw.config import REPEAT_BITS
from hw.descriptor import HIGH_PLANES, RING_UNIT, TileHeader
from hw.lib.plane_repeat import RepeatRead
from hw.port import POOL_LATENCY, PoolRead


__all__ = ["ArrayReader"]


class _Position(data.Struct):
    """Output position: address of its most significant plane, and what it is to the tile."""
    address: 16
    psum: 10
    inside: 1
    end: 1


class _Tag(data.Struct):
    """What travels beside a word."""
    plane: 1
    last: 1
    negate: 1
    end: 1
    psum: 10


class ArrayReader(wiring.Component):
    """Read what the tiles of an ARRAY descriptor look up, in the order of docs/architecture.md.

    For every tile header it walks the output positions and reads their planes from the pool.
    With ``wide_weights``, four planes of zeros follow those of a position if the tile has ``high``
    set: they double its sum four times.
    Positions outside the input give two planes of zeros (which initialise the partial sum) for
    the first tile without ``accumulate`` and nothing otherwise; rows outside are then skipped as
    a whole. Each tile ends with an item that has ``end`` set; it is a bubble (no ``plane``) if
    the tile's last position is skipped.

    The walk makes one position per cycle, read or skipped, beside the reading of the planes of
    the position before. Up to :attr:`DEPTH`
    planes are read ahead of ``o``; a plane is on ``o`` 4 cycles after its pool request. The next
    tile's start is computed while this tile is read (:class:`hw.array.tile_start.TileStart`), and
    its first plane follows the first one of this tile's last position after 5 cycles at the
    earliest, 7 with ``plane_skip``: at once, where positions have so many planes.

    Parameters
    ----------
    config : :class:`hw.config.CoreConfig`

    Members
    -------
    descriptor : ``In(Array)``
        Constant from ``begin`` to the ``end`` of the last tile.
    begin : ``In(1)``
        A new descriptor; the ones before it are finished.
    headers : ``In(stream.Signature(TileHeader))``
        One per tile.
    pool : ``Out(PoolRead(config))``
    o : ``Out(stream.Signature(item))``
        ``item`` is :attr:`item_shape`: ``word`` and ``tag``, with ``plane`` (0: bubble), ``last``
        and ``negate`` as for :class:`hw.array.spike_array.SpikeArray`; ``psum``, index of the
        position's partial sum; ``end``.
    skip_planes : ``In(1)``
        Leave out planes that only repeat the sign; like ``descriptor``. With ``plane_skip`` only,
        as is the next one.
    repeats : ``Out(RepeatRead())``
        How many of a position.
    events : ``Out(32)``
        Set bits of the words read since ``begin``, modulo 2**32; complete ``log2(rows) + 2``
        cycles after the last word arrived.
    """

    DEPTH = 16

    def __init__(self, config):
        self._config = config

        super().__init__({
            "descriptor": In(descriptor.Array),
            "begin": In(1),
            "headers": In(stream.Signature(TileHeader)),
            "pool": Out(PoolRead(config)),
            "o": Out(stream.Signature(self.item_shape)),
            "events": Out(32),
            **({"skip_planes": In(1), "repeats": Out(RepeatRead())} if config.plane_skip else {}),
        })

    @property
    def config(self):
        return self._config

    @property
    def item_shape(self):
        return data.StructLayout({"word": self._config.rows, "tag": _Tag})

    def elaborate(self, platform):
        m = Module()

        # Signals between the three steps: walk positions, issue planes, collect words.
        self._position = Signal(_Position)
        self._position_valid = Signal()
        self._position_taken = Signal()
        self._position_early = Signal()
        if self._config.plane_skip:
            self._planes = Signal(5)
        if self._config.wide_weights:
            self._high = Signal()           # of the tile whose positions are issued
        self._tag = Signal(_Tag)
        self._tag_valid = Signal()
        self._tag_zero = Signal()
        self._credit = Signal()

        self._walk(m)
        self._issue(m)
        self._collect(m)
        self._count_events(m)

        return m

    def _walk(self, m):
        array = self.descriptor
        m.submodules.start = start = TileStart(wide_weights=self._config.wide_weights)
        wiring.connect(m, wiring.flipped(self.headers), start.headers)
        m.d.comb += [start.descriptor.eq(array), start.begin.eq(self.begin & (array.tiles != 0))]

        skip = Signal()                             # positions outside are not needed
        with m.If(self.begin):
            m.d.sync += skip.eq(array.accumulate)

        address = Signal(16)
        first_ix = Signal(signed(13))
        ix = Signal(signed(13))
        psum = Signal(10)
        columns_left = Signal(9)
        row_inside = Signal()
        next_address = Signal(16)                   # of the row below, a ring left aside
        next_iy = Signal(signed(13))
        next_psum = Signal(10)
        rows_left = Signal(7)
        has_ring = Signal()
        m.d.sync += has_ring.eq(array.ring != 0)
        # In a ring, rows before the first one in it are at its end.
        above = next_iy[-1] & has_ring

        def next_row():
            return [
                address.eq(next_address + Mux(above, array.ring * RING_UNIT, 0)),
                ix.eq(first_ix),
                psum.eq(next_psum),
                columns_left.eq(array.out_width),
                # Negative coordinates are large as unsigned ones.
                row_inside.eq((next_iy.as_unsigned() < array.height) | above),
                next_address.eq(next_address + start.row_step),
                next_iy.eq(next_iy + array.stride),
                next_psum.eq(next_psum + array.out_width),
                rows_left.eq(rows_left - 1),
            ]

        # One position behind the walk, with its bounds known, so that it can be dropped.
        valid = Signal()
        needed = Signal()
        room = Signal()
        if self._config.plane_skip:
            position = Signal(_Position, name="walked")
            empty = self._leave_out(m, address, position, valid & needed, room)
            with m.If(room):
                m.d.sync += valid.eq(0)
        else:
            position = self._position
            empty = ~valid
            m.d.comb += [
                self._position_valid.eq(valid & needed),
                room.eq(~valid | ~needed | self._position_early),
            ]
            with m.If(self._position_taken | ~needed):
                m.d.sync += valid.eq(0)

        row_end = (columns_left == 1) | (~row_inside & skip)
        end = row_end & (rows_left == 0)
        inside = row_inside & (ix.as_unsigned() < array.width)
        with m.FSM(name="walk"):
            with m.State("TAKE_START"):
                m.d.comb += start.o.ready.eq(1)
                m.d.sync += [
                    first_ix.eq(start.o.p.ix),
                    next_address.eq(start.o.p.address),
                    next_iy.eq(start.o.p.iy),
                    next_psum.eq(array.psum),
                    rows_left.eq(array.out_rows),
                ]
                if self._config.wide_weights:
                    m.d.sync += self._high.eq(start.high)
                with m.If(start.o.valid):
                    m.next = "FIRST_ROW"
            with m.State("FIRST_ROW"):
                m.d.sync += next_row()
                m.next = "WALK"
            with m.State("WALK"):
                with m.If(room):
                    m.d.sync += [
                        valid.eq(1),
                        needed.eq(inside | ~skip | end),
                        position.address.eq(address),
                        position.psum.eq(psum),
                        position.inside.eq(inside),
                        position.end.eq(end),
                    ]
                    with m.If(row_end):
                        m.d.sync += next_row()
                    with m.Else():
                        m.d.sync += [
                            address.eq(address + start.position_step),
                            ix.eq(ix + array.stride),
                            psum.eq(psum + 1),
                            columns_left.eq(columns_left - 1),
                        ]
                    with m.If(end):
                        m.next = "FINISH"
            with m.State("FINISH"):
                # The flag belongs to the positions behind, too: change it when they are gone.
                with m.If(empty):
                    m.d.sync += skip.eq(1)
                    m.next = "TAKE_START"
        self._skip = skip

    def _leave_out(self, m, address, walked, walked_valid, room):
        """From the walk's positions to those without the planes that only repeat the sign.

        The counts come from a block RAM, which may be far from here: they have a cycle to arrive
        in, and one to be used in. All steps advance at once, with ``room``. Returns whether none
        holds a position.
        """
        arrived, count, arrived_valid = Signal(_Position), Signal(REPEAT_BITS), Signal()
        used = Mux(self.skip_planes, count, 0)
        m.d.comb += [
            room.eq(~self._position_valid | self._position_early),
            self.repeats.address.eq(address),
            self.repeats.enable.eq(room),
        ]
        with m.If(self._position_taken):
            m.d.sync += self._position_valid.eq(0)
        with m.If(room):
            m.d.sync += [
                arrived.eq(walked),
                count.eq(self.repeats.count),
                arrived_valid.eq(walked_valid),
                # Planes that are left out lie above the others.
                self._position.eq(arrived),
                self._position.address.eq(arrived.address - used),
                self._planes.eq(self.descriptor.planes - used),
                self._position_valid.eq(arrived_valid),
            ]
        return ~walked_valid & ~arrived_valid & ~self._position_valid

    def _issue(self, m):
        array = self.descriptor
        next_position = self._position
        busy = Signal()
        current = Signal(_Position)
        read = Signal()                             # from the pool; otherwise planes of zeros
        plane = Signal()
        first = Signal()
        planes_left = Signal(5)
        final = Signal()                            # planes_left == 1

        planes = self._planes if self._config.plane_skip else array.planes
        if self._config.wide_weights:
            high = Signal()                         # zeros follow the planes of this position
            planes = planes + Mux(self._high, HIGH_PLANES, 0)

        # A position that needs no pool makes room behind it at once: the walk must not wait for
        # the pool's answer of this cycle, which arrives late.
        issue = Signal()
        take = self._position_valid & (~busy | (issue & final))
        m.d.comb += [
            self.pool.valid.eq(busy & read & self._credit),
            self.pool.address.eq(current.address),
            issue.eq(busy & self._credit & (self.pool.ready | ~read)),
            self._position_taken.eq(take),
            self._position_early.eq(~busy | (~read & final & self._credit)),
            self._tag_valid.eq(issue),
            self._tag_zero.eq(~read),
            self._tag.plane.eq(plane),
            self._tag.last.eq(final),
            self._tag.negate.eq(array.signed & first & read),
            self._tag.end.eq(current.end & final),
            self._tag.psum.eq(current.psum),
        ]
        with m.If(take):
            m.d.sync += [
                busy.eq(1),
                current.eq(next_position),
                read.eq(next_position.inside),
                plane.eq(next_position.inside | ~self._skip),
                first.eq(1),
                # A position takes two cycles of the partial sums; one without a plane takes none.
                planes_left.eq(Mux(next_position.inside, planes, 2)),
                final.eq(~next_position.inside & self._skip),
            ]
        with m.Elif(issue):
            m.d.sync += [
                busy.eq(~final),
                final.eq(planes_left == 2),
                current.address.eq(current.address - 1),
                first.eq(0),
                planes_left.eq(planes_left - 1),
            ]
        if self._config.wide_weights:
            with m.If(take):
                m.d.sync += high.eq(self._high)
            with m.Elif(issue & high & (planes_left == HIGH_PLANES + 1)):
                m.d.sync += read.eq(0)

    def _collect(self, m):
        # The tag meets its word when the pool answers; the queue has room for both by credit.
        tag, valid, zero = self._tag, self._tag_valid, self._tag_zero
        for cycle in range(POOL_LATENCY):
            later = Signal(_Tag, name=f"tag_{cycle}")
            later_valid = Signal(name=f"tag_valid_{cycle}")
            later_zero = Signal(name=f"tag_zero_{cycle}")
            m.d.sync += [later.eq(tag), later_valid.eq(valid), later_zero.eq(zero)]
            tag, valid, zero = later, later_valid, later_zero

        m.submodules.queue = queue = fifo.SyncFIFO(width=self.item_shape.size, depth=self.DEPTH)
        item = data.View(self.item_shape, queue.w_data)
        taken = self.o.valid & self.o.ready
        planes_out = Signal(range(self.DEPTH + 1))
        m.d.comb += [
            item.word.eq(Mux(zero, 0, self.pool.data)),
            item.tag.eq(tag),
            queue.w_en.eq(valid),
            self.o.valid.eq(queue.r_rdy),
            self.o.payload.eq(queue.r_data),
            queue.r_en.eq(taken),
        ]
        # A register, decided on the count of a cycle ago: it is part of the pool's `valid`.
        m.d.sync += self._credit.eq(planes_out < self.DEPTH - 1)
        m.d.sync += planes_out.eq(planes_out + self._tag_valid - taken)

    def _count_events(self, m):
        # Set bits of four lanes at a time (three LUTs), then a registered adder tree.
        seen = Signal(self._config.rows)
        m.d.sync += seen.eq(Mux(self.pool.data_valid, self.pool.data, 0))
        ones = Array(k.bit_count() for k in range(16))
        counts = [Signal(3, name=f"count_0_{k}") for k in range(self._config.rows // 4)]
        m.d.sync += [count.eq(ones[seen.word_select(k, 4)]) for k, count in enumerate(counts)]
        level = 0
        while len(counts) > 1:
            level += 1
            pairs = [Signal(3 + level, name=f"count_{level}_{k}") for k in range(len(counts) // 2)]
            m.d.sync += [pair.eq(counts[2 * k] + counts[2 * k + 1])
                         for k, pair in enumerate(pairs)]
            counts = pairs
        with m.If(self.begin):
            m.d.sync += self.events.eq(0)
        with m.Else():
            m.d.sync += self.events.eq(self.events + counts[0])
