"""cocotb bench for hw.link.frame: words to bytes to words, and damaged frames; run by tests/rtl.

The device under test joins a FrameTransmitter to a FrameReceiver through ``flip``, which is
exclusive-ored into every byte on the line.
"""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

from sim.drive.cocotb_streams import StreamSink, StreamSource


def tokens(frames):
    return [word | (index == len(frame) - 1) << 64
            for frame in frames for index, word in enumerate(frame)]


async def prepare(dut, rng, stall):
    dut.rst.value = 1
    dut.flip.value = 0
    source = StreamSource(dut, "i", dut.clk, rng=rng, stall=stall)
    sink = StreamSink(dut, "o", dut.clk, rng=rng, stall=stall)
    Clock(dut.clk, 10, unit="ns").start()
    await RisingEdge(dut.clk)
    dut.rst.value = 0
    return source, sink


def frames_of(rng):
    return [[rng.choice([0, rng.getrandbits(64)]) for _ in range(length)]
            for length in (1, 65, 20, 33)]


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.5])
async def words_survive(dut, stall):
    rng = random.Random(2)
    source, sink = await prepare(dut, rng, stall)
    expected = tokens(frames_of(rng))
    cocotb.start_soon(source.send(expected))
    assert await sink.receive(len(expected)) == expected


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def damaged_frame_vanishes(dut):
    rng = random.Random(3)
    source, sink = await prepare(dut, rng, 0.0)
    first, damaged, last = [[rng.getrandbits(64) for _ in range(9)] for _ in range(3)]

    async def send():
        await source.send(tokens([first]))
        for _ in range(2000):
            await RisingEdge(dut.clk)
        sending = cocotb.start_soon(source.send(tokens([damaged])))
        # Wait for a byte of this frame on the line, and damage the next two.
        while dut.line_valid.value == 0:
            await RisingEdge(dut.clk)
        dut.flip.value = 0x10
        for _ in range(32):
            await RisingEdge(dut.clk)
        dut.flip.value = 0
        await sending
        for _ in range(2000):
            await RisingEdge(dut.clk)
        await source.send(tokens([last]))

    cocotb.start_soon(send())
    expected = tokens([first, last])
    assert await sink.receive(len(expected)) == expected
