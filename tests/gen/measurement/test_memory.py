"""What is said of a memory before a measurement; the tests themselves:
tests/sim/rtl/test_sdram_on_board.py."""

import pytest

from gen.device.device import Device
from gen.device.port import LinkError
from gen.measurement.memory import memory_checks
from hw.register import MEMORY_STATUS_BITS, MEMORY_TEST_BITS, MemoryTest, Register, value_of
from model.error import VerificationFailed
from tests.gen.device.software_device import SoftwareDevice, SoftwareTransport


class Sdram(SoftwareDevice):
    """With a map, and tests that end at once; ``wrong`` has (errors, address, pins) of those that
    find some."""

    def __init__(self, wrong=None):
        super().__init__()
        self.wrong, self.tested = wrong or {}, []
        self.map_rows = (0, 2, 2, 2)
        self.constant[Register.MEMORY_STATUS] = value_of(
            MEMORY_STATUS_BITS, {"ready": 1, "delay": 1, "phase": 2, "window": 3})

    def _write(self, address, value):
        if address == Register.MEMORY_TEST:
            self.tested.append(MemoryTest(value))
            for place, word in enumerate((value_of(MEMORY_TEST_BITS, {"test": value, "ended": 1}),
                                          *self.wrong.get(value, (0, 0, 0)))):
                self.constant[Register.MEMORY_TEST + place] = word
            return None
        return super()._write(address, value)


def checked(model, memory="sdram", **options):
    with Device(SoftwareTransport(model)) as device:
        return memory_checks(device, memory, **{"simulated": False} | options)


def test_calibration_and_every_test_are_said():
    model = Sdram()
    first, *tests = checked(model)
    assert first == ("SDRAM: works at read delay 1, clock phase 2, in a window of 3 of 4 phases; a "
                     "quarter of them must pass in a row")
    assert model.tested == [MemoryTest.MARCH, MemoryTest.RANDOM, MemoryTest.SWITCHING]
    for test, line in zip(model.tested, tests, strict=True):
        assert line.startswith(f"SDRAM test of 4096 words by the board: {test.name}: no error (")


@pytest.mark.parametrize("test", list(MemoryTest)[1:])
def test_word_that_is_wrong_ends_it(test):
    model = Sdram({test: (3, 0x123, 1 << 4)})
    with pytest.raises(VerificationFailed, match=(
            f"^The board's test of its SDRAM fails: {test.name}: 3 words differ, first at word "
            "0x123, data pins 4. One data pin alone: .*; nothing was measured$")):
        checked(model)
    assert model.tested[-1] == test


def test_what_has_no_test_says_so():
    """A memory on chip, and the twin of a simulation; a board without a map is an error."""
    assert checked(SoftwareDevice(), "onchip") == ["memory: on chip, nothing to calibrate"]
    said, = checked(SoftwareDevice(), simulated=True)
    assert "without a chip: nothing to calibrate or to test" in said
    with pytest.raises(LinkError, match="has no map of its memory's settings"):
        checked(SoftwareDevice())
