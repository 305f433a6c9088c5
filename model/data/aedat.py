"""Recordings of event cameras: AEDAT 2.0 and 3.1 here, AEDAT 4.0 in `model.data.aedat4`.

After iniVation's description of the formats (AEDAT File Formats, "AEDAT 2.0", "AEDAT 3.1").
"""

from pathlib import Path
import re

import numpy as np

from model.data.aedat4 import FIRST_LINE as FOUR
from model.data.aedat4 import parse as parse_aedat4
from model.data.events import Events, RecordingError


__all__ = ["read_recording", "SUFFIXES"]


SUFFIXES = (".aedat", ".aedat4")

FILE_BYTES_MAX = 1 << 30
"""Of a recording: 130 million events where they are not packed."""

_SENSORS = {"DVS128": (128, 128), "DAVIS128": (128, 128), "DAVIS208": (208, 192),
            "DAVIS240": (240, 180), "DAVIS346": (346, 260), "DAVIS640": (640, 480),
            "DAVISHET640": (640, 480)}
"""Width and height of the sensors that AEDAT 3.1 names, by how the name begins."""


def read_recording(path: Path) -> Events:
    """The events of a recording.

    Raises RecordingError naming the file, what is wrong with it and what to do, or OSError.
    """
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise RecordingError(f"more than {FILE_BYTES_MAX >> 20:,} MB; cut it")
        content = path.read_bytes()
        version = re.match(rb"#!AER-DAT(\d+\.\d+)\r?\n", content)
        if version is None:
            raise RecordingError("is not a recording in AEDAT format; remove it or save it anew")
        match version[1]:
            case b"2.0":
                return _parse2(content)
            case b"3.1":
                return _parse3(content)
            case _ if content.startswith(FOUR):
                return parse_aedat4(content)
        raise RecordingError(f"is in AEDAT {version[1].decode()}, but 2.0, 3.1 and 4.0 are read: "
                             "save it anew in one of them")
    except RecordingError as error:
        raise RecordingError(f"{path}: {error}") from None


def _header(content: bytes, end: bytes | None = None) -> tuple[list[str], int]:
    """Lines that begin with #, up to the line `end` if there must be one, and where they end."""
    lines, place = [], 0
    while content[place:place + 1] == b"#":
        stop = content.find(b"\n", place) + 1
        if not stop:
            break
        lines.append(content[place:stop].decode("latin1").strip())
        place = stop
        if end is not None and content[:place].endswith(end):
            return lines, place
    if end is not None:
        raise RecordingError("its header has no end; copy it again")
    return lines, place


def _parse2(content: bytes) -> Events:
    """Big-endian pairs of address and time, addresses those of a DVS128.

    Bit 15 marks external events, which are no pixel's; bits 14..8 are y from below, 7..1 x, bit 0
    is 1 for ON.
    """
    lines, start = _header(content)
    for line in lines:
        chip = re.match(r"#\s*AEChip:\s*(\S+)", line)
        if chip and not chip[1].endswith("DVS128"):
            raise RecordingError(f"is of a {chip[1].split('.')[-1][:40]}, but of AEDAT 2.0 only a "
                                 "DVS128's are read: save it anew as AEDAT 4.0")
    if (len(content) - start) % 8:
        raise RecordingError("ends within an event; copy it again")
    address = np.frombuffer(content, ">u4", offset=start)[::2]
    if len(address) and address.max() >> 16:
        raise RecordingError(f"has the address {int(address.max()):#x}, but a DVS128's have 16 "
                             "bits: copy it again, or save it anew as AEDAT 4.0")
    pixel = address[address & 0x8000 == 0].astype(np.uint16)
    x, y = (pixel >> 1 & 0x7F).astype(np.uint8), (pixel >> 8 & 0x7F).astype(np.uint8)
    return Events(x, 127 - y, (pixel & 1).astype(np.uint8), 128, 128)


_PACKET = np.dtype([("type", "<i2"), ("source", "<i2"), ("size", "<i4"), ("time_offset", "<i4"),
                    ("overflow", "<i4"), ("capacity", "<i4"), ("number", "<i4"),
                    ("valid", "<i4")])
"""Header of a packet of AEDAT 3.1."""

_POLARITY = 1
"""Type of packets of events of pixels."""


def _parse3(content: bytes) -> Events:
    """Packets of events, of which those of pixels are taken: 32 little-endian bits with, from the
    lowest, a mark of validity, the polarity, 15 bits of y from above and 15 of x; then the time.
    """
    lines, place = _header(content, b"#!END-HEADER\r\n")
    form = next((line.partition(":")[2].strip() for line in lines
                 if line.startswith("#Format:")), "RAW")
    if form != "RAW":
        raise RecordingError(f"its events are packed as {form[:40]}, which is not read: save it "
                             "anew as RAW or as AEDAT 4.0")
    width, height = _sensor(lines)
    words = []
    while place < len(content):
        if place + _PACKET.itemsize > len(content):
            raise RecordingError("ends within a packet; copy it again")
        head = np.frombuffer(content, _PACKET, 1, place)[0]
        place += _PACKET.itemsize
        size, capacity, number = int(head["size"]), int(head["capacity"]), int(head["number"])
        if not (size > 0 and 0 <= number <= capacity):
            raise RecordingError(f"has a packet of {number} of {capacity} events of {size} bytes; "
                                 "copy it again")
        if place + size * capacity > len(content):
            raise RecordingError("ends within a packet; copy it again")
        if head["type"] == _POLARITY:
            if size != 8:
                raise RecordingError(f"has events of pixels of {size} bytes, not 8; copy it again")
            words.append(np.frombuffer(content, "<u4", 2 * number, place)[::2])
        place += size * capacity
    word = np.concatenate(words) if words else np.empty(0, np.uint32)
    word = word[word & 1 == 1]
    x, y = (word >> 17).astype(np.uint16), (word >> 2 & 0x7FFF).astype(np.uint16)
    return Events(x, y, (word >> 1 & 1).astype(np.uint8), width, height)


def _sensor(lines: list[str]) -> tuple[int, int]:
    """Width and height of the camera that the header names."""
    for line in lines:
        source = re.match(r"#Source \d+:\s*(.*)", line)
        if source:
            name = source[1].upper()
            for known in sorted(_SENSORS, key=len, reverse=True):
                if name.startswith(known):
                    return _SENSORS[known]
            raise RecordingError(f"is of a {source[1][:40]}, whose size is not known: save it anew "
                                 "as AEDAT 4.0")
    raise RecordingError("its header names no source; copy it again")
