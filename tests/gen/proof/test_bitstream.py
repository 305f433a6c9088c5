"""Two texts of a configuration: what differs in bits is found, what differs in words is not."""

import pytest

from gen.proof.bitstream import by_tile, compare_config
from gen.proof.trellis import parse_config


pytestmark = pytest.mark.synth

GROUP = "MIB_R22C102:MIB_EBR6 MIB_R22C103:MIB_EBR7 MIB_R22C104:MIB_EBR8"

WRITTEN = f"""\
.device LFE5U-85F
.tile R2C3:PLC2
arc: A0 F5
arc: F0 F0_SLICE
word: SLICEA.K0.INIT 1010101010101010
enum: SLICEA.MODE LOGIC
enum: SLICEA.CCU2.INJECT1_0 _NONE_
enum: SLICEA.GSR DISABLED
.tile_group {GROUP}
enum: EBR3.REGMODE_A OUTREG
.bram_init 7
000 1ff 002
"""

READ = """\
.device LFE5U-85F
.tile R2C3:PLC2
enum: SLICEA.GSR DISABLED
arc: A0 F5
word: SLICEA.K0.INIT 1010101010101010
.bram_init 7
000 1ff
002
"""


@pytest.fixture(scope="module")
def read():
    """What ecpunpack would say: settings of several tiles where their bits are."""
    written = parse_config(WRITTEN)
    tiles, _ = by_tile(written)
    lines = [line for name, found in tiles.items() if name != "R2C3:PLC2"
             for line in (f".tile {name}", *found)]
    return READ + "\n".join(lines) + "\n"


def test_same_bits_in_other_words(read):
    result = compare_config(parse_config(WRITTEN), parse_config(read))
    assert not result.differences
    assert result.compared["words of block RAMs"] == 3 and result.compared["tiles"] >= 2
    assert result.explained == {"what has no bits is left out": 2,
                                "a setting without a value is left out": 1}


@pytest.mark.parametrize("before, after", [
    ("1010101010101010", "1010101010101011"),
    ("arc: A0 F5", "arc: A0 F7"),
    ("arc: A0 F5\n", ""),
    ("SLICEA.GSR DISABLED", "SLICEA.GSR ENABLED"),
    ("enum: SLICEA.GSR DISABLED\n", "enum: SLICEA.GSR DISABLED\nunknown: F0B0\n"),
    ("enum: SLICEA.GSR DISABLED\n", "enum: SLICEA.GSR DISABLED\nenum: CLK0.CLKMUX INV\n"),
    ("OUTREG", "NOREG"),
    ("\n002", "\n003"),
    ("\n002", ""),
    (".bram_init 7", ".bram_init 8"),
    ("85F", "45F"),
])
def test_every_difference_is_found(read, before, after):
    assert before in read
    changed = read.replace(before, after)
    assert compare_config(parse_config(WRITTEN), parse_config(changed)).differences


def test_what_no_tile_knows():
    strange = WRITTEN.replace("EBR3.REGMODE_A", "EBR9.REGMODE_A")
    differences = compare_config(parse_config(strange), parse_config(strange)).differences
    assert differences == [(GROUP, "enum: EBR9.REGMODE_A OUTREG", None)]
