"""Radiona ULX3S (https://radiona.org/ulx3s) with each of its four FPGAs."""

from amaranth import *
from amaranth.build import Attrs, Pins, Resource, Subsignal
from amaranth.lib import io, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth_boards.ulx3s import (
    ULX3S_12F_Platform,
    ULX3S_25F_Platform,
    ULX3S_45F_Platform,
    ULX3S_85F_Platform,
)

from boards.ecp5_restart import RestartController
from boards.ecp5_sdram import Ecp5SdramPins
from boards.pll import Ecp5Pll, PllDividers
from boards.spec import BoardSpec, SdramPart, SdramSpec


__all__ = ["ULX3S", "Ulx3sTop"]


CLOCK_HZ = 25_000_000


MEASURE = Resource(
    "measure", 0,
    Subsignal("running", Pins("0+", dir="o", conn=("gpio", 0))),
    Subsignal("phase", Pins("0-", dir="o", conn=("gpio", 0))),
    Subsignal("scl", Pins("1+", dir="io", conn=("gpio", 0)), Attrs(PULLMODE="UP")),
    Subsignal("sda", Pins("1-", dir="io", conn=("gpio", 0)), Attrs(PULLMODE="UP")),
    Attrs(IO_TYPE="LVCMOS33"))
"""Pins of the header J1 for who measures: GP0, GN0, GP1 and GN1 as they are printed there."""


class Ulx3sTop(wiring.Component):
    """The pins, clock and reset of a ULX3S around a core shell.

    * ``sync`` runs at ``core_clock_hz`` from one PLL, from when it is locked. When the lock is
      lost, when the button F1 (``button_fire`` 0, pin R1) is pressed, and when ``shell.restart``
      asks for it, everything begins anew (:mod:`boards.ecp5_restart`); ``shell.state`` tells of
      it. Both are optional.
    * ``shell.rx`` and ``shell.tx`` are the USB serial bridge. ``rx`` is synchronised here (2
      cycles) and ``tx`` leaves from a flip-flop (1 cycle) that idles high from configuration on.
      ``uart_tx_enable`` is never requested: on the board that pin is an output of the bridge.
    * ``shell.leds`` drives LED 0..7 (what they say: :class:`hw.shell.Shell`); missing upper bits
      stay dark. While F1 is held and while a PLL has no lock, all stand still: LED 7, else always
      lit, is dark then.
    * ``shell.pins``, where there is one, drives the SDRAM chip (:mod:`boards.ecp5_sdram`). Its
      domain ``sdram`` and the chip's own clock ``sdram_chip`` come from a second PLL. ``sync``
      and ``sdram`` start together, because the FIFOs between them need it.
    * ``shell.identity``, where there is one, is a constant that follows from everything else
      (:mod:`gen.flow.rtl`): an instance of a module ``identity``, which is not part of the RTL.
    * ``shell.running`` and ``shell.phase`` leave at :data:`MEASURE`, GP0 and GN0 of the header J1,
      from flip-flops; ``shell.i2c``, where there is one, is the bus at GP1 (SCL) and GN1 (SDA),
      whose levels pass two flip-flops. All are 3.3 V.
    * The ESP32 is held in reset (it shares the SD card and JTAG pins, and its power draw would
      be measured as ours). Its wireless loader works again after the next power cycle.

    Parameters
    ----------
    shell : component
        Ports ``rx : In(1)``, ``tx : Out(1)`` and ``leds : Out(n)``, n at most 8, all in ``sync``.
    core_clock_hz : int
        Frequency of ``sync``; must be reachable from 25 MHz by whole dividers.
    sdram_clock_hz : int
        Frequency of ``sdram``, for a shell with SDRAM pins; likewise.
    """

    def __init__(self, shell, *, core_clock_hz, sdram_clock_hz=None):
        if len(shell.leds) > 8:
            raise ValueError(f"Shell must drive at most 8 LEDs, not {len(shell.leds)!r}")

        self._shell = shell
        self._pll = Ecp5Pll(input_hz=CLOCK_HZ, output_hz=core_clock_hz)
        self._sdram_pll = None
        if hasattr(shell, "pins"):
            self._sdram_pll = Ecp5Pll(input_hz=CLOCK_HZ, output_hz=sdram_clock_hz,
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
        oscillator = platform.request("clk25", dir="-")
        m.submodules.oscillator = clk25 = io.Buffer("i", oscillator)
        m.domains.board = ClockDomain(reset_less=True)
        m.domains.sync = ClockDomain(reset_less=True)
        m.d.comb += [ClockSignal("board").eq(clk25.i), pll.clk_in.eq(clk25.i)]
        m.submodules.restart_controller = restart = RestartController()
        m.submodules.button = button = io.Buffer("i", platform.request("button_fire", 0, dir="-"))
        m.d.comb += [restart.locked.eq(pll.locked), restart.button.eq(button.i)]
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

        # SDRAM.
        if self._sdram_pll is not None:
            m.domains.sdram = ClockDomain(reset_less=True)
            m.domains.sdram_chip = ClockDomain(reset_less=True)
            m.d.comb += [
                sdram_pll.clk_in.eq(clk25.i),
                sdram_pll.phase_step.eq(shell.pins.phase_step),
            ]
            m.submodules.sdram_gate = Instance(
                "DCCA", i_CLKI=sdram_pll.clk_out, i_CE=restart.run, o_CLKO=ClockSignal("sdram"))
            m.submodules.sdram_chip_gate = Instance(
                "DCCA", i_CLKI=sdram_pll.clk_shifted, i_CE=restart.run_chip,
                o_CLKO=ClockSignal("sdram_chip"))
            m.submodules.sdram_pins = Ecp5SdramPins(shell.pins, platform.request(
                "sdram", dir=dict.fromkeys(Ecp5SdramPins.SUBSIGNALS, "-")))

        # Link.
        uart = platform.request("uart", 0, dir={"rx": "-", "tx": "-", "rts": "-", "dtr": "-"})
        m.submodules.rx_pin = rx_pin = io.Buffer("i", uart.rx)
        m.submodules.rx_sync = FFSynchronizer(rx_pin.i, shell.rx, init=1)
        m.submodules.tx_pin = tx_pin = io.Buffer("o", uart.tx)
        tx = Signal(init=1, reset_less=True)
        m.d.sync += tx.eq(shell.tx)
        m.d.comb += tx_pin.o.eq(tx)

        if "identity" in shell.signature.members:
            m.submodules.identity = Instance("identity", o_value=shell.identity)

        # LEDs: registered, so that their long routes never count against the core.
        leds = Signal(8)
        m.d.sync += leds.eq(shell.leds)
        for index in range(8):
            led = platform.request("led", index, dir="-")
            m.submodules[f"led_pin_{index}"] = led_pin = io.Buffer("o", led)
            m.d.comb += led_pin.o.eq(leds[index])

        self._measure(m, platform, shell)

        # ESP32: in reset; its boot pin high, which the board wants of any design.
        esp32 = platform.request("esp32", 0, dir=dict.fromkeys(
            ("en", "tx", "rx", "gpio0", "gpio5", "gpio16", "gpio17"), "-"))
        m.submodules.esp32_en = esp32_en = io.Buffer("o", esp32.en)
        m.submodules.esp32_gpio0 = esp32_gpio0 = io.Buffer("o", esp32.gpio0)
        m.d.comb += [esp32_en.o.eq(0), esp32_gpio0.o.eq(1)]

        return m


    def _measure(self, m, platform, shell):
        """Pins for who measures, and the bus of the power monitor."""
        names = [name for name in ("running", "phase") if name in shell.signature.members]
        if "i2c" in shell.signature.members:
            names += ["scl", "sda"]
        if not names:
            return
        platform.add_resources([MEASURE])
        port = platform.request("measure", 0, dir=dict.fromkeys(
            ("running", "phase", "scl", "sda"), "-"))
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


def sdram_phases(sdram_clock_hz):
    """Steps of the phase of the SDRAM chip's clock in a period."""
    return PllDividers.find(CLOCK_HZ, sdram_clock_hz).phases


# Times by speed grade (in the name) as public sources give them, not checked against the data
# sheet of the exact part. For the IS42S16160G the slowest values in use anywhere are taken.
SDRAM = SdramSpec(
    parts=(
        SdramPart(name="MT48LC16M16A2TG-6A", columns=512, max_mhz=166,
                  trcd_ns=18, trp_ns=18, tras_ns=42, trc_ns=60, trfc_ns=60, twr_ns=12,
                  trrd_ns=12, tmrd_ns=12),
        SdramPart(name="IS42S16160G-7TL", columns=512, max_mhz=143,
                  trcd_ns=20, trp_ns=20, tras_ns=45, trc_ns=66, trfc_ns=70, twr_ns=15,
                  trrd_ns=15, tmrd_ns=14),
        SdramPart(name="M12L2561616A-6TG2T", columns=512, max_mhz=166,
                  trcd_ns=18, trp_ns=18, tras_ns=42, trc_ns=60, trfc_ns=60, twr_ns=12,
                  trrd_ns=12, tmrd_ns=12),
        SdramPart(name="AS4C32M16SB-7TCN", columns=1024, max_mhz=143,
                  trcd_ns=21, trp_ns=21, tras_ns=42, trc_ns=63, trfc_ns=63, twr_ns=14,
                  trrd_ns=14, tmrd_ns=14),
    ),
    data_bits=16, banks=4, rows=8192, refresh_ns=7812.5, power_up_ns=200_000,
    clocks_hz=tuple(mhz * 1_000_000 for mhz in (50, 75, 100, 125, 130, 135)),
    target_hz=125_000_000,
)


def _ulx3s(suffix, *, idcode, comb, ebr, dsp, platform):
    return BoardSpec(
        name=f"ulx3s-{suffix}", part=f"LFE5U-{suffix.upper()}", package="CABGA381", speed="6",
        device_option=f"--{suffix.removesuffix('f')}k", idcode=idcode,
        clock_hz=CLOCK_HZ, target_hz=80_000_000,
        core_clocks_hz=tuple(mhz * 1_000_000 for mhz in (50, 60, 75, 80, 90, 100)),
        baud_rates=(2_000_000, 1_000_000),
        comb=comb, ff=comb, ebr=ebr, dsp=dsp, comb_limit=0.84,
        sdram=SDRAM, platform=platform, top=Ulx3sTop, sdram_phases=sdram_phases,
        meter=suffix == "85f", loader="ulx3s", usb=(0x0403, 0x6015),
    )


ULX3S = (
    # The 12F is the die of the 25F with another IDCODE: nextpnr offers all of it.
    _ulx3s("12f", idcode=0x21111043, comb=24288, ebr=56, dsp=28, platform=ULX3S_12F_Platform),
    _ulx3s("25f", idcode=0x41111043, comb=24288, ebr=56, dsp=28, platform=ULX3S_25F_Platform),
    _ulx3s("45f", idcode=0x41112043, comb=43848, ebr=108, dsp=72, platform=ULX3S_45F_Platform),
    _ulx3s("85f", idcode=0x41113043, comb=83640, ebr=208, dsp=156, platform=ULX3S_85F_Platform),
)
"""Every ULX3S, the smallest first."""
