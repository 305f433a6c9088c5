"""gen.campaign.loader: what qsdt flash says of a loader that ends on the way."""

import pytest

from boards import find_board
from gen.campaign.loader import BYTES, PowerCutLoader
from gen.device.flash import program
from model.error import ToolFailed


BOARD = find_board("ulx3s-85f")


@pytest.mark.parametrize("cut", [0.0, 0.5, 1.0])
def test_power_cut(tmp_path, cut):
    loader = PowerCutLoader(tmp_path, BOARD, cut)
    with pytest.raises(ToolFailed, match="openFPGALoader ended with exit code -9"):
        program(BOARD, loader.bitstream, loader=str(loader.path))
    assert (tmp_path / "loaded").stat().st_size < BYTES


def test_whole(tmp_path):
    loader = PowerCutLoader(tmp_path, BOARD)
    assert program(BOARD, loader.bitstream, loader=str(loader.path)) == BOARD.idcode
    assert (tmp_path / "loaded").read_bytes() == loader.bitstream.read_bytes()
