"""Top of a board with an ECP5: clocks, link, LEDs and SDRAM around a core shell."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from amaranth import *
from amaranth.build import Resource
from amaranth.lib import io, wiring
from amaranth.lib.cdc import FFSynchronizer

from boards.ecp5_restart import RestartController
from boards.ecp5_sdram import Ecp5SdramPins
from boards.ecp5_spi import Ecp5SpiPins
from boards.pll import Ecp5Pll


__all__ = ["Ecp5Pins", "Ecp5Top"]


LEDS = 8
"""Of a shell, at most."""


@dataclass(frozen=True, kw_only=True)
class Ecp5Pins:
    """Which resources of its platform a board's top takes. Beside these it takes ``uart`` 0 and,
    for a shell with SDRAM pins, ``sdram`` 0.

    Parameters
    ----------
    clock : str
        Resource of the oscillator.
    clock_hz : int
        Its frequency.
    button : tuple of (str, int) or None
        Resource and number of the button that restarts the board.
    leds : tuple of int
        For each LED of the board (``led`` 0, 1, …) the bit of ``shell.leds`` that it shows.
    measure : Resource or None
        Pins for who measures: a resource ``measure`` 0 with outputs ``running`` and ``phase``, and
        a bus ``scl``, ``sda`` with pull-ups. Without it ``running`` and ``phase`` stay inside.
    held : tuple of (str, int, str, int)
        Outputs at a fixed level: resource, number, pin in it, and 0 or 1. All pins of the resource
        are taken, those that are not named float.
    boot : dict
        {"flash" or "sd": resource and number}, where a shell with a boot master finds it. The clock
        of a flash is the chip's own configuration clock, no pin of the resource.
    """

    clock: str
    clock_hz: int
    button: tuple[str, int] | None
    leds: tuple[int, ...]
    measure: Resource | None = None
    held: tuple[tuple[str, int, str, int], ...] = ()
    boot: Mapping[str, tuple[str, int]] = field(default_factory=dict)


class Ecp5Top(wiring.Component):
    """The pins, clock and reset of a board around a core shell.

    * ``sync`` runs at ``core_clock_hz`` from one PLL, from when it is locked. When the lock is
      lost, when the board's button is pressed, and when ``shell.restart`` asks for it, everything
      begins anew (:mod:`boards.ecp5_restart`); ``shell.state`` tells of it. Both are optional.
    * ``shell.rx`` and ``shell.tx`` are the USB serial bridge. ``rx`` is synchronised here (2
      cycles) and ``tx`` leaves from a flip-flop (1 cycle) that idles high from configuration on.
    * ``shell.leds`` drives the LEDs (what they say: :class:`hw.shell.Shell`); missing upper bits
      stay dark. While the button is held and while a PLL has no lock, all stand still: LED 7 of
      the shell, else always lit, is dark then.
    * ``shell.pins``, where there is one, drives the SDRAM chip (:mod:`boards.ecp5_sdram`). Its
      domain ``sdram`` and the chip's own clock ``sdram_chip`` come from a second PLL. ``sync``
      and ``sdram`` start together, because the FIFOs between them need it.
    * ``shell.identity``, where there is one, is a constant that follows from everything else
      (:mod:`gen.flow.rtl`): an instance of a module ``identity``, which is not part of the RTL.
    * ``shell.running`` and ``shell.phase`` leave at ``pins.measure``, from flip-flops;
      ``shell.i2c``, where there is one, is the bus there, whose levels pass two flip-flops. All
      are 3.3 V.
    * ``shell.spi``, where there is one, is the flash or the card that ``shell.boots_from`` names
      (:mod:`boards.ecp5_spi`).

    Parameters
    ----------
    shell : component
        Ports ``rx : In(1)``, ``tx : Out(1)`` and ``leds : Out(n)``, n at most 8, all in ``sync``.
    pins : Ecp5Pins
    core_clock_hz : int
        Frequency of ``sync``; must be reachable from the oscillator by whole dividers.
    sdram_clock_hz : int
        Frequency of ``sdram``, for a shell with SDRAM pins; likewise.
    """

    def __init__(self, shell, *, pins, core_clock_hz, sdram_clock_hz=None):
        if len(shell.leds) > LEDS:
            raise ValueError(f"Shell must drive at most {LEDS} LEDs, not {len(shell.leds)!r}")

        if "i2c" in shell.signature.members and pins.measure is None:
            raise ValueError("Board has no pins for a power monitor: leave out meter")

        if "spi" in shell.signature.members and shell.boots_from not in pins.boot:
            raise ValueError(f"Board cannot boot from {shell.boots_from}: its platform has no such "
                             "pins")

        self._shell = shell
        self._pins = pins
        self._pll = Ecp5Pll(input_hz=pins.clock_hz, output_hz=core_clock_hz)
        self._sdram_pll = None
        if hasattr(shell, "pins"):
            self._sdram_pll = Ecp5Pll(input_hz=pins.clock_hz, output_hz=sdram_clock_hz,
                                      shifted=True)

        super().__init__({})

    @property
    def shell(self):
        return self._shell

    @property
    def core_clock_hz(self):
        return self._pll.output_hz

    def elaborate(self, platform):
        m = Module()

        m.submodules.shell = shell = self._shell
        m.submodules.pll = pll = self._pll

        # Clocks. Every flip-flop starts from its configuration value.
        oscillator = platform.request(self._pins.clock, dir="-")
        m.submodules.oscillator = clock = io.Buffer("i", oscillator)
        m.domains.board = ClockDomain(reset_less=True)
        m.domains.sync = ClockDomain(reset_less=True)
        m.d.comb += [ClockSignal("board").eq(clock.i), pll.clk_in.eq(clock.i)]
        m.submodules.restart_controller = restart = RestartController()
        pressed = C(0)
        if self._pins.button is not None:
            m.submodules.button = button = io.Buffer(
                "i", platform.request(*self._pins.button, dir="-"))
            pressed = button.i
        m.d.comb += [restart.locked.eq(pll.locked), restart.button.eq(pressed)]
        if self._sdram_pll is not None:
            m.submodules.sdram_pll = sdram_pll = self._sdram_pll
            m.d.comb += restart.locked.eq(pll.locked & sdram_pll.locked)
        if "restart" in shell.signature.members:
            m.d.comb += [restart.request.eq(shell.restart), shell.state.eq(restart.state)]
        # Its input is low for reset.
        m.submodules.set_reset = Instance(
            "SGSR", i_CLK=ClockSignal("board"), i_GSR=~restart.reset)
        m.submodules.sync_gate = Instance(
            "DCCA", i_CLKI=pll.clk_out, i_CE=restart.run, o_CLKO=ClockSignal("sync"))

        if self._sdram_pll is not None:
            self._connect_sdram(m, platform, clock.i, restart)
        self._connect_link(m, platform)
        if "identity" in shell.signature.members:
            m.submodules.identity = Instance("identity", o_value=shell.identity)
        self._connect_leds(m, platform)
        self._connect_measure(m, platform)
        if "spi" in shell.signature.members:
            m.submodules.spi_pins = Ecp5SpiPins(
                shell.spi, platform, self._pins.boot[shell.boots_from],
                configuration_clock=shell.boots_from == "flash")
        self._hold(m, platform)

        return m

    def _connect_sdram(self, m, platform, oscillator, restart):
        shell, sdram_pll = self._shell, self._sdram_pll
        m.domains.sdram = ClockDomain(reset_less=True)
        m.domains.sdram_chip = ClockDomain(reset_less=True)
        m.d.comb += [
            sdram_pll.clk_in.eq(oscillator),
            sdram_pll.phase_step.eq(shell.pins.phase_step),
        ]
        m.submodules.sdram_gate = Instance(
            "DCCA", i_CLKI=sdram_pll.clk_out, i_CE=restart.run, o_CLKO=ClockSignal("sdram"))
        m.submodules.sdram_chip_gate = Instance(
            "DCCA", i_CLKI=sdram_pll.clk_shifted, i_CE=restart.run_chip,
            o_CLKO=ClockSignal("sdram_chip"))
        m.submodules.sdram_pins = Ecp5SdramPins(shell.pins, platform.request(
            "sdram", dir=dict.fromkeys(Ecp5SdramPins.SUBSIGNALS, "-")))

    def _connect_link(self, m, platform):
        shell = self._shell
        uart = _request(platform, "uart", 0)
        m.submodules.rx_pin = rx_pin = io.Buffer("i", uart.rx)
        m.submodules.rx_sync = FFSynchronizer(rx_pin.i, shell.rx, init=1)
        m.submodules.tx_pin = tx_pin = io.Buffer("o", uart.tx)
        tx = Signal(init=1, reset_less=True)
        m.d.sync += tx.eq(shell.tx)
        m.d.comb += tx_pin.o.eq(tx)

    def _connect_leds(self, m, platform):
        # Registered, so that their long routes never count against the core.
        leds = Signal(LEDS)
        m.d.sync += leds.eq(self._shell.leds)
        for index, bit in enumerate(self._pins.leds):
            led = platform.request("led", index, dir="-")
            m.submodules[f"led_pin_{index}"] = led_pin = io.Buffer("o", led)
            m.d.comb += led_pin.o.eq(leds[bit])

    def _connect_measure(self, m, platform):
        """Pins for who measures, and the bus of the power monitor."""
        shell, resource = self._shell, self._pins.measure
        names = [name for name in ("running", "phase") if name in shell.signature.members]
        if "i2c" in shell.signature.members:
            names += ["scl", "sda"]
        if not names or resource is None:
            return
        platform.add_resources([resource])
        port = _request(platform, resource.name, resource.number)
        for name in names:
            pin = getattr(port, name)
            if name in ("running", "phase"):
                m.submodules[f"{name}_pin"] = buffer = io.Buffer("o", pin)
                m.d.comb += buffer.o.eq(getattr(shell, name))
                continue
            m.submodules[f"{name}_pin"] = buffer = io.Buffer("io", pin)
            m.submodules[f"{name}_sync"] = FFSynchronizer(buffer.i, getattr(shell.i2c, name),
                                                          init=1)
            m.d.comb += [buffer.o.eq(0), buffer.oe.eq(getattr(shell.i2c, f"{name}_low"))]

    def _hold(self, m, platform):
        ports = {(name, number): _request(platform, name, number)
                 for name, number in dict.fromkeys(held[:2] for held in self._pins.held)}
        for name, number, pin, level in self._pins.held:
            m.submodules[f"{name}_{pin}"] = buffer = io.Buffer("o", getattr(ports[name, number],
                                                                            pin))
            m.d.comb += buffer.o.eq(level)


def _request(platform, name, number):
    """A resource with all its pins as ports."""
    resource = platform.lookup(name, number)
    return platform.request(name, number, dir={pin.name: "-" for pin in resource.ios})
