"""Partial-sum memory: one row of accumulators per position, and the adders in front of it."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.lib.packed_add import guard_bit, packed_add
from hw.lib.spread import spread
from hw.port import PSUM_ADD_LATENCY, PSUM_LATENCY, PsumHalf, PsumNarrow, PsumRead, PsumRow


__all__ = ["PartialSums"]


_SIDES = range(2)      # the lower and the upper lanes


def _twice(name, shape):
    """The register ``name`` of both sides.

    The block RAMs lie apart from each other and from the units: what goes to them starts at
    flip-flops. Two have the same address, and differ in their initial values, or synthesis would
    merge them.
    """
    return [Signal(shape, name=f"{name}_{side}", init=-side, reset_less=True) for side in _SIDES]


def _delayed(m, name, signal, cycles):
    """``signal`` of ``cycles`` ago."""
    for cycle in range(cycles):
        later = Signal.like(signal, name=f"{name}_{cycle}", reset_less=True)
        m.d.sync += later.eq(signal)
        signal = later
    return signal


class PartialSums(wiring.Component):
    """``psum_words`` rows of ``rows`` sums, half a row read, added to and written per cycle.

    The units send what is to be added; reading, adding and writing back are done here, by one
    adder for each of ``rows / 2`` lanes. ``row`` takes two cycles for the halves of a row, from
    the cycle after its ``valid`` on, and comes first; ``half`` has what it leaves, ``narrow`` what
    that leaves; readers, by index, lowest first, have the cycles in which no addition reads.
    Address bits beyond ``psum_words`` are ignored.

    Read data comes exactly ``PSUM_LATENCY`` = 3 cycles after acceptance: address register,
    block RAM and its output register, which all readers share; a port of fewer lanes selects its
    group right behind that register, so its unit should take the data into one at once. An
    addition takes it into a register, adds in the cycle after, and writes in the next one. A read,
    or an addition's, in the cycle of a write to its address **collides** with it: its data is
    undefined, and users must not let it happen.

    ``ready`` depends on ``valid`` of the readers with a lower index and of ``half``, in the same
    cycle.

    The memory is cut in two, the lower and the upper lanes, which can lie apart and have
    registers of their own for what goes to all lanes.

    Cost: ``2 * ceil(rows / 4 * acc_bits / 18)`` DP16KD for 512 words. 512 rows of 64 x 24 bits: 44
    DP16KD.

    Parameters
    ----------
    config : CoreConfig
    read_lanes : sequence of int
        Lanes of every read port; each a power-of-two fraction of ``rows / 2``.

    Members
    -------
    row : ``In(PsumRow(config))``
    half : ``In(PsumHalf(config))``
    narrow : ``In(PsumNarrow(config))``
    read_0, read_1, ... : ``In(PsumRead(config, lanes))``
    collision : ``Out(1)``
        One address has been read and written in the same cycle, since reset. Never, in a correct
        design.
    """

    def __init__(self, config, *, read_lanes):
        if not read_lanes:
            raise ValueError("Readers must be at least 1, not 0")
        for lanes in read_lanes:
            if lanes < 1 or config.rows // 2 % lanes:
                raise ValueError(f"Lanes of a port must divide half of {config.rows} rows, "
                                 f"not {lanes!r}")
        self._config = config
        self._read_lanes = tuple(read_lanes)
        super().__init__({
            "row": In(PsumRow(config)),
            "half": In(PsumHalf(config)),
            "narrow": In(PsumNarrow(config)),
            **{f"read_{k}": In(PsumRead(config, lanes)) for k, lanes in enumerate(read_lanes)},
            "collision": Out(1),
        })

    @property
    def config(self):
        return self._config

    @property
    def readers(self):
        """Read ports, in order of priority."""
        return [getattr(self, f"read_{k}") for k in range(len(self._read_lanes))]

    def elaborate(self, platform):
        m = Module()
        config = self._config
        row_slots, adds, reads, add_address, write_place = self._slots(m)
        read_enable, read_address = self._read_addresses(m, reads, add_address)
        output = Signal(config.rows // 2 * config.acc_bits)
        self._read_data(m, output)
        write_data = self._additions(m, row_slots, adds, reads, output)

        write_enable = Signal()
        write_address = _twice("write_address", len(add_address))
        m.d.sync += write_enable.eq(_delayed(m, "adds", adds, PSUM_ADD_LATENCY))
        address = _delayed(m, "write_place", write_place, PSUM_ADD_LATENCY)
        m.d.sync += [copy.eq(address) for copy in write_address]

        for side in _SIDES:
            width = config.rows // 4 * config.acc_bits
            m.submodules[f"memory_{side}"] = memory = Memory(
                shape=width, depth=2 * config.psum_words, init=[])
            read_port, write_port = memory.read_port(), memory.write_port()
            m.d.comb += [
                read_port.en.eq(read_enable), read_port.addr.eq(read_address[side]),
                write_port.en.eq(write_enable), write_port.addr.eq(write_address[side]),
                write_port.data.eq(write_data.word_select(side, width)),
            ]
            m.d.sync += output.word_select(side, width).eq(read_port.data)

        # One cycle late, so that the comparison does not add to the path to the memory.
        both = Signal()
        read_at, write_at = Signal(len(add_address)), Signal(len(add_address))
        m.d.sync += [
            both.eq(read_enable & write_enable),
            read_at.eq(read_address[0]),
            write_at.eq(write_address[0]),
        ]
        with m.If(both & (read_at == write_at)):
            m.d.sync += self.collision.eq(1)

        return m

    def _slots(self, m):
        """What is added in this cycle: the slots of a row, whether it adds and reads, and where
        the one and the other."""
        address_bits = exact_log2(self._config.psum_words)

        # A row's halves have the two cycles after its `valid`.
        row_slots, row_address, row_accumulate = Signal(2), Signal(address_bits), Signal()
        m.d.sync += row_slots.eq(Cat(self.row.valid, row_slots))
        with m.If(self.row.valid):
            m.d.sync += [row_address.eq(self.row.address), row_accumulate.eq(self.row.accumulate)]
        m.d.comb += [
            self.half.free.eq(~self.row.valid & ~row_slots[0]),
            self.narrow.free.eq(self.half.free & ~self.half.claim),
        ]

        # What is done in this cycle, by address: the half is its top bit.
        adds, reads = Signal(), Signal()
        add_address = Signal(address_bits + 1)
        write_place = Signal.like(add_address)
        m.d.comb += [
            adds.eq(row_slots.any() | self.half.valid | self.narrow.valid),
            reads.eq(Mux(self.half.valid, self.half.accumulate,
                         row_slots.any() & row_accumulate)),
            add_address.eq(Mux(self.half.valid,
                               Cat(self.half.address[:address_bits], self.half.half),
                               Cat(row_address, row_slots[1]))),
            # What is narrow is not read: off the path to the memory's address.
            write_place.eq(Mux(self.narrow.valid,
                               Cat(self.narrow.address[:address_bits], self.narrow.half),
                               add_address)),
        ]
        return row_slots, adds, reads, add_address, write_place

    def _read_addresses(self, m, reads, add_address):
        """Choose among the readers and the addition; the enable and the addresses to read."""
        config = self._config
        readers = self.readers
        address_bits = exact_log2(config.psum_words)
        for index, port in enumerate(readers):
            m.d.comb += port.ready.eq(
                ~Cat(reads, *(other.valid for other in readers[:index])).any())

        # Ports are chosen by the highest index first, so that the lowest wins.
        read_enable = Signal()
        read_address = _twice("read_address", address_bits + 1)
        m.d.sync += read_enable.eq(Cat(reads, *(port.valid for port in readers)).any())
        for port, lanes in reversed(list(zip(readers, self._read_lanes, strict=True))):
            halves = exact_log2(config.rows // 2 // lanes)
            with m.If(port.valid | (port is readers[-1])):
                m.d.sync += [address.eq(Cat(port.address[:address_bits], port.group[halves:]))
                             for address in read_address]
        with m.If(reads):
            m.d.sync += [address.eq(add_address) for address in read_address]
        return read_enable, read_address

    def _read_data(self, m, output):
        """Give every reader its lanes of the output register, and tell it when."""
        config = self._config
        for index, (port, lanes) in enumerate(zip(self.readers, self._read_lanes, strict=True)):
            valid, group = port.valid & port.ready, port.group
            for cycle in range(PSUM_LATENCY):
                # A register of its own where the data arrives, for it may enable all lanes.
                valid_next = Signal(name=f"valid_{index}_{cycle}")
                group_next = Signal.like(port.group, name=f"group_{index}_{cycle}")
                m.d.sync += [valid_next.eq(valid), group_next.eq(group)]
                valid, group = valid_next, group_next
            inside = group[:exact_log2(config.rows // 2 // lanes)]
            m.d.comb += [
                port.data_valid.eq(valid),
                port.data.as_value().eq(output.word_select(inside, lanes * config.acc_bits)),
            ]

    def _additions(self, m, row_slots, adds, reads, output):
        """Additions, cycle by cycle behind the one in which they start; what is to be written."""
        config = self._config
        # `before` is 0 for what is written instead of added (by its reset input, which is free).
        write_new = Signal()
        m.d.sync += write_new.eq(~reads)
        clear = spread(m, "clear", _delayed(m, "clear", write_new, PSUM_LATENCY - 2),
                       steps=1, most=2)
        before = Signal(config.rows // 2 * config.acc_bits, reset_less=True)
        m.d.sync += before.eq(output)
        for side in _SIDES:
            with m.If(clear[side]):
                m.d.sync += before.word_select(side, config.rows // 4 * config.acc_bits).eq(0)

        # What is added to it: the lower half of a row as it comes, the rest from a register, where
        # the upper half waits for a cycle.
        parts = 4
        lower = spread(m, "lower", _delayed(m, "lower_slot", row_slots[0], PSUM_LATENCY + 1 - 2),
                       steps=2, most=parts)
        from_half = spread(m, "from_half",
                           _delayed(m, "half_slot", self.half.valid | self.narrow.valid,
                                    PSUM_LATENCY - 2),
                           steps=2, most=parts)
        waiting = [Signal(config.acc_bits, name=f"waiting_{lane}", reset_less=True)
                   for lane in range(config.rows // 2)]

        def of_lane(copies, lane):
            return copies[lane * len(copies) // len(waiting)]

        guard = guard_bit(m, "guard", adds)
        pairs = []
        for lane, value in enumerate(waiting):
            upper = self.row.data[config.rows // 2 + lane]
            # Whichever has no cycle is 0.
            half = self.half.data[lane].as_unsigned() | self.narrow.data[lane]
            m.d.sync += value.eq(Mux(of_lane(from_half, lane), half, upper))
            # One bit more keeps the carry out.
            pairs.append((
                Cat(Mux(of_lane(lower, lane), self.row.data[lane], value)[:config.acc_bits],
                    guard),
                before.word_select(lane, config.acc_bits)))
        totals = [total[:-1] for total in packed_add(m, "totals", pairs)]
        write_data = Signal(config.rows // 2 * config.acc_bits, reset_less=True)
        m.d.sync += write_data.eq(Cat(totals))
        return write_data
