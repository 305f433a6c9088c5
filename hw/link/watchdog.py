"""Watchdog: a core that takes too long for an image."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.register import WATCHDOG_BITS, WATCHDOG_UNIT_BITS


__all__ = ["Watchdog"]


class Watchdog(wiring.Component):
    """Tell when the core has worked on one image for ``limit`` units of cycles.

    The time begins with ``core_busy``, with every change of ``image`` and when a limit is set; up
    to four cycles come on top of it.

    Members
    -------
    limit : ``In(WATCHDOG_BITS)``
        In units of ``2**WATCHDOG_UNIT_BITS`` cycles (:mod:`hw.register`), 0 for no limit.
    core_busy : ``In(1)``
    image : ``In(1)``
        Lowest bit of the count of finished images.
    expired : ``Out(1)``
        High from then on while the core works on this image.
    """

    limit: In(WATCHDOG_BITS)
    core_busy: In(1)
    image: In(1)
    expired: Out(1)

    def elaborate(self, platform):
        m = Module()

        cycles = Signal(WATCHDOG_UNIT_BITS)
        units = Signal(WATCHDOG_BITS)
        image = Signal()
        counting = Signal()
        tick = Signal()
        limited = Signal()
        m.d.sync += [
            image.eq(self.image),
            counting.eq(self.core_busy & (image == self.image)),
            cycles.eq(cycles + 1),
            tick.eq(cycles.all()),
            limited.eq(self.limit != 0),
            self.expired.eq(counting & limited & (units == 0)),
        ]
        with m.If(~counting | ~limited):
            m.d.sync += [units.eq(self.limit), cycles.eq(0), tick.eq(0)]
        with m.Elif(tick & (units != 0)):
            m.d.sync += units.eq(units - 1)

        return m
