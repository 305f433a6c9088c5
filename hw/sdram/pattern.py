"""Who uses the SDRAM; places and patterns of its tests."""

from typing import NamedTuple

from amaranth import *

from hw.port import MemoryCommand
from hw.sdram.memory_test import LONG_BURST, SdramMemoryTest
from hw.sdram_config import DATA_BITS


__all__ = ["Port", "connect_ports"]


SCATTER = 0x377995
"""Distance of two places one after the other in a scattered order. It is odd, so that all are
met; row and bank change each time, and four in a row lie in four banks."""


class Port(NamedTuple):
    """What the calibration asks for."""
    first: Signal           # the place becomes 0
    following: Signal       # the next one
    one_hot: Signal         # register: more address bits; 0 where places are used
    single: Signal          # one word; else TEST_WORDS
    write: Signal           # register: of the command
    command_valid: Signal
    writing: Signal
    reading: Signal
    load: Signal            # the pattern begins again
    switching: Signal       # it is 0: all bits switch
    differs: Signal         # a word read a cycle ago was not as expected


def connect_ports(m, owner, config, seed, *, test_words):
    """Connect the memory to the engine, to a test of it or to the calibration.

    ``owner`` is the :class:`hw.sdram.calibration.SdramCalibration` that elaborates; returns its
    :class:`Port`. Both tests share a place, a pattern and the comparison. The pattern begins as
    ``seed``, repeated and inverted, and changes with each word (x^32 + x^22 + x^2 + x + 1), or
    stays 0 or all 1. A word is twice its lower half, the second one inverted, then the upper half
    likewise; in a March test nothing is inverted, or all that is written.
    """
    engine, memory, status = owner.engine, owner.memory, owner.status
    bits = config.words_bits + config.optional_column
    m.submodules.memory_test = test = SdramMemoryTest(address_bits=bits)
    port = Port(*(Signal(bits + 1 if name == "one_hot" else 1, name=name)
                  for name in Port._fields))
    connected = Signal()
    m.d.comb += connected.eq(status.ready & ~test.active)

    # Places. The two lowest bits are for the words of the calibration's bursts.
    place = Signal(bits)
    step = Mux(test.scattered, SCATTER, Mux(test.down, -1, Mux(test.long, LONG_BURST, 1)))
    with m.If(port.first):
        m.d.sync += place.eq(0)
    with m.Elif(port.following | test.following):
        m.d.sync += place.eq(place + step)
    highest = C(1)                          # the highest address bit exists
    if config.optional_column:
        highest = ~status.ready | (status.size_bits == bits)
    exists = Cat(C(-1, bits - 1), highest)
    low = Cat(test.active.replicate(2), C(-1, bits - 2))
    command = Signal(MemoryCommand)
    m.d.comb += [
        test.place.eq(place & exists),
        test.round.eq(((place ^ test.down.replicate(bits)) & exists) == 0),
        command.address.eq((place & exists & low) | port.one_hot[1:]),
        command.length.eq(Mux(test.active, Mux(test.long, LONG_BURST, 1),
                              Mux(port.single, 1, test_words))),
        command.write.eq(Mux(test.active, test.write, port.write)),
    ]

    pattern = Signal(32, init=1)
    random = Signal()
    flip, odd = test.flip.replicate(DATA_BITS), (~test.plain).replicate(DATA_BITS)
    expected = Cat(pattern[:16], pattern[:16] ^ odd, pattern[16:], pattern[16:] ^ odd)
    written = expected ^ flip.replicate(4)
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
            memory.commands.valid.eq(port.command_valid | test.command_valid),
            memory.w_data.valid.eq(port.writing | test.writing),
            memory.r_data.ready.eq(port.reading | test.active),
        ]
    m.d.comb += [
        memory.commands.payload.eq(Mux(connected, engine.commands.payload, command)),
        memory.w_data.payload.eq(Mux(connected, engine.w_data.payload, written)),
        engine.r_data.payload.eq(memory.r_data.payload),
    ]

    read, compare = Signal(), Signal()
    start = Cat(seed, ~seed, seed, ~seed)[:len(pattern)]
    m.d.comb += [
        read.eq(memory.r_data.valid & (port.reading | test.active)),
        random.eq(test.scattered & ~port.switching),
    ]
    with m.If(port.load | test.load):
        m.d.sync += pattern.eq(Mux(random, start, test.fill.replicate(len(pattern))))
    with m.Elif(((memory.w_data.ready & (port.writing | test.writing)) | read) & random):
        m.d.sync += pattern.eq(Cat(pattern[31], pattern[:31])
                               ^ (pattern[31].replicate(32) & 0x00400006))
    wrong = Signal(DATA_BITS)
    wrong_bits = memory.r_data.payload ^ expected
    m.d.sync += [
        compare.eq(read),
        wrong.eq(Cat(wrong_bits[pin::DATA_BITS].any() for pin in range(DATA_BITS))),
    ]
    m.d.comb += [
        port.differs.eq(compare & wrong.any()),
        test.ready.eq(status.ready),
        test.quiet.eq(~(engine.commands.valid | engine.w_data.valid | engine.r_data.valid)),
        test.command_ready.eq(memory.commands.ready), test.written.eq(memory.w_data.ready),
        test.compared.eq(compare), test.wrong.eq(wrong),
        test.start.eq(owner.tests.start), test.test.eq(owner.tests.test),
        *(getattr(owner.tests, name).eq(getattr(test, name))
          for name in ("status", "errors", "address", "pins")),
    ]
    return port
