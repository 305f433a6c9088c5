"""What holds for every board."""

import ast
import dataclasses
from fractions import Fraction
from math import ceil
from pathlib import Path
import re

import pytest

from boards import ALIASES, BOARDS, DEFAULT, find_board, NAMES, UnknownBoard
from boards.pll import PllDividers
from gen.config.memory import sdram_config
from gen.pnr.ecp5 import GRIDS
from tests.boards.top_files import files, located


ROOT = Path(__file__).parents[2]

each = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)


def test_names():
    assert list(BOARDS) == ["ulx3s-12f", "ulx3s-25f", "ulx3s-45f", "ulx3s-85f", "icepi-zero",
                            "icesugar-pro"]
    assert find_board("ulx3s") is find_board("ulx3s-85f") is find_board(DEFAULT)
    assert set(ALIASES.values()) <= set(BOARDS)
    assert NAMES.endswith("icepi-zero, icesugar-pro; ulx3s is ulx3s-85f")
    with pytest.raises(UnknownBoard, match=r"Unknown board 'ulx4s': known boards are ulx3s-12f, "
                                           r".*, icesugar-pro; ulx3s \(ulx3s-85f\)"):
        find_board("ulx4s")


@each
def test_spec_matches_platform(board):
    assert board.platform.device == board.part
    assert board.platform.speed == board.speed
    assert board.package == board.platform.package.replace("BG", "CABGA")
    assert board.device_option in GRIDS
    assert board.platform().lookup(board.platform.default_clk).clock.frequency == board.clock_hz
    # Another chip has another IDCODE, the same chip the same one.
    for other in BOARDS.values():
        assert (other.idcode == board.idcode) == (other.part == board.part)
        if other.part == board.part:
            assert (other.comb, other.ff, other.ebr, other.dsp) == (
                board.comb, board.ff, board.ebr, board.dsp)


@each
def test_link_divides_exactly(board):
    for clock in board.core_clocks_hz:
        baud, divisor = board.link(clock)
        assert baud * divisor == clock
        assert baud in board.baud_rates and divisor >= 4
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


TIMES = {
    # Of the data sheets, in ns and in cycles: t_RCD, t_RP, t_RAS, t_RC, t_RFC, t_WR, t_RRD, t_MRD.
    "MT48LC16M16A2TG-6A": ((18, 18, 42, 60, 60, 12, 12, 0), (0, 0, 0, 0, 0, 1, 0, 2)),
    "IS42S16160G-7TL": ((20, 20, 45, 66, 66, 14, 14, 14), (0,) * 8),
    "M12L2561616A-6TG2T": ((18, 18, 42, 60, 60, 0, 12, 0), (0, 0, 0, 0, 0, 2, 0, 2)),
    "AS4C32M16SB-7TCN": ((21, 21, 42, 63, 63, 14, 14, 14), (0,) * 8),
    "W9825G6KH-6": ((15, 15, 42, 60, 60, 0, 0, 0), (0, 0, 0, 0, 0, 2, 2, 2)),
    "IS42S16160B-7TL": ((20, 20, 45, 67.5, 67.5, 14, 14, 0), (0, 0, 0, 0, 0, 2, 0, 2)),
}


@each
def test_sdram_keeps_the_times_of_its_data_sheets_at_every_clock(board):
    """Computed here from nanoseconds and cycles, apart from the controller's own conversion."""
    for hz in board.sdram.clocks_hz:
        config = sdram_config(board, hz)
        for part in board.sdram.parts:
            assert hz <= part.max_mhz * 1_000_000
            for name, ns, cycles in zip(("trcd", "trp", "tras", "trc", "trfc", "twr", "trrd",
                                         "tmrd"), *TIMES[part.name], strict=True):
                least = max(ceil(Fraction(ns) * hz / 10**9), cycles)
                assert getattr(config, name) >= least, (part.name, name, hz)
        assert config.refresh * Fraction(10**9, hz) * 8192 <= 64_000_000
        assert config.power_up * Fraction(10**9, hz) >= 200_000


@each
def test_sdram_phases(board):
    for hz in board.sdram.clocks_hz:
        assert board.sdram_phases(hz) == 8 * PllDividers.find(board.clock_hz, hz).divider
        assert 16 <= board.sdram_phases(hz) <= 128


@each
def test_every_pin_is_used_once(board):
    pins = located(files(board, sdram=True))
    assert len(set(pins.values())) == len(pins)
    wires = {"clk": 1, "clk_en": 1, "cs": 1, "ras": 1, "cas": 1, "we": 1, "ba": 2, "a": 13,
             "dqm": 2, "dq": 16}
    found = [name.split("__")[1] for name in pins if name.startswith("sdram_0__")]
    assert {name: found.count(name) for name in found} == wires


def test_nothing_else_names_a_board():
    """In hw and gen a board's name stands in docstrings and comments at most."""
    word = re.compile("|".join(map(re.escape, [*BOARDS, *ALIASES])), re.IGNORECASE)
    for path in sorted([*(ROOT / "hw").rglob("*.py"), *(ROOT / "gen").rglob("*.py")]):
        text = path.read_text()
        if not word.search(text) and "boards." not in text:
            continue
        tree = ast.parse(text)
        texts = {node.value.value for node in ast.walk(tree)
                 if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value in texts or not word.search(node.value), (path, node.lineno)
            elif isinstance(node, ast.ImportFrom | ast.Import):
                names = [getattr(node, "module", ""), *(alias.name for alias in node.names)]
                assert not any(name and name.startswith("boards.") and name != "boards.spec"
                               for name in names), (path, node.lineno)


def test_target_clock_must_be_offered():
    board = find_board(DEFAULT)
    with pytest.raises(ValueError, match="Target clock must be one of .*, not 81000000$"):
        dataclasses.replace(board, target_hz=81_000_000)
