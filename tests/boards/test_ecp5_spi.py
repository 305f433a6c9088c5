# amaranth: UnusedElaboratable=no
"""Pins of flash and card on each board: those of amaranth-boards, and the flash's clock none."""

import re

from amaranth.lib.wiring import Out
import pytest

from boards import BOARDS, find_board
from hw.boot_layout import SOURCES
from hw.port import SpiPins
from tests.boards.top_files import files, located, Wire


ULX3S = {"flash": {"cs": "R2", "copi": "W2", "cipo": "V2", "hold": "W1", "wp": "Y2"},
         "sd": {"cs": "H1", "clk": "J1", "copi": "J3", "cipo": "K2"}}

ICEPI = {"flash": {"cs": "N8", "copi": "T8", "cipo": "T7", "wp": "M7", "hold": "N7"},
         "sd": {"cs": "M14", "clk": "P15", "copi": "N16", "cipo": "P14"}}

ICESUGAR = {"flash": ICEPI["flash"], "sd": {"cs": "G12", "clk": "J12", "copi": "H12",
                                            "cipo": "K12"}}

EXPECTED = {"icepi-zero": ICEPI, "icesugar-pro": ICESUGAR}


class BootWire(Wire):
    def __init__(self, source):
        super().__init__(spi=Out(SpiPins()))
        self.boots_from = source


def top(board, source):
    return board.top(BootWire(source), core_clock_hz=80_000_000)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_pins(board, source):
    content = board.platform().prepare(top(board, source), emit_src=False).files
    start = "boot_flash_0" if source == "flash" else "sd_card_spi_0"
    found = {name.split("__")[1]: site for name, site in located(content).items()
             if name.startswith(start)}
    # The socket's switch is not used: a card that answers is there.
    found.pop("cd", None)
    assert found == EXPECTED.get(board.name, ULX3S)[source]
    assert str(content["top.il"]).count("cell \\USRMCLK") == (source == "flash")
    assert not re.search(r'"N9"|"U3"', content["top.lpf"])


def test_other_boards_pins_are_left_alone():
    """Nothing of flash and card in a design without them."""
    for board in BOARDS.values():
        assert not [name for name in located(files(board)) if "flash" in name or "sd_card" in name]


def test_board_without():
    board = find_board("ulx3s")
    with pytest.raises(ValueError, match="Board cannot boot from tape: its platform has no such"):
        top(board, "tape")
