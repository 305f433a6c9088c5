# amaranth: UnusedElaboratable=no

import dataclasses
from fractions import Fraction
from pathlib import Path
import re

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
import pytest

from boards import ALIASES, BOARDS, find_board, UnknownBoard
from boards.pll import Ecp5Pll, PllDividers
from boards.ulx3s import CLOCK_HZ, Ulx3sTop
from hw.port import I2cPins


class Wire(wiring.Component):
    """Smallest shell: sends the link back at once."""

    def __init__(self, *, leds=8, **members):
        super().__init__({"rx": In(1), "tx": Out(1, init=1), "leds": Out(leds), **members})

    def elaborate(self, platform):
        m = Module()
        blink = Signal(4)
        m.d.sync += [self.tx.eq(self.rx), blink.eq(blink + 1)]
        m.d.comb += self.leds.eq(blink)
        return m


def files(board, *, leds=8, core_clock_hz=80_000_000, **members):
    top = board.top(Wire(leds=leds, **members), core_clock_hz=core_clock_hz)
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


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_every_clock_of_a_board_is_within_the_pll(board):
    """Phase detector of at least 10 MHz (data sheet); checked in exact fractions."""
    for clock_hz in {*board.core_clocks_hz, *(board.sdram.clocks_hz if board.sdram else ())}:
        d = PllDividers.find(board.clock_hz, clock_hz)
        detector = Fraction(board.clock_hz, d.reference)
        vco = detector * d.feedback
        assert 10_000_000 <= detector <= 400_000_000
        assert 400_000_000 <= vco <= 800_000_000
        assert vco / d.divider == clock_hz
        assert d.vco_margin == pytest.approx(float(min(vco / 400_000_000 - 1,
                                                       1 - vco / 800_000_000)))


def test_table_of_clocks():
    """docs/tutorials/own-board.md lists every clock of the board."""
    text = (Path(__file__).parents[2] / "docs" / "tutorials" / "own-board.md").read_text()
    board = find_board("ulx3s")
    uses = {"core": board.core_clocks_hz, "SDRAM": board.sdram.clocks_hz}
    expected = []
    for hz in sorted({hz for clocks in uses.values() for hz in clocks}):
        d = PllDividers.find(board.clock_hz, hz)
        of = ", ".join(name for name, clocks in uses.items() if hz in clocks)
        expected.append(f"| {hz / 1e6:g} | {of} | {d.detector_hz / 1e6:g} | {d.vco_hz / 1e6:g} "
                        f"| {100 * d.vco_margin:.1f} % |")
    assert re.findall(r"(?m)^\| \d.*%.*$", text) == expected


@pytest.mark.parametrize("mhz, setting", [(80, (1, 32, 10)), (90, (1, 18, 5)), (130, (1, 26, 5)),
                                          (125, (1, 25, 5)), (50, (1, 24, 12))])
def test_pll_setting(mhz, setting):
    """The detector at 25 MHz, then the oscillator nearest to 600 MHz; 800 rather than 400."""
    d = PllDividers.find(CLOCK_HZ, mhz * 1_000_000)
    assert (d.reference, d.feedback, d.divider) == setting


def test_detector_of_another_oscillator():
    """12 MHz cannot be divided at all: 2 would be 6 MHz at the detector."""
    assert {d.reference for d in PllDividers.every(12_000_000)} == {1}
    assert {d.reference for d in PllDividers.every(100_000_000)} == set(range(1, 11))


@pytest.mark.parametrize("output_hz, near", [
    (80_000_001, "80 MHz, 81.25 MHz"), (500_000_000, "400 MHz$"), (1_000_000, "3.125 MHz$")])
def test_pll_impossible(output_hz, near):
    with pytest.raises(ValueError, match="PLL of an oscillator of 25 MHz cannot make "
                       f"{output_hz / 1e6:.9g} MHz; the nearest that it can: {near}"):
        Ecp5Pll(input_hz=CLOCK_HZ, output_hz=output_hz)


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


@pytest.mark.parametrize("meter", [False, True])
def test_pins_for_who_measures(meter):
    """GP0 and GN0 of J1, and with a power monitor GP1 and GN1, which are only ever pulled low."""
    members = {"running": Out(1), "phase": Out(1)} | ({"i2c": Out(I2cPins())} if meter else {})
    content = files(find_board("ulx3s"), **members)
    located = dict(re.findall(r'LOCATE COMP "(measure\S+)" SITE "(\S+)"', content["top.lpf"]))
    pins = {"running": "B11", "phase": "C11"} | ({"scl": "A10", "sda": "A11"} if meter else {})
    assert located == {f"measure_0__{name}__io": site for name, site in pins.items()}
    types = re.findall(r'IOBUF PORT "measure_0__(\w+?)__io" (.*);', content["top.lpf"])
    assert {name for name, what in types if "LVCMOS33" in what} == {*pins}
    assert {name for name, what in types if "PULLMODE=UP" in what} == {*pins} - {"running", "phase"}


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
