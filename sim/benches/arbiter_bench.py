"""cocotb bench for hw.memory.arbiter; run by tests/rtl."""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge

from hw.descriptor import pack
from hw.port import MemoryCommand
from sim.drive.cocotb_ports import serve_memory
from sim.drive.cocotb_streams import StreamSink, StreamSource


CLIENTS, WORDS, BURSTS = 3, 32, 30


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.4], quiet=[0.0, 0.97])
async def each_client_sees_its_own_data(dut, stall, quiet):
    rng = random.Random(1)
    options = dict(rng=rng, stall=stall)
    dut.rst.value = 1
    ports = [(StreamSource(dut, f"client__{k}__commands", dut.clk, rng=rng, stall=quiet),
              StreamSource(dut, f"client__{k}__w_data", dut.clk, **options),
              StreamSink(dut, f"client__{k}__r_data", dut.clk, **options))
             for k in range(CLIENTS)]
    content, model, received = {}, {}, []
    Clock(dut.clk, 10, unit="ns").start()
    await RisingEdge(dut.clk)
    dut.rst.value = 0
    cocotb.start_soon(serve_memory(dut, "memory", content, **options))
    order = []

    async def watch():
        while True:
            await RisingEdge(dut.clk)
            if dut.memory__commands__valid.value == 1 and dut.memory__commands__ready.value == 1:
                order.append(dut.memory__commands__payload.value.to_unsigned() % (1 << 24) // WORDS)

    cocotb.start_soon(watch())
    for client, (commands, w_data, r_data) in enumerate(ports):
        sent, written, expected = [], [], []
        for number in range(BURSTS):
            length = WORDS if number == 0 else rng.choice([1, 2, rng.randint(1, WORDS)])
            base = client * WORDS + rng.randint(0, WORDS - length)
            write = number == 0 or rng.randrange(2)
            sent.append(pack(MemoryCommand, address=base, length=length, write=int(write)))
            for address in range(base, base + length):
                if write:
                    model[address] = rng.getrandbits(64)
                    written.append(model[address])
                else:
                    expected.append(model[address])
        cocotb.start_soon(commands.send(sent))
        cocotb.start_soon(w_data.send(written))
        received.append((cocotb.start_soon(r_data.receive(len(expected))), expected))
    for task, expected in received:
        assert await task == expected
    while content != model or len(order) < CLIENTS * BURSTS:        # writes under way
        await RisingEdge(dut.clk)
    await ClockCycles(dut.clk, 20)
    assert content == model and len(order) == CLIENTS * BURSTS
    if not quiet:
        assert order == sorted(order), "the lowest index goes first"
