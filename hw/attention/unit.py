"""Attention unit: spike-driven Q (K^T V) by additions of table rows, event by event."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.attention.events import AttentionEvents, event_layout, note_layout, word_note
from hw.attention.fetch import AttentionFetch
from hw.descriptor import Attention
from hw.lib.pool_prefetch import PoolPrefetch
from hw.lib.spread import spread
from hw.port import PoolRead, PSUM_ADD_LATENCY, PsumNarrow, Unit


__all__ = ["AttentionUnit"]


CAP_ONES = 3
"""The cap is a cell whose top three bits are ones and whose others are zeros."""

class AttentionUnit(wiring.Component):
    """Unit for ATTENTION descriptors (docs/architecture.md): K^T V, then the sums Q (K^T V).

    Bit-exact model: :func:`sim.reference.attention.attention`.

    ``tokens``, ``queries`` and ``words`` are at least 1, ``words`` at most ``head_words``,
    ``slot_log2`` at most log2(rows). Cells have ``attention_bits`` and saturate at
    :func:`hw.config.attention_cap`; every term is positive, so that the order of the additions
    does not matter. Words of k and q are taken plane by plane, the highest first; the q sum is
    doubled between planes. One that does not fit ``attention_bits`` keeps the lower bits below a
    bit that is set, and so is larger than any cell. Events: set bits of the k and q words. ``sig``
    is 0.

    Cycles of a token without stalls, where e is its set bits of k or q:

    - k: ``max(p + p * words, e, (e + 4) / 2 + p)``, p = ``level_planes``, for v of a token is read
      only once the token before the last one has left; plus 3, 2 or 1 if the same row is hit by
      the event 1, 2 or 3 cycles before;
    - q: ``max(3, p * words, e + doublings)``, a doubling in front of each plane but the highest if
      the token had an event before;

    and 21 for the descriptor; a few per cent more where words with many bits and the words of v
    follow each other.

    Cost for ``head_words=4`` alone in an LFE5U-85F, packed (yosys 0.70, nextpnr 0.11.1; collisions
    declared don't-care, :mod:`gen.pnr.passes`); the longest path is that from the memory to its
    register:

    ======  ================  ======  ======  ========
    rows    attention_bits    COMB    FF      DP16KD
    ======  ================  ======  ======  ========
    32      8                 2740    2320    8
    32      10                3040    2610    9
    32      11                3210    2750    10
    64      8                 4720    4150    15
    64      10                5280    4720    18
    64      11                5580    5010    20
    ======  ================  ======  ======  ========

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    control : ``In(Unit(Attention))``
    pool : ``Out(PoolRead(config))``
    psum : ``Out(PsumNarrow(config))``
    """

    def __init__(self, *, config):
        self._config = config
        super().__init__({
            "control": In(Unit(Attention)),
            "pool": Out(PoolRead(config)),
            "psum": Out(PsumNarrow(config)),
        })

    @property
    def config(self):
        return self._config

    def elaborate(self, platform):
        m = Module()

        job, start, begin, finish = self._control(m)
        events = self._front(m, job=job, start=start)

        rows = self._config.rows
        m.submodules.ktv = ktv = Memory(shape=self._config.attention_bits * rows,
                                        depth=self._config.head_words * rows, init=[],
                                        attrs={"ram_style": "block"})
        ktv_read = ktv.read_port()
        ktv_write = ktv.write_port()

        # Stages: event -> address -> output (of the memory) -> add -> store. Events wait in
        # `address`, and nothing waits after it, so that no data register has an enable. The
        # memory is read in `address` and written in `store`: an event must keep 4 cycles behind
        # another one on the same row. How long it waits is found one stage earlier.
        address, output, add = (Signal(event_layout(self._config), name=name)
                                for name in ("address", "output", "add"))
        store_row = Signal.like(add.row)
        store = Signal()
        giving = Signal()                  # a token's sums are
        advance, hold = self._pace(m, events.event, (address, output, add), giving)
        mask = Signal(rows)
        with m.If(advance):
            m.d.sync += [
                address.eq(events.event),
                mask.eq(self._same_slot(m, events.event.row[:exact_log2(rows)], job.slot_log2)),
            ]
        # Also of no event, or of none with a row: then the words read count as 0.
        read = Signal()
        unwritten = Signal()
        m.d.comb += [
            events.advance.eq(~hold),
            events.waiting.eq(address),
            read.eq(advance & address.hit),
            ktv_read.addr.eq(address.row),
            ktv_read.en.eq(read),
        ]
        m.d.sync += [
            output.eq(address),
            output.hit.eq(read),
            output.key.eq(address.key & advance),
            output.double.eq(address.double & advance),
            output.last.eq(address.last & advance),
            unwritten.eq(~(read & address.seen)),
            add.eq(output),
            store_row.eq(add.row),
            store.eq(add.key),
        ]

        counted = Signal(32)
        m.d.comb += self.control.events.eq(counted)
        with m.If(begin):
            m.d.sync += counted.eq(0)
        with m.Elif(output.hit):
            m.d.sync += counted.eq(counted + 1)

        row = self._row(m, ktv_read.data, unwritten)
        sums = self._key_sums(m, row, mask, events.values, address, output)
        m.d.comb += [
            ktv_write.addr.eq(store_row),
            ktv_write.data.eq(sums),
            ktv_write.en.eq(store),
        ]
        held = self._query_sums(m, row, output, begin)
        ends = address.last & advance
        self._give(m, held, ends, giving, job=job, begin=begin, finish=finish)

        m.d.comb += self.control.stall.pool.eq(self.pool.valid & ~self.pool.ready)
        m.d.sync += self.control.stall.psum.eq(giving & ~self.psum.free)

        return m

    def _control(self, m):
        """Take a descriptor, start the front and, a cycle later, the rest; done at ``finish``."""
        control = self.control
        idle = Signal(init=1)
        start = Signal()                   # of the front
        begin = Signal()                   # of the rest, a cycle later
        finish = Signal()
        job = Signal(Attention)
        m.d.comb += [control.run.ready.eq(idle), control.done.eq(finish)]
        m.d.sync += [start.eq(0), begin.eq(start)]
        with m.If(idle & control.run.valid):
            m.d.sync += [idle.eq(0), start.eq(1), job.eq(control.run.payload)]
        with m.If(finish):
            m.d.sync += idle.eq(1)
        return job, start, begin, finish

    def _front(self, m, *, job, start):
        """Parts in front of the datapath, that give it the events."""
        m.submodules.fetch = fetch = AttentionFetch(config=self._config)
        m.submodules.prefetch = prefetch = PoolPrefetch(config=self._config, note=word_note,
                                                        note_bits=note_layout(self._config).size)
        m.submodules.events = events = AttentionEvents(config=self._config)
        wiring.connect(m, fetch.addresses, prefetch.addresses)
        wiring.connect(m, prefetch.words, events.words)
        wiring.connect(m, prefetch.pool, wiring.flipped(self.pool))
        m.d.comb += [
            fetch.job.eq(job),
            fetch.start.eq(start),
            events.job.eq(job),
            events.start.eq(start),
            events.note.eq(prefetch.note),
        ]
        return events

    def _pace(self, m, event, steps, giving):
        """Whether ``event`` may go on to ``address``, first of ``steps``; and the complement."""
        address, output, add = steps
        # Twice, for their loads; yosys does not merge a register with its complement.
        advance, hold = Signal(init=1), Signal()
        advance_next = Signal()
        wait = Signal(2)
        blocked = Signal()
        free = Signal()                    # as `advance`
        blocked_next = Signal()

        def same_row(step):
            return step.key & (step.row == event.row)

        same = [same_row(step) for step in (address, output, add)]
        with m.If(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        with m.Elif(~blocked):
            m.d.sync += wait.eq(Mux(same[0], 3, Mux(same[1], 2, same[2])))
        # The last event of a token replaces the sums of the one before, 3 cycles later: it keeps 3
        # cycles behind another one, and waits until those are given.
        m.d.comb += [
            free.eq((wait == 0) & ~blocked),
            blocked_next.eq(Mux(free, event.last & (address.last | output.last | giving),
                                address.last & (output.last | giving))),
            advance_next.eq(Mux(free, ~Cat(same).any(), wait <= 1) & ~blocked_next),
        ]
        m.d.sync += [
            blocked.eq(blocked_next),
            advance.eq(advance_next),
            hold.eq(~advance_next),
        ]
        return advance, hold

    def _row(self, m, stored, unwritten):
        """Row of K^T V as it was read, 0 if nothing was or if none was written yet."""
        rows = self._config.rows
        # A synchronous reset puts no LUT behind the slow output of the memory (the reason why data
        # registers here have no other reset).
        row = Signal(data.ArrayLayout(self._config.attention_bits, rows), reset_less=True)
        with m.If(unwritten):
            m.d.sync += row.eq(0)
        with m.Else():
            m.d.sync += row.eq(stored)
        return row

    def _key_sums(self, m, row, mask, values, address, output):
        """K^T V: the row with v added, shifted by the plane of k, for the memory."""
        rows, bits = self._config.rows, self._config.attention_bits
        planes = self._config.level_planes
        value = Signal(data.ArrayLayout(rows, planes), reset_less=True)
        # What is added to a cell: a level shifted by a plane, 28 at most, 6 of two planes.
        terms = Signal(data.ArrayLayout(2 * planes - 1, rows), reset_less=True)
        sums = Signal(data.ArrayLayout(bits, rows), reset_less=True)
        for j in range(rows):
            # v goes along with its event, then is shifted: two steps of at most 5 inputs.
            m.d.sync += (value[p][j].eq(
                Mux(address.bank, values[1][p][j], values[0][p][j]) & mask[j])
                for p in range(planes))
            v = Cat(plane[j] for plane in value)
            term = v
            for p in range(planes - 1):
                term = Mux(output.plane[p], v << p + 1, term)
            m.d.sync += terms[j].eq(term)
            # No carry (hw.config.attention_bits_min).
            cell = (row[j] + terms[j])[:bits]
            low, top = cell[:-CAP_ONES], cell[-CAP_ONES:]
            m.d.sync += sums[j].eq(Cat(low & ~top.all().replicate(len(low)), top))
        return sums

    def _query_sums(self, m, row, output, begin):
        """Q (K^T V): sums of the rows of a token, held from behind its last one to the next's."""
        rows, bits = self._config.rows, self._config.attention_bits
        # Between events the row is 0, and a row of k is cleared at once, so that the sums need no
        # enable. Flags of `add`, each a register of its own for its loads.
        double, last, clear = Signal(), Signal(), Signal()
        m.d.sync += [
            double.eq(output.double),
            last.eq(output.last),
            clear.eq(begin | output.key | output.last),
        ]
        # A bit remembers that a sum did not fit: cheaper than a cap, and the same to levels.
        totals = Signal(data.ArrayLayout(bits, rows), reset_less=True)
        over = Signal(rows, reset_less=True)
        held = Signal(data.ArrayLayout(bits + 1, rows), reset_less=True)
        for j in range(rows):
            total = Signal(bits + 1, name=f"total_{j}")
            over_next = Signal(name=f"over_next_{j}")
            m.d.comb += [
                total.eq(Mux(double, totals[j] << 1, totals[j] + row[j])),
                over_next.eq(over[j] | total[-1]),
            ]
            with m.If(clear):
                m.d.sync += [totals[j].eq(0), over[j].eq(0)]
            with m.Else():
                m.d.sync += [totals[j].eq(total), over[j].eq(over_next)]
            with m.If(last):
                m.d.sync += held[j].eq(Cat(total[:-1], over_next))
        return held

    def _give(self, m, held, ends, giving, *, job, begin, finish):
        """The sums of a token to the partial sums, half of the channels after the other;
        ``finish`` when the last ones are there. ``ends``: the token's last event leaves `address`,
        its sums are held 3 cycles later."""
        psum, lanes = self.psum, self._config.rows // 2
        first, second = Signal(), Signal()     # this half is to be given
        begins = ends | first
        m.d.sync += [
            psum.valid.eq((begins | second) & psum.free),
            psum.half.eq(second),
            first.eq(begins & ~psum.free),
            second.eq(Mux(psum.free, begins, second)),
            giving.eq(begins | (second & ~psum.free)),      # first | second
        ]

        tokens_left = Signal.like(job.queries)
        last_token = Signal()                  # tokens_left == 1
        token_given = psum.valid & psum.half
        given = Signal(PSUM_ADD_LATENCY + 1)
        m.d.comb += finish.eq(given[-1])
        m.d.sync += [
            last_token.eq(tokens_left == 1),
            given.eq(Cat(token_given & last_token, given)),
        ]
        with m.If(token_given):
            m.d.sync += [psum.address.eq(psum.address + 1), tokens_left.eq(tokens_left - 1)]
        with m.If(begin):
            m.d.sync += [psum.address.eq(job.psum), tokens_left.eq(job.queries)]

        # Data follow `valid` in a register, PSUM_HALF_DATA = 3 cycles later; 0 otherwise.
        taken = spread(m, "taken", psum.valid, steps=2, most=2)
        upper = spread(m, "upper", psum.half, steps=2, most=2)
        given_data = Signal(psum.data.shape(), reset_less=True)
        m.d.comb += psum.data.eq(given_data)
        for j in range(lanes):
            side = 2 * j // lanes
            with m.If(taken[side]):
                m.d.sync += given_data[j].eq(Mux(upper[side], held[lanes + j], held[j]))
            with m.Else():
                m.d.sync += given_data[j].eq(0)

    def _same_slot(self, m, lane, slot_log2):
        """Mask of the lanes in the slot of ``lane``."""
        rows = self._config.rows
        compared = Cat(slot_log2 <= k for k in range(exact_log2(rows)))
        mask = Signal(rows)
        for j in range(rows):
            m.d.comb += mask[j].eq(~(compared & (lane ^ j)).any())
        return mask
