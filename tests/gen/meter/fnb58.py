"""An FNB58 as hidapi shows it, from the protocol that fnirsi-usb-power-data-logger found out."""

import struct


IDS = (0x2E3C, 0x5558)

KINDS = {0x81: 0x8E, 0x82: 0x96, 0x83: 0x9E}
"""What the host may send, and the last byte that was seen with it on real meters."""


class Fnb58:
    """The functions of the module ``hid`` that a driver uses, with one meter behind them.

    It falls silent a second after it was last asked to go on. ``written`` keeps what was sent.
    """

    def __init__(self, time, sample, *, serial="0001A0000000"):
        self.time, self.sample = time, sample    # sample(t) is (volts, amps)
        self.entries = [{"path": b"1-1:1.3", "vendor_id": IDS[0], "product_id": IDS[1],
                         "serial_number": serial, "interface_number": 3}]
        self.written, self.reports = [], 0
        self.gone = self.closed = False
        self.begun = self.until = None
        self.skip, self.spoil, self.strange = set(), set(), set()    # numbers of reports
        self.period = 0.01

    # The module.
    def enumerate(self):
        return list(self.entries)

    def device(self):
        return self

    # The device.
    def open_path(self, path):
        if self.gone:
            raise OSError("open failed")
        assert path == b"1-1:1.3"

    def write(self, data):
        if self.gone:
            return -1
        assert len(data) == 65 and data[0] == 0 and data[1] == 0xAA, data
        assert data[3:64] == bytes(61) and data[64] == KINDS[data[2]], data.hex()
        self.written.append(data[2])
        if self.written[:3] == [0x81, 0x82, 0x82] and self.begun is None:
            self.begun = self.time.now
        self.until = self.time.now + 1.02
        return len(data)

    def read(self, count, timeout_ms):
        if self.gone:
            raise OSError("read error")
        while self.begun is not None:
            due = self.begun + 4 * self.period * (self.reports + 1)
            if due > self.until or due > self.time.now + timeout_ms / 1000:
                break
            if self.reports in self.strange:    # one of another kind in between
                self.strange.remove(self.reports)
                return list(self.report(self.reports, kind=0x03))
            number, self.reports = self.reports, self.reports + 1
            if number in self.skip:
                continue
            self.time.now = max(self.time.now, due + 5e-4)
            return list(self.report(number))
        self.time.now += timeout_ms / 1000
        return []

    def report(self, number, *, kind=0x04):
        body = bytes([kind])
        for i in range(4):
            volts, amps = self.sample(self.begun + self.period * (4 * number + i + 1))
            body += struct.pack("<IIHHBH", round(1e5 * volts), round(1e5 * amps), 600, 601, 1, 251)
        body += b"\x00"
        crc = 0x42
        for bit in range(8 * len(body)):    # bit by bit, most significant first
            top = crc >> 7 ^ (body[bit // 8] >> (7 - bit % 8) & 1)
            crc = (crc << 1 & 0xFF) ^ (0x39 if top else 0)
        if number in self.spoil:
            crc ^= 0x10
        return b"\xaa" + body + bytes([crc])

    def close(self):
        self.closed = True
