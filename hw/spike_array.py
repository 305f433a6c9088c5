"""SpikeArray: spike words in, sums of the selected weights out; accumulates, never multiplies."""

from itertools import product

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.packed_add import guard_bit, packed_add


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
    (:func:`gen.netlist.absorb_operands`).
    Bit-exact model: :func:`sim.reference.array.run_array`.

    Tables of the ``load_columns`` columns of a set share their address and so their memory: a
    LUT-RAM of 16 words of ``load_columns * 6`` bits per set and group. A lookup happens
    :attr:`LOOKUP` cycles after its word is on ``word``: an entry written in that cycle or later
    does not change it.

    Throughput is one plane per cycle. ``sums`` of a position is valid :attr:`latency` cycles
    after its last plane, until the next plane's addition: for one cycle where the next position
    follows at once.

    ECP5 cost, measured by tests/synth/test_spike_array.py: 4.8 COMB and 4.1 FF per lane for 32
    rows, 8 load columns and 24 bits (table cells 2.25, adder tree and accumulator 2.6); no
    multiplier, no block RAM; 173 MHz alone on an 85F of speed grade 6.

    Parameters
    ----------
    rows : int
        Inputs and outputs; a power of two, at least 8.
    load_columns : int
        Columns whose tables are written at once; divides ``rows``.
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
    entries : ``In(ArrayLayout(6, load_columns * rows // 4))``
        Table entries to write; element ``c * rows // 4 + g`` for column c of the set, group g: the
        sum of the weights whose address bit is set, plus ``ENTRY_OFFSET``.
    entry_address : ``In(4)``
        Address in every table of the set.
    entry_write : ``In(rows // load_columns)``
        Write ``entries`` into this set; one-hot or 0.
    """

    LOOKUP = 2

    def __init__(self, *, rows, load_columns, acc_bits):
        if rows < 8 or rows & (rows - 1):
            raise ValueError(f"Rows must be a power of two and at least 8, not {rows!r}")
        if load_columns < 1 or rows % load_columns:
            raise ValueError(f"Load columns must divide {rows} rows, not {load_columns!r}")
        if acc_bits < ENTRY_BITS + exact_log2(rows):
            raise ValueError(f"Accumulator width must be at least "
                             f"{ENTRY_BITS + exact_log2(rows)} bits, not {acc_bits!r}")

        self._rows = rows
        self._load_columns = load_columns
        self._acc_bits = acc_bits

        super().__init__({
            "word": In(rows),
            "plane": In(1),
            "last": In(1),
            "negate": In(1),
            "sums": Out(data.ArrayLayout(signed(acc_bits), rows)),
            "entries": In(data.ArrayLayout(ENTRY_BITS, load_columns * rows // GROUP)),
            "entry_address": In(4),
            "entry_write": In(rows // load_columns),
        })

    @property
    def rows(self):
        return self._rows

    @property
    def load_columns(self):
        return self._load_columns

    @property
    def acc_bits(self):
        return self._acc_bits

    @property
    def sets(self):
        """Column sets: tables are written one set at a time."""
        return self._rows // self._load_columns

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

        # Steps of copying, for less fan-out. A copy goes to some of the load columns in all sets,
        # as the entries do: these columns can lie together.
        # Two load columns or more to a word: their entries fill whole LUT-RAMs, 4 bits wide.
        words = self._spread(m, "word", self.word, steps=self.LOOKUP, least=2)

        # Flags travel beside the tree.
        first = Signal(init=1)
        with m.If(self.plane):
            m.d.sync += first.eq(self.last)
        flags = {"add": self.plane, "follow": ~first, "negate": self.plane & self.negate}
        for stage in range(self.latency - 1 - _FLAG_STEPS):
            moved = {name: Signal(name=f"{name}_{stage}") for name in flags}
            m.d.sync += [moved[name].eq(flags[name]) for name in flags]
            flags = moved
        controls = {name: self._spread(m, name, flags[name], steps=_FLAG_STEPS, least=1)
                    for name in flags}

        guards = [guard_bit(m, f"guard_{k}", word[k]) for k, word in enumerate(words)]
        wide = self._load_columns // len(words)
        for which in range(self.sets):
            lookups = [[] for _ in range(self._load_columns)]
            for copy, group in product(range(len(words)), range(groups)):
                columns = range(copy * wide, (copy + 1) * wide)
                table = Memory(shape=unsigned(wide * ENTRY_BITS), depth=1 << GROUP,
                               init=[], attrs={"ram_style": "distributed"})
                m.submodules[f"table_{which}_{copy}_{group}"] = table
                write = table.write_port()
                read = table.read_port(domain="comb")
                m.d.comb += [
                    write.addr.eq(self.entry_address),
                    write.en.eq(self.entry_write[which]),
                    write.data.eq(Cat(self.entries[column * groups + group]
                                      for column in columns)),
                    read.addr.eq(words[copy].word_select(group, GROUP)),
                ]
                for place, column in enumerate(columns):
                    lookup = Signal(ENTRY_BITS, name=f"lookup_{which}_{group}_{column}",
                                    reset_less=True)
                    m.d.sync += lookup.eq(read.data.word_select(place, ENTRY_BITS))
                    lookups[column].append(lookup)
            for column in range(self._load_columns):
                self._column(m, which * self._load_columns + column, lookups[column],
                             guards[column // wide],
                             **{name: copies[column * len(copies) // self._load_columns]
                                for name, copies in controls.items()})

        return m

    def _spread(self, m, name, source, *, steps, least):
        """Register ``source`` ``steps`` times, into twice as many signals each time while every
        one has ``least`` load columns left; returns those of the last step.

        The two of a step differ in their initial values, or synthesis would merge them again; so
        the first cycles after power-up must not matter.
        """
        copies = [source]
        for step in range(steps):
            halves = 2 if self._load_columns % (2 * len(copies) * least) == 0 else 1
            following = [Signal(source.shape(), name=f"{name}_{step}_{k}", init=-(k % 2),
                                reset_less=True) for k in range(halves * len(copies))]
            m.d.sync += [copy.eq(copies[k // halves]) for k, copy in enumerate(following)]
            copies = following
        return copies

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
