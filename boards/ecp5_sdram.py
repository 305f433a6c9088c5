"""Pins of a 16-bit SDRAM on an ECP5: registers in the pads, and the chip's clock."""

from amaranth import C, Elaboratable, Module
from amaranth.lib import io


__all__ = ["Ecp5SdramPins"]


class Ecp5SdramPins(Elaboratable):
    """Every signal through the flip-flop of its pad; the clock through an ODDRX1F.

    Clock domains: ``sdram`` of the controller, and ``sdram_chip``, the same frequency with the
    phase that the chip shall see. Adds one cycle on the way out and one on the way in.

    Parameters
    ----------
    pins : interface
        The controller's: ``cke ras cas we bank address dqm dq_o dq_oe`` and ``dq_i``.
    port : PortGroup
        amaranth-boards' ``sdram`` resource, requested with ``dir="-"`` for each of its pins.
    """

    SUBSIGNALS = ("clk", "clk_en", "cs", "ras", "cas", "we", "ba", "a", "dqm", "dq")

    def __init__(self, pins, port):
        self._pins = pins
        self._port = port

    def elaborate(self, platform):
        m = Module()
        pins, port = self._pins, self._port

        outputs = {"clk_en": pins.cke, "cs": C(1), "ras": pins.ras, "cas": pins.cas,
                   "we": pins.we, "ba": pins.bank, "a": pins.address, "dqm": pins.dqm}
        for name, value in outputs.items():
            buffer = io.FFBuffer("o", getattr(port, name), o_domain="sdram")
            m.submodules[name] = buffer
            m.d.comb += buffer.o.eq(value)
        m.submodules.dq = dq = io.FFBuffer("io", port.dq, i_domain="sdram", o_domain="sdram")
        m.d.comb += [dq.o.eq(pins.dq_o), dq.oe.eq(pins.dq_oe), pins.dq_i.eq(dq.i)]

        m.submodules.clk = clk = io.DDRBuffer("o", port.clk, o_domain="sdram_chip")
        m.d.comb += [clk.o[0].eq(1), clk.o[1].eq(0)]

        return m
