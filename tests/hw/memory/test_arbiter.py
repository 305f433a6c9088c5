# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from hw.memory.arbiter import MemoryArbiter
from sim.drive.ports import simulate


WORDS = 256


def backend(port, content, *, rng, stall):
    """Memory behind the arbiter: commands in order, everything stalls at random."""
    async def process(ctx):
        while True:
            ctx.set(port.commands.ready, 1)
            address, length, write = await ctx.tick().sample(
                port.commands.payload.address, port.commands.payload.length,
                port.commands.payload.write).until(port.commands.valid)
            ctx.set(port.commands.ready, 0)
            for k in range(length):
                while rng.random() < stall:
                    await ctx.tick()
                if write:
                    ctx.set(port.w_data.ready, 1)
                    word, = await ctx.tick().sample(port.w_data.payload).until(port.w_data.valid)
                    ctx.set(port.w_data.ready, 0)
                    content[address + k] = word
                else:
                    ctx.set(port.r_data.payload, content[address + k])
                    ctx.set(port.r_data.valid, 1)
                    await ctx.tick().until(port.r_data.ready)
                    ctx.set(port.r_data.valid, 0)
    return process


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
             background=[backend(dut.memory, content, rng=rng, stall=stall)], cycles=20_000)


def test_no_clients():
    with pytest.raises(ValueError, match=r"^Arbiter must have at least 1 client, not 0$"):
        MemoryArbiter(clients=0)
