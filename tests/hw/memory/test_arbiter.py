# amaranth: UnusedElaboratable=no
import random

import numpy as np
import pytest

from hw.memory.arbiter import MemoryArbiter
from sim.drive.ports import feed_stream, serve_memory, simulate


WORDS = 256


async def burst(ctx, port, address, length, write):
    ctx.set(port.commands.payload, {"address": address, "length": length, "write": write})
    ctx.set(port.commands.valid, 1)
    await ctx.tick().until(port.commands.ready)
    ctx.set(port.commands.valid, 0)


def client(port, base, *, rng, stall, rounds=12):
    """Write bursts into its own region, read them back and compare."""
    async def process(ctx):
        for _ in range(rounds):
            length = int(rng.integers(1, 9))
            address = base + int(rng.integers(0, 16 - length))
            words = rng.integers(0, 1 << 63, length).tolist()
            await burst(ctx, port, address, length, 1)
            for word in words:
                while rng.random() < stall:
                    await ctx.tick()
                ctx.set(port.w_data.payload, word)
                ctx.set(port.w_data.valid, 1)
                await ctx.tick().until(port.w_data.ready)
                ctx.set(port.w_data.valid, 0)
            await burst(ctx, port, address, length, 0)
            for word in words:
                while rng.random() < stall:
                    await ctx.tick()
                ctx.set(port.r_data.ready, 1)
                got, = await ctx.tick().sample(port.r_data.payload).until(port.r_data.valid)
                ctx.set(port.r_data.ready, 0)
                assert got == word
    return process


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("clients", [1, 3, 5])
def test_each_client_gets_its_own_data(clients, stall):
    rng = np.random.default_rng(clients)
    dut = MemoryArbiter(clients=clients)
    content = dict.fromkeys(range(WORDS), 0)
    simulate(dut, *(client(dut.client[k], 32 * k, rng=rng, stall=stall) for k in range(clients)),
             background=[serve_memory(dut.memory, content, rng=random.Random(clients),
                                      stall=stall)], cycles=20_000)


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_commands_run_ahead(stall):
    """Clients ask for more bursts than fit, before any word moves: none is lost or mixed up."""
    rng = np.random.default_rng(5)
    count, length = 40, 3
    dut = MemoryArbiter(clients=2, depth=4)
    source = rng.integers(0, 1 << 63, (count, length)).tolist()
    content = {300 * k + 7 + j: word for k, words in enumerate(source)
               for j, word in enumerate(words)}
    written = {100_000 + address: word ^ 1 for address, word in content.items()}
    addresses = [300 * k + 7 for k in range(count)]

    def ask(port, first, write):
        async def process(ctx):
            for address in addresses:
                await burst(ctx, port, first + address, length, write)
        return process

    async def read(ctx):
        for words in source:
            for word in words:
                while rng.random() < stall:
                    await ctx.tick()
                ctx.set(dut.client[0].r_data.ready, 1)
                got, = await ctx.tick().sample(dut.client[0].r_data.payload).until(
                    dut.client[0].r_data.valid)
                ctx.set(dut.client[0].r_data.ready, 0)
                assert got == word

    memory = dict(content)
    simulate(dut, ask(dut.client[0], 0, 0), ask(dut.client[1], 100_000, 1), read,
             feed_stream(dut.client[1].w_data, list(written.values()), rng=rng, stall=stall),
             _until(lambda: len(memory) == 2 * len(content)),
             background=[serve_memory(dut.memory, memory, rng=random.Random(2), stall=stall,
                                      latency=40)], cycles=20_000)
    assert memory == content | written


def _until(done):
    async def process(ctx):
        while not done():
            await ctx.tick()
    return process


def test_no_clients():
    with pytest.raises(ValueError, match=r"^Arbiter must have at least 1 client, not 0$"):
        MemoryArbiter(clients=0)
