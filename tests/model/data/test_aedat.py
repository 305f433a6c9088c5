"""model.data.aedat: AEDAT 2.0 and 3.1, every event by hand, and damaged files."""

import numpy as np
import pytest

from model.data import aedat
from model.data.aedat import read_recording
from model.data.events import RecordingError
from tests.model.data.recorded import aedat2, aedat3, packet3, random_rows


def rows_of(events) -> list[tuple[int, int, int]]:
    return list(zip(*(v.tolist() for v in (events.x, events.y, events.on)), strict=True))


@pytest.fixture
def read(tmp_path):
    def read(content: bytes):
        (tmp_path / "r.aedat").write_bytes(content)
        return read_recording(tmp_path / "r.aedat")

    return read


@pytest.fixture
def refused(read):
    def refused(content: bytes, message: str) -> None:
        with pytest.raises(RecordingError, match=message) as error:
            read(content)
        assert "r.aedat: " in str(error.value) and "\n" not in str(error.value)

    return refused


def test_bytes_by_hand(read):
    """x = 3, y = 5 from below, ON; and a header that jAER writes."""
    content = b"#!AER-DAT2.0\r\n# AEChip: eu.seebetter.DVS128\r\n\x00\x00\x05\x07\x00\x00\x00\x09"
    events = read(content)
    assert rows_of(events) == [(3, 122, 1)] and (events.width, events.height) == (128, 128)
    # 3.1: x = 3, y = 5 from above, ON, valid: 3<<17 | 5<<2 | 2 | 1.
    events = read(aedat3(b"\x01\x00\x00\x00\x08\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00"
                         b"\x01\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00"
                         b"\x17\x00\x06\x00\x09\x00\x00\x00"))
    assert rows_of(events) == [(3, 5, 1)] and (events.width, events.height) == (128, 128)


def test_every_event_in_order(read):
    rows = random_rows(5000)
    assert rows_of(read(aedat2(rows))) == rows
    assert rows_of(read(aedat2([]))) == []
    wide = random_rows(900, width=346, height=260)
    content = aedat3(packet3(wide[:300]), packet3([(0, 0, 0)] * 7, kind=2),
                     packet3(wide[300:301], room=5), packet3([]),
                     packet3(wide[301:], invalid=[(1, 2, 1)]), source="DAVIS346bMono")
    events = read(content)
    assert rows_of(events) == wide and (events.width, events.height) == (346, 260)


def test_external_events_are_no_pixels(read):
    more = b"\x00\x00\x80\x00\x00\x00\x00\x01" + b"\x00\x00\x01\x02\x00\x00\x00\x02"
    assert rows_of(read(aedat2([(1, 1, 1)], more=more))) == [(1, 1, 1), (1, 126, 0)]


@pytest.mark.parametrize("content, message", [
    (b"", "is not a recording in AEDAT format; remove it"),
    (b"\x89PNG\r\n", "is not a recording"),
    (aedat2([], version="1.0"), "is in AEDAT 1.0, but 2.0, 3.1 and 4.0 are read: save it anew"),
    (aedat2([], version="3.0"), "is in AEDAT 3.0"),
    (aedat2([(1, 1, 1)])[:-3], "ends within an event; copy it again"),
    (aedat2([], more=b"\x00\x01\x00\x02\x00\x00\x00\x00"), "has the address 0x10002, but a DVS128"),
    (aedat2([], header="# AEChip: eu.seebetter.ini.chips.davis.Davis640\r\n"),
     "is of a Davis640, but of AEDAT 2.0 only a DVS128's are read: save it anew as AEDAT 4.0"),
    (aedat3(end=False), "its header has no end"),
    (aedat3(form="SerializedTS"), "packed as SerializedTS, which is not read: save it anew as RAW"),
    (aedat3(source="File"), "is of a File, whose size is not known"),
    (b"#!AER-DAT3.1\r\n#!END-HEADER\r\n", "its header names no source"),
    (aedat3(packet3([(1, 1, 1)]))[:-1], "ends within a packet"),
    (aedat3(packet3([])[:-1]), "ends within a packet"),
    (aedat3(packet3([], size=0)), "has a packet of 0 of 0 events of 0 bytes"),
    (aedat3(packet3([], size=-8)), "has a packet of"),
    (aedat3(packet3([], room=-1)), "has a packet of 0 of -1 events"),
    (aedat3(packet3([], size=16)), "has events of pixels of 16 bytes, not 8"),
    (aedat3(packet3([(128, 0, 1)])), "x of an event must be 0 to 127, not 128; copy it again"),
    (aedat3(packet3([(0, 32767, 1)])), "y of an event must be 0 to 127, not 32767"),
])
def test_what_is_refused(refused, content, message):
    refused(content, message)


def test_large_files(refused, monkeypatch):
    monkeypatch.setattr(aedat, "FILE_BYTES_MAX", 100)
    refused(aedat2([(1, 1, 1)] * 10), "more than 0 MB; cut it")


@pytest.mark.parametrize("whole", [
    aedat2(random_rows(40), header="# AEChip: a.DVS128\r\n"),
    aedat3(packet3(random_rows(20)), packet3([(0, 0, 1)] * 3, kind=5), packet3(random_rows(9))),
])
def test_damaged_files_are_one_line(read, whole):
    """Cut and changed at random: a recording, or an error of one line."""
    rng = np.random.default_rng(1)
    seen = set()
    for _ in range(1500):
        content = bytearray(whole)
        for place in rng.integers(0, len(content), rng.integers(1, 4)):
            content[place] = rng.integers(256)
        if rng.random() < 0.2:
            content = content[:rng.integers(len(content))]
        try:
            events = read(bytes(content))
            assert len(events) <= 60
            seen.add("read")
        except RecordingError as error:
            assert "\n" not in str(error)
            seen.add("refused")
    assert seen == {"read", "refused"}
