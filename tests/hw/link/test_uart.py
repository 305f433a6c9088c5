# amaranth: UnusedElaboratable=no
import random

from amaranth import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
import pytest

from hw.link.uart import UartReceiver, UartTransmitter
from sim.drive.ports import feed_stream, simulate


class Loop(wiring.Component):
    """Transmitter and receiver on one line."""
    def __init__(self, divisor):
        self.divisor = divisor
        super().__init__({"i": In(stream.Signature(8)),
                          "o": Out(stream.Signature(8, always_ready=True))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.tx = tx = UartTransmitter(divisor=self.divisor)
        m.submodules.rx = rx = UartReceiver(divisor=self.divisor)
        wiring.connect(m, wiring.flipped(self.i), tx.i)
        wiring.connect(m, rx.o, wiring.flipped(self.o))
        m.d.comb += rx.rx.eq(tx.tx)
        return m


@pytest.mark.parametrize("stall", [0.0, 0.9])
@pytest.mark.parametrize("divisor", [4, 5, 27])
def test_loop(divisor, stall):
    rng = random.Random(divisor)
    payloads = [0, 255, 0x55, 0xaa, *(rng.randrange(256) for _ in range(20))]
    dut = Loop(divisor)
    received = []

    async def receive(ctx):
        while len(received) < len(payloads):
            byte, = await ctx.tick().sample(dut.o.payload).until(dut.o.valid)
            received.append(byte)

    simulate(dut, feed_stream(dut.i, payloads, rng=rng, stall=stall), receive, cycles=20_000)
    assert received == payloads


async def send_bits(ctx, line, bits, cycles):
    for bit in bits:
        ctx.set(line, bit)
        for _ in range(cycles):
            await ctx.tick()


def bits_of(byte):
    return [0, *(byte >> k & 1 for k in range(8)), 1]


def collect(dut, received):
    async def process(ctx):
        while True:
            *_, valid, byte = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            if valid:
                received.append(byte)
    return process


@pytest.mark.parametrize("cycles", [31, 32, 33])
def test_receiver_tolerates_clock_error(cycles):
    dut, received = UartReceiver(divisor=32), []

    async def send(ctx):
        for byte in (0x00, 0xff, 0x5a):
            await send_bits(ctx, dut.rx, bits_of(byte), cycles)
        await send_bits(ctx, dut.rx, [1], 40)
        assert not ctx.get(dut.busy)

    simulate(dut, send, background=[collect(dut, received)])
    assert received == [0x00, 0xff, 0x5a]


def test_receiver_ignores_glitch_and_break():
    dut, received = UartReceiver(divisor=8), []

    async def send(ctx):
        await send_bits(ctx, dut.rx, [0], 2)            # shorter than half a bit
        await send_bits(ctx, dut.rx, [1], 30)
        await send_bits(ctx, dut.rx, [0] * 25, 8)       # no stop bit
        await send_bits(ctx, dut.rx, [1] * 2, 8)
        await send_bits(ctx, dut.rx, [*bits_of(0x3c), 1, 1], 8)

    simulate(dut, send, background=[collect(dut, received)])
    assert received == [0x3c]


@pytest.mark.parametrize("component", [UartReceiver, UartTransmitter])
def test_divisor_wrong(component):
    with pytest.raises(ValueError, match=r"^Divisor must be an integer of at least 4, not 3$"):
        component(divisor=3)
