"""A SPI flash as a source of bytes."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.boot.spi import SpiBytes
from hw.boot_layout import FLASH_OFFSET
from hw.port import BootSource, SpiPins


__all__ = ["FlashSource"]


FAST_READ = 0x0B
"""Address of 24 bits, and a byte without meaning (data sheets of W25Q128JV and IS25LP128)."""

FIRST = 2
"""Byte of an access with the opcode; before it the clock runs for two bytes without select: the
first clocks behind configuration may be lost in the FPGA's configuration port."""


class FlashSource(wiring.Component):
    """Read a flash from an address on, for as long as it is asked to.

    A flash has no way to say that it is not there: one that does not answer reads as 0xFF or 0.
    A byte takes 16 halves and a cycle where it is taken at once. 46 COMB (yosys, ECP5).

    Parameters
    ----------
    half : int
        Cycles in half a bit, at least 2.
    address : int
        24 bits.

    Members
    -------
    source : ``In(BootSource())``
        ``late`` is ignored, ``fault`` stays 0.
    pins : ``Out(SpiPins())``
    """

    name = "flash"

    def __init__(self, *, half, address=FLASH_OFFSET):
        if not 0 <= address < 1 << 24:
            raise ValueError(f"Address must fit in 24 bits, not {address!r}")
        self._spi = SpiBytes(half=half)
        self._address = address
        super().__init__({"source": In(BootSource()), "pins": Out(SpiPins())})

    def elaborate(self, platform):
        m = Module()
        m.submodules.spi = spi = self._spi
        m.d.comb += [self.pins.clk.eq(spi.clk), self.pins.copi.eq(spi.copi),
                     spi.cipo.eq(self.pins.cipo)]
        bytes_out = self.source.bytes
        command = [0xFF] * FIRST + [FAST_READ, *self._address.to_bytes(3, "big"), 0xFF]
        index = Signal(range(len(command) + 1))
        reading = index == len(command)
        held = Signal()                         # a byte has been read, and not been taken
        m.d.comb += [
            spi.sent.eq(Array([*command, 0xFF])[index]),
            spi.start.eq(self.source.go & (~held | bytes_out.ready)),
            bytes_out.payload.eq(spi.received),
            bytes_out.valid.eq(held),
        ]
        with m.If(bytes_out.ready & held):
            m.d.sync += held.eq(0)
        with m.If(spi.done):
            m.d.sync += held.eq(reading)
            with m.If(~reading):
                m.d.sync += index.eq(index + 1)
        # Behind the last clock: select follows its index by a cycle.
        m.d.sync += self.pins.select.eq((index >= FIRST) & self.source.go)
        with m.If(~self.source.go & ~spi.active):
            m.d.sync += [index.eq(0), held.eq(0)]
        return m
