"""Radiona ULX3S (https://radiona.org/ulx3s) with each of its four FPGAs."""

from functools import partial

from amaranth.build import Attrs, Pins, Resource, Subsignal
from amaranth_boards.ulx3s import (
    ULX3S_12F_Platform,
    ULX3S_25F_Platform,
    ULX3S_45F_Platform,
    ULX3S_85F_Platform,
)

from boards.ecp5_top import Ecp5Pins, Ecp5Top
from boards.pll import phases
from boards.spec import BoardSpec, CORE_25F, SdramPart, SdramSpec


__all__ = ["ULX3S"]


MEASURE = Resource(
    "measure", 0,
    Subsignal("running", Pins("0+", dir="o", conn=("gpio", 0))),
    Subsignal("phase", Pins("0-", dir="o", conn=("gpio", 0))),
    Subsignal("scl", Pins("1+", dir="io", conn=("gpio", 0)), Attrs(PULLMODE="UP")),
    Subsignal("sda", Pins("1-", dir="io", conn=("gpio", 0)), Attrs(PULLMODE="UP")),
    Attrs(IO_TYPE="LVCMOS33"))
"""Pins of the header J1 for who measures: GP0, GN0, GP1 and GN1 as they are printed there."""

PINS = Ecp5Pins(
    clock="clk25", clock_hz=25_000_000, button=("button_fire", 0), leds=tuple(range(8)),
    measure=MEASURE,
    # The ESP32 in reset: it shares the SD card and JTAG pins, and its power draw would be measured
    # as ours. Its wireless loader works again after the next power cycle. Its boot pin is high,
    # which the board wants of any design.
    held=(("esp32", 0, "en", 0), ("esp32", 0, "gpio0", 1)),
    boot={"flash": ("spi_flash", 0), "sd": ("sd_card_spi", 0)},
)
"""The button is F1 (pin R1). ``uart_tx_enable`` is never requested: on the board that pin is an
output of the bridge."""


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


def _ulx3s(suffix, *, idcode, comb, ebr, dsp, platform, core=None):
    return BoardSpec(
        name=f"ulx3s-{suffix}", part=f"LFE5U-{suffix.upper()}", package="CABGA381", speed="6",
        device_option=f"--{suffix.removesuffix('f')}k", idcode=idcode,
        clock_hz=PINS.clock_hz, target_hz=80_000_000,
        core_clocks_hz=tuple(mhz * 1_000_000 for mhz in (50, 60, 75, 80, 90, 100)),
        baud_rates=(2_000_000, 1_000_000),
        comb=comb, ff=comb, ebr=ebr, dsp=dsp, comb_limit=0.84,
        core=core or {}, sdram=SDRAM, platform=platform, top=partial(Ecp5Top, pins=PINS),
        sdram_phases=partial(phases, PINS.clock_hz),
        meter=suffix == "85f", flash_bytes=16 << 20, loader=("-b", "ulx3s"),
        usb=(0x0403, 0x6015), usb_port="US1", button="F1", alive_led="LED 7",
    )


ULX3S = (
    # The 12F is the die of the 25F with another IDCODE: nextpnr offers all of it.
    _ulx3s("12f", idcode=0x21111043, comb=24288, ebr=56, dsp=28, platform=ULX3S_12F_Platform,
           core=CORE_25F),
    _ulx3s("25f", idcode=0x41111043, comb=24288, ebr=56, dsp=28, platform=ULX3S_25F_Platform,
           core=CORE_25F),
    _ulx3s("45f", idcode=0x41112043, comb=43848, ebr=108, dsp=72, platform=ULX3S_45F_Platform),
    _ulx3s("85f", idcode=0x41113043, comb=83640, ebr=208, dsp=156, platform=ULX3S_85F_Platform),
)
"""Every ULX3S, the smallest first."""
