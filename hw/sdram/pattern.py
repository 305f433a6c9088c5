"""Who uses the SDRAM, and the patterns of its tests."""

from typing import NamedTuple

from amaranth import *

from hw.port import MemoryCommand
from hw.sdram.memory_test import SdramMemoryTest
from hw.sdram_config import DATA_BITS


__all__ = ["Port", "connect_ports"]


class Port(NamedTuple):
    """Commands and data of the calibration's tests."""
    command: Signal
    command_valid: Signal
    writing: Signal
    reading: Signal
    pattern: Signal     # register: what is written, and expected
    hold: Signal        # the pattern does not change with every word
    differs: Signal     # a word read a cycle ago does


def connect_ports(m, owner, config):
    """Connect the memory to the engine, to a test of it or to the calibration.

    ``owner`` is the :class:`hw.sdram.calibration.SdramCalibration` that elaborates; returns its own
    :class:`Port`. The pattern and its comparison are those of both tests.
    """
    engine, memory, status = owner.engine, owner.memory, owner.status
    m.submodules.memory_test = test = SdramMemoryTest(
        words_bits=config.words_bits, optional=config.optional_column)
    command = Signal(MemoryCommand)
    command_valid = Signal()
    writing, reading = Signal(), Signal()
    pattern, hold = Signal(32, init=1), Signal()
    connected = Signal()
    invert = Signal(DATA_BITS)
    word = Cat(pattern[:16], pattern[:16] ^ invert, pattern[16:], pattern[16:] ^ invert)
    m.d.comb += [
        connected.eq(status.ready & ~test.active),
        invert.eq((~test.active | test.invert).replicate(DATA_BITS)),
    ]
    with m.If(connected):
        m.d.comb += [
            memory.commands.valid.eq(engine.commands.valid),
            engine.commands.ready.eq(memory.commands.ready),
            memory.w_data.valid.eq(engine.w_data.valid),
            engine.w_data.ready.eq(memory.w_data.ready),
            engine.r_data.valid.eq(memory.r_data.valid),
            memory.r_data.ready.eq(engine.r_data.ready),
        ]
    with m.Else():
        m.d.comb += [
            memory.commands.valid.eq(command_valid | test.command_valid),
            memory.w_data.valid.eq(writing | test.writing),
            memory.r_data.ready.eq(reading | test.active),
        ]
    m.d.comb += [
        memory.commands.payload.eq(Mux(connected, engine.commands.payload, Mux(
            test.active, test.command, command))),
        memory.w_data.payload.eq(Mux(connected, engine.w_data.payload, word)),
        engine.r_data.payload.eq(memory.r_data.payload),
    ]

    # Pattern generator (x^32 + x^22 + x^2 + x + 1), and the comparison one cycle later.
    step, read, compare = Signal(), Signal(), Signal()
    m.d.comb += [
        read.eq(memory.r_data.valid & (reading | test.active)),
        step.eq((memory.w_data.ready & (writing | test.writing)) | read),
    ]
    with m.If(test.load):
        m.d.sync += pattern.eq(Mux(test.step, 1, test.fill.replicate(32)))
    with m.Elif(step & ~Mux(test.active, ~test.step, hold)):
        m.d.sync += pattern.eq(Cat(pattern[31], pattern[:31])
                               ^ (pattern[31].replicate(32) & 0x00400006))
    wrong = Signal(DATA_BITS)
    wrong_bits = (memory.r_data.payload ^ word
                  ^ (test.active & test.flip).replicate(len(word)))
    m.d.sync += [
        compare.eq(read),
        wrong.eq(Cat(wrong_bits[pin::DATA_BITS].any() for pin in range(DATA_BITS))),
    ]
    m.d.comb += [
        test.ready.eq(status.ready),
        test.quiet.eq(~(engine.commands.valid | engine.w_data.valid | engine.r_data.valid)),
        test.larger.eq(status.size_bits == config.words_bits + config.optional_column),
        test.command_ready.eq(memory.commands.ready), test.written.eq(memory.w_data.ready),
        test.compared.eq(compare), test.wrong.eq(wrong),
        test.start.eq(owner.tests.start), test.test.eq(owner.tests.test),
        *(getattr(owner.tests, name).eq(getattr(test, name))
          for name in ("status", "errors", "address", "pins")),
    ]
    return Port(command, command_valid, writing, reading, pattern, hold,
                 compare & wrong.any())
