"""Interfaces between the blocks: pool, partial sums, memory, and a unit's control."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.boot_layout import BootFault
from hw.config import MEMORY_BITS
from hw.register import (
    Counter,
    MEMORY_STATUS_BITS,
    MEMORY_TEST_BITS,
    METER_CONTROL_BITS,
    METER_STATUS_BITS,
    METER_VALUES,
    RING_BITS,
    STATE_BITS,
)


__all__ = ["POOL_LATENCY", "PSUM_LATENCY", "PSUM_ROW_DATA", "PSUM_HALF_DATA", "PSUM_ADD_LATENCY",
           "PoolRead", "PoolWrite", "PsumRead", "PsumRow", "PsumHalf", "PsumNarrow",
           "MemoryCommand", "Memory", "MemoryStatus", "MemoryTests", "BoardState", "RETAINED",
           "SdramPins", "Unit", "Stall", "Ring", "RunRecord", "I2cPins", "MeterBus", "SpiPins",
           "BootSource", "core_members"]


POOL_LATENCY = 4
"""Cycles from an accepted pool read (``valid & ready``) to its ``data_valid``."""

PSUM_LATENCY = 3
"""Cycles from an accepted partial-sum read to its ``data_valid``."""

PSUM_ROW_DATA, PSUM_HALF_DATA = PSUM_LATENCY + 2, PSUM_LATENCY
"""Cycles from ``valid`` of an addition to the partial sums to its ``data``."""

PSUM_ADD_LATENCY = PSUM_LATENCY + 1
"""Cycles from ``valid`` of an addition to half a row to its write, see :class:`PsumHalf`."""


class _ReadPort(wiring.Signature):
    """Pipelined read: one address per ``valid & ready`` cycle, data a fixed latency later.

    Data comes in order and cannot be refused: ask only for what can be taken.
    """

    def __init__(self, address_bits, shape, *, groups=None):
        super().__init__({
            "address": Out(address_bits),
            **({} if groups is None else {"group": Out(range(groups))}),
            "valid": Out(1),
            "ready": In(1),
            "data": In(shape),
            "data_valid": In(1),
        })


class _WritePort(wiring.Signature):
    """Write of one word per ``valid & ready`` cycle, visible to reads accepted from the next cycle
    on."""

    def __init__(self, address_bits, shape):
        super().__init__({
            "address": Out(address_bits),
            "data": Out(shape),
            "valid": Out(1),
            "ready": In(1),
        })


def PoolRead(config):
    """Read port of the pool; 16-bit address, one word of ``config.rows`` bits."""
    return _ReadPort(16, config.rows)


def PoolWrite(config):
    """Write port of the pool."""
    return _WritePort(16, config.rows)


def PsumRead(config, lanes):
    """Read port of the partial sums: ``lanes`` channels of one position, from ``group * lanes``.

    10-bit address. ``lanes`` divide ``rows / 2``, the channels that are read at a time.
    """
    return _ReadPort(10, data.ArrayLayout(signed(config.acc_bits), lanes),
                     groups=config.rows // lanes)


class PsumRow(wiring.Signature):
    """Additions to the partial sums of all ``rows`` channels of a position, at most one for every
    two cycles; never refused.

    ``valid`` comes with ``address`` and ``accumulate`` (0: written instead of added);
    ``data`` follows exactly ``PSUM_ROW_DATA`` cycles later, for one cycle. The last write is
    ``PSUM_ADD_LATENCY + 2`` cycles after ``valid``: see :class:`PsumHalf`.
    """

    def __init__(self, config):
        super().__init__({
            "valid": Out(1),
            "address": Out(10),
            "accumulate": Out(1),
            "data": Out(data.ArrayLayout(signed(config.acc_bits), config.rows)),
        })


class PsumHalf(wiring.Signature):
    """Additions to the partial sums of half of the channels of a position, one per cycle.

    ``valid`` may be high only in a cycle behind one with ``free``. It comes with ``address``,
    ``half`` (0: the lower ``rows / 2`` channels) and ``accumulate`` (0: written instead of added);
    ``data`` follows exactly ``PSUM_HALF_DATA`` cycles later, and is 0 in all others. A read
    accepted ``PSUM_ADD_LATENCY`` cycles after ``valid`` collides with the addition, later ones see
    it, and so do additions. ``claim`` says that ``valid`` follows if this cycle is ``free``.
    """

    def __init__(self, config):
        super().__init__({
            "free": In(1),
            "claim": Out(1),
            "valid": Out(1),
            "address": Out(10),
            "half": Out(1),
            "accumulate": Out(1),
            "data": Out(data.ArrayLayout(signed(config.acc_bits), config.rows // 2)),
        })


class PsumNarrow(wiring.Signature):
    """Sums of few bits, none of them negative, that are written to half of the channels of a
    position: as those of :class:`PsumHalf`, behind whose ``claim`` they come."""

    def __init__(self, config):
        super().__init__({
            "free": In(1),
            "valid": Out(1),
            "address": Out(10),
            "half": Out(1),
            "data": Out(data.ArrayLayout(config.attention_bits + 1, config.rows // 2)),
        })


class MemoryCommand(data.Struct):
    """One burst; addresses and lengths in memory words of 64 bits, length at least 1."""
    address: 24
    length: 8
    write: 1


class Memory(wiring.Signature):
    """Memory behind the core: bursts in order, 64-bit words.

    Read data of a burst comes in order on ``r_data`` after its command; a write burst takes
    exactly ``length`` words from ``w_data``. Any backend (on chip, SDRAM, simulation twin with
    latency and stalls) has these members.
    """

    def __init__(self):
        super().__init__({
            "commands": Out(stream.Signature(MemoryCommand)),
            "w_data": Out(stream.Signature(MEMORY_BITS)),
            "r_data": In(stream.Signature(MEMORY_BITS)),
        })


MemoryStatus = data.StructLayout(MEMORY_STATUS_BITS)
"""State of a memory backend, see :data:`hw.register.MEMORY_STATUS_BITS`."""


class MemoryTests(wiring.Signature):
    """Tests of a whole memory and the map of its settings, from the registers to a backend.

    ``start`` is high for one cycle with ``test``, a :class:`hw.register.MemoryTest`. ``status``,
    ``errors``, ``address`` and ``pins`` are the registers ``MEMORY_TEST…``. ``map`` belongs to a
    ``phase`` that has been there for 16 cycles.
    """

    def __init__(self):
        super().__init__({
            "start": Out(1), "test": Out(3),
            "status": In(data.StructLayout(MEMORY_TEST_BITS)),
            "errors": In(32), "address": In(24), "pins": In(16),
            "phase": Out(7), "map": In(32),
        })


BoardState = data.StructLayout({name: bits for name, bits in STATE_BITS.items() if name != "busy"})
"""What the board knows of its restarts: :data:`hw.register.STATE_BITS` without ``busy``."""

RETAINED = {"retained": 1, "keep": 1}
"""Attributes of a register without reset that a restart of the board leaves as it is; they keep it
from global set/reset (:mod:`gen.pnr.passes`)."""


class SdramPins(wiring.Signature):
    """A 16-bit SDRAM chip, from its controller; all outputs are flip-flops.

    Strobes are active high (1 is the low level of RAS#, CAS#, WE#); CS# is always active. The
    physical layer may add registers both ways; the chip's clock comes from it too.

    ``phase_step`` moves that clock later by one of the ``phases`` steps of its period, at each
    falling edge, while the chip gets no commands. It is high and low for 16 cycles of ``sync`` at
    least; all others belong to the clock domain of the SDRAM.
    """

    def __init__(self):
        super().__init__({
            "cke": Out(1), "ras": Out(1), "cas": Out(1), "we": Out(1),
            "bank": Out(2), "address": Out(13), "dqm": Out(2, init=3),
            "dq_o": Out(16), "dq_oe": Out(1), "dq_i": In(16),
            "phase_step": Out(1),
        })


class Stall(data.Struct):
    """Why an active unit could not advance in this cycle (any number of causes)."""
    pool: 1
    psum: 1
    stream: 1


class Unit(wiring.Signature):
    """Control of one unit, seen from the sequencer.

    ``run`` is taken only by an idle unit. ``done`` is high for exactly one cycle after every
    result of the descriptor has been accepted by its write port; ``sig`` and ``events`` belong
    to that descriptor and are valid in that cycle. ``run.ready`` is low from the cycle after a
    descriptor is taken up to and including the cycle of ``done``; once high, it stays so until the
    next one is taken.

    ``sig`` is the hash of the pool words written, in this order
    (:class:`hw.lib.write_hash.WriteHash`); 0 for a unit that writes none. ``events`` counts,
    modulo 2**32, the unit's spike events (its docstring says which).
    """

    def __init__(self, descriptor):
        super().__init__({
            "run": Out(stream.Signature(descriptor)),
            "done": In(1),
            "sig": In(32),
            "events": In(32),
            "stall": In(Stall),
        })


Ring = data.StructLayout(RING_BITS)
"""Sizes of the rings of images and results, see :data:`hw.register.RING_BITS`."""


class RunRecord(data.Struct):
    """What a run leaves in memory, and the ``slot`` of its result; :data:`hw.register.RING_BITS`.

    ``left`` counts the runs that are left, this one included; ``slot`` the results of the ring from
    this one to the last.
    """
    left: 16
    errors: 2
    end: 32
    slot: 16


class I2cPins(wiring.Signature):
    """An I2C bus from its master: ``scl_low`` and ``sda_low`` pull a line low, which a resistor
    holds high; ``scl`` and ``sda`` are what it is, synchronised."""

    def __init__(self):
        super().__init__({"scl_low": Out(1), "sda_low": Out(1),
                          "scl": In(1, init=1), "sda": In(1, init=1)})


class MeterBus(wiring.Signature):
    """Registers ``METER…``: ``write`` is high for one cycle with ``command``; ``value`` is that of
    :data:`hw.register.METER_VALUES` at ``place``; ``data`` what ``METER_COMMAND`` is read as."""

    def __init__(self):
        super().__init__({
            "write": Out(1), "command": Out(32),
            "control": Out(data.StructLayout(METER_CONTROL_BITS)),
            "place": Out(range(len(METER_VALUES))),
            "value": In(32), "data": In(32), "status": In(data.StructLayout(METER_STATUS_BITS)),
        })


class SpiPins(wiring.Signature):
    """A device on SPI from its master. ``select`` is active high; ``cipo`` has passed a flip-flop
    at its pad."""

    def __init__(self):
        super().__init__({"clk": Out(1), "select": Out(1), "copi": Out(1), "cipo": In(1, init=1)})


class BootSource(wiring.Signature):
    """Bytes of a flash or a card, for who reads them.

    They come while ``go`` is high, from the first on; when it falls, the device is left alone. No
    byte comes once ``fault``, a :class:`hw.boot_layout.BootFault`, is not 0. ``late`` is high for
    a cycle where the next byte takes too long: the source finds out why.
    """

    def __init__(self):
        super().__init__({"go": Out(1), "late": Out(1), "bytes": In(stream.Signature(8)),
                          "fault": In(BootFault)})


def core_members():
    """Ports of what a shell takes as its core; :class:`hw.core.Core` says what each is."""
    return {
        "memory": Out(Memory()),
        "host": In(Memory()),
        "start": In(1),
        "busy": Out(1),
        "program": In(24),
        "log": In(24),
        "image": In(24),
        "image_stride": In(24),
        "result": In(24),
        "result_stride": In(24),
        "count": In(16),
        "ring": In(Ring),
        "phase": Out(1),
        "counters": Out(data.ArrayLayout(32, len(Counter))),
    }
