"""cocotb bench for hw.link.command with registers and a stalling memory; run by tests/rtl."""

import random
import struct
import zlib

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

from hw.register import (
    CONTROL_BITS,
    MAGIC,
    Opcode,
    Refusal,
    REFUSED,
    Register,
    REPLY,
    VERSION,
)
from sim.drive.cocotb_streams import StreamSink, StreamSource


WORDS = 256

SESSION = 0x123456


def header(opcode, length, sequence, address=SESSION):
    return opcode | length << 8 | sequence << 16 | address << 32


def tokens(frames):
    return [word | (index == len(frame) - 1) << 64
            for frame in frames for index, word in enumerate(frame)]


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.5])
async def answers(dut, stall):
    rng = random.Random(5)
    dut.rst.value = 1
    source = StreamSource(dut, "i", dut.clk, rng=rng, stall=stall)
    sink = StreamSink(dut, "o", dut.clk, rng=rng, stall=stall)
    Clock(dut.clk, 10, unit="ns").start()
    await RisingEdge(dut.clk)
    dut.rst.value = 0

    model = [0] * WORDS
    requests, expected = [], []

    def add(opcode, length, address, data=(), answer=(), flags=REPLY):
        sequence = len(requests)
        requests.append([header(opcode, length, sequence, address), *data])
        refused = flags & REFUSED
        expected.append([header(opcode | flags, Refusal.MALFORMED if refused else length,
                                sequence), *answer])

    add(Opcode.WRITE_REGISTER, 1, Register.SESSION, [SESSION])
    for number in range(30):
        length = rng.choice([1, 3, 64])
        address = rng.randrange(WORDS - length)
        if number < WORDS // 64:
            length, address = 64, 64 * number           # reset leaves the memory as it was
        if number < WORDS // 64 or rng.randrange(2):
            data = [rng.getrandbits(64) for _ in range(length)]
            model[address:address + length] = data
            add(Opcode.WRITE_MEMORY, length, address, data)
        else:
            add(Opcode.READ_MEMORY, length, address, answer=model[address:address + length])
    for address, count in ((0, WORDS), (5, 1), (17, 31)):
        crc = zlib.crc32(struct.pack(f"<{count}Q", *model[address:address + count]))
        add(Opcode.CRC_MEMORY, 1, address, [count], [crc])
    for register, bits in CONTROL_BITS.items():
        add(Opcode.WRITE_REGISTER, 1, register, [(1 << bits) - register])
    add(Opcode.READ_REGISTER, len(CONTROL_BITS), Register.COUNT,
        answer=[(1 << bits) - register for register, bits in CONTROL_BITS.items()])
    add(Opcode.READ_REGISTER, 2, Register.MAGIC, answer=[MAGIC, VERSION])
    add(0x77, 1, 2, flags=REPLY | REFUSED)
    add(Opcode.READ_MEMORY, 65, 2, flags=REPLY | REFUSED)

    cocotb.start_soon(source.send(tokens(requests)))
    assert await sink.receive(len(tokens(expected))) == tokens(expected)
