# amaranth: UnusedElaboratable=no

import re

import pytest

from boards import find_board
from boards.ecp5_top import Ecp5Pins, Ecp5Top
from tests.boards.top_files import files, located, Wire


BOARD = find_board("ulx3s-12f")


def top(**changed):
    given = {"clock": "clk25", "clock_hz": 25_000_000, "button": None, "leds": (7,)} | changed
    shell = Wire()
    return shell, Ecp5Top(shell, pins=Ecp5Pins(**given), core_clock_hz=60_000_000)


def test_properties():
    shell, component = top()
    assert component.shell is shell
    assert component.core_clock_hz == 60_000_000


def pins_of(**changed):
    plan = BOARD.platform().prepare(top(**changed)[1], emit_src=False)
    return located(plan.files), plan.files["top.il"]


def test_only_what_is_named_is_taken():
    pins, rtlil = pins_of()
    assert {name.split("_")[0] for name in pins} == {"clk25", "uart", "led"}
    assert pins["led_0__io"] == "B2" and "led_1__io" not in pins
    assert "button_fire" not in rtlil


def test_leds_show_the_bits_that_are_named():
    """LED 1 shows bit 0 of the register, LED 0 bit 7."""
    _, rtlil = pins_of(leds=(7, 0))
    for led, bit in ((0, 7), (1, 0)):
        cell = re.search(rf"cell \\top\.led_pin_{led} .*\n((?:    .*\n)*)", rtlil)[1]
        assert re.search(rf"connect \\o\S* \\leds \[{bit}\]", cell), led


def test_held_pins():
    pins, _ = pins_of(held=(("esp32", 0, "en", 0), ("esp32", 0, "gpio0", 1)))
    assert {pins["esp32_0__en__io"], pins["esp32_0__gpio0__io"]} == {"F1", "L2"}


def test_bad_clock():
    with pytest.raises(ValueError, match="PLL of an oscillator of 7 MHz"):
        top(clock_hz=7_000_000)


def test_few_and_many_leds():
    assert "top.il" in files(BOARD, leds=3)
    with pytest.raises(ValueError, match="Shell must drive at most 8 LEDs, not 9"):
        BOARD.top(Wire(leds=9), core_clock_hz=80_000_000)


def test_rtl_names_no_source_path():
    assert "src" not in re.findall(r"attribute \\(\w+)", files(BOARD)["top.il"])
