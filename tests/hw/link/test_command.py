# amaranth: UnusedElaboratable=no
import random
import struct
import zlib

from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
import pytest

from hw.config import CoreConfig
from hw.link.command import CommandProcessor
from hw.link.frame import FrameWord
from hw.link.register_file import RegisterFile
from hw.register import (
    config_digest,
    CONTROL_BITS,
    Counter,
    COUNTER_BASE,
    MAGIC,
    Opcode,
    Refusal,
    REFUSED,
    Register,
    REPLY,
    UNITS,
    VERSION,
)
from sim.drive.ports import feed_stream, simulate
from sim.twin.memory import MemoryTwin


class Device(wiring.Component):
    """Command processor with registers and a stalling memory; START leaves its core as it is."""
    def __init__(self, stall):
        self.ready = Signal(init=1)
        self.registers = RegisterFile(config_digest=0xdeadbeef, memory_words=256)
        self.memory = MemoryTwin(words=256, latency=9, stall=stall, seed=5, init=range(1000, 1256))
        super().__init__({"i": In(stream.Signature(FrameWord)),
                          "o": Out(stream.Signature(FrameWord)), "busy": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.commands = commands = CommandProcessor()
        m.submodules.registers = self.registers
        m.submodules.memory = self.memory
        wiring.connect(m, commands.memory, self.memory.memory)
        wiring.connect(m, commands.registers, self.registers.bus)
        wiring.connect(m, wiring.flipped(self.i), commands.i)
        wiring.connect(m, commands.o, wiring.flipped(self.o))
        m.d.comb += [
            self.busy.eq(commands.busy),
            commands.session.eq(self.registers.session),
            commands.run.eq(self.registers.run),
            commands.memory_ready.eq(self.ready),
            self.registers.memory_status.ready.eq(self.ready),
        ]
        return m


def header(opcode, length, sequence, address):
    return opcode | length << 8 | sequence << 16 | address << 32


def answer(opcode, length, sequence, session=0, run=0):
    return header(opcode | REPLY, length, sequence, session | run << 24)


def exchange(frames, *, stall, rng, setup=None, answers=None):
    """Answers (lists of words) to ``frames`` (lists of words)."""
    dut = Device(stall)
    words = [{"data": word, "last": index == len(frame) - 1}
             for frame in frames for index, word in enumerate(frame)]
    received = [[]]

    async def take(ctx):
        if setup:
            setup(ctx, dut)
        while len(received) <= (len(frames) if answers is None else answers):
            while rng.random() < stall:
                await ctx.tick()
            ctx.set(dut.o.ready, 1)
            word, = await ctx.tick().sample(dut.o.payload).until(dut.o.valid)
            ctx.set(dut.o.ready, 0)
            received[-1].append(word.data)
            if word.last:
                received.append([])
        await ctx.tick().repeat(2)
        assert not ctx.get(dut.busy)

    simulate(dut, feed_stream(dut.i, words, rng=rng, stall=stall), take, cycles=20_000)
    return received[:-1]


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_memory(stall):
    rng = random.Random(7)
    model = list(range(1000, 1256))
    frames, expected = [], []
    for sequence in range(40):
        length = rng.choice([1, 2, 5, 64] if sequence else [64])
        address = rng.randrange(257 - length)
        if rng.random() < 0.3:
            count = rng.choice([1, 15, 16, 17, 31, 32, 33, 100])
            address = rng.randrange(257 - count)
            frames.append([header(Opcode.CRC_MEMORY, 1, sequence, address), count])
            crc = zlib.crc32(struct.pack(f"<{count}Q", *model[address:address + count]))
            expected.append([answer(Opcode.CRC_MEMORY, 1, sequence), crc])
        elif rng.random() < 0.5:
            data = [rng.getrandbits(64) for _ in range(length)]
            model[address:address + length] = data
            frames.append([header(Opcode.WRITE_MEMORY, length, sequence, address), *data])
            expected.append([answer(Opcode.WRITE_MEMORY, length, sequence)])
        else:
            frames.append([header(Opcode.READ_MEMORY, length, sequence, address)])
            expected.append([answer(Opcode.READ_MEMORY, length, sequence),
                             *model[address:address + length]])
    assert exchange(frames, stall=stall, rng=rng) == expected


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_registers(stall):
    rng = random.Random(8)
    values = {register: rng.getrandbits(bits) for register, bits in CONTROL_BITS.items()}
    frames = [[header(Opcode.WRITE_REGISTER, 1, number, register), value]
              for number, (register, value) in enumerate(values.items())]
    frames += [[header(Opcode.READ_REGISTER, 32, 100, 0)],
               [header(Opcode.READ_REGISTER, len(Counter), 101, COUNTER_BASE)]]

    def setup(ctx, dut):
        for counter in Counter:
            ctx.set(dut.registers.counters[counter], 0x8000_0000 + counter)
        ctx.set(dut.registers.core_busy, 1)

    *_, status, counters = exchange(frames, stall=stall, rng=rng, setup=setup)

    expected = {Register.MAGIC: MAGIC, Register.VERSION: VERSION, Register.CONFIG: 0xdeadbeef,
                Register.MEMORY_WORDS: 256, Register.STATE: 1, Register.MEMORY_STATUS: 1,
                **values}
    assert status[1:] == [expected.get(number, 0) for number in range(32)]
    assert counters[1:] == [0x8000_0000 + counter for counter in Counter]


def test_session_and_run():
    """Every answer carries what SESSION and START are then, its own write included."""
    def write(register, *values, sequence):
        return [header(Opcode.WRITE_REGISTER, len(values), sequence, register), *values]

    frames = [write(Register.SESSION, 0xabcdef, sequence=1), write(Register.START, 7, sequence=2),
              write(Register.START, 7, sequence=3), [header(Opcode.READ_MEMORY, 1, 4, 5)],
              write(Register.SESSION, 0, sequence=5), [header(0, 1, 6, 0)],
              write(Register.START, 0, 3, sequence=7)]
    session = 0xabcdef
    found = exchange(frames, stall=0.2, rng=random.Random(3))
    assert found == [
        [answer(Opcode.WRITE_REGISTER, 1, 1, session)],
        [answer(Opcode.WRITE_REGISTER, 1, 2, session, 7)],
        [answer(Opcode.WRITE_REGISTER, 1, 3, session, 7)],
        [answer(Opcode.READ_MEMORY, 1, 4, session, 7), 1005],
        [answer(Opcode.WRITE_REGISTER, 1, 5, 0, 7)],
        [answer(REFUSED, Refusal.MALFORMED, 6, 0, 7)],
        [answer(Opcode.WRITE_REGISTER, 2, 7, 0, 0)],
    ]


@pytest.mark.parametrize("busy, ready, reason", [
    (1, 1, Refusal.BUSY), (1, 0, Refusal.BUSY), (0, 0, Refusal.NOT_READY)])
def test_refused_by_register(busy, ready, reason):
    """A new run is not begun; what comes before it in its frame is written, the rest is not."""
    def setup(ctx, dut):
        ctx.set(dut.registers.core_busy, busy)
        ctx.set(dut.ready, ready)

    frames = [[header(Opcode.WRITE_REGISTER, 1, 1, Register.START), 0],     # the last value
              [header(Opcode.WRITE_REGISTER, 4, 2, Register.SESSION), 9, 5, 7, 7],
              [header(Opcode.READ_REGISTER, 4, 3, Register.SESSION)]]
    assert exchange(frames, stall=0.3, rng=random.Random(4), setup=setup) == [
        [answer(Opcode.WRITE_REGISTER, 1, 1)],
        [answer(Opcode.WRITE_REGISTER | REFUSED, reason, 2, 9)],
        [answer(Opcode.READ_REGISTER, 4, 3, 9), 9, 0, 0, 0],
    ]


def test_memory_not_ready():
    """Nothing waits for a memory that cannot be used; registers still answer."""
    accesses = [[header(Opcode.READ_MEMORY, 1, 1, 0)],
                [header(Opcode.WRITE_MEMORY, 2, 2, 0), 1, 2],
                [header(Opcode.CRC_MEMORY, 1, 3, 0), 4]]
    found = exchange([*accesses, [header(Opcode.READ_REGISTER, 1, 4, 0)]], stall=0.3,
                     rng=random.Random(5), setup=lambda ctx, dut: ctx.set(dut.ready, 0))
    assert found == [[answer(frame[0] & 0xff | REFUSED, Refusal.NOT_READY, index + 1)]
                     for index, frame in enumerate(accesses)] + [
                         [answer(Opcode.READ_REGISTER, 1, 4), MAGIC]]


@pytest.mark.parametrize("frame, written", [
    ([header(0x24, 1, 3, 0)], 0),                               # unknown opcode
    ([header(0, 1, 3, 0), 1, 2], 0),
    ([header(0x26, 1, 3, 0)], 0),
    ([header(0x27, 1, 3, 0), 1], 0),
    ([header(Opcode.CRC_MEMORY, 1, 3, 0)], 0),
    ([header(Opcode.CRC_MEMORY, 1, 3, 0), 0], 0),               # of no words
    ([header(Opcode.CRC_MEMORY, 1, 3, 0), 1 << 24], 0),
    ([header(Opcode.CRC_MEMORY, 2, 3, 0), 1, 1], 0),
    ([header(Opcode.CRC_MEMORY, 1, 3, 0), 1, 1], 0),
    ([header(Opcode.READ_MEMORY, 0, 3, 0)], 0),
    ([header(Opcode.READ_MEMORY, 65, 3, 0)], 0),
    ([header(Opcode.READ_MEMORY, 1, 3, 0), 1], 0),
    ([header(Opcode.WRITE_MEMORY, 1, 3, 0)], 0),
    ([header(Opcode.WRITE_MEMORY, 65, 3, 0), *range(65)], 0),
    ([header(Opcode.WRITE_MEMORY, 3, 3, 0), 7, 7], 2),          # too short
    ([header(Opcode.WRITE_MEMORY, 2, 3, 0), 7, 7, 7, 7], 2),    # too long
])
def test_refuses(frame, written):
    rng = random.Random(9)
    refused, after = exchange([frame, [header(Opcode.READ_MEMORY, 5, 4, 0)]], stall=0.3, rng=rng)
    assert refused == [answer(frame[0] & 0xff | REFUSED, Refusal.MALFORMED, 3)]
    assert after[1:] == [7] * written + list(range(1000 + written, 1005))


def test_config_digest():
    assert config_digest(CoreConfig()) == config_digest(CoreConfig())
    assert config_digest(CoreConfig()) != config_digest(CoreConfig(rows=16))


def test_counters_in_agreed_order():
    names = [counter.name for counter in Counter]
    assert names[:3] == ["CYCLES", "IMAGES", "DESCRIPTORS"]
    assert names[3:9] == [f"BUSY_{unit}" for unit in UNITS]
    assert names[9] == "STALL_POOL_LOAD" and names[26] == "STALL_STREAM_NEURON"
    assert names[-1] == "ERRORS" and len(names) == 37


@pytest.mark.parametrize("parameters, message", [
    ({"config_digest": 1 << 32, "memory_words": 0}, "Digest must fit in 32 bits, not 4294967296"),
    ({"config_digest": 0, "memory_words": -1}, "Memory words must fit in 32 bits, not -1"),
])
def test_wrong_parameters(parameters, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        RegisterFile(**parameters)
