"""The text of a configuration, and its bits by the database that comes with the tools."""

import pytest

from gen.proof.trellis import (
    database_folder,
    parse_config,
    read_config,
    tile_bits,
    tile_kind,
    TileDatabase,
    tiles_at,
)
from model.error import InputError


pytestmark = pytest.mark.synth

TEXT = """\
.device LFE5U-85F

.comment a part
.tile R2C3:PLC2
arc: A0 F5
enum: SLICEA.MODE CCU2

.tile_group MIB_R22C102:MIB_EBR6 MIB_R22C103:MIB_EBR7
enum: EBR3.MODE DP16KD

.bram_init 7
000 1ff
002
"""


def test_text():
    config = parse_config(TEXT)
    assert config.device == "LFE5U-85F"
    assert config.tiles == {"R2C3:PLC2": ["arc: A0 F5", "enum: SLICEA.MODE CCU2"]}
    assert config.groups == [(("MIB_R22C102:MIB_EBR6", "MIB_R22C103:MIB_EBR7"),
                              ["enum: EBR3.MODE DP16KD"])]
    assert config.memories == {7: [0, 0x1ff, 2]}


@pytest.mark.parametrize("text", ["", ".device X\n.strange\n", "arc: A B\n",
                                  ".device X\n.bram_init 1\nzz\n"])
def test_text_that_is_none(tmp_path, text):
    (tmp_path / "c").write_text(text)
    with pytest.raises(InputError, match="is not a configuration"):
        read_config(tmp_path / "c")
    with pytest.raises(InputError, match="No such file"):
        read_config(tmp_path / "d")


def test_database():
    tile = TileDatabase.of("PLC2")
    assert tile.arcs["A0", "F5"] == ((1, 3, True), (4, 2, True))
    assert ("A0_SLICE", "A0") in tile.fixed
    assert tile.enums["CLK0.CLKMUX"][0] == "CLK"
    assert tile.words["SLICEA.K0.INIT"][0] == "1" * 16
    assert (database_folder() / "tiledata").is_dir()
    assert "R40C40:PLC2" in tiles_at("LFE5U-85F")[40, 40] and tile_kind("R40C40:PLC2") == "PLC2"


def test_bits():
    empty, strange = tile_bits("PLC2", [])
    assert not strange
    ones, strange = tile_bits("PLC2", ["arc: A0 F5", "enum: SLICEA.MODE CCU2"])
    assert ones == empty | {(1, 3), (4, 2), (9, 10), (9, 11)} and not strange
    # The lowest bit of a LUT is the last digit; a 0 is a bit that is set.
    ones, _ = tile_bits("PLC2", [f"word: SLICEA.K0.INIT {0xfffe:016b}"])
    assert ones == empty | {(25, 10)}
    assert tile_bits("PLC2", ["unknown: F3B4"])[0] == empty | {(3, 4)}
    assert tile_bits("PLC2", ["enum: SLICEA.CCU2.INJECT1_0 _NONE_"])[0] == empty


def test_bits_that_settings_share():
    """Of a pad, the drive strength clears bits of the output stage."""
    stage, drive = "enum: PIOD.BASE_TYPE OUTPUT_LVCMOS33", "enum: PIOD.DRIVE 4"
    both, _ = tile_bits("PICL1_DQS3", [stage, drive])
    assert (6, 8) in tile_bits("PICL1_DQS3", [stage])[0] and (6, 8) not in both


@pytest.mark.parametrize("line", ["arc: A0 nowhere", "enum: SLICEA.MODE FULL", "word: W 1",
                                  "word: SLICEA.K0.INIT 11", "unknown: X", "what: x", "arc:"])
def test_lines_that_mean_nothing(line):
    assert tile_bits("PLC2", [line])[1] == [line]
