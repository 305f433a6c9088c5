# amaranth: UnusedElaboratable=no

from amaranth.lib.wiring import Out
import pytest

from boards import find_board
from boards.icesugar_pro import ICESUGAR_PRO
from hw.port import I2cPins
from tests.boards.top_files import files, located


# The maker's own project for Linux, github.com/wuxx/icesugar-pro, src/litex_linux/top_bg256.lpf.
ADDRESS = "H15 B13 B12 J16 J15 R12 K16 R13 T13 K15 A13 R14 T14"
DATA = "F16 E15 F15 D14 E16 C15 D16 B15 R16 P16 P15 N16 N14 M16 M15 L15"
LISTED = {
    "clk25_0__io": "P6", "uart_0__tx__io": "B9", "uart_0__rx__io": "A9",
    "led_0__io": "B11", "led_1__io": "A11", "led_2__io": "A12",
    **{f"sdram_0__a__io[{k}]": pin for k, pin in enumerate(ADDRESS.split())},
    **{f"sdram_0__dq__io[{k}]": pin for k, pin in enumerate(DATA.split())},
    "sdram_0__clk__io": "R15", "sdram_0__we__io": "A15", "sdram_0__ras__io": "B16",
    "sdram_0__cas__io": "G16", "sdram_0__cs__io": "A14", "sdram_0__clk_en__io": "L16",
    "sdram_0__ba__io[0]": "G15", "sdram_0__ba__io[1]": "B14", "sdram_0__dqm__io[0]": "C16",
    "sdram_0__dqm__io[1]": "T15",
}


def test_pins():
    assert find_board("icesugar-pro") is ICESUGAR_PRO
    content = files(ICESUGAR_PRO, sdram=True)
    assert located(content) == LISTED
    assert 'FREQUENCY PORT "clk25_0__io" 25000000.0 HZ' in content["top.lpf"]
    for pin in ("sdram_0__dq__io[3]", "sdram_0__clk__io"):
        (line,) = [line for line in content["top.lpf"].splitlines()
                   if line.startswith(f'IOBUF PORT "{pin}"')]
        assert all(f"{name}={value}" in line for name, value in (
            ("DRIVE", 4), ("SLEWRATE", "FAST"), ("PULLMODE", "NONE"), ("IO_TYPE", "LVCMOS33")))


def test_sdram():
    (part,) = ICESUGAR_PRO.sdram.parts
    assert part.columns == 512 and part.max_mhz == 143
    assert ICESUGAR_PRO.sdram.size_bytes == 32 << 20


def test_no_button_and_a_slow_link():
    assert ICESUGAR_PRO.button is None
    assert ICESUGAR_PRO.link(80_000_000) == (500_000, 160)


def test_loader_selects_a_cable():
    """openFPGALoader has no board of this name (issue 634 of its repository shows the cable)."""
    assert ICESUGAR_PRO.loader == ("-c", "cmsisdap", "--vid", "0x1d50", "--pid", "0x602b")
    assert ICESUGAR_PRO.usb == (int(ICESUGAR_PRO.loader[3], 16), int(ICESUGAR_PRO.loader[5], 16))


def test_no_header_for_who_measures():
    assert not any("measure" in name
                   for name in located(files(ICESUGAR_PRO, running=Out(1), phase=Out(1))))
    with pytest.raises(ValueError, match="no pins for a power monitor: leave out meter"):
        files(ICESUGAR_PRO, i2c=Out(I2cPins()))
