"""What a LUT does, whatever its pins are called."""

import pytest

from gen.proof.lut import function, meaning


def test_function():
    assert function(0xaaaa, [1, 2, 3, 4]) == 1
    assert function(0x5555, [1, 2, 3, 4]) == ("lut", (1,), (1, 0))
    assert function(0x8888, [2, 1, 3, 4]) == function(0x8888, [1, 2, 3, 4])
    assert function(0x6666, [1, 1, 3, 4]) == "0"
    assert function(0x8000, ["1", "1", "1", 7]) == 7
    assert function(0xff, ["1", "1", "1", "0"]) == "1"


def test_carry_takes_part_of_a_lut():
    """A and B may change places, or C and D; of A and C the carry's half is another."""
    contents = 0x6a86
    swapped = sum((contents >> (index & 12 | (index & 1) << 1 | index >> 1 & 1) & 1) << index
                  for index in range(16))
    pins = [2, 3, 4, 5]
    wanted = meaning("CCU2", "NO", contents, pins)
    assert meaning("CCU2", "NO", swapped, [3, 2, 4, 5]) == wanted
    assert meaning("CCU2", "NO", contents ^ 1, pins)[1] != wanted[1]
    assert meaning("CCU2", "YES", contents, pins)[1] is None


@pytest.mark.parametrize("mode, same", [("LOGIC", True), ("DPRAM", False)])
def test_pins_of_lut_ram_stay(mode, same):
    assert (meaning(mode, None, 0x8888, [2, 3, 4, 5])
            == meaning(mode, None, 0x8888, [3, 2, 4, 5])) == same
