"""SpikeArray: spike words in, sums of the selected weights out; accumulates, never multiplies."""

from itertools import product

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.lib.packed_add import guard_bit, packed_add
from hw.lib.spread import spread


__all__ = ["GROUP", "ENTRY_BITS", "ENTRY_OFFSET", "SpikeArray"]


GROUP = 4
"""Rows that share one table: their spike bits are its address."""

ENTRY_BITS = 6
"""Width of a table entry."""

ENTRY_OFFSET = 1 << (ENTRY_BITS - 1)
"""Added to the sum of ``GROUP`` weights (-32..28) to make its table entry: unsigned, so that
packed adders do not carry into each other."""


_FLAG_STEPS = 3
"""Steps of copying of the flags, which go to every bit of the accumulators."""


class SpikeArray(wiring.Component):
    """``rows`` inputs x ``rows`` outputs of 4-bit weights by distributed arithmetic.

    Every group of four rows of one column has a table of the 16 sums of its weights; the spike
    bits of the group are its address. A registered adder tree per column adds the groups, and
    ``acc = 2*acc + sum`` runs over the bit-planes of a position, most significant first; a
    plane with ``negate`` set subtracts (sign planes). The first plane of a position takes 0 for
    ``acc``: that gate and the sign lie in the look-up tables of the adder
    (:func:`gen.pnr.passes.absorb_operands`).
    Bit-exact model: :func:`sim.reference.array.run_array`.

    Tables of a group share their address and so their memory: LUT-RAM of 16 words of 6 bits for
    every column. They are written ``load_rows / 4`` groups at a time, in all columns; so what a
    column is loaded with is its own, and can lie beside it. A lookup happens
    :attr:`LOOKUP` cycles after its word is on ``word``: an entry written in that cycle or later
    does not change it.

    Throughput is one plane per cycle. ``sums`` of a position is valid :attr:`latency` cycles
    after its last plane, until the next plane's addition: for one cycle where the next position
    follows at once.

    ECP5 cost, measured by tests/synth/test_spike_array.py: 4.8 COMB and 4.1 FF per lane for 32
    rows, 8 load rows and 24 bits (table cells 2.25, adder tree and accumulator 2.6); no
    multiplier, no block RAM; 179 MHz alone on an 85F of speed grade 6.

    Parameters
    ----------
    rows : int
        Inputs and outputs; a power of two, at least 8.
    load_rows : int
        Rows whose tables are written at once, in all columns: a set. A multiple of 4 that divides
        ``rows``.
    acc_bits : int
        Width of a sum, two's complement; wider sums wrap.

    Members
    -------
    word : ``In(rows)``
        Spike bits of one plane, bit i for row i.
    plane : ``In(1)``
        ``word`` is a plane; otherwise the cycle is a bubble.
    last : ``In(1)``
        With ``plane``: least significant plane of its position.
    negate : ``In(1)``
        With ``plane``: subtract this plane. Only the first plane of a position may have it set.
    sums : ``Out(ArrayLayout(signed(acc_bits), rows))``
        Result of a position, one sum per column.
    entries : ``In(ArrayLayout(6, rows * load_rows // 4))``
        Table entries to write; element ``c * load_rows // 4 + g`` for column c and group g of the
        set: the sum of the weights whose address bit is set, plus ``ENTRY_OFFSET``.
    entry_address : ``In(4)``
        Address in every table of the set, :attr:`WRITE_LEAD` cycles before its entries.
    entry_write : ``In(rows // load_rows)``
        Write the entries that follow in :attr:`WRITE_LEAD` cycles into this set; one-hot or 0.
    """

    LOOKUP = 2

    WRITE_LEAD = 2

    def __init__(self, *, rows, load_rows, acc_bits):
        if rows < 8 or rows & (rows - 1):
            raise ValueError(f"Rows must be a power of two and at least 8, not {rows!r}")
        if load_rows < GROUP or load_rows % GROUP or rows % load_rows:
            raise ValueError(f"Load rows must be a multiple of {GROUP} that divides {rows} rows, "
                             f"not {load_rows!r}")
        if acc_bits < ENTRY_BITS + exact_log2(rows):
            raise ValueError(f"Accumulator width must be at least "
                             f"{ENTRY_BITS + exact_log2(rows)} bits, not {acc_bits!r}")

        self._rows = rows
        self._load_rows = load_rows
        self._acc_bits = acc_bits

        super().__init__({
            "word": In(rows),
            "plane": In(1),
            "last": In(1),
            "negate": In(1),
            "sums": Out(data.ArrayLayout(signed(acc_bits), rows)),
            "entries": In(data.ArrayLayout(ENTRY_BITS, rows * load_rows // GROUP)),
            "entry_address": In(4),
            "entry_write": In(rows // load_rows),
        })

    @property
    def rows(self):
        return self._rows

    @property
    def load_rows(self):
        return self._load_rows

    @property
    def acc_bits(self):
        return self._acc_bits

    @property
    def sets(self):
        """Sets of rows: tables are written one set at a time."""
        return self._rows // self._load_rows

    @property
    def levels(self):
        """Levels of the adder tree, one register each."""
        return exact_log2(self._rows // GROUP)

    @property
    def latency(self):
        """Cycles from the last plane on ``word`` to its ``sums``."""
        return self.LOOKUP + 1 + self.levels + 1

    def elaborate(self, platform):
        m = Module()

        groups = self._rows // GROUP
        slots = self._load_rows // GROUP

        # A copy goes to columns c and c + rows / 2 alike: they share a lane of the partial sums
        # (hw.memory.partial_sum). Two neighbours or more to a word: their entries fill whole
        # LUT-RAMs, 4 bits wide.
        words = spread(m, "word", self.word, steps=self.LOOKUP, most=self._rows // 4)
        addresses = spread(m, "entry_address", self.entry_address, steps=self.WRITE_LEAD,
                           most=len(words))
        writes = spread(m, "entry_write", self.entry_write, steps=self.WRITE_LEAD,
                        most=len(words))

        def part(copies, column):
            half = self._rows // 2
            return column % half * len(copies) // half

        # Flags travel beside the tree.
        first = Signal(init=1)
        with m.If(self.plane):
            m.d.sync += first.eq(self.last)
        flags = {"add": self.plane, "follow": ~first, "negate": self.plane & self.negate}
        for stage in range(self.latency - 1 - _FLAG_STEPS):
            moved = {name: Signal(name=f"{name}_{stage}") for name in flags}
            m.d.sync += [moved[name].eq(flags[name]) for name in flags]
            flags = moved
        controls = {name: spread(m, name, flags[name], steps=_FLAG_STEPS, most=self._rows // 2)
                    for name in flags}

        guards = [guard_bit(m, f"guard_{k}", word[k]) for k, word in enumerate(words)]
        lookups = [[] for _ in range(self._rows)]
        for group, (copy, word) in product(range(groups), enumerate(words)):
            columns = [column for column in range(self._rows) if part(words, column) == copy]
            table = Memory(shape=unsigned(len(columns) * ENTRY_BITS), depth=1 << GROUP,
                           init=[], attrs={"ram_style": "distributed"})
            m.submodules[f"table_{group}_{copy}"] = table
            write = table.write_port()
            read = table.read_port(domain="comb")
            m.d.comb += [
                write.addr.eq(addresses[copy * len(addresses) // len(words)]),
                write.en.eq(writes[copy * len(writes) // len(words)][group // slots]),
                write.data.eq(Cat(self.entries[column * slots + group % slots]
                                  for column in columns)),
                read.addr.eq(word.word_select(group, GROUP)),
            ]
            for place, column in enumerate(columns):
                lookup = Signal(ENTRY_BITS, name=f"lookup_{group}_{column}", reset_less=True)
                m.d.sync += lookup.eq(read.data.word_select(place, ENTRY_BITS))
                lookups[column].append(lookup)
        for column in range(self._rows):
            self._column(m, column, lookups[column], guards[part(guards, column)],
                         **{name: copies[part(copies, column)]
                            for name, copies in controls.items()})

        return m

    def _column(self, m, index, terms, guard, *, add, follow, negate):
        # All adders of a column are packed into as few carry chains as possible. There is a
        # register behind each of them, in the slice of the adder: none costs cells of its own.
        pairs = []
        totals = []
        for level in range(1, self.levels + 1):
            sums = [Signal(ENTRY_BITS + level, name=f"tree_{index}_{level}_{k}", reset_less=True)
                    for k in range(len(terms) // 2)]
            pairs += [(Cat(terms[2 * k], guard), terms[2 * k + 1]) for k in range(len(sums))]
            totals += sums
            terms = sums

        # The offset of the entries has become the top bit's weight: flip it for two's complement.
        total = (Cat(terms[0][:-1], ~terms[0][-1]) ^ negate.replicate(len(terms[0]))).as_signed()
        # Bit 0 of 2*acc is 0, so it can carry the +1 of a subtraction.
        acc = Signal(self._acc_bits, name=f"acc_{index}", reset_less=True)
        addend = Signal(signed(self._acc_bits), name=f"addend_{index}")
        m.d.comb += [addend.eq(total), self.sums[index].eq(acc)]
        pairs.append((Cat(negate, acc[:-1] & follow.replicate(self._acc_bits - 1)), addend))

        *sums, following = packed_add(m, f"adders_{index}", pairs)
        m.d.sync += [total.eq(value) for total, value in zip(totals, sums, strict=True)]
        with m.If(add):
            m.d.sync += acc.eq(following)
