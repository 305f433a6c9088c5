"""On-chip pool: banked block RAM behind a crossbar."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.port import POOL_LATENCY, PoolRead, PoolWrite


__all__ = ["Pool"]


class Pool(wiring.Component):
    """``pool_banks`` banks of ``pool_bank_words`` words; the low address bits choose the bank.

    Every bank does one read and one write per cycle. Ports that want the same bank are served by
    index, lowest first; the others see ``ready`` low. Address bits beyond the pool are ignored.
    Read data comes exactly ``POOL_LATENCY`` = 4 cycles after acceptance: address register of the
    bank (the block RAMs are far apart), block RAM, its output register, register of the port's
    multiplexer. A write reaches the memory one cycle after its acceptance, so reads accepted
    later see it, and one accepted in the same cycle **collides** with it: its data is
    undefined, and users must not let it happen.

    ``ready`` depends on the addresses and ``valid`` of the ports with a lower index, in the same
    cycle; all of these should be registers.

    Cost: a bank of 1024 words of 32 bits is 2 DP16KD. 8 of them with 5 readers and 2 writers, the
    pool of qsdt_nano: 16 DP16KD, 1,730 COMB, 1,250 FF (yosys 0.70, collisions declared don't-care,
    output registers in the block RAMs). A third writer takes 320 COMB more, 620 with 64 rows.

    Parameters
    ----------
    config : CoreConfig
    readers, writers : int
        Number of ports; at least 1.

    Members
    -------
    read : ``In(PoolRead(config)).array(readers)``
    write : ``In(PoolWrite(config)).array(writers)``
    collision : ``Out(1)``
        A bank has read and written one address in the same cycle, since reset. Never, in a
        correct design.
    """

    def __init__(self, config, *, readers, writers):
        for name, value in [("Readers", readers), ("Writers", writers)]:
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value!r}")
        self._config = config
        self._readers = readers
        self._writers = writers
        super().__init__({
            "read": In(PoolRead(config)).array(readers),
            "write": In(PoolWrite(config)).array(writers),
            "collision": Out(1),
        })

    @property
    def config(self):
        return self._config

    @property
    def readers(self):
        return self._readers

    @property
    def writers(self):
        return self._writers

    def elaborate(self, platform):
        m = Module()
        banks = self._config.pool_banks
        word_bits = exact_log2(self._config.pool_bank_words)
        bank_bits = exact_log2(banks)

        # Neighbouring words lie in different banks: two units that read the same region meet now
        # and then, instead of one keeping the other out.
        def bank_of(port):
            return port.address[:bank_bits]

        def word_of(port):
            return port.address[bank_bits:bank_bits + word_bits]

        for ports in (self.read, self.write):
            for index, port in enumerate(ports):
                m.d.comb += port.ready.eq(~Cat(other.valid & (bank_of(other) == bank_of(port))
                                               for other in ports[:index]).any())

        collisions = Signal(banks)
        outputs = []
        for bank in range(banks):
            # Two memories, of the lower and of the upper channels, which can lie apart: each has
            # addresses of its own. (Other initial values keep synthesis from merging them.)
            read_enable, write_enable = (Signal(name=f"{name}_enable_{bank}")
                                         for name in ("read", "write"))
            read_at, write_at = ([Signal(word_bits, name=f"{name}_{bank}_{half}", init=-half,
                                         reset_less=True) for half in range(2)]
                                 for name in ("read_at", "write_at"))
            write_data = Signal(self._config.rows, name=f"write_data_{bank}", reset_less=True)
            output = Signal(self._config.rows, name=f"output_{bank}")
            outputs.append(output)
            for half in range(2):
                memory = Memory(shape=self._config.rows // 2, depth=self._config.pool_bank_words,
                                init=[])
                m.submodules[f"bank_{bank}_{half}"] = memory
                write_port = memory.write_port()
                read_port = memory.read_port()
                m.d.comb += [
                    read_port.en.eq(read_enable),
                    read_port.addr.eq(read_at[half]),
                    write_port.en.eq(write_enable),
                    write_port.addr.eq(write_at[half]),
                    write_port.data.eq(write_data.word_select(half, self._config.rows // 2)),
                ]
                m.d.sync += output.word_select(half, self._config.rows // 2).eq(read_port.data)

            reads = Signal(self._readers, name=f"reads_{bank}")
            m.d.comb += reads.eq(Cat(port.valid & (bank_of(port) == bank) for port in self.read))
            m.d.sync += [
                read_enable.eq(reads.any()),
                *(address.eq(_first(reads, [word_of(p) for p in self.read]))
                  for address in read_at),
            ]

            writes = Signal(self._writers, name=f"writes_{bank}")
            m.d.comb += writes.eq(Cat(port.valid & (bank_of(port) == bank) for port in self.write))
            m.d.sync += [
                write_enable.eq(writes.any()),
                *(address.eq(_first(writes, [word_of(p) for p in self.write]))
                  for address in write_at),
                write_data.eq(_first(writes, [p.data for p in self.write])),
            ]

            # One cycle late, so that the comparison does not add to the path to the memory.
            both = Signal(name=f"both_{bank}")
            read_address = Signal(word_bits, name=f"read_address_{bank}")
            write_address = Signal(word_bits, name=f"write_address_{bank}")
            m.d.sync += [
                both.eq(read_enable & write_enable),
                read_address.eq(read_at[0]),
                write_address.eq(write_at[0]),
                collisions[bank].eq(both & (read_address == write_address)),
            ]
        with m.If(collisions.any()):
            m.d.sync += self.collision.eq(1)

        for index, port in enumerate(self.read):
            # In flight: whether and from which bank, for each cycle of the memory.
            valid, bank = port.valid & port.ready, bank_of(port)
            for cycle in range(POOL_LATENCY - 1):
                valid_next = Signal(name=f"valid_{index}_{cycle}")
                bank_next = Signal(bank_bits, name=f"bank_{index}_{cycle}")
                m.d.sync += [valid_next.eq(valid), bank_next.eq(bank)]
                valid, bank = valid_next, bank_next
            m.d.sync += [port.data_valid.eq(valid), port.data.eq(Array(outputs)[bank])]

        return m


def _first(requests, values):
    """Value of the lowest set request; that of the last one if none is set."""
    result = values[-1]
    for request, value in reversed(list(zip(requests[:-1], values[:-1], strict=True))):
        result = Mux(request, value, result)
    return result
