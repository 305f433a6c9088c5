"""AEDAT 4.0, the recordings of iniVation's DV: packets of FlatBuffers, each packed for itself.

After iniVation's description of the format and the schemas that it names. The packets are unpacked
by the libraries of LZ4 and Zstandard; the few tables in them are read here, with every offset
checked. The PyPI package aedat reads them too, but a damaged file ends the whole process there.
"""

from dataclasses import dataclass
import struct
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import numpy as np

from model.command import require
from model.data.events import Events, RecordingError


if TYPE_CHECKING:
    from numpy.typing import NDArray


__all__ = ["FIRST_LINE", "parse"]


FIRST_LINE = b"#!AER-DAT4.0\r\n"

PACKET_BYTES_MAX = 1 << 26
"""Of an unpacked packet: 4 million events; DV writes a hundredth of a second in each."""

EVENTS_MAX = 1 << 26
"""Of a recording: an hour at 18,000 a second."""

_NONE, _LZ4, _LZ4_HIGH, _ZSTD, _ZSTD_HIGH = range(5)

_EVENT = np.dtype({"names": ["t", "x", "y", "on"], "formats": ["<i8", "<i2", "<i2", "u1"],
                   "offsets": [0, 8, 10, 12], "itemsize": 16})


@dataclass(frozen=True)
class _Table:
    """A table of a FlatBuffer: `data` and where the table begins."""

    data: bytes
    place: int

    @classmethod
    def root(cls, data: bytes, identifier: bytes) -> "_Table":
        """Of a buffer whose four bytes behind the first offset say what it holds."""
        if data[4:8] != identifier:
            raise RecordingError(f"must hold {identifier.decode()}, not {data[4:8]!r}; "
                                 "copy it again")
        return cls(data, _number(data, 0, "<I"))

    def field(self, index: int) -> int | None:
        """Where the value of a field lies, None if it has its default."""
        table = self.place - _number(self.data, self.place, "<i")
        if 4 + 2 * index >= _number(self.data, table, "<H"):
            return None
        offset = _number(self.data, table + 4 + 2 * index, "<H")
        return self.place + offset if offset else None

    def number(self, index: int, form: str, default: int) -> int:
        place = self.field(index)
        return default if place is None else _number(self.data, place, form)

    def vector(self, index: int, size: int) -> tuple[int, int]:
        """Where a vector's elements, each of so many bytes, begin, and how many there are."""
        place = self.field(index)
        if place is None:
            return 0, 0
        place += _number(self.data, place, "<I")
        count = _number(self.data, place, "<I")
        if place + 4 + count * size > len(self.data):
            raise RecordingError(_DAMAGED)
        return place + 4, count


_DAMAGED = "has a damaged packet; copy it again"


def _number(data: bytes, place: int, form: str) -> int:
    if place < 0 or place + struct.calcsize(form) > len(data):
        raise RecordingError(_DAMAGED)
    return struct.unpack_from(form, data, place)[0]


def _prefixed(data: bytes, place: int) -> tuple[bytes, int]:
    """A buffer behind its length, and where it ends."""
    stop = place + 4 + _number(data, place, "<I")
    if stop > len(data):
        raise RecordingError("is cut off; copy it again")
    return data[place + 4:stop], stop


def parse(content: bytes) -> Events:
    """Events of the first stream of events. Raises RecordingError."""
    head, place = _prefixed(content, len(FIRST_LINE))
    table = _Table.root(head, b"IOHE")
    packing, end = table.number(0, "<i", _NONE), table.number(1, "<q", -1)
    if packing not in range(5):
        raise RecordingError(f"is packed in an unknown way ({packing}); save it anew")
    if end < 0:
        end = len(content)
    elif not place <= end <= len(content):
        raise RecordingError("is cut off; copy it again")
    start, count = table.vector(2, 1)
    stream, width, height = _stream(head[start:start + count])
    parts: list[NDArray] = []
    total = 0
    while place < end:
        number, size = _number(content, place, "<i"), _number(content, place + 4, "<i")
        place += 8
        if size < 0 or place + size > end:
            raise RecordingError("is cut off; copy it again")
        if number == stream:
            packet, _ = _prefixed(_unpacked(content[place:place + size], packing), 0)
            start, count = _Table.root(packet, b"EVTS").vector(0, _EVENT.itemsize)
            total += count
            if total > EVENTS_MAX:
                raise RecordingError(f"has more than {EVENTS_MAX:,} events; cut it")
            events = np.frombuffer(packet, _EVENT, count, start)
            parts.append(np.stack([events["x"], events["y"], events["on"]]).astype(np.int16))
        place += size
    x, y, on = np.concatenate(parts, 1) if parts else np.empty((3, 0), np.int16)
    return Events(x, y, on, width, height)


def _stream(text: bytes) -> tuple[int, int, int]:
    """Number of the first stream of events, and width and height of its sensor."""
    if b"<!" in text:    # no entities: they can grow without end
        raise RecordingError("the description of its streams is damaged; copy it again")
    try:
        streams = ET.fromstring(text).findall("./node[@name='outInfo']/node")  # noqa: S314
        kinds = {int(node.get("name", "")): node for node in streams
                 if node.findtext("./attr[@key='typeIdentifier']") == "EVTS"}
        if not kinds:
            raise RecordingError("has no events; name a recording of events")
        number = min(kinds)
        width, height = (int(kinds[number].findtext(f"./node[@name='info']/attr[@key='{key}']", ""))
                         for key in ("sizeX", "sizeY"))
    except (ET.ParseError, ValueError, UnicodeDecodeError, LookupError) as error:
        if isinstance(error, RecordingError):
            raise
        raise RecordingError("the description of its streams is damaged; copy it again") from None
    if not (0 < width <= 1 << 14 and 0 < height <= 1 << 14):
        raise RecordingError(f"is of a sensor of {width}x{height} pixels; copy it again")
    return number, width, height


def _unpacked(data: bytes, packing: int) -> bytes:
    """A packet, at most `PACKET_BYTES_MAX`."""
    if packing == _NONE:
        return data
    if packing in (_LZ4, _LZ4_HIGH):
        require("lz4", what="unpacks AEDAT 4.0")
        import lz4.frame

        try:
            made = lz4.frame.LZ4FrameDecompressor().decompress(data, PACKET_BYTES_MAX + 1)
        except RuntimeError:
            raise RecordingError(_DAMAGED) from None
    else:
        require("zstandard", what="unpacks AEDAT 4.0")
        import zstandard

        try:
            with zstandard.ZstdDecompressor().stream_reader(data) as reader:
                made = reader.read(PACKET_BYTES_MAX + 1)
        except zstandard.ZstdError:
            raise RecordingError(_DAMAGED) from None
    if len(made) > PACKET_BYTES_MAX:
        raise RecordingError(f"has a packet of more than {PACKET_BYTES_MAX >> 20} MB; copy it "
                             "again")
    return made
