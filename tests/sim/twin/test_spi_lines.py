"""Bits into bytes and back, and what a master may not do with the lines."""

from sim.twin.spi_lines import SpiLines


class Echo:
    """Sends back what it got, one byte later."""

    def __init__(self):
        self.got, self.ends, self.idle, self.violations, self.half = [], [], 0, [], 0

    def select(self):
        return 0xA5

    def exchange(self, byte):
        self.got.append(byte)
        return byte

    def deselect(self, whole):
        self.ends.append(whole)

    def clocks(self, count):
        self.idle += count


def transfer(lines, byte, *, half=2, bits=8, select=1):
    """What a master reads: it looks as the clock falls."""
    read = 0
    for place in range(7, 7 - bits, -1):
        copi = byte >> place & 1
        for _ in range(half):
            level = lines.step(0, select, copi)
        for _ in range(half):
            lines.step(1, select, copi)
        read = read << 1 | level
    lines.step(0, select, 1)
    return read


def test_bytes():
    device = Echo()
    lines = SpiLines(device)
    assert transfer(lines, 0x12, select=0) == 0xFF
    assert device.idle == 8
    assert [transfer(lines, byte) for byte in (0x3C, 0x81, 0x00)] == [0xA5, 0x3C, 0x81]
    assert device.half == 2
    lines.step(0, 0, 1)
    assert device.got == [0x3C, 0x81, 0x00] and device.ends == [True]
    assert not device.violations


def test_broken_rules():
    device = Echo()
    lines = SpiLines(device)
    lines.step(0, 1, 1)
    transfer(lines, 0x12, bits=3)
    lines.step(1, 1, 0)
    lines.step(1, 0, 0)
    assert device.ends == [False]
    assert device.violations == ["select changes while the clock is high"]
