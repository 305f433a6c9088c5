"""Planes of signed words that only repeat the sign: counted when written, left out when read.

A value of few bits, sign-extended to ``planes`` planes, says the same without the most significant
ones, as long as all lanes of the pool word have so few: the array begins with the first that
differs, its sign plane, and need not look up those before.
"""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.config import PLANES_MIN, REPEAT_BITS


__all__ = ["RepeatWrite", "RepeatRead", "RepeatCounter", "RepeatMemory"]


class RepeatWrite(wiring.Signature):
    """The count of the position whose most significant plane lies at ``address`` of the pool."""

    def __init__(self):
        super().__init__({"valid": Out(1), "address": Out(16), "count": Out(REPEAT_BITS)})


class RepeatRead(wiring.Signature):
    """``count`` comes a cycle after ``enable`` with ``address``, and stays until the next one."""

    def __init__(self):
        super().__init__({"enable": Out(1), "address": Out(16), "count": In(REPEAT_BITS)})


class RepeatCounter(wiring.Component):
    """Count the planes that repeat the sign, from the words of a position as they are written.

    Planes come least significant first. The most significant ones that equal each other are the
    sign; all but one of them are superfluous, and two planes are kept in any case.

    Members
    -------
    valid, first, last : ``In(1)``
        A plane, the least, and the most significant one of a position.
    address : ``In(16)``
        Of the plane.
    plane, above : ``In(rows)``
        The plane, and the one above it; that of the last is ignored.
    write : ``Out(RepeatWrite())``
        Three cycles after the last plane.
    """

    def __init__(self, rows):
        self._rows = rows
        super().__init__({
            "valid": In(1), "first": In(1), "last": In(1), "address": In(16),
            "plane": In(rows), "above": In(rows), "write": Out(RepeatWrite()),
        })

    def elaborate(self, platform):
        m = Module()

        # A comparison of many lanes in two steps.
        tag = data.StructLayout({"valid": 1, "first": 1, "last": 1, "address": 16})
        parts, differs = Signal(self._rows // 4), Signal()
        tags = [Signal(tag, name=f"tag_{step}") for step in range(2)]
        m.d.sync += [
            tags[0].eq(Cat(self.valid, self.first, self.last, self.address)),
            tags[1].eq(tags[0]),
            differs.eq(parts.any()),
        ]
        for part in range(self._rows // 4):
            lanes = slice(4 * part, 4 * part + 4)
            m.d.sync += parts[part].eq(self.plane[lanes] != self.above[lanes])

        # The least significant plane and the one above it are always read.
        now = tags[1]
        count = Signal(REPEAT_BITS)
        m.d.sync += [
            self.write.valid.eq(now.valid & now.last),
            self.write.address.eq(now.address),
            self.write.count.eq(count),
        ]
        with m.If(now.valid):
            m.d.sync += count.eq(Mux(now.first | differs, 0, count + 1))

        return m


class RepeatMemory(wiring.Component):
    """The counts of all positions in the pool, by the address of their most significant plane.

    Those of what something else than a :class:`RepeatCounter` wrote there are not known.

    Parameters
    ----------
    pool_words : int

    Members
    -------
    write : ``In(RepeatWrite())``
    read : ``In(RepeatRead())``
    """

    def __init__(self, pool_words):
        self._depth = pool_words // PLANES_MIN
        super().__init__({"write": In(RepeatWrite()), "read": In(RepeatRead())})

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=REPEAT_BITS, depth=self._depth, init=[])
        write, read = memory.write_port(), memory.read_port()
        drop = PLANES_MIN.bit_length() - 1
        m.d.comb += [
            write.en.eq(self.write.valid),
            write.addr.eq(self.write.address >> drop),
            write.data.eq(self.write.count),
            read.en.eq(self.read.enable),
            read.addr.eq(self.read.address >> drop),
            self.read.count.eq(read.data),
        ]
        return m
