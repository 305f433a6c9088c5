"""cocotb bench for hw.link.uart: both directions at divisor 6; run by tests/rtl."""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge

from sim.drive.cocotb_streams import StreamSource


DIVISOR = 6


async def start(dut):
    dut.rst.value = 1
    Clock(dut.clk, 10, unit="ns").start()
    await RisingEdge(dut.clk)
    dut.rst.value = 0


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.9])
async def loops_back(dut, stall):
    rng = random.Random(1)
    payloads = [0, 255, *(rng.randrange(256) for _ in range(30))]
    source = StreamSource(dut, "i", dut.clk, rng=rng, stall=stall)
    await start(dut)
    cocotb.start_soon(source.send(payloads))
    received = []
    while len(received) < len(payloads):
        await RisingEdge(dut.clk)
        if dut.o__valid.value == 1:
            received.append(dut.o__payload.value.to_unsigned())
    assert received == payloads
    await ClockCycles(dut.clk, 2 * DIVISOR)
