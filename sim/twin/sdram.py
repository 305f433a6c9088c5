"""Simulation twin of the SDRAM memory: its ports and its pace, in one clock domain."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.port import Memory, MemoryStatus
from hw.sdram.scheduler import REFRESH_POSTPONED, TURNAROUND
from hw.sdram_config import BEATS
from sim.twin.sdram_chip import SdramRule
from sim.twin.storage import Storage


__all__ = ["SdramTwin"]


QUEUE = 8

FRACTION = 8
"""Fraction bits of a cycle of the SDRAM's clock."""

PREPARE = 6
"""Cycles that the scheduler takes to see that a row must be opened, beside tRP and tRCD."""


class SdramTwin(wiring.Component):
    """Memory with the ports of :class:`hw.sdram.memory.SdramMemory` but the pins, and nearly its
    pace.

    Works in ``sync`` alone, for simulations of whole accelerators: bursts in order, each word
    after the cycles that the bus, the opening of rows, turning round and refreshes take, which
    are counted in cycles of the SDRAM's clock. Within a few percent of the cycles of the real
    controller (tests/sim/test_sdram_twin.py). It is ready at once.

    Parameters
    ----------
    config : :class:`hw.sdram_config.SdramConfig`
    sync_hz : int
        Clock of ``sync``.
    words : int
        Size; that of the chip unless given.
    init, verilog
        See :class:`sim.twin.storage.Storage`.

    Members
    -------
    memory, status
        As in :class:`hw.sdram.memory.SdramMemory`.
    violations : ``Out(len(SdramRule))``
        0: there is no chip. In the place of that of :class:`sim.twin.sdram_system.SdramSystem`.
    """

    def __init__(self, config, *, sync_hz, words=None, init=(), verilog=False):
        self._config = config
        self._sync_hz = sync_hz
        self._words = config.words if words is None else words
        self._storage = Storage(words=self._words, init=init, verilog=verilog)
        super().__init__({
            "memory": In(Memory()),
            "status": Out(MemoryStatus),
            "violations": Out(len(SdramRule)),
        })

    @property
    def config(self):
        return self._config

    @property
    def words(self):
        return self._words

    @property
    def latency(self):
        """Least cycles of ``sync`` from a read command to its first word: the way through both
        queues, and through scheduler, pins and chip."""
        there = 17 + self._config.cas_latency + BEATS
        return 3 + round(there * self._sync_hz / self._config.clock_hz)

    def elaborate(self, platform):
        m = Module()
        config, memory = self._config, self.memory
        m.submodules.storage = storage = self._storage
        m.d.comb += self.status.ready.eq(1)

        # Time that the words so far have taken beyond now, in cycles of the SDRAM's clock.
        pace = round(config.clock_hz / self._sync_hz * (1 << FRACTION))
        ahead = Signal(signed(24))
        cost = Signal(range(256))
        refresh_cost = Signal(16)
        free, step = Signal(), Signal()
        m.d.comb += free.eq(ahead <= 0)
        m.d.sync += ahead.eq(Mux(free, Mux(step, ahead, 0), ahead) - pace
                             + Mux(step, cost << FRACTION, 0) + (refresh_cost << FRACTION))

        # Refreshes: while nothing is to do, else when they have to be.
        interval = Signal(range(config.refresh << FRACTION))
        due = Signal(range(REFRESH_POSTPONED + 2))
        idle, refresh = Signal(), Signal()
        tick = interval < pace
        m.d.sync += interval.eq(Mux(tick, interval + (config.refresh << FRACTION), interval)
                                - pace)
        m.d.comb += refresh.eq(free & Mux(idle, due != 0, due >= REFRESH_POSTPONED))
        around = config.trp + config.trcd + PREPARE
        with m.If(refresh):
            m.d.comb += refresh_cost.eq(around + due * config.trfc)
            m.d.sync += due.eq(tick)
        with m.Elif(tick):
            m.d.sync += due.eq(due + 1)

        # Commands.
        commands = memory.commands
        queue = Signal(data.ArrayLayout(commands.payload.shape(), QUEUE))
        stamps = Signal(data.ArrayLayout(16, QUEUE))
        put, get = Signal(range(QUEUE)), Signal(range(QUEUE))
        level = Signal(range(QUEUE + 1))
        now = Signal(16)
        accept, finish = Signal(), Signal()
        m.d.comb += [commands.ready.eq(level != QUEUE), idle.eq(level == 0),
                     accept.eq(commands.valid & commands.ready)]
        m.d.sync += [now.eq(now + 1), level.eq(level + accept - finish)]
        with m.If(accept):
            m.d.sync += [queue[put].eq(commands.payload), stamps[put].eq(now), put.eq(put + 1)]

        # The row of each word: already open, opened behind the words before, or waited for.
        current = Signal(commands.payload.shape())
        done = Signal(8)
        address = Signal(24)
        m.d.comb += [current.eq(queue[get]), address.eq(current.address + done)]
        column_bits, bank_bits = config.word_column_bits, config.bank_bits
        bank = address[column_bits:column_bits + bank_bits]
        row = address[column_bits + bank_bits:config.words_bits]
        rows = Array(Signal(config.row_bits, name=f"row_{b}") for b in range(1 << bank_bits))
        is_open = Signal(1 << bank_bits)
        last_bank, was_read = Signal(bank_bits), Signal()
        visit = Signal(range(64))                   # words since the last change of row
        hit = is_open.bit_select(bank, 1) & (rows[bank] == row)
        hidden = Mux(visit > 15, 63, visit << 2)
        opening = Signal(range(64))
        m.d.comb += opening.eq(Mux(hit, 0, Mux(bank == last_bank, around, Mux(
            hidden > around, 0, around - hidden))))
        m.d.comb += cost.eq(BEATS + opening + Mux(
            was_read & current.write, config.cas_latency + TURNAROUND, 0))
        with m.If(step):
            m.d.sync += [
                done.eq(done + 1), last_bank.eq(bank), was_read.eq(~current.write),
                rows[bank].eq(row), is_open.bit_select(bank, 1).eq(1),
                visit.eq(Mux(hit & (bank == last_bank), visit + (visit != 63), 1)),
            ]
        with m.If(refresh):
            m.d.sync += is_open.eq(0)
        with m.If(finish):
            m.d.sync += [done.eq(0), get.eq(get + 1)]

        # Data.
        r_data, w_data = memory.r_data, memory.w_data
        pending = free & ~refresh & (level != 0)
        offer, write = Signal(), Signal()
        m.d.comb += [
            offer.eq(pending & ~current.write & (r_data.ready | ~r_data.valid)
                     # The output register adds one cycle, the stamp is one late.
                     & ((now - stamps[get])[:16] >= self.latency - 1)),
            w_data.ready.eq(pending & current.write),
            write.eq(w_data.ready & w_data.valid),
            step.eq(offer | write),
            finish.eq(step & (done == current.length - 1)),
            storage.r_address.eq(address), storage.w_address.eq(address),
            storage.w_data.eq(w_data.payload), storage.w_en.eq(write),
        ]
        with m.If(r_data.ready | ~r_data.valid):
            m.d.sync += [r_data.valid.eq(offer), r_data.payload.eq(storage.r_data)]

        return m
