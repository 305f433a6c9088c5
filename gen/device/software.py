"""The device in software, and a line to it: registers, memory, frames, runs and restarts.

It follows :mod:`hw.register`. :class:`gen.device.device.Device` is tested against it, and it is the
board of a measurement that replays recorded cycles (:mod:`gen.measurement.replay`).
"""

import struct
import zlib

import numpy as np

from gen.device.frame import decode_frame, encode_frame
from hw.register import (
    CONTROL_BITS,
    Counter,
    COUNTER_BASE,
    FRAME_WORDS,
    MAGIC,
    MAP_ROW_BIT,
    MEMORY_STATUS_BITS,
    Opcode,
    Refusal,
    REFUSED,
    Register,
    REPLY,
    Restart,
    SESSION_BITS,
    VERSION,
    WATCHDOG_BITS,
    WATCHDOG_UNIT_BITS,
)


__all__ = ["POINTS", "SoftwareDevice", "SoftwareLine", "WRITABLE", "memory_status", "three_looks"]


WRITABLE = {**CONTROL_BITS, Register.SESSION: SESSION_BITS, Register.WATCHDOG: WATCHDOG_BITS,
            Register.RING: 32}
"""Registers that keep what is written, and their widths."""


def memory_status(**fields):
    """Value of ``Register.MEMORY_STATUS``."""
    value = 0
    for name in reversed(MEMORY_STATUS_BITS):
        value = value << MEMORY_STATUS_BITS[name] | fields.get(name, 0)
    return value


def three_looks(device):
    """A core that is busy for three looks at STATE and does nothing."""
    for _ in range(3):
        yield 1


class SoftwareDevice:
    """Frames in, answers out.

    Parameters
    ----------
    words : int
        Of memory; word n holds n at first.
    core : callable
        Begins a run of this device: a generator, one step for each look at STATE, that yields the
        cycles of the step. It may change memory and counters.
    digest : int
        ``Register.CONFIG``.
    """

    def __init__(self, words=4096, core=three_looks, digest=0x1234):
        self.memory = np.arange(words, dtype=np.uint64)
        self.core = core
        self.constant = {Register.MAGIC: MAGIC, Register.VERSION: VERSION,
                         Register.CONFIG: digest, Register.MEMORY_WORDS: words,
                         Register.IDENTITY: 0x5678, Register.MEMORY_STATUS: 1,
                         Register.CAPABILITIES: 1}
        self.lock_lost = self.restarts = self.starts = 0
        self.cause = Restart.CONFIGURATION
        self.requests = 0
        """Requests executed so far."""
        self.restart_at = None
        """(request, point, cause): a restart at this request, see :data:`POINTS`."""
        self.restart_delay = 1
        """Requests that are still answered after one to restart."""
        self._begin()

    def _begin(self):
        self.registers = dict.fromkeys(WRITABLE, 0)
        self.run = 0
        self.map_rows, self._phase = (), 0      # of an SDRAM
        self.counters = [100 + counter for counter in Counter]
        self._running = self._wanted = None
        self._image, self._cycles = 0, 0        # of the watchdog
        self._line = bytearray()

    def restart(self, cause):
        """As the board does it; cold, the memory holds something else afterwards."""
        self._begin()
        self.cause, self.restarts = cause, (self.restarts + 1) % 256
        if cause not in (Restart.ABORT, Restart.WATCHDOG):
            self.memory[:] = np.random.default_rng(self.requests).integers(
                0, 2**64, len(self.memory), dtype=np.uint64)

    def feed(self, data):
        """Answers to the bytes of some frames."""
        answers = b""
        for byte in data.split(b"\0")[:-1]:
            answers += self._frame(bytes(self._line) + byte)
            self._line.clear()
        self._line += data.rpartition(b"\0")[2]
        return answers

    def _frame(self, frame):
        payload = decode_frame(frame)
        if payload is None:
            return b""
        self.requests += 1
        at, point, cause = self.restart_at or (0, None, None)
        if at == self.requests and point == "before":
            self.restart(cause)
        if self._wanted is not None:
            if self._wanted[1] == 0:
                self.restart(self._wanted[0])
            else:
                self._wanted[1] -= 1
        answer = self._execute(payload)
        if at == self.requests and point != "before":
            self.restart(cause)
            if point == "unanswered":
                return b""
            if point == "torn":
                return answer[:len(answer) // 2]
        return answer

    def _execute(self, payload):
        opcode, length, sequence, address = struct.unpack_from("<BBHI", payload)
        data = np.frombuffer(payload[8:], dtype="<u8")
        words, refusal = self._command(opcode, length, address, data)
        if refusal is not None:
            opcode, length, words = opcode | REFUSED, refusal, b""
        head = struct.pack("<BBHI", opcode | REPLY, length, sequence,
                           self.registers[Register.SESSION] | self.run << 24)
        return encode_frame(head + words)

    def _command(self, opcode, length, address, data):
        """(bytes of the answer, refusal or None)."""
        reads = opcode in (Opcode.READ_MEMORY, Opcode.READ_REGISTER)
        if (opcode not in list(Opcode) or not 1 <= length <= FRAME_WORDS
                or len(data) != (0 if reads else length)):
            return b"", Refusal.MALFORMED
        if not opcode & 2 and not self.constant[Register.MEMORY_STATUS] & 1:
            return b"", Refusal.NOT_READY
        if opcode == Opcode.READ_MEMORY:
            return self.memory[address:address + length].tobytes(), None
        if opcode == Opcode.WRITE_MEMORY:
            self.memory[address:address + length] = data
            return b"", None
        if opcode == Opcode.CRC_MEMORY:
            count = int(data[0]) % (1 << 24)
            if length != 1 or count == 0:
                return b"", Refusal.MALFORMED
            part = self.memory[address:address + count]
            return struct.pack("<Q", zlib.crc32(part.tobytes())), None
        if opcode == Opcode.READ_REGISTER:
            values = [self._read(address + k) for k in range(length)]
            return struct.pack(f"<{length}Q", *values), None
        for k, value in enumerate(data.tolist()):
            refusal = self._write(address + k, value)
            if refusal is not None:
                return b"", refusal
        return b"", None

    def _read(self, address):
        if COUNTER_BASE <= address < COUNTER_BASE + len(Counter):
            return self.counters[address - COUNTER_BASE]
        if address == Register.STATE:
            self._step()
            return (self.busy | self.lock_lost << 1 | self.cause << 2 | self.restarts << 5)
        if address == Register.START:
            return self.run
        if address == Register.MEMORY_MAP and self._phase < len(self.map_rows):
            return self.map_rows[self._phase] | 1 << MAP_ROW_BIT
        return self.registers.get(address, self.constant.get(address, 0))

    def _write(self, address, value):
        if address == Register.MEMORY_MAP:
            self._phase = value
        elif address in WRITABLE:
            self.registers[address] = value % (1 << WRITABLE[address])
        elif address == Register.RESTART and value in (Restart.HOST, Restart.ABORT):
            self._wanted = [Restart(value), self.restart_delay]
        elif address == Register.START and value % 256 != self.run:
            if self.busy:
                return Refusal.BUSY
            if not self.constant[Register.MEMORY_STATUS] & 1:
                return Refusal.NOT_READY
            self.run = value % 256
            self.starts += 1
            self._running = self.core(self)
            self._cycles = 0
        return None

    @property
    def busy(self):
        return self._running is not None

    def _step(self):
        """The core goes on, and the watchdog looks at it."""
        if not self.busy:
            return
        try:
            cycles = next(self._running)
        except StopIteration:
            self._running = None
            return
        if self.counters[Counter.IMAGES] != self._image:
            self._image, self._cycles = self.counters[Counter.IMAGES], 0
        self._cycles += cycles
        limit = self.registers[Register.WATCHDOG]
        if limit and self._cycles >= limit << WATCHDOG_UNIT_BITS:
            self.restart(Restart.WATCHDOG)


POINTS = ("before", "after", "unanswered", "torn")
"""When a device restarts: before a request is executed; after it was answered; after it was
executed, without an answer, or with a part of one."""


class SoftwareLine:
    """Transport to a device in software, in pieces."""

    port = "software"

    def __init__(self, model):
        self.model = model
        self.answers = bytearray()
        self.closed = False

    def write(self, data):
        """Let the device answer at once."""
        self.answers += self.model.feed(data)

    def read(self, timeout):
        """At most 300 bytes of the answers; never waits."""
        data = bytes(self.answers[:300])
        del self.answers[:300]
        return data

    def close(self):
        """Nothing answers any more."""
        self.closed = True
