"""Host side of the link: talk to a board, or to the virtual board, over a serial port.

Every frame carries a CRC-32 and a sequence number both ways; a frame that is lost or damaged is
sent again, a bounded number of times. Everything the device does is idempotent, so a repetition
is harmless. Every answer also carries a number that the host gave the device when it opened it,
and that of the last run: a device that restarted has neither. What comes back is either right or
a :exc:`LinkError`.
"""

from dataclasses import dataclass
import logging
import os
import time

import numpy as np

from gen.device.frame import ANSWER, decode_frame, encode_frame, HEADER
from gen.device.port import LinkError
from gen.device.transport import Transport
from hw.register import (
    CONTROL_BITS,
    Counter,
    COUNTER_BASE,
    FRAME_WORDS,
    MAGIC,
    MEMORY_STATUS_BITS,
    MemoryFault,
    Opcode,
    Refusal,
    REFUSED,
    Register,
    REPLY,
    VERSION,
)


__all__ = ["Device", "DeviceInfo", "MemoryFailed", "decode_memory_status"]


logger = logging.getLogger(__name__)

_WRITE_WINDOW = 6
_READ_WINDOW = 2                                # the device holds two requests


class MemoryFailed(LinkError):
    """The device answers, but its memory did not pass the test at power-up.

    ``status`` maps the fields of :data:`hw.register.MEMORY_STATUS_BITS` to their values.
    """

    def __init__(self, status, words):
        setting = (f"read delay {status['delay']}, clock phase {status['phase']}, window of "
                   f"{status['window']} phases")
        if status["fault"] == MemoryFault.GEOMETRY:
            text = (f"is not the part that the bitstream was built for: it should have {words} "
                    f"words of 64 bits, but address bit {status['address_bit']} of them is "
                    f"missing or stuck ({setting})")
        elif status["fault"] == MemoryFault.CALIBRATION:
            text = (f"fails its test at every setting, or at too many around the best one "
                    f"({setting}): build with a lower sdram_mhz, or look for a bad board")
        else:
            text = "is still being tested: its clock does not run"
        super().__init__(f"The device's SDRAM {text}")
        self.status = status


def _refused(request, reason):
    if reason == Refusal.BUSY:
        return "Device is still busy with an earlier run"
    if reason == Refusal.NOT_READY:
        return "The device's memory cannot be used now"
    return (f"Device refused {Opcode(request.opcode).name} of {request.length} words at "
            f"{request.address}")


def decode_memory_status(value):
    """Fields of ``Register.MEMORY_STATUS`` by name."""
    status = {}
    for name, bits in MEMORY_STATUS_BITS.items():
        status[name] = value & (1 << bits) - 1
        value >>= bits
    return status


@dataclass(frozen=True, kw_only=True)
class DeviceInfo:
    """What a device says about itself.

    ``config_digest`` is :func:`hw.register.config_digest` of the core's configuration;
    ``memory`` the status of its memory (:data:`hw.register.MEMORY_STATUS_BITS`).
    """
    version: int
    config_digest: int
    memory_words: int
    memory: dict


@dataclass(kw_only=True)
class _Request:
    opcode: int
    length: int
    address: int
    data: bytes = b""
    sequence: int = 0
    tries: int = 0
    order: int = 0                              # of the last transmission, counted over all

    def encode(self):
        return encode_frame(HEADER.pack(self.opcode, self.length, self.sequence, self.address)
                            + self.data)


class Device:
    """A board with :class:`hw.shell.Shell` on it. Use as a context manager.

    Opening checks that the device answers and speaks this version of the protocol.

    Parameters
    ----------
    port : str or transport
        Serial port, see :class:`Transport`; or an object with its methods.
    baud : int
        Bits per second of a serial port.
    timeout : float
        Seconds without any answer after which frames are sent again. The virtual board is slow:
        give it half a minute.
    tries : int
        Transmissions of one frame before giving up, at least 1.
    """

    def __init__(self, port, *, baud=3_000_000, timeout=1.0, tries=6):
        if timeout <= 0:
            raise ValueError(f"Timeout must be positive, not {timeout!r}")
        if tries < 1:
            raise ValueError(f"Tries must be at least 1, not {tries!r}")
        self._transport = Transport(port, baud=baud) if isinstance(port, str) else port
        self._timeout = timeout
        self._tries = tries
        # Not the numbers of an earlier session, whose answers may still be on their way.
        self._sequence = int.from_bytes(os.urandom(2), "little")
        self._order = 0
        self._session = None                    # of every answer, once the device has one
        self._run = None
        self._received = bytearray()
        self.answered = 0
        """Answers received so far."""
        self.damaged = 0
        """Damaged frames received so far."""
        self.repeated = 0
        """Frames sent again so far."""
        try:
            self._transport.write(b"\0")        # ends a frame that someone left open
            self._check_version()
            self._begin_session()
            self._info = self._identify()
        except BaseException:
            self._transport.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        self._transport.close()

    # Frames

    def _send(self, request):
        if request.tries >= self._tries:
            raise self._failure()
        if request.tries:
            self.repeated += 1
            logger.debug("sending frame %d again", request.sequence)
        request.tries += 1
        request.order = self._order
        self._order += 1
        self._transport.write((b"\0" if request.tries > 1 else b"") + request.encode())

    def _failure(self):
        name = getattr(self._transport, "port", "the device")
        if self.damaged:
            return LinkError(f"No intact answer from {name} after {self._tries} tries, "
                             f"{self.damaged} damaged frames received; check cable and baud rate")
        if self.answered:
            return LinkError(f"{name} stopped answering after {self.answered} answers, "
                             f"{self._tries} tries; is it still plugged in?")
        return LinkError(f"No answer from {name} after {self._tries} tries; is this the right "
                         f"port, and the board programmed?")

    def _frames(self, timeout):
        """Headers and data of intact frames that have arrived; waits for the first byte."""
        self._received += self._transport.read(timeout)
        *frames, self._received = self._received.split(b"\0")
        for frame in frames:
            if not frame:
                continue
            payload = decode_frame(frame)
            if payload is None:
                self.damaged += 1
                continue
            yield *ANSWER.unpack_from(payload), payload[ANSWER.size:]

    def _exchange(self, requests, window):
        """Send ``requests``, at most ``window`` of them unanswered; yields ``(request, data)``.

        Answers come in the order of the transmissions, so one that overtakes another tells that
        the other was lost; else a pause of ``timeout`` does.
        """
        requests = iter(requests)
        pending = {}
        exhausted = False
        deadline = time.monotonic() + self._timeout
        while True:
            while not exhausted and len(pending) < window:
                request = next(requests, None)
                if request is None:
                    exhausted = True
                    break
                request.sequence = self._sequence = (self._sequence + 1) % (1 << 16)
                pending[request.sequence] = request
                self._send(request)
                deadline = time.monotonic() + self._timeout
            if not pending:
                return
            for opcode, length, sequence, origin, data in \
                    self._frames(max(0.0, deadline - time.monotonic())):
                request = pending.get(sequence)
                if request is None or opcode & ~REFUSED != request.opcode | REPLY:
                    continue                    # answer to a frame that was sent twice
                self._check_origin(origin)
                if opcode & REFUSED:
                    raise LinkError(_refused(request, length))
                reads = not request.opcode & 1
                if length != request.length or len(data) != (8 * length if reads else 0):
                    raise LinkError(f"Device answered {Opcode(request.opcode).name} with a frame "
                                    f"of wrong length")
                del pending[sequence]
                self.answered += 1
                deadline = time.monotonic() + self._timeout
                yield request, data
                for other in list(pending.values()):
                    if other.order < request.order:
                        self._send(other)
            if time.monotonic() >= deadline:
                for request in list(pending.values()):
                    self._send(request)
                deadline = time.monotonic() + self._timeout

    def _check_origin(self, origin):
        """Refuse an answer that a device gave without the session and run of this program."""
        session, run = origin & 0xffffff, origin >> 24
        name = getattr(self._transport, "port", "The device")
        if self._session is not None and session != self._session:
            raise LinkError(f"{name} has restarted, or another program has opened it: what it "
                            "holds is void; open it again")
        if self._run is not None and run != self._run:
            raise LinkError(f"{name} tells of run {run}, not {self._run}: another program uses it")

    # Memory

    def _check_range(self, address, count):
        if address < 0 or count < 0 or address + count > self._info.memory_words:
            raise ValueError(f"Range of {count} words at {address} must be inside the device's "
                             f"{self._info.memory_words} words of memory")

    def write(self, address, data, *, progress=None):
        """Write ``data`` (bytes, a multiple of 8, or an array of uint64) to memory.

        ``address`` is in words of 64 bits; ``progress(done, total)`` is called with words.
        """
        if isinstance(data, np.ndarray):
            data = np.ascontiguousarray(data, dtype="<u8").tobytes()
        if len(data) % 8:
            raise ValueError(f"Data must be whole words of 8 bytes, not {len(data)} bytes")
        total = len(data) // 8
        self._check_range(address, total)

        def requests():
            for start in range(0, total, FRAME_WORDS):
                chunk = data[8 * start:8 * (start + FRAME_WORDS)]
                yield _Request(opcode=Opcode.WRITE_MEMORY, length=len(chunk) // 8,
                               address=address + start, data=bytes(chunk))

        done = 0
        for request, _ in self._exchange(requests(), _WRITE_WINDOW):
            done += request.length
            if progress:
                progress(done, total)

    def read(self, address, count, *, progress=None):
        """Read ``count`` words of memory as an array of uint64."""
        self._check_range(address, count)
        words = np.zeros(count, dtype=np.uint64)
        requests = (_Request(opcode=Opcode.READ_MEMORY, length=min(FRAME_WORDS, count - start),
                             address=address + start)
                    for start in range(0, count, FRAME_WORDS))
        done = 0
        for request, data in self._exchange(requests, _READ_WINDOW):
            start = request.address - address
            words[start:start + request.length] = np.frombuffer(data, dtype="<u8")
            done += request.length
            if progress:
                progress(done, count)
        return words

    # Registers

    def read_registers(self, first, count=1):
        """Values of ``count`` registers from ``first`` as a list of integers."""
        values = []
        requests = (_Request(opcode=Opcode.READ_REGISTER, length=min(FRAME_WORDS, count - start),
                             address=first + start)
                    for start in range(0, count, FRAME_WORDS))
        for _, data in self._exchange(requests, 1):
            values += np.frombuffer(data, dtype="<u8").tolist()
        return values

    def write_register(self, register, value):
        request = _Request(opcode=Opcode.WRITE_REGISTER, length=1, address=int(register),
                           data=int(value).to_bytes(8, "little"))
        for _ in self._exchange([request], 1):
            pass

    def _check_version(self):
        magic, version = self.read_registers(Register.MAGIC, 2)
        if magic != MAGIC:
            raise LinkError(f"{getattr(self._transport, 'port', 'The device')} answers, but is no "
                            f"accelerator (identification {magic:#010x})")
        if version != VERSION:
            raise LinkError(f"Device has link version {version}, this program needs {VERSION}: "
                            f"build and load a matching bitstream")

    def _begin_session(self):
        session = 1 + int.from_bytes(os.urandom(4), "little") % ((1 << 24) - 1)
        self.write_register(Register.SESSION, session)
        self._session = session
        self._run, = self.read_registers(Register.START)

    def _identify(self):
        digest, words = self.read_registers(Register.CONFIG, 2)
        deadline = time.monotonic() + self._timeout
        while True:
            status = decode_memory_status(*self.read_registers(Register.MEMORY_STATUS))
            if status["ready"]:
                break
            # The test takes milliseconds after the device was configured.
            if status["fault"] or time.monotonic() >= deadline:
                raise MemoryFailed(status, words)
        if status["size_bits"]:
            words = 1 << status["size_bits"]
        return DeviceInfo(version=VERSION, config_digest=digest, memory_words=words,
                          memory=status)

    def info(self):
        """What the device said about itself when it was opened."""
        return self._info

    # Running

    def is_busy(self):
        return bool(self.read_registers(Register.STATE)[0] & 1)

    def start(self, **control):
        """Set control registers (names of ``CONTROL_BITS`` in lower case) and start the core.

        Registers not given keep their value.
        """
        for name, value in control.items():
            register = Register.__members__.get(name.upper())
            bits = CONTROL_BITS.get(register)
            if bits is None:
                known = ", ".join(known.name.lower() for known in CONTROL_BITS)
                raise ValueError(f"Control register must be one of {known}, not {name!r}")
            if not 0 <= value < 1 << bits:
                raise ValueError(f"{name} must fit in {bits} bits, not {value!r}")
        if self.is_busy():
            raise LinkError("Device is still busy with an earlier run")
        for name, value in control.items():
            self.write_register(Register[name.upper()], value)
        run = self._run % 255 + 1
        # The answer carries the new run already.
        self._run = None
        self.write_register(Register.START, run)
        self._run = run

    def wait(self, *, timeout, progress=None, interval=0.0):
        """Wait until the core is idle.

        ``progress(images)`` is called with the number of finished images; ``interval`` seconds
        pass between two looks.

        Raises
        ------
        LinkError
            If the core is still busy after ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            busy = self.is_busy()
            if progress or time.monotonic() >= deadline:
                images, = self.read_registers(COUNTER_BASE + Counter.IMAGES)
                if progress:
                    progress(images)
            if not busy:
                return
            if time.monotonic() >= deadline:
                raise LinkError(f"Device is still busy after {timeout:g} s, {images} images done")
            time.sleep(interval)

    def counters(self):
        """Counters by name (of :class:`hw.register.Counter`)."""
        values = self.read_registers(COUNTER_BASE, len(Counter))
        return {counter.name: value for counter, value in zip(Counter, values, strict=True)}
