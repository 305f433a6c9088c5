# amaranth: UnusedElaboratable=no

import dataclasses
from pathlib import Path
import re

from amaranth.lib.wiring import Out
import pytest

from boards import find_board
from boards.pll import PllDividers
from boards.ulx3s import PINS, ULX3S
from hw.port import I2cPins
from tests.boards.top_files import files, located


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
    assert phases == 8 * PllDividers.find(PINS.clock_hz, clock_hz).divider
    assert 16 <= phases <= 128


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


@pytest.mark.parametrize("board", ULX3S, ids=lambda board: board.name)
def test_spec(board):
    assert board.platform.package == "BG381"
    assert board.sdram.size_bytes == 32 << 20
    assert {part.columns for part in board.sdram.parts} == {512, 1024}
    assert {board.link(hz)[0] for hz in board.core_clocks_hz if hz != 75_000_000} == {2_000_000}
    assert board.link(75_000_000) == (1_000_000, 75)


def test_top_pins():
    content = files(find_board("ulx3s"))
    pins = located(content)
    assert pins["clk25_0__io"] == "G2"
    assert pins["button_fire_0__io"] == "R1"
    assert pins["uart_0__rx__io"] == "M1"
    assert pins["uart_0__tx__io"] == "L4"
    assert pins["esp32_0__en__io"] == "F1"
    assert pins["esp32_0__gpio0__io"] == "L2"
    assert len([name for name in pins if name.startswith("led_")]) == 8
    # L3 is driven by the USB bridge: driving it too would be a short.
    assert "L3" not in pins.values()
    assert 'FREQUENCY PORT "clk25_0__io" 25000000.0 HZ' in content["top.lpf"]


@pytest.mark.parametrize("meter", [False, True])
def test_pins_for_who_measures(meter):
    """GP0 and GN0 of J1, and with a power monitor GP1 and GN1, which are only ever pulled low."""
    members = {"running": Out(1), "phase": Out(1)} | ({"i2c": Out(I2cPins())} if meter else {})
    content = files(find_board("ulx3s"), **members)
    pins = {"running": "B11", "phase": "C11"} | ({"scl": "A10", "sda": "A11"} if meter else {})
    found = {name: site for name, site in located(content).items() if name.startswith("measure")}
    assert found == {f"measure_0__{name}__io": site for name, site in pins.items()}
    types = re.findall(r'IOBUF PORT "measure_0__(\w+?)__io" (.*);', content["top.lpf"])
    assert {name for name, what in types if "LVCMOS33" in what} == {*pins}
    assert {name for name, what in types if "PULLMODE=UP" in what} == {*pins} - {"running", "phase"}
