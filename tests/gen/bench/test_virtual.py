"""The small bitstream's RTL on virtual boards that are broken: what each step says.

Each board is compiled, which takes a minute of a CPU; the faults that one can have together are
in one.
"""

from dataclasses import replace

import pytest

from gen.bench.link_steps import LINK_STEPS
from gen.bench.step import Bench, run_step
from gen.bench.virtual import SDRAM, small_board
from gen.device.transport import Transport
from hw.bringup.block_rams import RegisteredRam
from hw.register import Restart


pytestmark = [pytest.mark.rtl, pytest.mark.slow]


class Bad(RegisteredRam):
    """The block RAM 9 bits wide has half of its words."""

    def __init__(self, *, width, depth):
        super().__init__(width=width, depth=depth // 2 if width == 9 else depth)


def bench_of(board, folder, said, **options):
    return Bench(connect=lambda: Transport(board.url), say=said.append, folder=folder,
                 timeout=10.0, patience=20.0, rounds=2,
                 press=lambda: board.restart(Restart.BUTTON), **{"echoes": 50} | options)


def failures(board, folder, **options):
    """What each step says, None where it passes."""
    found = []
    for step in LINK_STEPS:
        said = []
        failure = run_step(bench_of(board, folder, said, **options), step)
        print("\n".join(said))
        found.append(failure and str(failure))
    return found


def test_good_board_restarts_and_a_lost_lock(tmp_path):
    with small_board(tmp_path) as board:
        assert failures(board, tmp_path) == [None] * 5
        said = []
        bench = bench_of(board, tmp_path, said)

        def restarting():
            board.restart(Restart.LOCK, after=30_000)
            return Transport(board.url)

        bench.connect, bench.echoes = restarting, 1000
        assert "a PLL lost its lock" in str(run_step(bench, LINK_STEPS[1]))
        found = failures(board, tmp_path, echoes=10)
        assert found[:3] == [None] * 3
        assert found[3] == found[4] == "a PLL lost its lock since the board was configured"


def test_block_ram_and_stuck_bit(tmp_path):
    with small_board(tmp_path, ram=Bad, stuck=(0x12A, 37)) as board:
        found = failures(board, tmp_path)
    assert found[0] is found[1] is found[3] is None
    assert "of the block RAM 9 bits wide (CONTENTS, " in found[2]
    assert "36 bits" not in found[2]
    assert "MARCH: 3 words differ, first at word 0x12a, data pins 5" in found[4]


def test_skew(tmp_path):
    """Pins that are unsure for 17 of 20 phases: too few are left."""
    with small_board(tmp_path, command_at=0, data_at=8, unsure=9) as board:
        found = failures(board, tmp_path)
    assert found[:3] == [None] * 3
    assert "no 5 phases in a row pass" in found[3]
    assert "fails its test at every setting" in found[4]


def test_wrong_part(tmp_path):
    """A chip with half of the rows."""
    with small_board(tmp_path, chip=replace(SDRAM, row_bits=SDRAM.row_bits - 1)) as board:
        found = failures(board, tmp_path)
    assert found[:3] == [None] * 3
    assert "the SDRAM works but is another part: address bit " in found[3]
    assert "is not the part" in found[4]
