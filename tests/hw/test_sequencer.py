# amaranth: UnusedElaboratable=no
import random

from amaranth.hdl import Shape, Value
import numpy as np
import pytest

from hw.descriptor import DESCRIPTOR_WORDS, Header, LAYOUTS, pack, UnitKind, WAIT_BITS
from hw.sequencer import Fetch, Recorder, UnitQueue, UNITS
from sim.drive.ports import feed_stream, serve_memory, simulate
from sim.drive.queue_check import INPUTS, OUTPUTS, QueueCheck


def random_program(rng, address, count, index=0):
    """Memory content and what each dispatch must be: (unit, word and index in one)."""
    content, expected = {}, []
    for _ in range(count):
        unit = UNITS[int(rng.integers(len(UNITS)))]
        waits = rng.choice([0, 1, 511, 512, 1023, int(rng.integers(1024))], 6).tolist()
        fields = int(rng.integers(0, 1 << 63)) << 65 ^ int(rng.integers(0, 1 << 63)) << 20
        for word in (pack(Header, kind=unit, waits=waits), fields & (1 << 64) - 1, fields >> 64):
            content[address % (1 << 24)] = word
            expected.append((unit.value, word | index << 64))
            address += 1
        index += 1
    # Beyond END lie descriptors that must not be dispatched.
    content[address % (1 << 24)] = pack(Header, kind=UnitKind.END, waits=[1023] * 6)
    for k in range(1, 60):
        content[(address + k) % (1 << 24)] = pack(Header, kind=UNITS[k % 6], waits=[0] * 6)
    return content, expected


@pytest.mark.parametrize("seed, stall, latency", [
    (0, 0.0, 1), (1, 0.0, 40), (2, 0.5, 12), (3, 0.5, 2)])
def test_fetch(seed, stall, latency):
    """The words of every descriptor come one after the other, with its index, to its unit."""
    rng = np.random.default_rng(seed)
    dut = Fetch()
    addresses = [300, 700, (1 << 24) - 20, 2000, 3000]
    counts = [int(rng.integers(1, 61)), 0, 25, 60, int(rng.integers(1, 10))]
    programs = [random_program(rng, *what) for what in zip(addresses, counts, strict=True)]
    content = {}
    for words, _ in programs:
        content |= words
    dispatched = []

    async def queues(ctx):
        ports = [part for port in dut.o for part in (port.valid, Value.cast(port.payload))]
        refused, ready, full = None, [0] * 6, [0] * 6        # full: cycles it refuses for
        while True:
            _, _, *values = await ctx.tick().sample(*ports)
            offers = [(unit, values[2 * unit + 1]) for unit in range(6) if values[2 * unit]]
            assert len(offers) <= 1
            if refused is not None:
                assert offers == [refused], "an offer was withdrawn or changed"
            refused = None
            for unit, packed in offers:
                if ready[unit]:
                    dispatched.append((unit, packed))
                else:
                    refused = unit, packed
            if rng.random() < stall / 10:
                full[int(rng.integers(6))] = int(rng.integers(100))
            full = [max(0, left - 1) for left in full]
            ready = [int(not left and rng.random() >= stall) for left in full]
            for port, value in zip(dut.o, ready, strict=True):
                ctx.set(port.ready, value)

    async def bench(ctx):
        await ctx.tick()
        for address, (_, expected) in zip(addresses, programs, strict=True):
            assert ctx.get(dut.ended)
            dispatched.clear()
            ctx.set(dut.program, address)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            ctx.set(dut.program, 12345)
            assert not ctx.get(dut.ended)
            cycles = 0
            while not ctx.get(dut.ended):
                await ctx.tick()
                cycles += 1
            assert dispatched == expected
            assert ctx.get(dut.dispatched) * DESCRIPTOR_WORDS == len(expected)
            assert not ctx.get(dut.memory.r_data.valid) and not ctx.get(dut.memory.commands.valid)
            if not stall and latency == 1:
                assert cycles <= 2 * len(expected) + 60

    simulate(dut, bench, background=[
        serve_memory(dut.memory, content, rng=random.Random(seed), stall=stall, latency=latency),
        queues], cycles=10_000)


def bind(dut, names):
    """Ports of ``dut`` by their names in Verilog, as plain values."""
    def find(name):
        target = dut
        for part in name.split("__"):
            target = getattr(target, part)
        return Value.cast(target)
    return {name: find(name) for name in names}


@pytest.mark.parametrize("unit, depth, stall, pace", [
    (UnitKind.LOAD, 4, 0.0, 1.0), (UnitKind.ATTENTION, 4, 0.0, 0.2), (UnitKind.STORE, 2, 0.3, 0.2),
    (UnitKind.NEURON, 3, 0.4, 1.0), (UnitKind.ARRAY, 15, 0.85, 1.0)])
def test_queue(unit, depth, stall, pace):
    dut = UnitQueue(layout=LAYOUTS[unit], depth=depth)
    check = QueueCheck(rng=random.Random(depth), width=Shape.cast(LAYOUTS[unit]).width,
                       depth=depth, count=40, stall=stall, pace=pace)
    inputs, outputs = bind(dut, INPUTS), bind(dut, OUTPUTS)

    async def bench(ctx):
        while not check.finished:
            for name, value in check.drive.items():
                ctx.set(inputs[name], value)
            _, _, *values = await ctx.tick().sample(*outputs.values())
            check.step(dict(zip(outputs, values, strict=True)))
        for _ in range(20):
            for name, value in check.drive.items():
                ctx.set(inputs[name], value)
            _, _, *values = await ctx.tick().sample(*outputs.values())
            check.step(dict(zip(outputs, values, strict=True)))
            assert values[OUTPUTS.index("idle")]

    simulate(dut, bench, cycles=8_000)
    if not stall:
        assert check.shortest_gap == 3
        assert check.most_held == (depth + 1) * DESCRIPTOR_WORDS
        if pace == 1:
            assert check.shortest_start == 3


@pytest.mark.parametrize("count", [0, 511, 512, 1023])
@pytest.mark.parametrize("unit", range(6))
def test_queue_compares_signed(unit, count):
    """Met from 0 to 511 counts ahead; one behind and 512 ahead are not."""
    dut = UnitQueue(layout=LAYOUTS[UnitKind.ARRAY], depth=2)

    async def bench(ctx):
        ctx.set(dut.unit.run.ready, 1)
        for difference, met in ((0, True), (511, True), (-1, False), (512, False)):
            completed = [count] * 6
            waits = [count] * 6
            completed[unit] = (count + difference) % (1 << WAIT_BITS)
            ctx.set(dut.completed, completed)
            for word in (pack(Header, waits=waits, mark=difference == 511), 0, 0):
                ctx.set(dut.i.payload, {"word": word})
                ctx.set(dut.i.valid, 1)
                await ctx.tick()
                ctx.set(dut.i.valid, 0)
                assert not ctx.get(dut.idle)
            starts = []
            for _ in range(10):
                await ctx.tick()
                starts.append(ctx.get(dut.unit.run.valid))
                assert ctx.get(dut.marked) == (starts[-1] and difference == 511)
                if not met:
                    assert ctx.get(dut.waiting)
            assert starts == [0, met] + 8 * [0]
            if not met:
                ctx.set(dut.completed, waits)
                await ctx.tick().repeat(2)
                assert ctx.get(dut.unit.run.valid)
                await ctx.tick()
            assert ctx.get(dut.busy)
            ctx.set(dut.unit.done, 1)
            ctx.set(dut.record.ready, 1)
            await ctx.tick()
            ctx.set(dut.unit.done, 0)
            await ctx.tick()
            assert ctx.get(dut.idle)

    simulate(dut, bench, cycles=200)


def random_records(rng, count):
    """Records of the six units with indices that are all different, both extremes among them."""
    indices = [0, 65535, *(1 + rng.permutation(65534)[:count - 2]).tolist()]
    rng.shuffle(indices)
    words = rng.integers(0, 1 << 32, (count, 4)).tolist()
    records = [dict(zip(("sig", "events", "start", "end"), row, strict=True), index=int(index))
               for row, index in zip(words, indices, strict=True)]
    return [records[unit::6] for unit in range(6)]


def logged(records, log):
    """Memory content after ``records``."""
    content = {}
    for record in records:
        address = (log + 2 * record["index"]) % (1 << 24)
        content[address] = record["sig"] | record["events"] << 32
        content[(address + 1) % (1 << 24)] = record["start"] | record["end"] << 32
    return content


@pytest.mark.parametrize("stall, quiet, log", [(0.0, 0.0, 0), (0.4, 0.0, (1 << 24) - 131072),
                                               (0.0, 0.97, 77), (0.4, 0.9, (1 << 24) - 500)])
def test_recorder(stall, quiet, log):
    rng = np.random.default_rng(5)
    dut = Recorder()
    records = random_records(rng, 90)
    content = {}

    class Wrapped:
        def __setitem__(self, address, word):
            address %= 1 << 24
            assert address not in content, "written twice"
            content[address] = word

    async def bench(ctx):
        ctx.set(dut.log, log)
        quiet_for = 0
        while quiet_for < 200:
            _, _, idle, *valid = await ctx.tick().sample(dut.idle, *(port.valid for port in dut.i))
            assert idle == (not any(valid))
            quiet_for = quiet_for + 1 if idle else 0
        assert content == logged([r for queue in records for r in queue], log)
        # Then those of runs: below the log, the slots from the last one on.
        for slot in (1, 2, 65535, 300):
            left, errors, end = slot * 7 % 65536, slot % 4, slot * 1234567 % (1 << 32)
            content.clear()
            ctx.set(dut.run.payload, {"left": left, "errors": errors, "end": end, "slot": slot})
            ctx.set(dut.run.valid, 1)
            await ctx.tick().until(dut.run.ready)
            ctx.set(dut.run.valid, 0)
            await ctx.tick().repeat(60)
            address = (log - 2 * (slot + 1)) % (1 << 24)
            assert content == {address: left | errors << 32, (address + 1) % (1 << 24): end << 32}

    simulate(dut, bench, *(feed_stream(dut.i[k], records[k], rng=rng, stall=quiet)
                           for k in range(6)),
             background=[serve_memory(dut.memory, Wrapped(), rng=random.Random(5), stall=stall)],
             cycles=10_000)
