"""Partial-sum memory: one row of accumulators per position."""

from itertools import product

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
    ``psum_words`` are ignored. Read data comes exactly ``PSUM_LATENCY`` = 3 cycles after
    acceptance: address register, block RAM and its output register, which all readers share; a
    narrow port selects its group right behind that register, so its unit should take the data into
    one at once. Reads see a write from the cycle after its acceptance on; a read accepted in the
    same cycle **collides** with it: its data is undefined, and users must not let it happen.

    ``ready`` depends on ``valid`` of the ports with a lower index, in the same cycle.

    Every group of ``lanes`` that is written by itself (the narrowest write port) is two memories:
    the lanes of the lower load columns of the array, and those of the upper ones, which can
    lie apart and have an address register each.

    Cost: ``2 * ceil(lanes / 2 * acc_bits / 36)`` DP16KD for every group and up to 512 words. 512
    rows of 64 x 24 bits in groups of 32: 44 DP16KD.

    Parameters
    ----------
    config : CoreConfig
    read_lanes, write_lanes : sequence of int
        Lanes of every port; each a power-of-two fraction of ``rows``.

    Members
    -------
    read_0, read_1, ... : ``In(PsumRead(config, lanes))``
    write_0, write_1, ... : ``In(PsumWrite(config, lanes))``
    collision : ``Out(1)``
        One address has been read and written in the same cycle, since reset. Never, in a correct
        design.
    """

    def __init__(self, config, *, read_lanes, write_lanes):
        for name, ports in [("Readers", read_lanes), ("Writers", write_lanes)]:
            if not ports:
                raise ValueError(f"{name} must be at least 1, not 0")
            for lanes in ports:
                if lanes < 1 or config.rows % lanes:
                    raise ValueError(f"Lanes of a port must divide {config.rows} rows, "
                                     f"not {lanes!r}")
        self._config = config
        self._read_lanes = tuple(read_lanes)
        self._write_lanes = tuple(write_lanes)
        super().__init__({
            **{f"read_{k}": In(PsumRead(config, lanes)) for k, lanes in enumerate(read_lanes)},
            **{f"write_{k}": In(PsumWrite(config, lanes)) for k, lanes in enumerate(write_lanes)},
            "collision": Out(1),
        })

    @property
    def config(self):
        return self._config

    @property
    def readers(self):
        """Read ports, in order of priority."""
        return [getattr(self, f"read_{k}") for k in range(len(self._read_lanes))]

    @property
    def writers(self):
        """Write ports, in order of priority."""
        return [getattr(self, f"write_{k}") for k in range(len(self._write_lanes))]

    def elaborate(self, platform):
        m = Module()
        config = self._config
        readers, writers = self.readers, self.writers

        for ports in (readers, writers):
            for index, port in enumerate(ports):
                m.d.comb += port.ready.eq(~Cat(other.valid for other in ports[:index]).any())

        # Memories: groups by halves of the load columns.
        address_bits = exact_log2(config.psum_words)
        part = min(self._write_lanes) * config.acc_bits
        parts = config.rows // min(self._write_lanes)
        read_enable, write_enable = Signal(), Signal(parts)
        read_address, write_address = (
            [Signal(address_bits, name=f"{name}_address_{half}", init=-half, reset_less=True)
             for half in range(2)] for name in ("read", "write"))
        write_data = Signal(parts * part)
        output = Signal(parts * part)
        for index, half in product(range(parts), range(2)):
            lanes = [lane for lane in range(index * min(self._write_lanes),
                                            (index + 1) * min(self._write_lanes))
                     if lane * 2 // config.load_columns % 2 == half]
            if not lanes:
                continue

            def of_lanes(bits, lanes=lanes):
                return Cat(bits.word_select(lane, config.acc_bits) for lane in lanes)

            m.submodules[f"memory_{index}_{half}"] = memory = Memory(
                shape=len(lanes) * config.acc_bits, depth=config.psum_words, init=[])
            read_port, write_port = memory.read_port(), memory.write_port()
            m.d.comb += [
                read_port.en.eq(read_enable), read_port.addr.eq(read_address[half]),
                write_port.en.eq(write_enable[index]), write_port.addr.eq(write_address[half]),
                write_port.data.eq(of_lanes(write_data)),
            ]
            m.d.sync += of_lanes(output).eq(read_port.data)

        # Ports are chosen by the highest index first, so that the lowest wins. The block RAMs lie
        # apart from each other and from the units: what goes to them starts at flip-flops. Two
        # have the same address, and differ in their initial values, or synthesis would merge them.
        m.d.sync += [
            read_enable.eq(Cat(port.valid for port in readers).any()),
            *(address.eq(readers[-1].address) for address in read_address),
        ]
        for port in reversed(readers[:-1]):
            with m.If(port.valid):
                m.d.sync += [address.eq(port.address) for address in read_address]
        for index, (port, lanes) in enumerate(zip(readers, self._read_lanes, strict=True)):
            valid, group = port.valid & port.ready, port.group
            for cycle in range(PSUM_LATENCY):
                valid_next = Signal(name=f"valid_{index}_{cycle}")
                group_next = Signal.like(port.group, name=f"group_{index}_{cycle}")
                m.d.sync += [valid_next.eq(valid), group_next.eq(group)]
                valid, group = valid_next, group_next
            selected = (output if lanes == config.rows
                        else output.word_select(group, lanes * config.acc_bits))
            m.d.comb += [port.data_valid.eq(valid), port.data.as_value().eq(selected)]

        # A port writes the parts of its group; the same data lies before all of them.
        choices = []
        for port, lanes in zip(writers, self._write_lanes, strict=True):
            wide = lanes // min(self._write_lanes)
            enable = ((1 << wide) - 1 << port.group * wide) if wide < parts else (1 << parts) - 1
            choices.append((port, enable, port.data.as_value().replicate(parts // wide)))
        port, enable, data = choices[-1]
        m.d.sync += [
            write_enable.eq(Mux(port.valid, enable, 0)),
            *(address.eq(port.address) for address in write_address),
            write_data.eq(data),
        ]
        for port, enable, data in reversed(choices[:-1]):
            with m.If(port.valid):
                m.d.sync += [write_enable.eq(enable), write_data.eq(data),
                             *(address.eq(port.address) for address in write_address)]

        # One cycle late, so that the comparison does not add to the path to the memory.
        both = Signal()
        read_at, write_at = Signal(address_bits), Signal(address_bits)
        m.d.sync += [
            both.eq(read_enable & write_enable.any()),
            read_at.eq(read_address[0]),
            write_at.eq(write_address[0]),
        ]
        with m.If(both & (read_at == write_at)):
            m.d.sync += self.collision.eq(1)

        return m
