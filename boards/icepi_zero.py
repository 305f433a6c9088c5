"""Icepi Zero, an LFE5U-25F with SDRAM on a board as small as a Raspberry Pi Zero.

Sources: pins from amaranth-boards (``icepi_zero.py``, of board version 1.3), the same as in
litex-boards (``platforms/icepi_zero.py``, by the maker of the board); chips from the bill of
materials (github.com/cheyao/icepi-zero, ``hardware/production/bom.csv``): W9825G6KH, FT231XQ,
oscillator of 50 MHz. Nothing of this has been seen on a board.
"""

from functools import partial

from amaranth.build import Attrs, Pins, Resource, Subsignal
from amaranth_boards.icepi_zero import IcepiZero1_3Platform

from boards.ecp5_top import Ecp5Pins, Ecp5Top
from boards.pll import phases
from boards.spec import BoardSpec, CORE_25F, SdramPart, SdramSpec


__all__ = ["ICEPI_ZERO"]


MEASURE = Resource(
    "measure", 0,
    Subsignal("running", Pins("17", dir="o", conn=("gpio", 0))),
    Subsignal("phase", Pins("27", dir="o", conn=("gpio", 0))),
    Subsignal("scl", Pins("3", dir="io", conn=("gpio", 0)), Attrs(PULLMODE="UP")),
    Subsignal("sda", Pins("2", dir="io", conn=("gpio", 0)), Attrs(PULLMODE="UP")),
    Attrs(IO_TYPE="LVCMOS33"))
"""Pins of the header for who measures: GPIO 17 and 27, and the bus at GPIO 3 and 2, where a
Raspberry Pi has its own."""

PINS = Ecp5Pins(
    # Five LEDs: of the shell's eight, the count of images is left out.
    clock="clk50", clock_hz=50_000_000, button=("button", 0), leds=(0, 1, 2, 3, 7),
    measure=MEASURE, boot={"flash": ("spi_flash_1x", 0), "sd": ("sd_card_spi", 0)},
)

# Winbond's data sheet of the W9825G6 (AC characteristics, grade -6; its t_RC is that of refresh,
# too). It has t_WR, t_RRD and t_RSC as 2 cycles: 15 ns of t_RRD are that many from 67 MHz on, so
# no slower clock is offered; of the other two the controller takes 2 cycles at least.
SDRAM = SdramSpec(
    parts=(
        SdramPart(name="W9825G6KH-6", columns=512, max_mhz=166,
                  trcd_ns=15, trp_ns=15, tras_ns=42, trc_ns=60, trfc_ns=60, twr_ns=12,
                  trrd_ns=15, tmrd_ns=12),
    ),
    data_bits=16, banks=4, rows=8192, refresh_ns=7812.5, power_up_ns=200_000,
    clocks_hz=tuple(mhz * 1_000_000 for mhz in (75, 100, 125, 130, 135)),
    target_hz=125_000_000,
)

ICEPI_ZERO = BoardSpec(
    name="icepi-zero", part="LFE5U-25F", package="CABGA256", speed="6", device_option="--25k",
    idcode=0x41111043, clock_hz=PINS.clock_hz, target_hz=80_000_000,
    core_clocks_hz=tuple(mhz * 1_000_000 for mhz in (50, 60, 75, 80, 90, 100)),
    # FT231X: up to 3 Mbaud (its data sheet), as on the ULX3S.
    baud_rates=(2_000_000, 1_000_000),
    comb=24288, ff=24288, ebr=56, dsp=28, comb_limit=0.84, core=CORE_25F, sdram=SDRAM,
    platform=IcepiZero1_3Platform, top=partial(Ecp5Top, pins=PINS),
    sdram_phases=partial(phases, PINS.clock_hz),
    flash_bytes=16 << 20,
    loader=("-b", "icepi-zero"), usb=(0x0403, 0x6015), usb_port="with the serial bridge",
    button="0", alive_led="LED 4",
)
"""Icepi Zero, version 1.3."""
