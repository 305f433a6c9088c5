"""Register map and link protocol: numbers shared by the RTL and the host.

Standard library only, so that the host side needs nothing of Amaranth.
"""

from enum import IntEnum
import json
import zlib


__all__ = ["MAGIC", "VERSION", "FRAME_WORDS", "REGISTER_BITS", "COUNTER_BASE", "Opcode", "REPLY",
           "REFUSED", "Register", "CONTROL_BITS", "State", "MEMORY_STATUS_BITS", "MemoryFault",
           "UNITS", "Counter", "CoreError", "config_digest"]


MAGIC = 0x54445351
"""First register: ``QSDT`` in ASCII, lowest byte first."""

VERSION = 2
"""Version of this register map and of the frames; the host refuses any other."""

FRAME_WORDS = 64
"""Most 64-bit words of data in one frame."""

REGISTER_BITS = 7
"""Width of a register number."""

COUNTER_BASE = 32
"""Register number of the first :class:`Counter`."""


class Opcode(IntEnum):
    """What a frame asks for. Bit 0 is "write", bit 1 "registers instead of memory"."""
    READ_MEMORY = 0x20
    WRITE_MEMORY = 0x21
    READ_REGISTER = 0x22
    WRITE_REGISTER = 0x23


REPLY = 0x80
"""Set in the opcode of an answer."""

REFUSED = 0x40
"""Set in the opcode of an answer to a frame that makes no sense; it carries no data."""


class Register(IntEnum):
    """Register numbers; 32 bits each, one register a link word (upper half 0).

    ``START`` begins a run when a value different from the last one is written (8 bits, 0 after
    reset) and the core is idle, so that a repeated frame never starts twice.
    ``MEMORY_WORDS`` is what every board has that the bitstream is for.
    ``LINK_ERRORS`` counts, modulo 2**16, frames that were dropped.
    """
    MAGIC = 0
    VERSION = 1
    CONFIG = 2
    MEMORY_WORDS = 3
    STATE = 4
    LINK_ERRORS = 5
    MEMORY_STATUS = 6
    START = 8
    COUNT = 9
    PROGRAM = 10
    LOG = 11
    IMAGE = 12
    IMAGE_STRIDE = 13
    RESULT = 14
    RESULT_STRIDE = 15


CONTROL_BITS = {
    Register.COUNT: 16,
    Register.PROGRAM: 24,
    Register.LOG: 24,
    Register.IMAGE: 24,
    Register.IMAGE_STRIDE: 24,
    Register.RESULT: 24,
    Register.RESULT_STRIDE: 24,
}
"""Width of every register that goes to a core port of the same name, in lower case."""


class State(IntEnum):
    """Bits of ``Register.STATE``."""
    BUSY = 0


MEMORY_STATUS_BITS = {"ready": 1, "fault": 2, "delay": 2, "phase": 7, "window": 8,
                      "address_bit": 5, "size_bits": 5}
"""Fields of a memory backend's status, the lowest first; 30 bits of ``Register.MEMORY_STATUS``.

``ready``: the memory can be used. ``fault``: a :class:`MemoryFault`; ``ready`` then stays 0.
``delay``, ``phase``: chosen read delay in cycles and clock phase in steps; ``window``: phases in
a row that passed. ``address_bit``: with ``GEOMETRY``, the lowest word address bit that failed.
``size_bits``: with ``ready``, base-2 logarithm of the words found; 0: ``Register.MEMORY_WORDS``.
"""


class MemoryFault(IntEnum):
    """Why the memory cannot be used.

    ``CALIBRATION``: no setting of read delay and clock phase passes with enough margin.
    ``GEOMETRY``: the chip works but is smaller than, or not wired as, the part built for.
    """
    NONE = 0
    CALIBRATION = 1
    GEOMETRY = 2


UNITS = ("LOAD", "STORE", "ARRAY", "DEPTHWISE", "ATTENTION", "NEURON")
"""Units in the order of :class:`hw.descriptor.UnitKind`."""


Counter = IntEnum("Counter", [
    "CYCLES", "IMAGES", "DESCRIPTORS",
    *(f"{kind}_{unit}" for kind in ("BUSY", "STALL_POOL", "STALL_PSUM", "STALL_STREAM")
      for unit in UNITS),
    "SPIKE_EVENTS", "EVENTS_DEPTHWISE", "EVENTS_ATTENTION", "EVENTS_NEURON",
    "WEIGHT_WORDS", "READ_WORDS", "WRITE_WORDS", "U_SATURATED", "Z_SATURATED", "ERRORS",
], start=0, module=__name__)
"""Index of each counter in the core's ``counters``; all are 32 bits and wrap.

``SPIKE_EVENTS`` are those of the array; ``WEIGHT_WORDS``, ``READ_WORDS`` and ``WRITE_WORDS`` are
memory words; ``ERRORS`` is not a count but the sticky bits of :class:`CoreError`.
"""


class CoreError(IntEnum):
    """Bits of ``Counter.ERRORS``."""
    POOL_COLLISION = 0
    PSUM_COLLISION = 1


def config_digest(config):
    """CRC-32 of a :class:`hw.config.CoreConfig`; ``Register.CONFIG`` of a core built from it."""
    return zlib.crc32(json.dumps(config.to_dict(), sort_keys=True).encode())
