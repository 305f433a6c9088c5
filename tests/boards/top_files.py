"""Files of a board's top around the smallest shell."""

import re

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.port import SdramPins


__all__ = ["Wire", "files", "located"]


class Wire(wiring.Component):
    """Smallest shell: sends the link back at once."""

    def __init__(self, *, leds=8, sdram=False, **members):
        super().__init__({"rx": In(1), "tx": Out(1, init=1), "leds": Out(leds),
                          **({"pins": Out(SdramPins())} if sdram else {}), **members})

    def elaborate(self, platform):
        m = Module()
        blink = Signal(4)
        m.d.sync += [self.tx.eq(self.rx), blink.eq(blink + 1)]
        m.d.comb += self.leds.eq(blink)
        return m


def files(board, *, leds=8, sdram=False, core_clock_hz=80_000_000, **members):
    """{name: content} of what Amaranth hands to the tools."""
    top = board.top(Wire(leds=leds, sdram=sdram, **members), core_clock_hz=core_clock_hz,
                    sdram_clock_hz=board.sdram.target_hz if sdram else None)
    return board.platform().prepare(top, emit_src=False).files


def located(content):
    """{port: pin} of the constraint file."""
    return dict(re.findall(r'LOCATE COMP "(\S+)" SITE "(\S+)"', content["top.lpf"]))
