"""The small bitstream of the smallest board, as the tools build it: minutes."""

import json

import pytest

from boards import find_board
from gen.bench.bitstream import build_small, read_record
from gen.bench.proof import prove_small
from gen.flow.bitstream import bitstream_idcode
from hw.bringup.block_rams import WIDTHS


pytestmark = [pytest.mark.synth, pytest.mark.slow]


def test_smallest_board(tmp_path):
    board = find_board("ulx3s-12f")
    record = build_small(board, tmp_path)
    assert record["used"]["comb"] < board.comb // 4 and record["used"]["ebr"] == len(WIDTHS) + 2
    assert all(clock["achieved"] >= clock["constraint"] for clock in record["clocks"].values())
    assert read_record(board, tmp_path) == record and record["identity"]
    assert bitstream_idcode(tmp_path / "top.bit") == board.idcode

    # The history of the block RAMs survives a restart.
    module = json.loads((tmp_path / "top.json").read_text())["modules"]["top"]
    driver = {cell["connections"]["Q"][0]: cell for cell in module["cells"].values()
              if cell["type"] == "TRELLIS_FF"}
    kept = [bits for name, net in module["netnames"].items()
            if name in ("shell.core.used", "shell.core.complete", "shell.core.failed")
            for bits in [net["bits"]]]
    assert sum(map(len, kept)) == 2 + len(WIDTHS)
    assert all(driver[bit]["parameters"]["GSR"] == "DISABLED" for bits in kept for bit in bits)

    assert [rung["differences"] for rung in prove_small(tmp_path, record["seed"])] == [0, 0, 0]

    again = build_small(board, tmp_path)
    assert again["seconds"] < record["seconds"] / 4 and again["bitstream"] == record["bitstream"]
