"""Host side of the link: memory, registers and runs of a board, or of the virtual board.

What comes back is either right or a :exc:`LinkError`.
"""

from dataclasses import dataclass
import logging
import os
import time
import zlib

import numpy as np

from gen.device.link import decode_state, DeviceRestarted, Link, Request
from gen.device.memory_map import read_memory_map
from gen.device.port import LinkError
from hw.register import (
    CAPABILITY_BITS,
    CONTROL_BITS,
    Counter,
    COUNTER_BASE,
    fields_of,
    FRAME_WORDS,
    MAGIC,
    MEMORY_STATUS_BITS,
    MemoryFault,
    Opcode,
    Register,
    Restart,
    RING_BITS,
    SESSION_BITS,
    value_of,
    VERSION,
    WATCHDOG_BITS,
    WATCHDOG_UNIT_BITS,
)


__all__ = ["CRC_WORDS", "Device", "DeviceInfo", "MemoryFailed", "RunAborted", "SATURATED", "crc_of",
           "decode_memory_status"]


logger = logging.getLogger(__name__)

_WRITE_WINDOW = 6
_READ_WINDOW = 2                                # the device holds two requests

CRC_WORDS = 1 << 14
"""Words whose CRC the device computes at a time: two milliseconds on a board, and on the virtual
board less than its time-out."""

_RESTART_S = 0.01                               # from one look to the next


SATURATED = {"U_SATURATED": 1 << 16, "Z_SATURATED": 1 << 16}
"""Counters that count on from one run to the next, and their moduli."""


class RunAborted(LinkError):
    """The core did not come to an end in time, and was stopped; memory keeps its content."""


class MemoryFailed(LinkError):
    """The device answers, but its memory did not pass the test at power-up.

    ``status`` maps the fields of :data:`hw.register.MEMORY_STATUS_BITS` to their values; ``map`` is
    the :class:`gen.device.memory_map.MemoryMap`, or None for a memory that has none.
    """

    def __init__(self, status, words, found=None):
        setting = (f"read delay {status['delay']}, clock phase {status['phase']}, window of "
                   f"{status['window']} phases")
        if status["fault"] == MemoryFault.GEOMETRY:
            text = (f"is not the part that the bitstream was built for: it should have {words} "
                    f"words of 64 bits, but address bit {status['address_bit']} of them is "
                    f"missing or stuck ({setting})")
        elif found is not None:
            text = found.verdict()
        elif status["fault"] == MemoryFault.CALIBRATION:
            text = (f"fails its test at every setting, or at too many around the best one "
                    f"({setting}): build with a lower sdram_mhz, or look for a bad board")
        else:
            text = "is still being tested: its clock does not run"
        super().__init__(f"The device's SDRAM {text}")
        self.status, self.map = status, found


def decode_memory_status(value):
    """Fields of ``Register.MEMORY_STATUS`` by name."""
    return fields_of(MEMORY_STATUS_BITS, value)


@dataclass(frozen=True, kw_only=True)
class DeviceInfo:
    """What a device says about itself.

    ``config_digest`` is :func:`hw.register.config_digest` of the core's configuration,
    ``identity`` a digest of the whole design, ``capabilities`` what it has of
    :data:`hw.register.CAPABILITY_BITS`; ``memory`` the status of its memory
    (:data:`hw.register.MEMORY_STATUS_BITS`), ``state`` what :meth:`Device.state` said.
    """
    version: int
    config_digest: int
    identity: int
    memory_words: int
    memory: dict
    state: dict
    capabilities: frozenset = frozenset()


def crc_of(words):
    """CRC-32 of an array of uint64, as the device computes it of its memory."""
    return zlib.crc32(np.ascontiguousarray(words, dtype="<u8"))


class Device(Link):
    """A board with :class:`hw.shell.Shell` on it. Use as a context manager.

    Opening checks that the device answers and speaks this version of the protocol, and begins a
    session: from then on a device that restarts, or that another program opens, is an error.

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
    need_memory : bool
        A memory that did not pass its test is an error; else only ``info().memory`` tells.
    """

    def __init__(self, port, *, baud=3_000_000, timeout=1.0, tries=6, need_memory=True):
        super().__init__(port, baud=baud, timeout=timeout, tries=tries)
        self._need_memory = need_memory
        try:
            self._transport.write(b"\0")        # ends a frame that someone left open
            self.reopen()
        except BaseException:
            self._transport.close()
            raise

    # Opening

    def reopen(self):
        """Begin a new session, after a :exc:`DeviceRestarted`; returns :meth:`info`."""
        self._session = self._run = None
        magic, version = self.read_registers(Register.MAGIC, 2)
        if magic != MAGIC:
            raise LinkError(f"{self.name} answers, but is no accelerator "
                            f"(identification {magic:#010x})")
        if version != VERSION:
            raise LinkError(f"Device has link version {version}, this program needs {VERSION}: "
                            f"build and load a matching bitstream")
        session = 1 + int.from_bytes(os.urandom(4), "little") % ((1 << SESSION_BITS) - 1)
        self.write_register(Register.SESSION, session)
        self._session, self._run = session, self._seen[1]
        digest, words = self.read_registers(Register.CONFIG, 2)
        identity, _, found = self.read_registers(Register.IDENTITY, 3)
        capabilities = frozenset(n for n, has in fields_of(CAPABILITY_BITS, found).items() if has)
        memory = self._await_memory(words)
        if memory["size_bits"]:
            words = 1 << memory["size_bits"]
        state = self.state()
        if state["lock_lost"]:
            logger.warning("%s: a PLL lost its lock since the board was configured; look at supply "
                           "and cable", self.name)
        self._info = DeviceInfo(version=version, config_digest=digest, identity=identity,
                                memory_words=words, memory=memory, state=state,
                                capabilities=capabilities)
        return self._info

    def _await_memory(self, words):
        deadline = time.monotonic() + self._timeout
        while True:
            status = decode_memory_status(*self.read_registers(Register.MEMORY_STATUS))
            if status["ready"]:
                return status
            # The test takes milliseconds after the device was configured.
            if status["fault"] or time.monotonic() >= deadline:
                if not self._need_memory:
                    return status
                raise MemoryFailed(status, words, self._memory_map(status))

    def _memory_map(self, status):
        """The map of a memory with a fault; None if there is none."""
        try:
            return read_memory_map(self, status) if status["fault"] else None
        except LinkError:
            return None

    def info(self):
        """What the device said about itself when it was opened."""
        return self._info

    def state(self):
        """Fields of ``Register.STATE`` by name, :data:`hw.register.STATE_BITS`."""
        return decode_state(*self.read_registers(Register.STATE))

    def restart(self, cause=Restart.HOST):
        """Restart the device, and open it again; returns its :meth:`state`.

        With ``Restart.HOST`` the memory is calibrated again, and loses its content; with
        ``Restart.ABORT`` it keeps it, and only a run is ended.
        """
        if cause not in (Restart.HOST, Restart.ABORT):
            raise ValueError(f"Cause must be HOST or ABORT, not {cause!r}")
        self._session = self._run = None
        self.write_register(Register.RESTART, cause)
        patience = max(1.0, self._timeout * self._tries)
        deadline = time.monotonic() + patience
        while True:
            time.sleep(_RESTART_S)
            state = self.state()
            if self._seen[0] == 0:
                break
            if time.monotonic() >= deadline:
                raise LinkError(f"The device did not restart within {patience:g} s: load its "
                                "bitstream again")
        if state["cause"] != cause:
            raise DeviceRestarted(self.name, state["cause"])
        try:
            return self.reopen().state
        except DeviceRestarted as error:
            # The frame was repeated to a device that had restarted already.
            if error.cause != cause:
                raise
            return self.reopen().state

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
                yield Request(opcode=Opcode.WRITE_MEMORY, length=len(chunk) // 8,
                              address=address + start, data=bytes(chunk))

        done = 0
        for request, _ in self.exchange(requests(), _WRITE_WINDOW):
            done += request.length
            if progress:
                progress(done, total)

    def read(self, address, count, *, progress=None):
        """Read ``count`` words of memory as an array of uint64."""
        self._check_range(address, count)
        words = np.zeros(count, dtype=np.uint64)
        requests = (Request(opcode=Opcode.READ_MEMORY, length=min(FRAME_WORDS, count - start),
                            address=address + start)
                    for start in range(0, count, FRAME_WORDS))
        done = 0
        for request, data in self.exchange(requests, _READ_WINDOW):
            start = request.address - address
            words[start:start + request.length] = np.frombuffer(data, dtype="<u8")
            done += request.length
            if progress:
                progress(done, count)
        return words

    def crc(self, address, count):
        """CRC-32 of ``count`` words of memory, at least 1, computed by the device.

        See :func:`crc_of`. The answer comes when the device has read them all: for many words
        ask part by part, :data:`CRC_WORDS` at a time.
        """
        self._check_range(address, count)
        if count < 1:
            raise ValueError(f"Count of words must be at least 1, not {count}")
        request = Request(opcode=Opcode.CRC_MEMORY, length=1, address=address,
                          data=count.to_bytes(8, "little"))
        (_, data), = self.exchange([request])
        return int.from_bytes(data, "little")

    # Registers

    def read_registers(self, first, count=1):
        """Values of ``count`` registers from ``first`` as a list of integers."""
        values = []
        requests = (Request(opcode=Opcode.READ_REGISTER, length=min(FRAME_WORDS, count - start),
                            address=first + start)
                    for start in range(0, count, FRAME_WORDS))
        for _, data in self.exchange(requests, 1):
            values += np.frombuffer(data, dtype="<u8").tolist()
        return values

    def write_registers(self, first, values):
        """Write ``values``, at most ``FRAME_WORDS``, to registers from ``first`` on."""
        request = Request(opcode=Opcode.WRITE_REGISTER, length=len(values), address=int(first),
                          data=b"".join(int(value).to_bytes(8, "little") for value in values))
        for _ in self.exchange([request], 1):
            pass

    def write_register(self, register, value):
        self.write_registers(register, [value])

    # Running

    @property
    def has_run(self):
        """Whether the core was started since the device's last restart, as far as the last answer
        tells."""
        return bool(self._seen[1])

    def is_busy(self):
        return bool(self.state()["busy"])

    def set_watchdog(self, cycles):
        """Let the device restart itself where one image takes more than ``cycles``; 0: never.

        It does so within 2**17 cycles from then on, as it counts in units of 2**16.
        """
        if cycles < 0:
            raise ValueError(f"Cycles must not be negative, not {cycles!r}")
        units = -(-cycles >> WATCHDOG_UNIT_BITS) + 1 if cycles else 0
        self.write_register(Register.WATCHDOG, min(units, (1 << WATCHDOG_BITS) - 1))

    def start(self, *, ring=None, **control):
        """Set control registers (names of ``CONTROL_BITS`` in lower case) and start the core.

        Those not given keep their value. ``ring``: :data:`hw.register.RING_BITS`; None: no rings.
        """
        if ring and "rings" not in self._info.capabilities:
            raise LinkError("The device has no rings of images and results: build and load anew")
        ring = value_of(RING_BITS, ring or {})
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
        self.write_register(Register.RING, ring)
        last, self._run = self._run, self._run % 255 + 1
        try:
            self.write_register(Register.START, self._run)
        except LinkError:
            self._run = last                    # it may have been refused
            raise

    def wait(self, *, timeout, progress=None, interval=0.0):
        """Wait until the core is idle.

        ``progress(images)`` is called with the number of finished images; ``interval`` seconds
        pass between two looks.

        Raises
        ------
        RunAborted
            The core was still busy after ``timeout`` seconds. The device can be used again.
        DeviceRestarted
            Also if its watchdog ended the run.
        """
        deadline = time.monotonic() + timeout
        while True:
            state = self.state()
            busy = state["busy"]
            if state["lock_lost"] and not self._info.state["lock_lost"]:
                raise LinkError("A PLL of the device lost its lock during the run: its results "
                                "are void; look at supply and cable, and run again")
            if progress or time.monotonic() >= deadline:
                images, = self.read_registers(COUNTER_BASE + Counter.IMAGES)
                if progress:
                    progress(images)
            if not busy:
                return
            if time.monotonic() >= deadline:
                self._abort(f"Device is still busy after {timeout:g} s, {images} images done")
            time.sleep(interval)

    def _abort(self, reason):
        try:
            self.restart(Restart.ABORT)
        except LinkError as error:
            raise LinkError(f"{reason}, and cannot be stopped ({error})") from error
        raise RunAborted(f"{reason}: the run was aborted")

    def counters(self):
        """Counters by name (of :class:`hw.register.Counter`)."""
        values = self.read_registers(COUNTER_BASE, len(Counter))
        return {counter.name: value for counter, value in zip(Counter, values, strict=True)}
