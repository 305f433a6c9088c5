# amaranth: UnusedElaboratable=no
import random

import pytest

from hw.config import CoreConfig
from hw.memory.pool import Pool
from hw.port import POOL_LATENCY
from sim.drive.ports import simulate


def small(**settings):
    return CoreConfig(**{"rows": 16, "load_rows": 4, "pool_banks": 4, "pool_bank_words": 16,
                         "psum_words": 16, **settings})


async def random_traffic(ctx, dut, *, cycles, rng):
    """Random requests on every port against a model that knows banks, priority and latency."""
    latency, words = POOL_LATENCY, dut.config.pool_words

    def bank_of(address):
        return address % dut.config.pool_banks

    model = [0] * words
    expected = [[None] * latency for _ in dut.read]
    requests = {}
    accepted = 0
    for _ in range(cycles):
        for kind, ports in (("write", dut.write), ("read", dut.read)):
            written = {address for (kind, _), (address, _) in requests.items() if kind == "write"}
            for index, port in enumerate(ports):
                if (kind, index) not in requests and rng.random() < 0.7:
                    requests[kind, index] = (rng.randrange(words), rng.getrandbits(16))
                request = requests.get((kind, index))
                if kind == "read" and request and request[0] in written:
                    requests.pop((kind, index))   # would collide; ask for it another time
                    request = None
                ctx.set(port.valid, request is not None)
                if request:
                    ctx.set(port.address, request[0])
                    if kind == "write":
                        ctx.set(port.data, request[1])
        _, _, *seen = await ctx.tick().sample(
            *[s for p in dut.read for s in (p.ready, p.data_valid, p.data)],
            *[p.ready for p in dut.write])
        reads = [seen[3 * i:3 * i + 3] for i in range(len(dut.read))]
        writes = seen[3 * len(dut.read):]
        # Reads see the writes accepted in earlier cycles.
        busy = set()
        for index, (ready, data_valid, value) in enumerate(reads):
            due = expected[index].pop(0)
            assert bool(data_valid) == (due is not None)
            if due is not None:
                assert value == due
            answer = None
            if request := requests.get(("read", index)):
                bank = bank_of(request[0])
                assert ready == (bank not in busy), (index, request, busy)
                busy.add(bank)
                if ready:
                    answer = model[request[0]]
                    requests.pop(("read", index))
                    accepted += 1
            expected[index].append(answer)
        busy = set()
        for index, ready in enumerate(writes):
            if request := requests.get(("write", index)):
                bank = bank_of(request[0])
                assert ready == (bank not in busy), (index, request, busy)
                busy.add(bank)
                if ready:
                    model[request[0]] = request[1]
                    requests.pop(("write", index))
                    accepted += 1
    assert ctx.get(dut.collision) == 0
    assert accepted > cycles


@pytest.mark.parametrize(("readers", "writers"), [(1, 1), (4, 3)])
@pytest.mark.parametrize("settings", [{}, dict(pool_banks=1, pool_bank_words=32)])
def test_traffic(readers, writers, settings):
    config = small(**settings)
    dut = Pool(config, readers=readers, writers=writers)

    async def bench(ctx):
        await random_traffic(ctx, dut, cycles=1500, rng=random.Random(0))

    simulate(dut, bench, cycles=2000)


@pytest.mark.parametrize(("gap", "collides"), [(0, 1), (1, 0)])
def test_collision(gap, collides):
    """A read in the cycle of a write to its address."""
    dut = Pool(small(), readers=2, writers=1)
    read, write = dut.read[1], dut.write[0]

    async def bench(ctx):
        ctx.set(write.address, 5)
        ctx.set(write.valid, 1)
        for cycle in range(12):
            ctx.set(read.address, 5)
            ctx.set(read.valid, cycle == gap)
            await ctx.tick()
            ctx.set(write.valid, 0)
        assert ctx.get(dut.collision) == collides

    simulate(dut, bench, cycles=20)


@pytest.mark.parametrize(("ports", "message"), [
    ({"readers": 0, "writers": 1}, "^Readers must be at least 1, not 0$"),
    ({"readers": 1, "writers": 0}, "^Writers must be at least 1, not 0$")])
def test_ports_wrong(ports, message):
    with pytest.raises(ValueError, match=message):
        Pool(small(), **ports)
