"""Simulation twin of an external memory: latency, throughput, refresh, and stalls at random."""

from amaranth import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In

from hw.port import Memory
from sim.twin.storage import Storage


__all__ = ["MemoryTwin"]


_QUEUE = 4


class MemoryTwin(wiring.Component):
    """Memory with the ports of :class:`hw.memory.onchip_memory.OnChipMemory` that answers late.

    Up to four commands wait, each executed in order; the first word of a read burst comes at
    least ``latency`` cycles after its command was taken. In every cycle, each with chance
    ``stall``, commands are not taken, write data is not taken, and no new read word is offered.
    Words, read or written, pass no faster than ``words_per_cycle``, and none passes in the
    ``refresh_cycles`` that follow every ``refresh_interval`` cycles. Addresses wrap at ``words``
    rounded up to a power of two. Meant for simulators: the content is read asynchronously.

    Parameters
    ----------
    words : int
        Size, in words of 64 bits; 1..2**24.
    latency : int
        Least cycles from a read command to its first word; 2..255.
    stall : float
        Chance of a stall, 0..0.95; in steps of 1/256.
    seed : int
        Of the random generator, any integer.
    words_per_cycle : float
        Most words that pass in a cycle, in the mean; 1/256..1, in steps of 1/256. A 16-bit SDRAM
        of 100 MHz behind a core of 80 MHz passes 0.31.
    refresh_interval, refresh_cycles : int
        Cycles from one refresh to the next and the pause it takes; 0..65535, the pause shorter
        than the interval. No refresh where the interval is 0.
    init : iterable of int
        Initial content.
    verilog : bool
        See :class:`sim.twin.storage.Storage`.

    Members
    -------
    memory : ``In(Memory())``
        See :class:`hw.port.Memory`.
    """

    def __init__(self, *, words, latency=20, stall=0.0, seed=1, words_per_cycle=1.0,
                 refresh_interval=0, refresh_cycles=0, init=(), verilog=False):
        if not isinstance(words, int) or not 1 <= words <= 1 << 24:
            raise ValueError(f"Words must be an integer in 1..2**24, not {words!r}")
        if not isinstance(latency, int) or not 2 <= latency <= 255:
            raise ValueError(f"Latency must be an integer in 2..255, not {latency!r}")
        if not 0 <= stall <= 0.95:
            raise ValueError(f"Stall must be in 0..0.95, not {stall!r}")
        if not 1 / 256 <= words_per_cycle <= 1:
            raise ValueError(f"Words per cycle must be in 1/256..1, not {words_per_cycle!r}")
        if not (0 <= refresh_interval < 1 << 16
                and 0 <= refresh_cycles < max(1, refresh_interval)):
            raise ValueError(f"Refresh must pause for less than its interval of at most 65535 "
                             f"cycles, not {refresh_cycles!r} of {refresh_interval!r}")
        init = list(init)
        if len(init) > words:
            raise ValueError(f"Initial content must be at most {words} words, not {len(init)}")
        self._words, self._latency, self._stall = words, latency, stall
        self._seed, self._init, self._verilog = seed, init, verilog
        self._words_per_cycle = words_per_cycle
        self._refresh_interval, self._refresh_cycles = refresh_interval, refresh_cycles
        super().__init__({"memory": In(Memory())})

    @property
    def words(self):
        return self._words

    @property
    def latency(self):
        return self._latency

    @property
    def stall(self):
        return self._stall

    @property
    def seed(self):
        return self._seed

    @property
    def words_per_cycle(self):
        return self._words_per_cycle

    @property
    def refresh_interval(self):
        return self._refresh_interval

    @property
    def refresh_cycles(self):
        return self._refresh_cycles

    @property
    def init(self):
        return self._init

    def elaborate(self, platform):
        m = Module()

        # Marsaglia's xorshift generator: one new number each cycle, never 0.
        state = Signal(32, init=(self._seed * 0x9e3779b1 & 0xffffffff) or 1)
        step_1, step_2 = Signal(32), Signal(32)
        m.d.comb += [
            step_1.eq(state ^ (state << 13)[:32]),
            step_2.eq(step_1 ^ (step_1 >> 17)),
        ]
        m.d.sync += state.eq(step_2 ^ (step_2 << 5)[:32])
        threshold = round(self._stall * 256)
        stalls = [state[shift:shift + 8] < threshold for shift in (2, 12, 22)]

        # Credit for words, in 1/256 of one: a word takes 256, and hardly more than that is saved.
        step = Signal()
        free = Signal()
        rate = round(self._words_per_cycle * 256)
        credit = Signal(range(512), init=256)
        left = Signal(range(512))
        m.d.comb += left.eq(credit - Mux(step, 256, 0))
        m.d.sync += credit.eq(Mux(left > 255, 255, left) + rate)
        m.d.comb += free.eq(credit >= 256)
        if self._refresh_interval:
            interval = Signal(range(self._refresh_interval))
            last = interval == self._refresh_interval - 1
            m.d.sync += interval.eq(Mux(last, 0, interval + 1))
            m.d.comb += free.eq((credit >= 256) & (interval >= self._refresh_cycles))

        now = Signal(16)
        m.d.sync += now.eq(now + 1)
        commands = self.memory.commands
        queue = Signal(data.ArrayLayout(commands.payload.shape(), _QUEUE))
        stamps = Signal(data.ArrayLayout(16, _QUEUE))
        put, get = Signal(range(_QUEUE)), Signal(range(_QUEUE))
        level = Signal(range(_QUEUE + 1))
        accept, finish = Signal(), Signal()
        m.d.comb += commands.ready.eq((level != _QUEUE) & ~stalls[0])
        m.d.comb += accept.eq(commands.valid & commands.ready)
        with m.If(accept):
            m.d.sync += [
                queue[put].eq(commands.payload),
                stamps[put].eq(now),
                put.eq(put + 1),
            ]
        m.d.sync += level.eq(level + accept - finish)

        m.submodules.storage = storage = Storage(words=self._words, init=self._init,
                                                 verilog=self._verilog)
        current = Signal(commands.payload.shape())
        done = Signal(8)
        offer = Signal()
        due = Signal()
        r_data, w_data = self.memory.r_data, self.memory.w_data
        m.d.comb += [
            current.eq(queue[get]),
            storage.r_address.eq(current.address + done),
            storage.w_address.eq(current.address + done),
            storage.w_data.eq(w_data.payload),
            storage.w_en.eq(w_data.valid & w_data.ready),
            w_data.ready.eq((level != 0) & current.write & free & ~stalls[1]),
            # The output register adds one cycle, the stamp is one late.
            due.eq((level != 0) & ~current.write
                   & ((now - stamps[get])[:16] >= self._latency - 1)),
            step.eq(offer | storage.w_en),
            finish.eq(step & (done == current.length - 1)),
        ]
        with m.If(r_data.ready | ~r_data.valid):
            m.d.comb += offer.eq(due & free & ~stalls[2])
            m.d.sync += r_data.valid.eq(offer)
            m.d.sync += r_data.payload.eq(storage.r_data)
        with m.If(step):
            m.d.sync += done.eq(done + 1)
        with m.If(finish):
            m.d.sync += done.eq(0)
            m.d.sync += get.eq(get + 1)

        return m
