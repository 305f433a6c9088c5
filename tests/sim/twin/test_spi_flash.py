"""The flash by its data sheet: commands, erasing and writing."""

import pytest

from sim.twin.spi_flash import SECTOR_BYTES, SpiFlashTwin


def access(flash, *sent, count=0):
    """What a flash sends behind some bytes."""
    got = [flash.select(), *(flash.exchange(byte) for byte in (*sent, *[0xFF] * count))]
    flash.deselect(True)
    return got[len(sent):len(sent) + count] if count else got


def test_reads():
    flash = SpiFlashTwin({0xFFFFFE: b"\x11\x22", 0: b"\x33", 0x1000: b"abc"})
    assert access(flash, 0x03, 0x00, 0x10, 0x00, count=4) == [*b"abc", 0xFF]
    assert access(flash, 0x0B, 0x00, 0x10, 0x01, 0x00, count=2) == [*b"bc"]
    assert access(flash, 0x03, 0xFF, 0xFF, 0xFE, count=3) == [0x11, 0x22, 0x33]
    assert access(flash, 0x9F, count=3) == [0xEF, 0x40, 0x18]
    assert access(flash, 0x05, count=1) == [0]
    assert not flash.violations


def test_broken_rules():
    flash = SpiFlashTwin()
    access(flash, 0xEB, 0)
    flash.select()
    flash.exchange(0x03)
    flash.deselect(False)
    assert flash.violations == ["opcode eb is not known", "an access ends within its command"]


def test_writing():
    """Bits go from 1 to 0 only; whole sectors are erased."""
    flash = SpiFlashTwin({10: b"\xf0"})
    flash.program(10, b"\x3c")
    assert flash.byte(10) == 0x30 and flash.byte(11) == 0xFF
    flash.program(SECTOR_BYTES - 1, b"\0\0")
    flash.erase(0, SECTOR_BYTES)
    assert [flash.byte(place) for place in (10, SECTOR_BYTES - 1, SECTOR_BYTES)] == [255, 255, 0]
    with pytest.raises(ValueError, match="Erased are sectors of 65536 bytes, not 100 bytes at 0"):
        flash.erase(0, 100)
