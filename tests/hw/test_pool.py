# amaranth: UnusedElaboratable=no
import random

import pytest

from hw.config import CoreConfig
from hw.partial_sum import PartialSums
from hw.pool import Pool
from hw.port import POOL_LATENCY, PSUM_LATENCY
from sim.ports import simulate


def small(**settings):
    return CoreConfig(**{"rows": 16, "load_columns": 4, "pool_banks": 4, "pool_bank_words": 16,
                         "psum_words": 16, **settings})


async def random_traffic(ctx, dut, *, latency, words, bank_of, draw, as_value, cycles, rng):
    """Random requests on every port against a model that knows banks, priority and latency."""
    model = [0] * words
    expected = [[None] * latency for _ in dut.read]
    written = set()                               # accepted in the cycle before
    requests = {}
    accepted = 0
    for _ in range(cycles):
        for kind, ports in (("read", dut.read), ("write", dut.write)):
            for index, port in enumerate(ports):
                if (kind, index) not in requests and rng.random() < 0.7:
                    requests[kind, index] = (rng.randrange(words), draw(rng))
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
        # Reads see the writes accepted two cycles ago: `model` lacks only those of the last.
        busy = set()
        for index, (ready, data_valid, value) in enumerate(reads):
            due = expected[index].pop(0)
            assert bool(data_valid) == (due is not None)
            if due is not None:
                assert as_value(value) == due
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
        busy, written = set(), set()
        for index, ready in enumerate(writes):
            if request := requests.get(("write", index)):
                bank = bank_of(request[0])
                assert ready == (bank not in busy), (index, request, busy)
                busy.add(bank)
                if ready:
                    model[request[0]] = request[1]
                    written.add(request[0])
                    requests.pop(("write", index))
                    accepted += 1
    assert ctx.get(dut.collision) == 0
    assert accepted > cycles


@pytest.mark.parametrize(("readers", "writers"), [(1, 1), (4, 3)])
@pytest.mark.parametrize("settings", [{}, dict(pool_banks=1, pool_bank_words=32)])
def test_pool_traffic(readers, writers, settings):
    config = small(**settings)
    dut = Pool(config, readers=readers, writers=writers)

    async def bench(ctx):
        await random_traffic(ctx, dut, latency=POOL_LATENCY, words=config.pool_words,
                             bank_of=lambda a: a // config.pool_bank_words,
                             draw=lambda rng: rng.getrandbits(16), as_value=int, cycles=1500,
                             rng=random.Random(0))

    simulate(dut, bench, cycles=2000)


def test_partial_sums_traffic():
    config = small()
    dut = PartialSums(config)

    async def bench(ctx):
        await random_traffic(
            ctx, dut, latency=PSUM_LATENCY, words=config.psum_words, bank_of=lambda a: 0,
            draw=lambda rng: [rng.randrange(-2**23, 2**23) for _ in range(config.rows)],
            as_value=lambda row: list(row) if any(row) else 0, cycles=800, rng=random.Random(0))

    simulate(dut, bench, cycles=1000)


@pytest.mark.parametrize("make", [lambda c: Pool(c, readers=2, writers=1), PartialSums])
@pytest.mark.parametrize(("gap", "collides"), [(0, 0), (1, 1), (2, 0)])
def test_collision(make, gap, collides):
    dut = make(small())

    async def bench(ctx):
        ctx.set(dut.write[0].address, 5)
        ctx.set(dut.write[0].valid, 1)
        for cycle in range(6):
            ctx.set(dut.read[1].address, 5)
            ctx.set(dut.read[1].valid, cycle == gap)
            await ctx.tick()
            ctx.set(dut.write[0].valid, 0)
        assert ctx.get(dut.collision) == collides

    simulate(dut, bench, cycles=20)


@pytest.mark.parametrize(("settings", "message"), [
    ({"readers": 0, "writers": 1}, "^Readers must be at least 1, not 0$"),
    ({"readers": 1, "writers": 0}, "^Writers must be at least 1, not 0$")])
@pytest.mark.parametrize("component", [Pool, PartialSums])
def test_ports_wrong(component, settings, message):
    with pytest.raises(ValueError, match=message):
        component(small(), **settings)
