"""Queue behind a pipeline that cannot be stopped."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out


__all__ = ["PipelineQueue"]


class PipelineQueue(wiring.Component):
    """Queue behind a pipeline that cannot stop: places are reserved before, filled after it.

    Cost: LUT-RAM.

    Parameters
    ----------
    width : int
    depth : int
        A multiple of 16, the depth of one ECP5 LUT-RAM. Entries come without a gap if it is not
        below the cycles from a reservation to ``room`` for the one that takes its place.
    spare : int
        Places that ``room`` leaves out: 0, or 4 for a user that looks at it through a register;
        then the queue does, too, with ``reserve``.

    Members
    -------
    reserve : ``In(1)``
        Keep one place for an entry on its way; while ``room``.
    room : ``Out(1)``
    w_data, w_en : ``In(width)``, ``In(1)``
        Fill the oldest reserved place.
    r_data : ``Out(width)``, ready : ``Out(1)``
        Oldest entry and whether there is one, from two registers and a LUT-RAM.
    r_en : ``In(1)``
        Remove it; while ``ready``.
    """

    def __init__(self, *, width, depth=16, spare=0):
        if spare not in (0, 4):
            raise ValueError(f"Spare places must be 0 or 4, not {spare!r}")
        self._width = width
        self._depth = depth
        self._spare = spare
        super().__init__({
            "reserve": In(1),
            "room": Out(1, init=1),
            "w_data": In(width),
            "w_en": In(1),
            "r_data": Out(width),
            "ready": Out(1),
            "r_en": In(1),
        })

    @property
    def width(self):
        return self._width

    @property
    def depth(self):
        return self._depth

    def elaborate(self, platform):
        m = Module()

        depth = self._depth

        m.submodules.memory = memory = Memory(shape=self._width, depth=depth, init=[],
                                              attrs={"ram_style": "distributed"})
        write_port = memory.write_port()
        read_port = memory.read_port(domain="comb")
        m.d.comb += [
            write_port.data.eq(self.w_data),
            write_port.en.eq(self.w_en),
            self.r_data.eq(read_port.data),
        ]
        with m.If(self.w_en):
            m.d.sync += write_port.addr.eq(write_port.addr + 1)
        with m.If(self.r_en):
            m.d.sync += read_port.addr.eq(read_port.addr + 1)

        # The flags come from a few bits each, not from the sums: `r_en` comes late in its cycle.
        used = Signal(range(depth + 1))
        level = Signal(range(depth + 1))
        if self._spare:
            # Room is four cycles behind the reservations that it allows.
            reserved = Signal()
            removed = Signal()
            m.d.sync += [
                reserved.eq(self.reserve),
                removed.eq(self.r_en),
                used.eq(used + reserved - removed),
                self.room.eq(used <= depth - self._spare),
            ]
        else:
            m.d.sync += [
                used.eq(used + self.reserve - self.r_en),
                self.room.eq(self.r_en | (used < depth - 1)
                             | ((used == depth - 1) & ~self.reserve)),
            ]
        m.d.sync += [
            level.eq(level + self.w_en - self.r_en),
            self.ready.eq(self.w_en | (level > 1) | (self.ready & ~self.r_en)),
        ]

        return m
