"""Muselab iCESugar-Pro, an LFE5U-25F with SDRAM on a SO-DIMM module.

Sources: the maker's constraint file (github.com/wuxx/icesugar-pro, ``src/litex_linux/
top_bg256.lpf``) and its ``README.md``; amaranth-boards (``icesugar_pro.py``) has the same pins
but other drive strengths of the SDRAM and a red LED in the place of the green one. Nothing of this
has been seen on a board.
"""

from functools import partial
from typing import ClassVar

from amaranth.build import Attrs
from amaranth_boards.icesugar_pro import ICESugarProPlatform
from amaranth_boards.resources import LEDResources, SDRAMResource

from boards.ecp5_top import Ecp5Pins, Ecp5Top
from boards.pll import phases
from boards.spec import BoardSpec, CORE_25F, SdramPart, SdramSpec


__all__ = ["ICESUGAR_PRO", "ICESugarPro"]


class ICESugarPro(ICESugarProPlatform):
    """amaranth-boards' platform with what the maker's constraint file says in another way.

    The colours of the one LED as ``led`` 0 (red), 1 (green) and 2 (blue), lit by a low level:
    so litex-boards has them (``user_led_n``).
    """

    resources: ClassVar = [
        *(resource for resource in ICESugarProPlatform.resources if resource.name != "sdram"),
        *LEDResources(pins="B11 A11 A12", invert=True, attrs=Attrs(IO_TYPE="LVCMOS33")),
        SDRAMResource(
            0, clk="R15", cke="L16", cs_n="A14", we_n="A15", cas_n="G16", ras_n="B16",
            dqm="C16 T15", ba="G15 B14",
            a="H15 B13 B12 J16 J15 R12 K16 R13 T13 K15 A13 R14 T14",
            dq="F16 E15 F15 D14 E16 C15 D16 B15 R16 P16 P15 N16 N14 M16 M15 L15",
            attrs=Attrs(PULLMODE="NONE", DRIVE="4", SLEWRATE="FAST", IO_TYPE="LVCMOS33")),
    ]


PINS = Ecp5Pins(
    # Red: an error; green: the core runs; blue: bit 7. The module has no button.
    clock="clk25", clock_hz=25_000_000, button=None, leds=(3, 0, 7),
    boot={"flash": ("spi_flash_1x", 0), "sd": ("sd_card_spi", 0)},
)

# The README names an IS42S16160B without its grade: the slower one, -7, with the slowest values in
# use anywhere, as for the IS42S16160G of the ULX3S; t_RC of its -7 is given as 60 to 67.5 ns.
SDRAM = SdramSpec(
    parts=(
        SdramPart(name="IS42S16160B-7TL", columns=512, max_mhz=143,
                  trcd_ns=20, trp_ns=20, tras_ns=45, trc_ns=67.5, trfc_ns=70, twr_ns=15,
                  trrd_ns=15, tmrd_ns=14),
    ),
    data_bits=16, banks=4, rows=8192, refresh_ns=7812.5, power_up_ns=200_000,
    clocks_hz=tuple(mhz * 1_000_000 for mhz in (50, 75, 100, 125, 130, 135)),
    target_hz=125_000_000,
)

ICESUGAR_PRO = BoardSpec(
    name="icesugar-pro", part="LFE5U-25F", package="CABGA256", speed="6", device_option="--25k",
    idcode=0x41111043, clock_hz=PINS.clock_hz, target_hz=80_000_000,
    core_clocks_hz=tuple(mhz * 1_000_000 for mhz in (50, 60, 75, 80, 90, 100)),
    # The bridge is a microcontroller (iCELink), of which no rate is published: a careful choice,
    # which a board may raise.
    baud_rates=(500_000,),
    comb=24288, ff=24288, ebr=56, dsp=28, comb_limit=0.84, core=CORE_25F, sdram=SDRAM,
    platform=ICESugarPro, top=partial(Ecp5Top, pins=PINS),
    sdram_phases=partial(phases, PINS.clock_hz),
    # openFPGALoader knows no such board; with its cable it loads one (its issue 634).
    flash_bytes=16 << 20,
    loader=("-c", "cmsisdap", "--vid", "0x1d50", "--pid", "0x602b"), usb=(0x1D50, 0x602B),
    usb_port="of the module", button=None, alive_led="the blue LED",
)
"""iCESugar-Pro."""
