"""Frames of the link, on the host: a payload with its CRC-32, stuffed (COBS), delimited by 0.

The hardware's side is :mod:`hw.link.frame`.
"""

import struct
import zlib


__all__ = ["ANSWER", "HEADER", "cobs_decode", "cobs_encode", "decode_frame", "decode_text",
           "encode_frame"]


HEADER = struct.Struct("<BBHI")
"""Opcode, length, sequence number and address: ``hw.link.command.FrameHeader``."""

ANSWER = struct.Struct("<BBHI")
"""Opcode, length, sequence number, and session with run in its upper 8 bits:
``hw.link.command.AnswerHeader``."""


def cobs_encode(data):
    """Stuff ``data`` so that no byte is 0."""
    stuffed = bytearray()
    for piece in bytes(data).split(b"\0"):
        while len(piece) >= 254:
            stuffed.append(255)
            stuffed += piece[:254]
            piece = piece[254:]
        stuffed.append(len(piece) + 1)
        stuffed += piece
    return bytes(stuffed)


def cobs_decode(stuffed):
    """Undo :func:`cobs_encode`; :obj:`None` if ``stuffed`` is malformed."""
    data = bytearray()
    index = 0
    while index < len(stuffed):
        code = stuffed[index]
        end = index + code
        if code == 0 or end > len(stuffed):
            return None
        data += stuffed[index + 1:end]
        if code != 255 and end < len(stuffed):
            data.append(0)
        index = end
    return bytes(data)


def encode_frame(payload):
    """Bytes on the line for ``payload``: with CRC-32, stuffed, delimited."""
    return cobs_encode(payload + struct.pack("<I", zlib.crc32(payload))) + b"\0"


def decode_frame(stuffed):
    """Payload of a frame without its delimiter; :obj:`None` if it is damaged."""
    data = cobs_decode(stuffed)
    if data is None or len(data) < HEADER.size + 4 or len(data) % 8 != 4:
        return None
    payload, crc = data[:-4], int.from_bytes(data[-4:], "little")
    return payload if zlib.crc32(payload) == crc else None


def decode_text(piece):
    """What lies between two zeros on the line, where it is text of a board that works by itself
    (:mod:`hw.boot_layout`), else :obj:`None`: printable ASCII and ends of lines.

    A frame is tried first: with its CRC-32 it is never taken for text.
    """
    if all(byte in b"\r\n" or 0x20 <= byte < 0x7F for byte in piece):
        return piece.decode("ascii")
    return None
