import pytest

from boards import BOARDS
from gen.pnr import ecp5


def test_bels():
    assert ecp5.parse_bel("X3/Y5/SLICEC.FF1") == (3, 5, ((3 * 128 + 5) * 8 + 5) * 3 + 1)
    assert ecp5.parse_bel("X10/Y22/EBR0") == (10, 22, -1)
    assert ecp5.parse_bel("") is None
    for bel in ("X0/Y0/SLICEA.K0", "X126/Y95/SLICED.FF1", "X7/Y9/SLICEC.RAMW"):
        assert ecp5.slot_bel(ecp5.parse_bel(bel)[2]) == bel


def test_delays():
    assert ecp5.comb_delay("FCI", "FCO") == 0.07
    assert ecp5.comb_delay("A", "F") == 0.24 and ecp5.comb_delay("M", "OFX") == 0.2
    modes = {"REGMODE_A": "OUTREG", "REGMODE_B": "NOREG"}
    assert ecp5.launch_delay("DP16KD", modes, "DOA3") == 0.95
    assert ecp5.launch_delay("DP16KD", modes, "DOB3") == 5.7
    assert ecp5.launch_delay("unknown", {}, "Q") == 0.5


def test_comb_cells():
    assert ecp5.comb_cells({"LUT4": 3, "CCU2C": 2, "TRELLIS_DPR16X4": 1, "TRELLIS_FF": 9}) == 11


@pytest.mark.parametrize("board", BOARDS.values(), ids=lambda board: board.name)
def test_every_board_has_a_grid(board):
    columns, rows = ecp5.GRIDS[board.device_option]
    assert columns * rows * 8 > board.comb
    assert len(set(ecp5.BLOCK_RAM_SITES[board.device_option])) == board.ebr
    for x, y, bel in ecp5.BLOCK_RAM_SITES[board.device_option]:
        assert x < columns and y < rows and bel.startswith(f"X{x}/Y{y}/EBR")
