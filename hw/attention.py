"""Attention unit: spike-driven Q (K^T V) by additions of table rows, event by event."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.attention_events import AttentionEvents, event_layout
from hw.attention_fetch import AttentionFetch
from hw.config import LEVEL_PLANES
from hw.descriptor import Attention
from hw.pool_prefetch import PoolPrefetch
from hw.port import PoolRead, PoolWrite, Unit


__all__ = ["AttentionUnit"]


CELL_BITS = 8
CAP_ONES = 3
"""The cap 224 is a cell whose top three bits are ones and whose others are zeros."""


class AttentionUnit(wiring.Component):
    """Unit for ATTENTION descriptors (docs/architecture.md): K^T V, then Q (K^T V) and its levels.

    Bit-exact model: :func:`sim.reference.attention.attention`.

    ``tokens`` and ``words`` are at least 1, ``words`` at most ``head_words``, ``slot_log2`` at
    most log2(rows). Cells saturate at 224; every term is positive, so that the order of the
    additions does not matter. Words of k and q are taken plane by plane, the highest first; the
    q sum is doubled between planes. Events: set bits of the k and q words.

    Cycles of a token without stalls, where e is the set bits of a word:

    - k: ``max(3 + 3 * words, sum of max(1, e))``; plus 3, 2 or 1 if the same row is hit by the
      event 1, 2 or 3 cycles before;
    - q: ``max(4, 3 * words, sum of max(1, e) + doublings)``, a doubling in front of each of the
      planes 1 and 0 if the token had an event before;

    and 14 for the descriptor; a few per cent more where words with many bits and the words of v
    follow each other.

    Measured cost for ``rows=32``, ``head_words=4`` alone in an LFE5U-85F-6: 3700 COMB, 1970 FF,
    8 DP16KD, 106 MHz (yosys 0.70, nextpnr 0.11.1; collisions declared don't-care).

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    control : ``In(Unit(Attention))``
    pool : ``Out(PoolRead(config))``
    write : ``Out(PoolWrite(config))``
    """

    def __init__(self, *, config):
        self._config = config
        super().__init__({
            "control": In(Unit(Attention)),
            "pool": Out(PoolRead(config)),
            "write": Out(PoolWrite(config)),
        })

    @property
    def config(self):
        return self._config

    def elaborate(self, platform):
        m = Module()

        rows = self._config.rows
        control, write = self.control, self.write

        idle = Signal(init=1)
        start = Signal()
        finish = Signal()
        job = Signal(Attention)
        m.d.comb += [control.run.ready.eq(idle), control.done.eq(finish)]
        m.d.sync += start.eq(0)
        with m.If(idle & control.run.valid):
            m.d.sync += [idle.eq(0), start.eq(1), job.eq(control.run.payload)]
        with m.If(finish):
            m.d.sync += idle.eq(1)

        m.submodules.fetch = fetch = AttentionFetch()
        m.submodules.prefetch = prefetch = PoolPrefetch(config=self._config)
        m.submodules.events = events = AttentionEvents(config=self._config)
        wiring.connect(m, fetch.addresses, prefetch.addresses)
        wiring.connect(m, prefetch.words, events.words)
        wiring.connect(m, prefetch.pool, wiring.flipped(self.pool))
        m.d.comb += [
            fetch.job.eq(job),
            fetch.start.eq(start),
            events.job.eq(job),
            events.start.eq(start),
        ]

        m.submodules.ktv = ktv = Memory(shape=CELL_BITS * rows,
                                        depth=self._config.head_words * rows, init=[],
                                        attrs={"ram_style": "block"})
        ktv_read = ktv.read_port()
        ktv_write = ktv.write_port()

        # Stages: event -> address -> output (of the memory) -> add -> store. The memory is read
        # in `address` and written in `store`, so that an event must keep 4 cycles behind another
        # one on the same row. How long it waits in `address` is found one stage earlier.
        event = events.event
        address, output, add = (Signal(event_layout(self._config), name=name)
                                for name in ("address", "output", "add"))
        store_row = Signal.like(add.row)
        store = Signal()
        # Twice, for wide data and for control; another reset value keeps Yosys from merging them.
        hold, hold_control = Signal(), Signal(init=1)
        wait = Signal(2)
        advance = Signal()

        def same_row(step):
            return step.valid & step.hit & ~step.query & (step.row == event.row)

        m.d.comb += [
            advance.eq(~hold_control & (wait == 0)),
            events.advance.eq(advance),
            events.waiting.eq(address),
            ktv_read.addr.eq(address.row),
            ktv_read.en.eq(advance & address.valid & address.hit),
        ]
        with m.If(advance):
            m.d.sync += address.eq(event)
            with m.If(same_row(address)):
                m.d.sync += wait.eq(3)
            with m.Elif(same_row(output)):
                m.d.sync += wait.eq(2)
            with m.Elif(same_row(add)):
                m.d.sync += wait.eq(1)
        with m.Elif(~hold):
            m.d.sync += wait.eq(wait - 1)

        counted = Signal(32)
        m.d.comb += control.events.eq(counted)
        with m.If(start):
            m.d.sync += counted.eq(0)
        with m.Elif(ktv_read.en):
            m.d.sync += counted.eq(counted + 1)

        row = Signal(data.ArrayLayout(CELL_BITS, rows), reset_less=True)
        terms = Signal(data.ArrayLayout(CELL_BITS - CAP_ONES, rows), reset_less=True)
        output_value = Signal(data.ArrayLayout(rows, LEVEL_PLANES), reset_less=True)
        same_slot = self._same_slot(m, address.row[:exact_log2(rows)], job.slot_log2)
        with m.If(~hold):
            m.d.sync += [
                output.eq(address),
                output.valid.eq(address.valid & advance),
                add.eq(output),
                store_row.eq(add.row),
                store.eq(add.valid & add.hit & ~add.query),
            ]
            for j in range(rows):
                # v goes along with its event, then is shifted: two steps of at most 5 inputs.
                m.d.sync += (output_value[p][j].eq(
                    Mux(address.bank, events.values[1][p][j], events.values[0][p][j])
                    & same_slot[j]) for p in range(LEVEL_PLANES))
                v = Cat(plane[j] for plane in output_value)
                m.d.sync += terms[j].eq(Mux(output.plane[1], v << 2,
                                            Mux(output.plane[0], v << 1, v)))

        # A row that was not written yet counts as 0: a synchronous reset, no LUT behind the slow
        # output of the memory (the reason why data registers here have no other reset).
        unwritten = Signal()
        m.d.comb += unwritten.eq(~hold & ~(output.hit & output.seen))
        with m.If(unwritten):
            m.d.sync += row.eq(0)
        with m.Elif(~hold):
            m.d.sync += row.eq(ktv_read.data)

        m.d.comb += [
            ktv_write.addr.eq(store_row),
            ktv_write.en.eq(store),
        ]
        sums = Signal(data.ArrayLayout(CELL_BITS, rows), reset_less=True)
        totals = Signal(data.ArrayLayout(CELL_BITS, rows), reset_less=True)
        query = add.valid & add.query & ~hold
        done_levels = query & add.last
        levels = Signal(data.ArrayLayout(rows, LEVEL_PLANES), reset_less=True)
        for j in range(rows):
            # At most 224 + 28: no carry.
            cell = (row[j] + terms[j])[:CELL_BITS]
            with m.If(~hold):
                m.d.sync += sums[j].eq(_cap(cell, cell[-CAP_ONES:].all()))

            total = Signal(CELL_BITS, name=f"total_{j}")
            added = totals[j] + row[j]
            over_added = added[-1] | added[-1 - CAP_ONES:-1].all()
            over_doubled = totals[j][-1] | totals[j][-1 - CAP_ONES:-1].all()
            m.d.comb += total.eq(_cap(Mux(add.double, totals[j] << 1, added)[:CELL_BITS],
                                      Mux(add.double, over_doubled, over_added)))
            with m.If(start | done_levels):
                m.d.sync += totals[j].eq(0)
            with m.Elif(query):
                m.d.sync += totals[j].eq(total)
            # (total + 32) >> 6 from the top three bits.
            top = total[-CAP_ONES:]
            with m.If(done_levels):
                m.d.sync += [
                    levels[0][j].eq(top[0] ^ top[1]),
                    levels[1][j].eq(top[2] ^ (top[0] & top[1])),
                    levels[2][j].eq(top.all()),
                ]
        m.d.comb += ktv_write.data.eq(sums)

        # Write the three planes while the next token is summed; hold only if that ends first.
        plane = Signal(range(LEVEL_PLANES))
        token_address = Signal(16)
        tokens_left = Signal(16)
        taken = write.valid & write.ready
        written = Signal()
        m.d.comb += [
            write.data.eq(levels[0]),
            written.eq(taken & (plane == 0)),
        ]
        # A register, for it enables every stage: a last event comes to `add` while the levels of
        # the token before are still being written.
        last_next = Mux(hold, add.valid & add.last, output.valid & output.last)
        hold_next = last_next & (done_levels | (write.valid & ~written))
        m.d.sync += [hold.eq(hold_next), hold_control.eq(hold_next)]
        m.d.sync += finish.eq(0)
        with m.If(done_levels):
            m.d.sync += [write.valid.eq(1), plane.eq(LEVEL_PLANES - 1)]
        with m.If(taken):
            m.d.sync += [
                write.address.eq(write.address + 1),
                plane.eq(plane - 1),
                Cat(levels[0], levels[1]).eq(Cat(levels[1], levels[2])),
            ]
            with m.If(written):
                m.d.sync += [
                    write.valid.eq(0),
                    write.address.eq(token_address + job.position_stride),
                    token_address.eq(token_address + job.position_stride),
                    tokens_left.eq(tokens_left - 1),
                    finish.eq(tokens_left == 0),
                ]
        with m.If(start):
            m.d.sync += [
                write.address.eq(job.output),
                token_address.eq(job.output),
                tokens_left.eq(job.tokens - 1),
            ]

        m.submodules.crc = crc = CRC32_ISO_HDLC(data_width=rows).create()
        m.d.comb += [
            crc.start.eq(start),
            crc.data.eq(write.data),
            crc.valid.eq(taken),
            control.crc.eq(crc.crc),
            control.stall.pool.eq((self.pool.valid & ~self.pool.ready)
                                  | (write.valid & ~write.ready)),
        ]

        return m

    def _same_slot(self, m, lane, slot_log2):
        """Mask of the lanes in the slot of ``lane``."""
        rows = self._config.rows
        compared = Cat(slot_log2 <= k for k in range(exact_log2(rows)))
        mask = Signal(rows)
        for j in range(rows):
            m.d.comb += mask[j].eq(~(compared & (lane ^ j)).any())
        return mask


def _cap(cell, over):
    """``cell``, or 224 if ``over``; at most one LUT4 per bit on top of ``over``."""
    low = CELL_BITS - CAP_ONES
    return Cat(cell[:low] & ~over.replicate(low), cell[low:] | over.replicate(CAP_ONES))
