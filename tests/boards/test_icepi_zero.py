import re

from amaranth.lib.wiring import Out

from boards import find_board
from boards.icepi_zero import ICEPI_ZERO
from hw.port import I2cPins
from tests.boards.top_files import files, located


# litex-boards, litex_boards/platforms/icepi_zero.py (2025, by the maker of the board), not the
# source that boards/icepi_zero.py takes its pins from.
LEDS = "E13 D14 E12 C13 D13"
ADDRESS = "B10 A9 B9 A8 B8 A7 B7 A6 B6 A5 A10 B5 A4"
DATA = "B16 C14 C16 C15 D16 A15 B15 A14 A2 B2 E2 D1 C2 C1 C3 B1"
LISTED = {
    "clk50_0__io": "M1", "button_0__io": "C4", "uart_0__tx__io": "K15", "uart_0__rx__io": "K16",
    **{f"led_{k}__io": pin for k, pin in enumerate(LEDS.split())},
    **{f"sdram_0__a__io[{k}]": pin
       for k, pin in enumerate(ADDRESS.split())},
    **{f"sdram_0__dq__io[{k}]": pin for k, pin in enumerate(DATA.split())},
    "sdram_0__clk__io": "A3", "sdram_0__we__io": "A13", "sdram_0__ras__io": "A12",
    "sdram_0__cas__io": "B13", "sdram_0__cs__io": "B12", "sdram_0__clk_en__io": "B4",
    "sdram_0__ba__io[0]": "A11", "sdram_0__ba__io[1]": "B11", "sdram_0__dqm__io[0]": "B14",
    "sdram_0__dqm__io[1]": "B3",
}


def test_pins():
    assert find_board("icepi-zero") is ICEPI_ZERO
    content = files(ICEPI_ZERO, sdram=True)
    assert located(content) == LISTED
    assert 'FREQUENCY PORT "clk50_0__io" 50000000.0 HZ' in content["top.lpf"]


def test_sdram():
    sdram = ICEPI_ZERO.sdram
    assert sdram.size_bytes == 32 << 20
    assert sdram.times == {"trcd_ns": 15, "trp_ns": 15, "tras_ns": 42, "trc_ns": 60, "trfc_ns": 60,
                           "twr_ns": 12, "trrd_ns": 15, "tmrd_ns": 12}
    assert min(sdram.clocks_hz) > 2 / 30e-9     # 15 ns are 2 cycles


def test_link_and_leds():
    assert ICEPI_ZERO.link(80_000_000) == (2_000_000, 40)
    assert re.fullmatch(r"LED \d", ICEPI_ZERO.alive_led)
    assert ICEPI_ZERO.button == "0"


def test_pins_for_who_measures():
    """GPIO 17, 27, 3 and 2 of litex-boards' list of the header."""
    pins = located(files(ICEPI_ZERO, running=Out(1), phase=Out(1), i2c=Out(I2cPins())))
    assert [pins[f"measure_0__{name}__io"] for name in ("running", "phase", "scl", "sda")] == [
        "R3", "P3", "R2", "T2"]
