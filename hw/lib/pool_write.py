"""Queue in front of a write port of the pool."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.config import WRITE_HASH_BITS
from hw.lib.write_hash import WriteHash
from hw.port import PoolWrite


__all__ = ["PoolWriteQueue"]


class PoolWriteQueue(wiring.Component):
    """Write words to the pool in the order given, and hash them.

    The pool's ``ready`` comes late in its cycle; it ends here and reaches no other part of the
    unit. Latency of a word is 2 cycles, throughput one word per cycle. Cost: a LUT-RAM, 16 deep,
    ``rows + 16`` wide, and as many flip-flops.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    start : ``In(1)``
        Begin a new ``sig``.
    address, data, valid : ``In(16)``, ``In(config.rows)``, ``In(1)``
        A word, taken at once.
    ready : ``Out(1)``
        Register: ``SPARE`` words fit, those given from the cycle before this one on. A unit that
        decides some cycles before it gives may so go on while this is high.
    busy : ``Out(1)``
        A word given before this cycle has not been accepted by the pool.
    sig : ``Out(32)``
        Of the words since ``start`` (:class:`hw.lib.write_hash.WriteHash`), when not ``busy``.
    write : ``Out(PoolWrite(config))``
        Registers.
    """

    DEPTH = 16
    SPARE = 9

    def __init__(self, *, config):
        self._config = config
        super().__init__({
            "start": In(1),
            "address": In(16),
            "data": In(config.rows),
            "valid": In(1),
            "ready": Out(1),
            "busy": Out(1),
            "sig": Out(WRITE_HASH_BITS),
            "write": Out(PoolWrite(config)),
        })

    @property
    def config(self):
        return self._config

    def elaborate(self, platform):
        m = Module()

        write = self.write
        m.submodules.memory = memory = Memory(shape=16 + self._config.rows, depth=self.DEPTH,
                                              init=[], attrs={"ram_style": "distributed"})
        write_port = memory.write_port()
        read_port = memory.read_port(domain="comb")
        level = Signal(range(self.DEPTH + 1))
        waiting = Signal()                 # level != 0
        take = Signal()
        pop = Signal()
        m.d.comb += [
            write_port.data.eq(Cat(self.address, self.data)),
            write_port.en.eq(self.valid),
            take.eq(write.ready | ~write.valid),
            pop.eq(waiting & take),
            self.busy.eq(waiting | write.valid),
        ]
        m.d.sync += [
            write_port.addr.eq(write_port.addr + self.valid),
            read_port.addr.eq(read_port.addr + pop),
            level.eq(level + self.valid - pop),
            waiting.eq(self.valid | (level > 1) | (waiting & ~pop)),
            self.ready.eq(level <= self.DEPTH - self.SPARE),
        ]
        with m.If(take):
            m.d.sync += [write.valid.eq(waiting), Cat(write.address, write.data).eq(read_port.data)]

        m.submodules.sign = write_hash = WriteHash(self._config.rows)
        m.d.comb += [write_hash.start.eq(self.start), self.sig.eq(write_hash.o)]
        m.d.sync += [write_hash.valid.eq(self.valid), write_hash.data.eq(self.data)]

        return m
