"""gen.campaign.line: every kind of fault does what it says, and nothing else."""

import time

import numpy as np
import pytest

from gen.campaign.line import FaultyLine
from gen.device.device import Device
from gen.device.port import LinkError
from tests.gen.device.software_device import SoftwareDevice, SoftwareTransport


PIECES = [bytes([number]) * 20 for number in range(1, 40)]


class Wire:
    """Keeps what is written, and gives what is to be read."""

    port = "wire"

    def __init__(self):
        self.written, self.to_read, self.closed = [], [], False

    def write(self, data):
        self.written.append(bytes(data))

    def read(self, timeout):
        return self.to_read.pop(0) if self.to_read else b""

    def close(self):
        self.closed = True


def sent(kind, rate=0.4, seed=1, **options):
    """(pieces that arrive, the line) of :data:`PIECES`."""
    wire = Wire()
    line = FaultyLine(wire)
    line.begin(kind, rate, seed, **options)
    for piece in PIECES:
        line.write(piece)
    line.end()
    return wire.written, line


def test_without_faults():
    wire = Wire()
    wire.to_read = list(PIECES)
    line = FaultyLine(wire)
    for piece in PIECES:
        line.write(piece)
        assert line.read(0) == piece
    assert wire.written == PIECES and line.faults == 0
    assert line.written == sum(map(len, PIECES)) and line.port == "wire"


def test_loss():
    arrived, line = sent("loss")
    assert line.faults > 5
    gone = len(PIECES) - len(arrived)
    parts = [piece for piece in arrived if piece not in PIECES]
    assert gone + len(parts) == line.faults and gone and parts
    assert all(12 <= len(piece) < 20 and len(set(piece)) == 1 for piece in parts)


def test_flip():
    arrived, line = sent("flip")
    changed = [number for number, piece in enumerate(arrived) if piece != PIECES[number]]
    assert len(arrived) == len(PIECES) and len(changed) == line.faults > 5
    for number in changed:
        bits = sum((one ^ other).bit_count()
                   for one, other in zip(arrived[number], PIECES[number], strict=True))
        assert 1 <= bits <= 3


def test_duplicate():
    arrived, line = sent("duplicate")
    assert len(arrived) == len(PIECES) + line.faults
    assert list(dict.fromkeys(arrived)) == PIECES


def test_reorder():
    arrived, line = sent("reorder")
    assert sorted(arrived) == PIECES and arrived != PIECES and line.faults > 5
    assert all(abs(arrived.index(piece) - number) <= 1 for number, piece in enumerate(PIECES))


def test_what_is_held_goes_before_the_host_reads():
    wire = Wire()
    line = FaultyLine(wire)
    line.begin("reorder", 1.0, 1)
    line.write(b"one")
    assert wire.written == []
    line.read(0)
    assert wire.written == [b"one"]


def test_delay():
    started = time.monotonic()
    arrived, line = sent("delay", longest=0.01)
    assert arrived == PIECES and line.faults > 5
    assert 0 < time.monotonic() - started < 5


def test_cut():
    wire = Wire()
    line = FaultyLine(wire)
    line.cut_after(50)
    line.write(PIECES[0])
    line.write(PIECES[1])
    with pytest.raises(LinkError, match=r"^Lost wire \(unplugged\?\)$"):
        line.write(PIECES[2])
    assert wire.closed and line.faults == 1
    for call in (lambda: line.write(b"x"), lambda: line.read(0)):
        with pytest.raises(LinkError):
            call()


def test_mute():
    wire = Wire()
    wire.to_read = [b"answer"]
    line = FaultyLine(wire)
    line.mute = True
    line.write(b"x")
    assert line.read(0) == b"" and wire.written == []


@pytest.mark.parametrize("kind", ["loss", "flip", "duplicate", "reorder", "delay"])
def test_the_link_holds(kind):
    """Right data, or an error."""
    words = np.arange(300, dtype=np.uint64)
    errors = 0
    for seed in range(6):
        line = FaultyLine(SoftwareTransport(SoftwareDevice()))
        device = Device(line, timeout=0.01)
        line.begin(kind, 0.3, seed, longest=0.002)
        try:
            device.write(100, words)
            np.testing.assert_array_equal(device.read(100, 300), words)
        except LinkError:
            errors += 1
        assert line.faults
    assert errors < 6
