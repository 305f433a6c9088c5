"""The time to the first result, by hand."""

import pytest

from gen.boot.time import byte_cycles, first_result
from hw.boot_layout import HEADER_BYTES
from tests.gen.boot.test_medium import script


def test_first_result():
    """At 80 MHz half a bit has 2 cycles, 20 MHz: 33 cycles a byte (tests/hw/boot/test_flash.py)."""
    assert byte_cycles(80_000_000, "flash") == 33
    assert byte_cycles(100_000_000, "flash") == 33
    assert byte_cycles(80_000_000, "sd") == 34 * 515 / 512
    seconds = first_result(script(), {"clock_hz": 80_000_000, "boot": "flash"})
    assert seconds == pytest.approx(((HEADER_BYTES + 5) * 33 + 1000) / 80e6)
