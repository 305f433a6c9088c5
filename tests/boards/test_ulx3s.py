# amaranth: UnusedElaboratable=no

import dataclasses
import re

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
import pytest

from boards import ALIASES, BOARDS, find_board, UnknownBoard
from boards.pll import Ecp5Pll, PllDividers, VCO_HZ
from boards.ulx3s import CLOCK_HZ, Ulx3sTop


class Wire(wiring.Component):
    """Smallest shell: sends the link back at once."""

    def __init__(self, *, leds=8):
        super().__init__({"rx": In(1), "tx": Out(1, init=1), "leds": Out(leds)})

    def elaborate(self, platform):
        m = Module()
        blink = Signal(4)
        m.d.sync += [self.tx.eq(self.rx), blink.eq(blink + 1)]
        m.d.comb += self.leds.eq(blink)
        return m


def files(board, *, leds=8, core_clock_hz=80_000_000):
    top = board.top(Wire(leds=leds), core_clock_hz=core_clock_hz)
    return board.platform().prepare(top, emit_src=False).files


def test_names():
    assert list(BOARDS) == ["ulx3s-12f", "ulx3s-25f", "ulx3s-45f", "ulx3s-85f"]
    assert find_board("ulx3s") is find_board("ulx3s-85f")
    assert set(ALIASES.values()) <= set(BOARDS)
    with pytest.raises(UnknownBoard, match=r"Unknown board 'ulx4s': known boards are ulx3s-12f, "
                                           r"ulx3s-25f, ulx3s-45f, ulx3s-85f; ulx3s \(ulx3s-85f\)"):
        find_board("ulx4s")


@pytest.mark.parametrize("name", BOARDS)
def test_spec_matches_platform(name):
    board = find_board(name)
    assert board.platform.device == board.part
    assert board.platform.speed == board.speed
    assert board.platform.package == "BG381"
    assert board.sdram.size_bytes == 32 << 20
    assert {part.columns for part in board.sdram.parts} == {512, 1024}


def test_sdram_takes_the_slowest_time_of_all_parts():
    sdram = find_board("ulx3s").sdram
    assert sdram.times == {"trcd_ns": 21, "trp_ns": 21, "tras_ns": 45, "trc_ns": 66, "trfc_ns": 70,
                           "twr_ns": 15, "trrd_ns": 15, "tmrd_ns": 14}
    assert sdram.target_hz >= 100_000_000
    with pytest.raises(ValueError, match="at most 143000000 Hz, not 150000000$"):
        dataclasses.replace(sdram, clocks_hz=(125_000_000, 150_000_000))
    with pytest.raises(ValueError, match="SDRAM clock must be one of .*, not 100000001$"):
        dataclasses.replace(sdram, target_hz=100_000_001)


@pytest.mark.parametrize("clock_hz", find_board("ulx3s").sdram.clocks_hz)
def test_sdram_clocks_and_phases(clock_hz):
    phases = find_board("ulx3s").sdram_phases(clock_hz)
    assert phases == 8 * PllDividers.find(CLOCK_HZ, clock_hz).divider
    assert 16 <= phases <= 128


def test_idcodes_differ():
    assert len({board.idcode for board in BOARDS.values()}) == len(BOARDS)


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_link_divides_exactly(board):
    for clock in board.core_clocks_hz:
        baud, divisor = board.link(clock)
        assert baud * divisor == clock
        assert baud == (1_000_000 if clock == 75_000_000 else 2_000_000)
    with pytest.raises(ValueError, match="No link speed of .* divides a core clock of 80500001"):
        board.link(80_500_001)
    with pytest.raises(ValueError, match="must be one of 50, 60, 75, 80, 90, 100 MHz, not 81 MHz"):
        board.check_core_clock(81_000_000)


@pytest.mark.parametrize("mhz", (50, 60, 75, 80, 90, 100, 125))
def test_pll_dividers(mhz):
    d = PllDividers.find(CLOCK_HZ, mhz * 1_000_000)
    assert CLOCK_HZ * d.feedback == mhz * 1_000_000 * d.reference
    assert VCO_HZ[0] <= mhz * 1_000_000 * d.divider <= VCO_HZ[1]
    assert CLOCK_HZ / d.reference >= 3_125_000


def test_pll_of_the_default_clock_is_that_of_ecppll():
    found = PllDividers.find(CLOCK_HZ, 80_000_000)
    assert found == PllDividers(reference=5, feedback=16, divider=7)


def test_pll_impossible():
    with pytest.raises(ValueError, match="PLL output must be reachable from 25000000 Hz"):
        Ecp5Pll(input_hz=CLOCK_HZ, output_hz=80_000_001)


def test_top_pins():
    content = files(find_board("ulx3s"))
    located = dict(re.findall(r'LOCATE COMP "(\S+)" SITE "(\S+)"', content["top.lpf"]))
    assert located["clk25_0__io"] == "G2"
    assert located["uart_0__rx__io"] == "M1"
    assert located["uart_0__tx__io"] == "L4"
    assert located["esp32_0__en__io"] == "F1"
    assert len([name for name in located if name.startswith("led_")]) == 8
    # L3 is driven by the USB bridge: driving it too would be a short.
    assert "L3" not in located.values()
    assert 'FREQUENCY PORT "clk25_0__io" 25000000.0 HZ' in content["top.lpf"]


def test_rtl_names_no_source_path():
    assert "src" not in re.findall(r"attribute \\(\w+)", files(find_board("ulx3s"))["top.il"])


def test_top_accepts_few_leds():
    assert "top.il" in files(find_board("ulx3s-12f"), leds=3)
    with pytest.raises(ValueError, match="Shell must drive at most 8 LEDs, not 9"):
        Ulx3sTop(Wire(leds=9), core_clock_hz=80_000_000)


def test_top_properties():
    shell = Wire()
    top = Ulx3sTop(shell, core_clock_hz=60_000_000)
    assert top.shell is shell
    assert top.core_clock_hz == 60_000_000
