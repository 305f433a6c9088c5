"""A stand-in for the core shell, small enough to route in seconds: echoes the link."""

from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out


class EchoShell(wiring.Component):
    """Sends ``rx`` back after 512 cycles through a block RAM and counts on the LEDs."""

    rx: In(1)
    tx: Out(1, init=1)
    leds: Out(8)

    def elaborate(self, platform):
        m = Module()

        m.submodules.delay = delay = memory.Memory(shape=4, depth=4096, init=[15] * 4096)
        write = delay.write_port()
        read = delay.read_port()
        place = Signal(12)
        later = Signal(4)
        m.d.sync += [
            place.eq(place + 1),
            later.eq(read.data),
            self.tx.eq(later[0]),
        ]
        m.d.comb += [
            write.addr.eq(place),
            write.data.eq(self.rx.replicate(4)),
            write.en.eq(1),
            read.addr.eq(place + 1),
            read.en.eq(1),
        ]

        count = Signal(32)
        m.d.sync += count.eq(count + 1)
        m.d.comb += self.leds.eq(count[-8:])

        return m
