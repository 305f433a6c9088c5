# amaranth: UnusedElaboratable=no
import random

import numpy as np
import pytest

from hw.config import CoreConfig
from hw.descriptor import Destination
from hw.memory.move import LoadUnit, StoreUnit
from hw.port import POOL_LATENCY
from sim.drive.ports import run_unit, serve_memory, serve_read, serve_write, simulate
from sim.reference.write_hash import write_hash


def config(rows):
    return CoreConfig(rows=rows, load_rows=rows // 4, neuron_lanes=8, weight_fifo_words=32,
                      const_fifo_words=32, depthwise_fifo_words=32)


def drain(stream, received, *, rng, stall):
    async def process(ctx):
        while True:
            while rng.random() < stall:
                await ctx.tick()
            ctx.set(stream.ready, 1)
            payload, = await ctx.tick().sample(stream.payload).until(stream.valid)
            ctx.set(stream.ready, 0)
            received.append(payload)
    return process


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("rows", [16, 32, 64])
def test_load_to_pool(rows, stall):
    rng = np.random.default_rng(rows)
    dut = LoadUnit(config(rows))
    ratio = 64 // rows
    memory = {k: int(rng.integers(0, 1 << 63)) for k in range(2048)}
    cases = [(pool_words, count) for pool_words in (1, 2, 3, 5, 37, 80) for count in (1, 3)]

    async def bench(ctx):
        ctx.set(dut.image, 500)
        for index, (pool_words, count) in enumerate(cases):
            length = -(-pool_words // ratio)
            pool.clear()
            fields = dict(destination=Destination.POOL, image=index % 2, memory_address=17,
                          length=length, count=count, memory_stride=length + 2,
                          pool_address=0xFFF0, pool_words=pool_words, pool_stride=pool_words + 1)
            signed, events = await run_unit(ctx, dut.control, fields)
            expected, order = {}, []
            for row in range(count):
                base = 17 + 500 * (index % 2) + row * (length + 2)
                for k in range(pool_words):
                    word = memory[base + k // ratio] >> (k % ratio * rows) & ((1 << rows) - 1)
                    expected[(0xFFF0 + row * (pool_words + 1) + k) & 0xFFFF] = word
                    order.append(word)
            assert pool == expected
            assert signed == write_hash(order, rows=rows)
            assert events == length * count

    pool = {}
    simulate(dut, bench, background=[
        serve_memory(dut.memory, memory, rng=random.Random(rows), stall=stall),
        serve_write(dut.write, pool.__setitem__, rng=rng, stall=stall)], cycles=60_000)


@pytest.mark.parametrize("stall", [0.0, 0.6])
@pytest.mark.parametrize("rows", [16, 64])
def test_load_to_streams(rows, stall):
    rng = np.random.default_rng(1)
    dut = LoadUnit(config(rows))
    per_word = config(rows).weight_bits // 64
    memory = {k: int(rng.integers(0, 1 << 63)) for k in range(2048)}
    streams = {Destination.WEIGHT: dut.weights, Destination.CONST: dut.constants,
               Destination.DEPTHWISE: dut.depthwise}
    received = {d: [] for d in streams}
    expected = {d: [] for d in streams}

    async def bench(ctx):
        for _ in range(12):
            destination = list(streams)[int(rng.integers(3))]
            address, length = int(rng.integers(1500)), int(rng.integers(1, 150))
            if destination is Destination.WEIGHT:
                length = -(-length // per_word) * per_word
            signed, events = await run_unit(ctx, dut.control, dict(
                destination=destination, memory_address=address, length=length, count=2,
                memory_stride=200))
            for row in range(2):
                start = address + 200 * row
                expected[destination] += [memory[k] for k in range(start, start + length)]
            assert signed == 0 and events == 2 * length
        for _ in range(400):
            await ctx.tick()
        received[Destination.WEIGHT] = [
            wide >> 64 * k & (1 << 64) - 1 for wide in received[Destination.WEIGHT]
            for k in range(per_word)]
        assert received == expected

    simulate(dut, bench, background=[
        serve_memory(dut.memory, memory, rng=random.Random(rows), stall=stall / 3),
        *(drain(s, received[d], rng=rng, stall=stall) for d, s in streams.items())],
        cycles=60_000)


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("rows", [16, 32, 64])
def test_store(rows, stall):
    rng = np.random.default_rng(rows)
    dut = StoreUnit(config(rows))
    ratio = 64 // rows
    pool = [int(x) for x in rng.integers(0, 1 << min(rows, 63), 1 << 12)]

    async def bench(ctx):
        ctx.set(dut.result, 700)
        for index, (pool_words, count) in enumerate([(1, 1), (2, 3), (5, 2), (40, 3), (81, 1)]):
            length = -(-pool_words // ratio)
            memory.clear()
            signed, events = await run_unit(ctx, dut.control, dict(
                image=index % 2, memory_address=9, length=length, count=count,
                memory_stride=length + 1, pool_address=100, pool_words=pool_words,
                pool_stride=pool_words + 3))
            expected, order = {}, []
            for row in range(count):
                words = pool[100 + row * (pool_words + 3):][:pool_words]
                order += words
                for k in range(length):
                    base = 9 + 700 * (index % 2) + row * (length + 1)
                    expected[base + k] = sum(
                        w << (rows * j) for j, w in enumerate(words[k * ratio:(k + 1) * ratio]))
            assert memory == expected
            assert signed == write_hash(order, rows=rows)
            assert events == length * count

    memory = {}
    simulate(dut, bench, background=[
        serve_memory(dut.memory, memory, rng=random.Random(rows), stall=stall),
        serve_read(dut.read, lambda address: pool[address], latency=POOL_LATENCY, rng=rng,
                   stall=stall)], cycles=60_000)


@pytest.mark.parametrize("latency", [60, 200])
def test_store_waits_for_late_memory(latency):
    """The memory takes words late: the queue of pool words fills, and no word is lost."""
    dut = StoreUnit(config(16))
    rng = np.random.default_rng(latency)
    pool = [int(x) for x in rng.integers(0, 1 << 16, 1 << 10)]
    memory = {}

    async def bench(ctx):
        signed, events = await run_unit(ctx, dut.control, dict(
            length=40, count=2, memory_stride=40, pool_address=5, pool_words=160,
            pool_stride=200))
        words = pool[5:165] + pool[205:365]
        assert memory == {k: sum(w << 16 * j for j, w in enumerate(words[4 * k:4 * k + 4]))
                          for k in range(80)}
        assert signed == write_hash(words, rows=16) and events == 80

    simulate(dut, bench, background=[
        serve_memory(dut.memory, memory, rng=random.Random(1), stall=0.0, latency=latency),
        serve_read(dut.read, lambda address: pool[address], latency=POOL_LATENCY, rng=rng)],
        cycles=3_000)
