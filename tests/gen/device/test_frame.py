import random
import struct
import zlib

import pytest

from gen.device.frame import (
    cobs_decode,
    cobs_encode,
    decode_frame,
    decode_text,
    encode_frame,
)
from hw.boot_layout import BootFault, message, MESSAGES


def frames_of(rng):
    """Awkward frames: around blocks of 254 bytes, all zeros, none, random."""
    return [b"", bytes(300), b"\0", b"\1" * 254 + b"\0", b"\0" + b"\2" * 254, *(
        bytes(rng.choice([0, 1, 255]) if sparse else rng.randrange(1, 256) for _ in range(length))
        for length in (1, 253, 254, 255, 508, 509, 1040) for sparse in (False, True))]


@pytest.mark.parametrize(("frame", "stuffed"), [
    ("00", "01 01"), ("00 11 00", "01 02 11 01"), ("11 22 00 33", "03 11 22 02 33"),
    ("11 00 00 00", "02 11 01 01 01")])
def test_examples(frame, stuffed):
    assert cobs_encode(bytes.fromhex(frame)) == bytes.fromhex(stuffed)
    assert cobs_decode(bytes.fromhex(stuffed)) == bytes.fromhex(frame)


def test_there_and_back():
    """No byte is 0, a byte more in 254 at most and one more, and the same after decoding."""
    for frame in frames_of(random.Random(0)):
        stuffed = cobs_encode(frame)
        assert 0 not in stuffed and cobs_decode(stuffed) == frame
        assert len(stuffed) <= len(frame) + len(frame) // 254 + 1


@pytest.mark.parametrize("stuffed", ["05 11", "ff", "01 00", "02 11 03 22", "00"])
def test_malformed(stuffed):
    assert cobs_decode(bytes.fromhex(stuffed)) is None


def test_frame():
    """A payload of whole words with its CRC-32, least significant byte first."""
    for words in (1, 3, 65):
        payload = random.Random(words).randbytes(8 * words)
        line = encode_frame(payload)
        assert line[-1] == 0 and 0 not in line[:-1]
        assert cobs_decode(line[:-1]) == payload + struct.pack("<I", zlib.crc32(payload))
        assert decode_frame(line[:-1]) == payload


def test_damaged_frame():
    """Any bit that differs, and any cut, is seen; so is a frame that is no whole words."""
    rng = random.Random(1)
    line = encode_frame(rng.randbytes(24))[:-1]
    for bit in range(8 * len(line)):
        damaged = bytearray(line)
        damaged[bit // 8] ^= 1 << bit % 8
        assert decode_frame(bytes(damaged)) is None
    for length in range(len(line)):
        assert decode_frame(line[:length]) is None
    for length in (0, 4, 7, 12, 23):
        assert decode_frame(encode_frame(rng.randbytes(length))[:-1]) is None


def test_text():
    """Lines of a board that works by itself; what is no text, and no frame, is damaged."""
    assert [decode_text(message(fault).rstrip(b"\0")).split("  ")[0].strip()
            for fault in MESSAGES] == list(MESSAGES.values())
    assert set(MESSAGES) == set(BootFault) - {BootFault.NONE}
    assert decode_text(b"picture 0: class 009\r\n") == "picture 0: class 009\r\n"
    for piece in (b"\x01abc", b"abc\x80", b"\x7f"):
        assert decode_text(piece) is None
