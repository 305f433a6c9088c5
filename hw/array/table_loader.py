"""TableLoader: 4-bit weights from a stream to the tables of the SpikeArray."""

from itertools import product

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.array.spike_array import ENTRY_BITS, ENTRY_OFFSET, GROUP
from hw.config import MEMORY_BITS
from hw.lib.packed_add import guard_bit, packed_add


__all__ = ["TableLoader"]


class TableLoader(wiring.Component):
    """Build the 16 sums of every group of four weights, one add or subtract per step.

    A set (``load_rows`` rows of all columns) is collected from the stream while the tables of the
    set before it are written: in LUT-RAMs, with the four weights of each group and column, and
    those of the set after it. A word of the stream brings one weight to each of its groups. Table
    addresses go in Gray-code order, so that a step adds one weight to the running sum of its group
    or takes one away.

    A tile of ``rows // load_rows`` sets takes 17 cycles per set, if the stream brings a word
    every cycle. The first entry is on ``entries`` in the third cycle after the one
    in which the first set's transfer happens: ``start`` high and the set complete. The last
    entry is there in the second cycle after ``done``.

    ECP5 cost: about 12 COMB and 5 FF per running sum (``load_rows * rows // 4`` of them).

    Parameters
    ----------
    rows, load_rows : int
        As :class:`hw.array.spike_array.SpikeArray`.
    word_bits : int
        Width of the stream; a set must fill a multiple of 4 words. 16 words a set keep up with the
        steps.

    Members
    -------
    i : ``In(stream.Signature(word_bits))``
        ``ready`` is a register. Tiles without header (docs/architecture.md): two's complement
        nibbles. Every 64 bits of a word go to their own part of the columns, half of it below
        column ``rows / 2``, the same lanes above; four words in a row bring the four weights of
        the same groups.
    room : ``Out(1)``
        ``i.ready`` in the next cycle.
    start : ``In(1)``
        The tables may be overwritten by the next tile. Looked at before its first set only.
    done : ``Out(1)``
        High in the cycle of a tile's last step.
    starved : ``Out(1)``
        Could write, but the stream is empty.
    entries, entry_address, entry_write
        To the members of the SpikeArray of these names: entries come
        ``SpikeArray.WRITE_LEAD`` = 2 cycles after their address.
    """

    def __init__(self, *, rows, load_rows, word_bits=MEMORY_BITS):
        if load_rows < GROUP or load_rows % GROUP or rows % load_rows:
            raise ValueError(f"Load rows must be a multiple of {GROUP} that divides {rows} rows, "
                             f"not {load_rows!r}")
        if load_rows * rows * 4 % (GROUP * word_bits):
            raise ValueError(f"Weights of a set must fill a multiple of {GROUP} words of "
                             f"{word_bits} bits, not {load_rows * rows * 4} bits")

        self._rows = rows
        self._load_rows = load_rows
        self._word_bits = word_bits

        super().__init__({
            "i": In(stream.Signature(word_bits)),
            "start": In(1),
            "done": Out(1),
            "room": Out(1),
            "starved": Out(1),
            "entries": Out(data.ArrayLayout(ENTRY_BITS, rows * load_rows // GROUP)),
            "entry_address": Out(4),
            "entry_write": Out(rows // load_rows),
        })

    @property
    def rows(self):
        return self._rows

    @property
    def load_rows(self):
        return self._load_rows

    @property
    def sets(self):
        return self._rows // self._load_rows

    @property
    def set_words(self):
        """Words of the stream in one set."""
        return self._load_rows * self._rows * 4 // self._word_bits

    def elaborate(self, platform):
        m = Module()
        transfer = Signal()
        target = Signal()                           # half of the LUT-RAMs that is filled
        # The step is there twice, for less fan-out of what follows from it; another initial value
        # keeps synthesis from merging the two, which are the same from the first transfer on.
        steps = [Signal(4, name=f"step_{half}", init=half) for half in range(2)]
        step = steps[0]

        full, full_next, word, write_block, write_address = self._collect(m, transfer, target)
        busy, this_set = self._sets(m, full, full_next, transfer, step)
        read_address, controls = self._controls(m, steps, transfer, target)
        m.d.comb += [
            self.entry_address.eq(step ^ (step >> 1)),
            self.entry_write.eq(Mux(busy, this_set, 0)),
        ]
        self._sums(m, word, write_block, write_address, read_address, controls)
        return m

    def _collect(self, m, transfer, target):
        """Collect the next set: whether it is full, now and next; a word and where it is written.

        Word number 4 * b + k brings weight k of the groups of block b.
        """
        fill = Signal(range(self.set_words))
        full = Signal()
        filled = self.i.valid & self.i.ready & (fill == self.set_words - 1)
        full_next = filled | (full & ~transfer)
        m.d.sync += [full.eq(full_next), self.i.ready.eq(self.room)]
        with m.If(transfer):
            m.d.sync += target.eq(~target)
        # A word and where it goes are in registers before it spreads over the set; it lands in the
        # cycle before a transfer at the latest.
        blocks = self.set_words // GROUP
        # Where it goes is there twice, for the lower parts and for the upper ones; initial values
        # keep the two apart, and fill LUT-RAMs before their first set at most.
        word = Signal(self._word_bits, reset_less=True)
        write_block, write_address = (
            [Signal(width, name=f"{name}_{copy}", init=-copy, reset_less=True) for copy in range(2)]
            for name, width in (("write_block", blocks), ("write_address", 3)))
        taken = self.i.valid & self.i.ready
        m.d.sync += word.eq(self.i.payload)
        m.d.sync += [copy.eq(Mux(taken, 1 << (fill >> 2), 0)) for copy in write_block]
        m.d.sync += [copy.eq(Cat(fill[:2], target ^ transfer)) for copy in write_address]
        with m.If(taken):
            m.d.sync += fill.eq(Mux(fill == self.set_words - 1, 0, fill + 1))
        return full, full_next, word, write_block, write_address

    def _sets(self, m, full, full_next, transfer, step):
        """Sixteen steps over the set before: whether they go on, and for which set."""
        busy = Signal()
        free = Signal(init=1)                       # idle, or in the last step
        next_set = Signal(self.sets, init=1)        # one-hot
        this_set = Signal(self.sets)
        # In the cycle of `done`, `start` still is the one for the tile just finished.
        allowed = ~next_set[0] | (self.start & ~busy)
        m.d.comb += [
            self.starved.eq(~full & free & ~self.i.valid & allowed),
            self.done.eq(busy & free & this_set[-1]),
        ]
        ready = full & free & allowed & ~transfer
        m.d.sync += transfer.eq(ready)
        m.d.comb += self.room.eq(~full_next | ready)
        with m.If(transfer):
            m.d.sync += [
                busy.eq(1),
                free.eq(0),
                this_set.eq(next_set),
                next_set.eq(next_set.rotate_left(1)),
            ]
        with m.Else():
            m.d.sync += free.eq(free | (step == 14))
            with m.If(free):
                m.d.sync += busy.eq(0)
        return busy, this_set

    def _controls(self, m, steps, transfer, target):
        """Where weights are read, by quarter of the lanes, and how they are added, by eighth."""
        # What step k adds: weight number ctz(k), negative if its address bit falls. Where it is
        # read is registered with the step, in copies for quarters of the lanes of the partial sums
        # (to which columns c and c + rows / 2 belong), and its sign one cycle later, beside the
        # operand, in copies for eighths. (Initial values keep these apart, too.)
        read_address, controls = [], []
        for quarter in range(4):
            following = Signal(4, name=f"following_{quarter}")
            m.d.comb += following.eq(Mux(transfer, 0, steps[quarter // 2] + 1))
            place = Signal(3, name=f"read_address_{quarter}", init=-(quarter % 2),
                           reset_less=True)
            subtract, first = (Signal(name=f"{name}_{quarter}", init=quarter % 2, reset_less=True)
                               for name in ("subtract", "first"))
            m.d.sync += [
                steps[quarter // 2].eq(following),
                place[:2].eq(Cat(~following[0] & (following[1] | ~following[2]),
                                 ~following[0] & ~following[1])),
                subtract.eq(Mux(following[0], following[1], Mux(
                    following[1], following[2], following[2] & following[3]))),
                first.eq(following == 0),
            ]
            with m.If(transfer):
                m.d.sync += place[2].eq(target)
            read_address.append(place)
            for eighth in range(2):
                control = {name: Signal(name=f"{name}_{quarter}_{eighth}", init=eighth,
                                        reset_less=True) for name in ("clear", "borrow")}
                m.d.sync += [control["clear"].eq(first), control["borrow"].eq(subtract)]
                controls.append(control)
        return read_address, controls

    def _sums(self, m, word, write_block, write_address, read_address, controls):
        """The LUT-RAMs of the weights and, behind each, its 16 running sums."""
        # Operands: 16 weights from each LUT-RAM, of the groups of a set in some columns that follow
        # each other. Those of a part are in both halves of the columns, for the same lanes of the
        # partial sums, or a word would have to go to half of the chip.
        slots = self._load_rows // GROUP
        blocks = self.set_words // GROUP
        parts = self._word_bits // MEMORY_BITS
        halves = 1 if blocks == 1 else 2
        for part, block in product(range(parts), range(blocks)):
            lut_ram = (block % halves * parts * blocks + part * blocks + block) // halves
            memory = Memory(shape=MEMORY_BITS, depth=2 * GROUP, init=[],
                            attrs={"ram_style": "distributed"})
            m.submodules[f"weights_{lut_ram}"] = memory
            write_port, read_port = memory.write_port(), memory.read_port(domain="comb")
            operands = Signal(data.ArrayLayout(4, 16), name=f"operands_{lut_ram}",
                              reset_less=True)
            columns = 16 // slots
            lane = lut_ram * columns % (self._rows // 2)
            control = controls[lane * 8 // (self._rows // 2)]
            m.d.comb += [
                write_port.addr.eq(write_address[2 * part // parts]),
                write_port.data.eq(word.word_select(part, MEMORY_BITS)),
                write_port.en.eq(write_block[2 * part // parts][block]),
                read_port.addr.eq(read_address[lane * 4 // (self._rows // 2)]),
            ]
            m.d.sync += operands.as_value().eq(read_port.data)

            totals, pairs = [], []
            guard = guard_bit(m, f"guard_{lut_ram}", operands[0][0])
            for index in range(16):
                total = Signal(ENTRY_BITS, name=f"total_{lut_ram}_{index}", reset_less=True)
                m.d.comb += self.entries[lut_ram * 16 + index].eq(total)
                totals.append(total)
                # Lowest bit: carry in for a subtraction. Highest bit: keeps the carry out. The sign
                # is taken in the adder's own tables (gen.pnr.passes.absorb_operands).
                wide = Signal(signed(ENTRY_BITS), name=f"wide_{lut_ram}_{index}")
                m.d.comb += wide.eq((operands[index] ^ control["borrow"].replicate(4)).as_signed())
                pairs.append((Cat(Const(1, 1), total, guard), Cat(control["borrow"], wide)))
            sums = packed_add(m, f"adders_{lut_ram}", pairs)
            m.d.sync += [total.eq(value[1:]) for total, value in zip(totals, sums, strict=True)]
            with m.If(control["clear"]):
                m.d.sync += [total.eq(ENTRY_OFFSET) for total in totals]
