"""FAULTS 10: openFPGALoader 0.10 and 0.11 print an IDCODE without its version digit."""

import pytest

from boards import find_board
from gen.device import flash
from model.error import WeightsMismatch
from tests.gen.fake_tool import fake_tool, only_path


@pytest.fixture
def loader(tmp_path, monkeypatch):
    """``loader(idcode)``: a fake openFPGALoader; what it loads is listed in loaded.txt."""
    monkeypatch.setenv("LOADED", str(tmp_path / "loaded.txt"))
    only_path(monkeypatch, tmp_path / "bin")

    def make(idcode):
        fake_tool(tmp_path / "bin", "openFPGALoader", rf"""
case "$*" in
  -V) echo openFPGALoader v0.10.0;;
  *--detect*) printf 'index 0:\n\tidcode {idcode}\n\tmanufacturer lattice\n';;
  *) echo "$@" >> "$LOADED";;
esac""")
        return tmp_path / "loaded.txt"

    return make


def bitstream(path, idcode):
    path.write_bytes(bytes.fromhex(f"ff00 ffffbdb3 3b000000 e2000000 {idcode:08x}"))
    return path


@pytest.mark.parametrize("board,printed", [
    ("ulx3s-85f", "0x1113043"), ("ulx3s-85f", "0x01113043"), ("ulx3s-85f", "0x41113043"),
    ("ulx3s-45f", "0x1112043"), ("ulx3s-25f", "0x1111043"), ("ulx3s-12f", "0x1111043"),
])
def test_right_chip_is_loaded(loader, tmp_path, board, printed):
    loaded = loader(printed)
    board = find_board(board)
    path = bitstream(tmp_path / "top.bit", board.idcode)
    assert flash.program(board, path) == int(printed, 16)
    assert loaded.read_text() == f"-b ulx3s -m {path}\n"


@pytest.mark.parametrize("printed,named", [
    ("0x1112043", r"0x01112043 \(ulx3s-45f\)"),
    ("0x1111043", r"0x01111043 \(ulx3s-12f or ulx3s-25f or icepi-zero or icesugar-pro\)"),
    ("0x21113043", "0x21113043, but"),
])
def test_another_chip_is_left_alone(loader, tmp_path, printed, named):
    loaded = loader(printed)
    board = find_board("ulx3s-85f")
    with pytest.raises(WeightsMismatch, match=f"has IDCODE {named}.*nothing was loaded"):
        flash.program(board, bitstream(tmp_path / "top.bit", board.idcode))
    assert not loaded.exists()


def test_12f_is_told_from_25f_by_the_version(loader, tmp_path):
    loaded = loader("0x41111043")
    board = find_board("ulx3s-12f")
    with pytest.raises(WeightsMismatch, match=r"\(ulx3s-25f or icepi-zero or icesugar-pro\)"):
        flash.program(board, bitstream(tmp_path / "top.bit", board.idcode))
    assert not loaded.exists()
