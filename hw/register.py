"""Register map and link protocol: numbers shared by the RTL and the host.

Standard library only, so that the host side needs nothing of Amaranth.
"""

from enum import IntEnum
import json
import zlib


__all__ = ["MAGIC", "VERSION", "FRAME_WORDS", "REGISTER_BITS", "SESSION_BITS", "RUN_BITS",
           "WATCHDOG_BITS", "WATCHDOG_UNIT_BITS", "COUNTER_BASE", "Opcode", "REPLY", "REFUSED",
           "Refusal", "Register", "CONTROL_BITS", "RING_BITS", "CAPABILITY_BITS",
           "METER_CONTROL_BITS", "METER_STATUS_BITS",
           "METER_VALUES", "MeterMode", "STATE_BITS", "Restart",
           "MEMORY_STATUS_BITS", "MemoryFault", "MEMORY_TEST_BITS", "MEMORY_TEST_COUNT_BITS",
           "MAP_ROW_BIT", "MemoryTest", "UNITS", "Counter", "CoreError", "config_digest",
           "fields_of", "value_of", "identity_text"]


MAGIC = 0x54445351
"""First register: ``QSDT`` in ASCII, lowest byte first."""

VERSION = 3
"""Version of this register map and of the frames; the host refuses any other."""

FRAME_WORDS = 64
"""Most 64-bit words of data in one frame."""

REGISTER_BITS = 7
"""Width of a register number."""

SESSION_BITS, RUN_BITS = 24, 8
"""Widths of ``Register.SESSION`` and ``Register.START``: together what an answer's header has in
place of an address."""

WATCHDOG_BITS, WATCHDOG_UNIT_BITS = 16, 16
"""Width of ``Register.WATCHDOG``, and base-2 logarithm of the cycles in a unit of it."""

COUNTER_BASE = 32
"""Register number of the first :class:`Counter`."""


class Opcode(IntEnum):
    """What a frame asks for. Bit 0 is "carries words", bit 1 "registers instead of memory".

    ``CRC_MEMORY`` carries one word, the number of memory words (24 bits, at least 1) from
    ``address`` on, and is answered with one: the CRC-32 of these words, little endian, as
    ``zlib.crc32`` has it. 0x28..0x2F are kept free for a flash.
    """
    READ_MEMORY = 0x20
    WRITE_MEMORY = 0x21
    READ_REGISTER = 0x22
    WRITE_REGISTER = 0x23
    CRC_MEMORY = 0x25


REPLY = 0x80
"""Set in the opcode of an answer."""

REFUSED = 0x40
"""Set in the opcode of an answer to a frame that is not carried out. It carries no data; its
``length`` is a :class:`Refusal`."""


class Refusal(IntEnum):
    """Why a frame was refused.

    ``MALFORMED``: an unknown opcode or a wrong length. ``BUSY``: START, or a test of the memory,
    while the core runs. ``NOT_READY``: these, or an access to the memory, while that cannot be
    used.
    """
    MALFORMED = 0
    BUSY = 1
    NOT_READY = 2


class Register(IntEnum):
    """Register numbers; 32 bits each, one register a link word (upper half 0).

    ``CONFIG`` is :func:`config_digest` of the core; ``IDENTITY`` a digest of the whole design and
    its clocks, 0 where no bitstream was built (in a simulation). ``MEMORY_WORDS`` is what every
    board has that the bitstream is for. ``LINK_ERRORS`` counts, modulo 2**16, frames that were
    dropped.

    ``SESSION``, 24 bits, is the host's to write and 0 after a restart; every answer carries it, and
    with it the last value written to ``START`` (:class:`hw.link.command.FrameHeader`). ``START``
    begins a run when a value different from the last one is written (8 bits, 0 after a restart),
    so that a repeated frame never starts twice; while the core runs it is refused.

    ``WATCHDOG``, 16 bits: units of 2**16 cycles that a run may take for one image before the shell
    asks for a restart, 0 for no limit. Writing a :class:`Restart` to ``RESTART`` asks for one. Both
    come some milliseconds later, so that the answer leaves first (:mod:`boards.ecp5_restart`).

    The registers of tests and map are 0 for a memory on chip. Writing a :class:`MemoryTest` to
    ``MEMORY_TEST`` begins it; read, it has :data:`MEMORY_TEST_BITS`. ``MEMORY_TEST_ERRORS`` counts
    words that differed and stays at its greatest; ``MEMORY_TEST_ADDRESS`` is that of the first of
    them, ``MEMORY_TEST_PINS`` the data pins that were ever wrong; before any test, after a fault of
    the calibration, those that were never right. ``MEMORY_MAP``: write a clock phase, read whether
    each read delay passed there (bit n for delay n), and in bit ``MAP_ROW_BIT`` whether there is
    such a phase.

    ``RING`` has :data:`RING_BITS`, and is read as 0; 0: ``COUNT`` images follow each other, and so
    do their results. ``CAPABILITIES`` has :data:`CAPABILITY_BITS`, and is 0 for
    a device that has none of them, which ignores what is written to their registers.

    ``METER_COMMAND``: what is written goes to the power monitor at once, and while it is sampled
    again and again (:class:`hw.meter.power_meter.PowerMeter`); read, it is what went over its line
    last. ``METER_CONTROL`` has, written, :data:`METER_CONTROL_BITS`, and read,
    :data:`METER_STATUS_BITS`. The others are :data:`METER_VALUES`, steady while ``active`` is 0.

    96..127 are kept free for further outputs.
    """
    MAGIC = 0
    VERSION = 1
    CONFIG = 2
    MEMORY_WORDS = 3
    STATE = 4
    LINK_ERRORS = 5
    MEMORY_STATUS = 6
    SESSION = 7
    START = 8
    COUNT = 9
    PROGRAM = 10
    LOG = 11
    IMAGE = 12
    IMAGE_STRIDE = 13
    RESULT = 14
    RESULT_STRIDE = 15
    WATCHDOG = 16
    RESTART = 17
    MEMORY_TEST = 18
    MEMORY_TEST_ERRORS = 19
    MEMORY_TEST_ADDRESS = 20
    MEMORY_TEST_PINS = 21
    MEMORY_MAP = 22
    IDENTITY = 23
    RING = 24
    CAPABILITIES = 25
    METER_COMMAND = 26
    METER_CONTROL = 27
    METER_SAMPLES = 28
    METER_ERRORS = 29
    METER_SUM = 30
    METER_SUM_HIGH = 31


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


RING_BITS = {"images": 16, "results": 16}
"""Fields of ``Register.RING``, the lowest first.

``images``: so many images lie at ``IMAGE``, and are run again and again; 0: ``COUNT`` of them.
``results``: so many results lie at ``RESULT``, and are overwritten again and again; 0: ``COUNT`` of
them. With ``results`` not 0, every run leaves a record: that of slot k of the results (from 0) lies
at ``LOG - 2 * (results + 1 - k)``, below the log, and is two memory words, {left: 16 bits, 0: 16,
errors: 32} and {0: 32, end: 32}: the runs that were left, this one included, so ``COUNT`` for the
first and 1 for the last; the bits of :class:`CoreError` that were set by then; the cycle in which
it ended, as ``Counter.CYCLES`` counts.
"""


CAPABILITY_BITS = {"rings": 1, "phase": 1, "meter": 1}
"""Fields of ``Register.CAPABILITIES``, the lowest first: ``RING``; the phase pin; the registers
``METER…``."""


METER_CONTROL_BITS = {"period": 16, "mode": 2, "wide": 1}
"""Fields written to ``Register.METER_CONTROL``, the lowest first.

``period``: from one sample to the next, less 1, in quarters of a bit of the monitor's line; at
most that long may an access take. ``mode``: a :class:`MeterMode`. ``wide``: 24 bits are read
instead of 16.
"""


METER_STATUS_BITS = {"active": 1, "failed": 1}
"""Fields read from ``Register.METER_CONTROL``, the lowest first: an access is under way or being
counted; the last one was not acknowledged or was given up."""


METER_VALUES = ("samples", "errors", "sum", "sum_high")
"""What the registers from ``METER_SAMPLES`` on count, 32 bits each; ``sum_high`` are the upper half
of the sum. None is ever cleared, and after configuration they may hold anything: take differences,
modulo 2**32 and 2**64. An hour of 24-bit samples at 20 kHz sums up to 2**51."""


class MeterMode(IntEnum):
    """When samples are taken: never, while the core runs, always."""
    OFF = 0
    RUNNING = 1
    ALWAYS = 2


STATE_BITS = {"busy": 1, "lock_lost": 1, "cause": 3, "restarts": 8}
"""Fields of ``Register.STATE``, the lowest first.

``busy``: the core runs. ``lock_lost``: a PLL lost its lock since the board was configured.
``cause``: of the last restart, a :class:`Restart`; ``restarts``: their count since configuration,
modulo 2**8.
"""


class Restart(IntEnum):
    """Why a board began anew; every flip-flop is then as after configuration but those of
    :data:`STATE_BITS` and the memory's calibration. Block RAMs keep their content.

    ``HOST``, ``BUTTON`` and ``LOCK`` calibrate the memory again, which loses what it holds;
    ``ABORT`` and ``WATCHDOG`` end a run and keep it. The host may ask for ``HOST`` and ``ABORT``.
    """
    CONFIGURATION = 0
    HOST = 1
    ABORT = 2
    BUTTON = 3
    WATCHDOG = 4
    LOCK = 5


MEMORY_TEST_BITS = {"running": 1, "test": 3, "ended": 1}
"""Fields of ``Register.MEMORY_TEST``, the lowest first: ``test`` is the :class:`MemoryTest` that
runs or was run last, ``ended`` that it came to its end."""


MEMORY_TEST_COUNT_BITS = 16
"""Width of ``Register.MEMORY_TEST_ERRORS``."""


MAP_ROW_BIT = 31
"""Bit of ``Register.MEMORY_MAP``: the clock has such a phase."""


class MemoryTest(IntEnum):
    """Tests of the whole memory by the board itself; each overwrites it.

    ``MARCH``: March C-, 0 and 1 in every bit, upwards and downwards. ``RANDOM``: words that depend
    on their address, written and read in a scattered order. ``SWITCHING``: every data pin changes
    with every transfer.
    """
    NONE = 0
    MARCH = 1
    RANDOM = 2
    SWITCHING = 3


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


def fields_of(bits, value):
    """Fields of a register by name: ``bits`` maps each to its width, the lowest first."""
    fields = {}
    for name, width in bits.items():
        fields[name] = value & (1 << width) - 1
        value >>= width
    return fields


def value_of(bits, fields):
    """The reverse: a register's value of ``fields`` by name, 0 for those that are not named.

    Raises :exc:`ValueError` for an unknown name, and for a value that does not fit.
    """
    for name, field in fields.items():
        if name not in bits or not 0 <= field < 1 << bits[name]:
            known = ", ".join(f"{known} of {width} bits" for known, width in bits.items())
            raise ValueError(f"Fields must be {known}, not {name} = {field!r}")
    value = 0
    for name in reversed(bits):
        value = value << bits[name] | int(fields.get(name, 0))
    return value


def identity_text(identity):
    """``Register.IDENTITY`` as people and reports have it: eight hexadecimal digits."""
    return f"{identity:08x}"


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
