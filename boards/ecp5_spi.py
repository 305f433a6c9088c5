"""Pins of a SPI flash or an SD card on an ECP5."""

from amaranth import Elaboratable, Instance, Module, Signal
from amaranth.build import Resource
from amaranth.lib import io


__all__ = ["Ecp5SpiPins"]


class Ecp5SpiPins(Elaboratable):
    """Every signal through the flip-flop of its pad; those of the device that are not used, WP# and
    HOLD#, stay high.

    The clock of the configuration flash has no pin of its own: it leaves through the primitive
    ``USRMCLK`` (Lattice FPGA-TN-02039, "Master SPI"), which takes it over behind configuration.

    Parameters
    ----------
    pins : interface
        The master's (:class:`hw.port.SpiPins`), in ``sync``.
    platform : Platform
    resource : tuple of (str, int)
        With ``cs``, ``copi``, ``cipo`` and perhaps ``wp``, ``hold``, as amaranth-boards has them.
    configuration_clock : bool
        The clock is that of configuration, else the resource has a ``clk``.
    """

    def __init__(self, pins, platform, resource, *, configuration_clock):
        self._pins, self._platform = pins, platform
        self._resource, self._configuration_clock = resource, configuration_clock

    def elaborate(self, platform):
        m = Module()
        found = platform.lookup(*self._resource)
        names = [pin.name for pin in found.ios if pin.name not in ("clk", "cd")]
        if self._configuration_clock:
            # The same without the pin of the clock, which no constraint can name.
            found = Resource("boot_flash", 0, *(pin for pin in found.ios if pin.name != "clk"),
                             found.attrs)
            platform.add_resources([found])
        else:
            names.append("clk")
        port = platform.request(found.name, found.number, dir={
            pin.name: "-" for pin in found.ios})
        values = {"cs": self._pins.select, "clk": self._pins.clk, "copi": self._pins.copi,
                  "wp": 0, "hold": 0}
        for name in names:
            kind = "i" if name == "cipo" else "o"
            m.submodules[name] = buffer = io.FFBuffer(kind, getattr(port, name))
            m.d.comb += (self._pins.cipo.eq(buffer.i) if kind == "i" else
                         buffer.o.eq(values[name]))
        if self._configuration_clock:
            clk = Signal()
            m.d.sync += clk.eq(self._pins.clk)
            m.submodules.clk = Instance("USRMCLK", i_USRMCLKI=clk, i_USRMCLKTS=0)
        return m
