"""Simulation twin of an external memory: latency, and stalls at random."""

from amaranth import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory as Array64
from amaranth.lib.wiring import In
from amaranth.utils import ceil_log2

from hw.config import MEMORY_BITS
from hw.port import Memory


__all__ = ["MemoryTwin"]


_QUEUE = 4


class MemoryTwin(wiring.Component):
    """Memory with the ports of :class:`hw.onchip_memory.OnChipMemory` that answers late.

    Up to four commands wait, each executed in order; the first word of a read burst comes at
    least ``latency`` cycles after its command was taken. In every cycle, each with chance
    ``stall``, commands are not taken, write data is not taken, and no new read word is offered.
    Addresses wrap at ``words`` rounded up to a power of two. Meant for simulators: the content is
    read asynchronously.

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
    init : iterable of int
        Initial content.

    Members
    -------
    memory : ``In(Memory())``
        See :class:`hw.port.Memory`.
    """

    def __init__(self, *, words, latency=20, stall=0.0, seed=0, init=()):
        if not isinstance(words, int) or not 1 <= words <= 1 << 24:
            raise ValueError(f"Words must be an integer in 1..2**24, not {words!r}")
        if not isinstance(latency, int) or not 2 <= latency <= 255:
            raise ValueError(f"Latency must be an integer in 2..255, not {latency!r}")
        if not 0 <= stall <= 0.95:
            raise ValueError(f"Stall must be in 0..0.95, not {stall!r}")
        init = list(init)
        if len(init) > words:
            raise ValueError(f"Initial content must be at most {words} words, not {len(init)}")
        self._words, self._latency, self._stall = words, latency, stall
        self._seed, self._init = seed, init
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

        depth = 1 << ceil_log2(self._words)
        m.submodules.content = content = Array64(shape=MEMORY_BITS, depth=depth, init=self._init)
        read, write = content.read_port(domain="comb"), content.write_port()
        current = Signal(commands.payload.shape())
        done = Signal(8)
        offer = Signal()
        step = Signal()
        due = Signal()
        r_data, w_data = self.memory.r_data, self.memory.w_data
        m.d.comb += [
            current.eq(queue[get]),
            read.addr.eq(current.address + done),
            write.addr.eq(current.address + done),
            write.data.eq(w_data.payload),
            write.en.eq(w_data.valid & w_data.ready),
            w_data.ready.eq((level != 0) & current.write & ~stalls[1]),
            # The output register adds one cycle, the stamp is one late.
            due.eq((level != 0) & ~current.write
                   & ((now - stamps[get])[:16] >= self._latency - 1)),
            step.eq(offer | write.en),
            finish.eq(step & (done == current.length - 1)),
        ]
        with m.If(r_data.ready | ~r_data.valid):
            m.d.comb += offer.eq(due & ~stalls[2])
            m.d.sync += r_data.valid.eq(offer)
            m.d.sync += r_data.payload.eq(read.data)
        with m.If(step):
            m.d.sync += done.eq(done + 1)
        with m.If(finish):
            m.d.sync += done.eq(0)
            m.d.sync += get.eq(get + 1)

        return m
