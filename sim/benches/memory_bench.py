"""cocotb bench for the memory backends; run by tests/rtl."""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

from sim.drive.cocotb_streams import StreamSink, StreamSource


WORDS = 300


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.5])
async def bursts(dut, stall):
    rng = random.Random(4)
    dut.rst.value = 1
    ports = {"rng": rng, "stall": stall}
    commands = StreamSource(dut, "memory__commands", dut.clk, **ports)
    w_data = StreamSource(dut, "memory__w_data", dut.clk, **ports)
    r_data = StreamSink(dut, "memory__r_data", dut.clk, **ports)
    Clock(dut.clk, 10, unit="ns").start()
    for _ in range(4):                          # an asynchronous FIFO wants it that long
        await RisingEdge(dut.clk)
    dut.rst.value = 0

    model = {}
    sent, written, expected = [], [], []
    for number in range(60):
        length = rng.choice([1, 2, 7, rng.randrange(1, 60)])
        address = rng.randrange(WORDS - length)
        write = number < 8 or rng.randrange(2)
        if number < 8:
            length, address = 40, min(number * 40, WORDS - 40)      # fill all of it first
        sent.append(address | length << 24 | write << 32)
        for place in range(address, address + length):
            if write:
                model[place] = rng.getrandbits(64)
                written.append(model[place])
            else:
                expected.append(model[place])
    cocotb.start_soon(commands.send(sent))
    cocotb.start_soon(w_data.send(written))
    assert await r_data.receive(len(expected)) == expected
