from dataclasses import replace
import json

import pytest

from boards import find_board
from gen.config import holdings as module
from gen.config.holdings import holdings, table
from gen.config.plans import Plans
from model import zoo


NANO = "qsdt_nano"

BOARDS = [find_board(name) for name in ("ulx3s-12f", "icepi-zero", "ulx3s-85f")]


@pytest.fixture(scope="module")
def networks():
    return {NANO: zoo.load(NANO)}


@pytest.fixture
def searches(monkeypatch):
    """Boards that were searched for."""
    names = []

    def derive(board, *arguments, found=module.derive, **options):
        names.append(board.name)
        return found(board, *arguments, **options)

    monkeypatch.setattr(module, "derive", derive)
    return names


def test_boards_hold(networks, searches, tmp_path):
    """Boards with the same chip are searched for once, and none a second time."""
    plans = Plans(tmp_path)
    rows = list(holdings(BOARDS, networks, plans=plans))
    assert [row.board for row in rows] == [board.name for board in BOARDS]
    assert searches == ["ulx3s-12f", "ulx3s-85f"]
    small, same, large = rows
    assert replace(same, board=small.board) == small
    assert (small.lanes, small.memory, small.ebr) == (256, "SDRAM, 125 MHz", 56)
    assert (large.lanes, large.memory, large.blocks) == (1024, "on chip", 162)
    assert small.blocks <= 56 and small.clock_hz == 80_000_000
    # As the cost model has them (docs/results/build-qsdt_nano.md, and the issue of the 25F).
    assert large.images_per_s == pytest.approx(407.5, abs=1)
    assert small.images_per_s == pytest.approx(148.1, abs=1)
    assert list(holdings(BOARDS, networks, plans=plans)) == rows
    assert searches == ["ulx3s-12f", "ulx3s-85f"]

    kept = sorted(tmp_path.glob("*.held"))
    assert len(kept) == 2
    changed = json.loads(kept[0].read_text())
    changed["holding"]["lanes"] = 1
    kept[0].write_text(json.dumps(changed))
    kept[1].write_text("{")
    assert list(holdings(BOARDS, networks, plans=plans)) == rows
    assert searches == ["ulx3s-12f", "ulx3s-85f"] * 2


def test_what_does_not_fit(networks, searches, tmp_path):
    """Named with the board itself, whatever board was asked for before."""
    boards = [replace(board, ebr=20) for board in BOARDS[:2]]
    rows = list(holdings(boards, networks))
    assert searches == [boards[0].name]
    for row, board in zip(rows, boards, strict=True):
        assert row.reason.startswith(f"does not fit: block RAMs (DP16KD) of {board.name}: ")
        assert row.reason.endswith(" needed, 20 available")
    assert list(holdings(boards[:1], networks, plans=Plans(tmp_path))) == rows[:1]
    assert list(holdings(boards[1:], networks, plans=Plans(tmp_path))) == rows[1:]
    assert searches == [boards[0].name] * 2 + [boards[1].name]
    lines = table(rows)
    assert all(line.count("|") == 8 for line in lines)
    assert "does not fit" in lines[2]


def test_table():
    row = module.Holding(board="b", network="n", ebr=56, lanes=1024, blocks=9, memory="on chip",
                         clock_hz=80_000_000, images_per_s=12.34)
    assert table([row]) == [
        "| board | network | lanes | block RAMs | memory  | core, MHz | images/s |",
        "|-------|---------|-------|------------|---------|-----------|----------|",
        "| b     | n       | 1,024 | 9 of 56    | on chip | 80        | 12.3     |"]
