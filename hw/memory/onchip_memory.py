"""Memory backend in block RAM."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.memory import Memory as BlockRam
from amaranth.lib.wiring import In
from amaranth.utils import ceil_log2

from hw.config import MEMORY_BITS
from hw.port import Memory


__all__ = ["OnChipMemory"]


_BANK_WORDS = 4096
"""Words of a bank: 16 block RAMs of 4096 x 4, without a multiplexer among them."""

_STAGES = 4
"""Cycles from a word's address to the multiplexer: address, block RAM, and two registers."""

_FIFO_WORDS = 16


class OnChipMemory(wiring.Component):
    """Memory of block RAM behind the core.

    Bursts are executed one after the other. The first word of a read burst comes 7 cycles after
    its command, then one word per cycle while ``r_data`` is taken; a write burst takes one word
    per cycle. A new command is taken in the cycle after the last word of a burst was read (it may
    still be on its way) or written. Words beyond ``words`` (rounded up to 512) read as anything
    and are not written.

    Costs 16 block RAMs for 4096 words (2 for a remainder of 512), about 350 COMB and 480 FF, and
    100 COMB and 132 FF for each further bank of 4096.

    Parameters
    ----------
    words : int
        Size, in words of 64 bits; 1..2**24.
    init : iterable of int
        Initial content, for simulation; on an FPGA it becomes part of the bitstream.

    Members
    -------
    memory : ``In(Memory())``
        See :class:`hw.port.Memory`.
    """

    def __init__(self, *, words, init=()):
        if not isinstance(words, int) or not 1 <= words <= 1 << 24:
            raise ValueError(f"Words must be an integer in 1..2**24, not {words!r}")
        init = list(init)
        if len(init) > words:
            raise ValueError(f"Initial content must be at most {words} words, not {len(init)}")
        self._words = words
        self._init = init
        super().__init__({"memory": In(Memory())})

    @property
    def words(self):
        return self._words

    @property
    def init(self):
        return self._init

    def elaborate(self, platform):
        m = Module()

        command = self.memory.commands
        address = Signal(24)
        left = Signal(8)
        reading = Signal()
        writing = Signal()
        issue = Signal()
        take = Signal()
        m.d.comb += [
            command.ready.eq(~reading & ~writing),
            take.eq(writing & self.memory.w_data.valid),
            self.memory.w_data.ready.eq(writing),
        ]
        with m.If(command.ready):
            with m.If(command.valid):
                m.d.sync += [
                    address.eq(command.p.address),
                    left.eq(command.p.length),
                    reading.eq(~command.p.write),
                    writing.eq(command.p.write),
                ]
        with m.Elif(issue | take):
            m.d.sync += address.eq(address + 1)
            m.d.sync += left.eq(left - 1)
            with m.If(left == 1):
                m.d.sync += reading.eq(0)
                m.d.sync += writing.eq(0)

        # The block RAMs are all over the chip: their selects, addresses and data start at
        # flip-flops, and their outputs have one beside them and one on the way to the multiplexer.
        offset_bits = ceil_log2(_BANK_WORDS)
        banks = -(-self._words // _BANK_WORDS)
        write_address = Signal(offset_bits)
        write_data = Signal(MEMORY_BITS)
        read_address = Signal(offset_bits)
        m.d.sync += [
            write_address.eq(address),
            write_data.eq(self.memory.w_data.payload),
            read_address.eq(address),
        ]
        outputs = []
        for bank in range(banks):
            depth = min(_BANK_WORDS, self._words - bank * _BANK_WORDS)
            depth = -(-depth // 512) * 512
            init = self._init[bank * _BANK_WORDS:(bank + 1) * _BANK_WORDS]
            ram = BlockRam(shape=MEMORY_BITS, depth=depth, init=init)
            m.submodules[f"bank_{bank}"] = ram
            read_port, write_port = ram.read_port(), ram.write_port()
            output = Signal(MEMORY_BITS, name=f"output_{bank}")
            carried = Signal(MEMORY_BITS, name=f"carried_{bank}")
            outputs.append(carried)
            inside = Signal(name=f"inside_{bank}")
            here = address[offset_bits:] == bank
            m.d.comb += [
                inside.eq(here & (address[:offset_bits] < depth)),
                read_port.addr.eq(read_address),
                write_port.addr.eq(write_address),
                write_port.data.eq(write_data),
            ]
            m.d.sync += [
                read_port.en.eq(issue & here),
                write_port.en.eq(take & inside),
                output.eq(read_port.data),
                carried.eq(output),
            ]

        # _STAGES words are on the way at most; they and those waiting must fit into the FIFO.
        # One select bit for each bank, at flip-flops: an and-or is the smallest multiplexer here.
        selects = [Signal(banks, name=f"select_{stage}") for stage in range(_STAGES)]
        valid = Signal(_STAGES)
        m.d.sync += [
            selects[0].eq(Cat(address[offset_bits:] == bank for bank in range(banks))),
            *(after.eq(before) for before, after in zip(selects[:-1], selects[1:], strict=True)),
            valid.eq(Cat(issue, valid[:-1])),
        ]
        selected = C(0, MEMORY_BITS)
        for bank, output in enumerate(outputs):
            selected = selected | (output & selects[-1][bank].replicate(MEMORY_BITS))
        m.submodules.waiting = waiting = BlockRam(shape=MEMORY_BITS, depth=_FIFO_WORDS, init=[],
                                                  attrs={"ram_style": "distributed"})
        push, pop = waiting.write_port(), waiting.read_port(domain="comb")
        free = Signal(range(_FIFO_WORDS + 1), init=_FIFO_WORDS)
        level = Signal(range(_FIFO_WORDS + 1))
        r_data = self.memory.r_data
        taken = Signal()
        m.d.comb += [
            issue.eq(reading & (free != 0)),
            taken.eq((level != 0) & (r_data.ready | ~r_data.valid)),
            push.en.eq(valid[-1]),
            push.data.eq(selected),
        ]
        m.d.sync += [
            free.eq(free + taken - issue),
            level.eq(level + valid[-1] - taken),
            push.addr.eq(push.addr + valid[-1]),
            pop.addr.eq(pop.addr + taken),
        ]
        with m.If(r_data.ready | ~r_data.valid):
            m.d.sync += r_data.valid.eq(level != 0)
            m.d.sync += r_data.payload.eq(pop.data)

        return m
