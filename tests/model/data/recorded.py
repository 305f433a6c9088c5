"""Recordings as the public descriptions of the formats have them, written for tests."""

import struct

import numpy as np


Rows = list[tuple[int, int, int]]
"""x from the left, y from the top, whether the light rose."""


def random_rows(count: int, *, width: int = 128, height: int = 128, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    columns = [rng.integers(0, size, count).tolist() for size in (width, height, 2)]
    return list(zip(*columns, strict=True))


def aedat2(rows: Rows, *, header: str = "", version: str = "2.0", more: bytes = b"") -> bytes:
    """Of a DVS128: address and time, big-endian."""
    text = f"#!AER-DAT{version}\r\n# This is a raw AE data file - do not edit\r\n{header}"
    words = b"".join(struct.pack(">II", (127 - y) << 8 | x << 1 | on, 100 + number)
                     for number, (x, y, on) in enumerate(rows))
    return text.encode("latin1") + words + more


def packet3(rows: Rows, *, kind: int = 1, size: int = 8, room: int = 0, invalid: Rows = ()
            ) -> bytes:
    """A packet of AEDAT 3.1 with room for `room` events more; events that are not valid come
    last."""
    words = b"".join(struct.pack("<Ii", x << 17 | y << 2 | on << 1 | valid, number)
                     for valid, part in ((1, rows), (0, invalid))
                     for number, (x, y, on) in enumerate(part))
    count = len(rows) + len(invalid)
    head = struct.pack("<hhiiiiii", kind, 0, size, 4, 0, count + room, count, len(rows))
    return head + words + b"\xff" * (room * size)


def aedat3(*packets: bytes, source: str = "DVS128", form: str = "RAW", end: bool = True) -> bytes:
    lines = ["#!AER-DAT3.1", f"#Format: {form}", "#-Source 0: DAVIS640", f"#Source 1: {source}",
             "#Start-Time: 2026-01-01 00:00:00 (TZ+0000)", *(["#!END-HEADER"] if end else [])]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"".join(packets)


def table(*fields: bytes | None) -> bytes:
    """The body of a FlatBuffer with one table behind its vtable: each field a number's bytes, or
    None for the default."""
    size = 4 + sum(len(field or b"") for field in fields)
    offsets, place = [], 4
    for field in fields:
        offsets.append(place if field is not None else 0)
        place += len(field or b"")
    vtable = struct.pack(f"<HH{len(fields)}H", 4 + 2 * len(fields), size, *offsets)
    return vtable + struct.pack("<i", len(vtable)) + b"".join(field or b"" for field in fields)


def buffer(identifier: bytes, body: bytes, vtable: int) -> bytes:
    """Size, offset of the table, identifier, body."""
    inside = struct.pack("<I", 8 + vtable) + identifier + body
    return struct.pack("<I", len(inside)) + inside


def events4(rows: Rows) -> bytes:
    """An EventPacket: a table with one vector of structures."""
    vector = struct.pack("<I", len(rows)) + b"".join(
        struct.pack("<qhhB3x", 100 + number, x, y, on) for number, (x, y, on) in enumerate(rows))
    return buffer(b"EVTS", table(struct.pack("<I", 4)) + vector, 6)


def streams(*, kind: str = "EVTS", width: int = 128, height: int = 128, number: int = 1) -> str:
    return (f'<dv version="2.0"><node name="outInfo" path="/o/"><node name="0" path="/o/0/">'
            f'<attr key="typeIdentifier" type="string">IMUS</attr><node name="info"></node></node>'
            f'<node name="{number}" path="/o/1/"><attr key="compression" type="string">X</attr>'
            f'<attr key="typeIdentifier" type="string">{kind}</attr><node name="info" path="/i/">'
            f'<attr key="sizeX" type="int">{width}</attr>'
            f'<attr key="sizeY" type="int">{height}</attr></node></node></node></dv>')


def aedat4(*packets: tuple[int, bytes], packing: int = 0, text: str | None = None,
           table_of_packets: bool = True) -> bytes:
    """Packets (number of the stream, packed content), and a table of them at the end."""
    body = b"".join(struct.pack("<ii", number, len(content)) + content
                    for number, content in packets)
    said = (streams() if text is None else text).encode()

    def head(end: int) -> bytes:
        vector = struct.pack("<I", len(said)) + said
        fields = table(struct.pack("<i", packing), struct.pack("<q", end), struct.pack("<I", 4))
        return buffer(b"IOHE", fields + vector, 10)

    start = len(b"#!AER-DAT4.0\r\n") + len(head(0))
    end = start + len(body) if table_of_packets else -1
    rest = b"\x99" * 40 if table_of_packets else b""
    return b"#!AER-DAT4.0\r\n" + head(end) + body + rest
