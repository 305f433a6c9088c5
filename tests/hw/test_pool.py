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
def test_pool_traffic(readers, writers, settings):
    config = small(**settings)
    dut = Pool(config, readers=readers, writers=writers)

    async def bench(ctx):
        await random_traffic(ctx, dut, cycles=1500, rng=random.Random(0))

    simulate(dut, bench, cycles=2000)


@pytest.mark.parametrize(("read_lanes", "write_lanes", "load_columns"), [
    ((16,), (16,), 4), ((16, 4, 1), (16, 8), 4), ((2, 16, 16), (4, 2, 16), 8),
    ((16, 4), (16, 4), 16)])
def test_partial_sums_traffic(read_lanes, write_lanes, load_columns):
    """Random requests on ports of every width against a model of sums, priority and latency."""
    config = small(load_columns=load_columns)
    dut = PartialSums(config, read_lanes=read_lanes, write_lanes=write_lanes)
    rng = random.Random(0)

    async def bench(ctx):
        model = [[0] * config.rows for _ in range(config.psum_words)]
        expected = [[None] * PSUM_LATENCY for _ in read_lanes]
        requests = {}
        accepted = 0
        for _ in range(800):
            writing = set()
            for kind, ports, widths in (("write", dut.writers, write_lanes),
                                        ("read", dut.readers, read_lanes)):
                for index, (port, lanes) in enumerate(zip(ports, widths, strict=True)):
                    if (kind, index) not in requests and rng.random() < 0.7:
                        requests[kind, index] = (
                            rng.randrange(config.psum_words), rng.randrange(config.rows // lanes),
                            [rng.randrange(-2**23, 2**23) for _ in range(lanes)])
                    request = requests.get((kind, index))
                    if kind == "write" and request:
                        writing.add(request[0])
                    if kind == "read" and request and request[0] in writing:
                        requests.pop((kind, index))   # would collide; asks another time
                        request = None
                    ctx.set(port.valid, request is not None)
                    if request:
                        ctx.set(port.address, request[0])
                        ctx.set(port.group, request[1])
                        if kind == "write":
                            ctx.set(port.data, request[2])
            _, _, *seen = await ctx.tick().sample(
                *[s for p in dut.readers for s in (p.ready, p.data_valid, p.data)],
                *[p.ready for p in dut.writers])
            for kind, widths in (("read", read_lanes), ("write", write_lanes)):
                free = True
                for index, lanes in enumerate(widths):
                    answer = None
                    if request := requests.get((kind, index)):
                        place, group, data = request
                        part = slice(group * lanes, (group + 1) * lanes)
                        ready = seen[3 * index if kind == "read" else 3 * len(read_lanes) + index]
                        assert ready == free
                        if ready:
                            requests.pop((kind, index))
                            accepted += 1
                            if kind == "read":
                                answer = model[place][part]
                            else:
                                model[place][part] = data
                        free = False
                    if kind == "read":
                        due = expected[index].pop(0)
                        assert bool(seen[3 * index + 1]) == (due is not None)
                        if due is not None:
                            assert [seen[3 * index + 2][k] for k in range(lanes)] == due
                        expected[index].append(answer)
        assert ctx.get(dut.collision) == 0
        assert accepted > 800

    simulate(dut, bench, cycles=1000)


@pytest.mark.parametrize(("kind", "gap", "collides"), [
    ("pool", 0, 1), ("pool", 1, 0), ("partial_sums", 0, 1), ("partial_sums", 1, 0)])
def test_collision(kind, gap, collides):
    if kind == "pool":
        dut = Pool(small(), readers=2, writers=1)
        read, write = dut.read[1], dut.write[0]
    else:
        dut = PartialSums(small(), read_lanes=(16, 4), write_lanes=(8,))
        read, write = dut.readers[1], dut.writers[0]

    async def bench(ctx):
        ctx.set(write.address, 5)
        ctx.set(write.valid, 1)
        for cycle in range(6):
            ctx.set(read.address, 5)
            ctx.set(read.valid, cycle == gap)
            await ctx.tick()
            ctx.set(write.valid, 0)
        assert ctx.get(dut.collision) == collides

    simulate(dut, bench, cycles=20)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: Pool(small(), readers=0, writers=1), "^Readers must be at least 1, not 0$"),
    (lambda: Pool(small(), readers=1, writers=0), "^Writers must be at least 1, not 0$"),
    (lambda: PartialSums(small(), read_lanes=(), write_lanes=(16,)),
     "^Readers must be at least 1, not 0$"),
    (lambda: PartialSums(small(), read_lanes=(16,), write_lanes=()),
     "^Writers must be at least 1, not 0$"),
    (lambda: PartialSums(small(), read_lanes=(3,), write_lanes=(16,)),
     "^Lanes of a port must divide 16 rows, not 3$")])
def test_ports_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()
