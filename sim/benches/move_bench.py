"""cocotb benches for hw.memory.move, one for each unit; run by tests/rtl."""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

from hw.descriptor import Destination, Load, pack, Store
from hw.port import POOL_LATENCY
from sim.drive.cocotb_ports import run_unit, serve_memory, serve_read, serve_write
from sim.drive.cocotb_streams import StreamSink
from sim.reference.write_hash import write_hash


ROWS = 16                           # that of tests/rtl/test_move.py
RATIO = 64 // ROWS
BASE = 0x12_3456                    # address of the image and of the result
SHAPES = [(1, 1), (2, 3), (3, 2), (4, 1), (37, 2), (130, 1)]        # pool words, rows


async def start(dut):
    dut.control__run__valid.value = 0
    dut.rst.value = 1
    Clock(dut.clk, 10, unit="ns").start()
    await RisingEdge(dut.clk)
    dut.rst.value = 0


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.4])
async def load(dut, stall):
    rng = random.Random(2)
    options = dict(rng=rng, stall=stall)
    dut.image.value = BASE
    ports = {Destination.WEIGHT: "weights", Destination.CONST: "constants",
             Destination.DEPTHWISE: "depthwise"}
    # Slow consumers fill the buffers.
    sinks = {d: StreamSink(dut, name, dut.clk, rng=rng, stall=2 * stall)
             for d, name in ports.items()}
    content, pool = {}, {}
    program, streams = [], {d: [] for d in ports}

    def row_words(address, length):
        for k in range(address, address + length):
            content.setdefault(k % (1 << 24), rng.getrandbits(64))
        return [content[k % (1 << 24)] for k in range(address, address + length)]

    for pool_words, count in SHAPES:
        # Into the pool, over the ends of both address ranges.
        image = rng.randrange(2)
        length = -(-pool_words // RATIO)
        fields = dict(destination=Destination.POOL, image=image, memory_address=(1 << 24) - 3,
                      length=length, count=count, memory_stride=length + 2, pool_address=0xfff0,
                      pool_words=pool_words, pool_stride=pool_words + 1)
        expected, order = {}, []
        for row in range(count):
            data = row_words((1 << 24) - 3 + BASE * image + row * (length + 2), length)
            for k in range(pool_words):
                word = data[k // RATIO] >> (k % RATIO * ROWS) & (1 << ROWS) - 1
                expected[(0xfff0 + row * (pool_words + 1) + k) & 0xffff] = word
                order.append(word)
        program.append((fields, write_hash(order, rows=ROWS), length * count, expected))
        # Into a stream.
        destination = rng.choice(list(ports))
        address, length = rng.randrange(1 << 20), rng.randint(1, 60)
        fields = dict(destination=destination, memory_address=address, length=length, count=2,
                      memory_stride=100)
        for row in range(2):
            streams[destination] += row_words(address + 100 * row, length)
        program.append((fields, 0, 2 * length, {}))

    await start(dut)
    cocotb.start_soon(serve_memory(dut, "memory", content, **options))
    streaming = False

    async def hardly_refuses():
        """Read data of a stream has room: it must not wait for whoever empties the stream, but for
        a cycle between two rows."""
        refused = 0
        while True:
            await RisingEdge(dut.clk)
            if streaming and dut.memory__r_data__valid.value == 1:
                refused = 0 if dut.memory__r_data__ready.value == 1 else refused + 1
                assert refused <= 1

    watch = cocotb.start_soon(hardly_refuses())
    cocotb.start_soon(serve_write(dut, "write", pool.__setitem__, **options))
    tasks = {d: cocotb.start_soon(sinks[d].receive(len(streams[d]))) for d in ports}
    for fields, signed, events, expected in program:
        streaming = fields["destination"] is not Destination.POOL
        assert await run_unit(dut, pack(Load, **fields)) == (signed, events), fields
        assert pool == expected
        pool.clear()
    for destination, task in tasks.items():
        assert await task == streams[destination]
    assert not watch.done()


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.4])
async def store(dut, stall):
    rng = random.Random(3)
    options = dict(rng=rng, stall=stall)
    dut.result.value = BASE
    content, pool = {}, [rng.getrandbits(ROWS) for _ in range(1 << 16)]
    await start(dut)
    # Late memory fills the queue of pool words.
    cocotb.start_soon(serve_memory(dut, "memory", content, latency=60, **options))
    cocotb.start_soon(serve_read(dut, "read", pool.__getitem__, latency=POOL_LATENCY, **options))
    for number, (pool_words, count) in enumerate(SHAPES):
        image = number % 2
        length = -(-pool_words // RATIO)
        expected, order = {}, []
        for row in range(count):
            words = [pool[(0xffe0 + row * (pool_words + 3) + k) & 0xffff]
                     for k in range(pool_words)]
            order += words
            for k in range(length):
                address = (1 << 24) - 5 + BASE * image + row * (length + 1) + k
                expected[address % (1 << 24)] = sum(
                    word << (ROWS * j) for j, word in enumerate(words[k * RATIO:(k + 1) * RATIO]))
        packed = pack(Store, image=image, memory_address=(1 << 24) - 5, length=length, count=count,
                      memory_stride=length + 1, pool_address=0xffe0, pool_words=pool_words,
                      pool_stride=pool_words + 3)
        assert await run_unit(dut, packed) == (write_hash(order, rows=ROWS), length * count)
        assert content == expected
        content.clear()
