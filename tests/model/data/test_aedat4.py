"""model.data.aedat4: every event of emulated recordings, and damaged files."""

import resource
import struct
import subprocess
import sys

import numpy as np
import pytest

from model.data import aedat4 as module
from model.data.aedat import read_recording
from model.data.events import RecordingError
from tests.model.data.recorded import aedat4, buffer, events4, random_rows, streams, table
from tests.model.data.test_aedat import rows_of


lz4 = pytest.importorskip("lz4.frame", reason="needs the extra events")
zstandard = pytest.importorskip("zstandard", reason="needs the extra events")

PACK = {0: bytes, 1: lz4.compress, 2: lz4.compress, 3: zstandard.compress, 4: zstandard.compress}
"""By the number of the header."""


@pytest.fixture
def read(tmp_path):
    def read(content: bytes):
        (tmp_path / "r.aedat4").write_bytes(content)
        return read_recording(tmp_path / "r.aedat4")

    return read


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("table_of_packets", [True, False])
def test_every_event_in_order(read, packing, table_of_packets):
    """Two packets of events, among others of another stream that nobody unpacks."""
    rows, pack = random_rows(3000, width=320, height=240), PACK[packing]
    content = aedat4((0, b"no packet"), (1, pack(events4(rows[:10]))), (0, b""),
                     (1, pack(events4([]))), (1, pack(events4(rows[10:]))), packing=packing,
                     text=streams(width=320, height=240), table_of_packets=table_of_packets)
    events = read(content)
    assert rows_of(events) == rows and (events.width, events.height) == (320, 240)
    assert len(read(aedat4(packing=packing))) == 0


def test_bytes_by_hand(read):
    """An EventPacket byte by byte: x = 3, y = 5, ON."""
    packet = bytes.fromhex(
        "2a000000"                          # 42 bytes follow
        "0e000000 45565453"                 # the table is at 14; EVTS
        "0600 0800 0400"                    # vtable at 8: 6 bytes, table of 8, field 0 at 4
        "06000000 04000000"                 # the table: vtable 6 before, vector 4 further on
        "01000000"                          # one event
        "0700000000000000 0300 0500 01 000000")
    assert rows_of(read(aedat4((1, packet)))) == [(3, 5, 1)]


def test_the_stream_with_the_lowest_number(read):
    one, two = (streams(number=number, width=number) for number in (7, 3))
    both = one.replace("</node></dv>", "") + two.partition('path="/o/0/">')[2].partition(
        "</node></node>")[2]
    assert both.count("EVTS") == 2
    events = read(aedat4((7, events4([(6, 0, 1)])), (3, events4([(2, 1, 0)])), text=both))
    assert rows_of(events) == [(2, 1, 0)] and events.width == 3


HEAD = b"#!AER-DAT4.0\r\n"


@pytest.mark.parametrize("content, message", [
    (HEAD, "has a damaged packet"),
    (HEAD + b"\x10\x00\x00\x00", "is cut off"),
    (aedat4((1, events4([(1, 1, 1)])), table_of_packets=False)[:-2], "is cut off; copy it again"),
    (aedat4((1, events4([(1, 1, 1)])))[:-60], "is cut off"),
    (aedat4((1, events4([(1, 1, 1)]))).replace(b"EVTS\x06", b"IMUS\x06"),
     "must hold EVTS, not b'IMUS'"),
    (aedat4(packing=9), r"is packed in an unknown way \(9\)"),
    (aedat4((1, b"abc"), packing=1), "has a damaged packet"),
    (aedat4((1, b"abc"), packing=3), "has a damaged packet"),
    (aedat4((1, struct.pack("<I", 100))), "is cut off"),
    (aedat4((1, buffer(b"EVTS", table(struct.pack("<I", 4)) + b"\xff\xff\xff\xff", 6))),
     "has a damaged packet"),
    (aedat4((1, buffer(b"EVTS", b"", 1 << 20))), "has a damaged packet"),
    (aedat4(text="<dv"), "the description of its streams is damaged"),
    (aedat4(text=streams().replace("<dv", "<!DOCTYPE dv [<!ENTITY a 'b'>]><dv")),
     "the description of its streams is damaged"),
    (aedat4(text=streams(kind="FRME")), "has no events; name a recording of events"),
    (aedat4(text=streams(width=0)), "is of a sensor of 0x128 pixels"),
    (aedat4(text=streams().replace("sizeY", "sizeZ")), "the description of its streams is damaged"),
    (aedat4((1, events4([(1, -5, 1)]))), "y of an event must be 0 to 127, not -5"),
    (aedat4((1, events4([(128, 5, 1)]))), "x of an event must be 0 to 127, not 128"),
])
def test_what_is_refused(read, content, message):
    with pytest.raises(RecordingError, match=f"r.aedat4: {message}") as error:
        read(content)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("packing", [1, 3])
def test_a_packet_that_grows_without_end(tmp_path, packing):
    """A gigabyte of zeros in a few kilobytes: refused in little memory."""
    bomb = PACK[packing](bytes(1 << 30))
    (tmp_path / "r.aedat4").write_bytes(aedat4((1, bomb), packing=packing))
    code = ("import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29));"
            "from pathlib import Path; from model.data.aedat import read_recording;"
            "read_recording(Path(sys.argv[1]))")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "r.aedat4")],
                          capture_output=True, text=True)
    assert "has a packet of more than 64 MB" in done.stderr
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != 1 << 29


def test_long_recordings(read, monkeypatch):
    monkeypatch.setattr(module, "EVENTS_MAX", 50)
    assert len(read(aedat4((1, events4(random_rows(50)))))) == 50
    with pytest.raises(RecordingError, match="has more than 50 events; cut it"):
        read(aedat4((1, events4(random_rows(30))), (1, events4(random_rows(21)))))


@pytest.mark.parametrize("packing", [0, 1, 3])
def test_damaged_files_are_one_line(read, packing):
    pack = PACK[packing]
    whole = aedat4((1, pack(events4(random_rows(20)))), (0, b"12"), (1, pack(events4([(1, 1, 1)]))),
                   packing=packing)
    rng, seen = np.random.default_rng(packing), set()
    for _ in range(1500):
        content = bytearray(whole)
        for place in rng.integers(0, len(content), rng.integers(1, 4)):
            content[place] = rng.integers(256)
        if rng.random() < 0.2:
            content = content[:rng.integers(len(content))]
        try:
            read(bytes(content))
            seen.add("read")
        except RecordingError as error:
            assert "\n" not in str(error)
            seen.add("refused")
    assert seen == {"read", "refused"}
