# amaranth: UnusedElaboratable=no
import random

import pytest

from hw.config import CoreConfig
from hw.memory.partial_sum import PartialSums
from hw.port import PSUM_ADD_LATENCY, PSUM_HALF_DATA, PSUM_LATENCY, PSUM_ROW_DATA
from sim.drive.ports import simulate


def small(**settings):
    return CoreConfig(**{"rows": 16, "load_rows": 4, "psum_words": 16, **settings})


def wrapped(value, bits):
    return (value + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)


@pytest.mark.parametrize(("read_lanes", "rows", "acc_bits", "words"), [
    ((8,), 16, 24, 16), ((8, 4, 1), 16, 24, 16), ((2, 8, 8), 16, 20, 32), ((8, 4), 16, 30, 64),
    ((16, 8), 32, 24, 16)])
def test_traffic(read_lanes, rows, acc_bits, words):
    """Random additions and reads of every width against a model of sums, priority and latency."""
    config = small(rows=rows, acc_bits=acc_bits, psum_words=words)
    dut = PartialSums(config, read_lanes=read_lanes)
    rng = random.Random(0)
    lanes = config.rows // 2
    least, most = -1 << acc_bits - 1, (1 << acc_bits - 1) - 1

    async def bench(ctx):
        model = [[[0] * lanes for _ in range(2)] for _ in range(words)]
        now = 0
        slots = {}              # cycle -> (place, half, accumulate) of the addition that has it
        data = {}               # cycle -> what the ports give then
        made = {}               # cycle -> additions whose sums are in the memory from then on
        written = {}            # cycle -> place and half that are written in it
        answers = [{} for _ in read_lanes]
        requests = [None] * len(read_lanes)
        free, narrow_free, last_row = False, False, False
        accepted, added, narrow_added, claim = 0, 0, 0, False

        def number():
            return rng.choice([least, most]) if rng.random() < 0.2 else rng.randint(least, most)

        def address_of(place):
            """With any bits above those of the memory."""
            return place + words * rng.randrange(1024 // words)

        def collides(at, *place):
            return place == written.get(at)

        def begin(at, place, half, accumulate, values):
            """An addition that has the cycle ``at``."""
            slots[at] = place, half, accumulate
            written[at + PSUM_ADD_LATENCY] = place, half
            made.setdefault(at + PSUM_ADD_LATENCY, []).append((place, half, accumulate, values))

        for now in range(1500):
            for place, half, accumulate, values in made.pop(now - 1, ()):
                before = model[place][half] if accumulate else [0] * lanes
                model[place][half] = [wrapped(b + v, acc_bits)
                                      for b, v in zip(before, values, strict=True)]
            # Not where one before has not been made yet: it would read what was there.
            pending = {(place, half) for group in made.values() for place, half, _, _ in group}
            row = rng.randrange(words), rng.random() < 0.7
            with_row = (not last_row and rng.random() < 0.4
                        and not {(row[0], 0), (row[0], 1)} & pending)
            last_row = with_row
            ctx.set(dut.row.valid, with_row)
            if with_row:
                values = [number() for _ in range(config.rows)]
                ctx.set(dut.row.address, address_of(row[0]))
                ctx.set(dut.row.accumulate, row[1])
                data[now + PSUM_ROW_DATA] = dut.row.data, values
                begin(now + 1, row[0], 0, row[1], values[:lanes])
                begin(now + 2, row[0], 1, row[1], values[lanes:])
                added += 1
            half = rng.randrange(words), rng.randrange(2), rng.random() < 0.7
            with_half = claim and free and half[:2] not in pending and (
                not with_row or half[0] != row[0])
            claim = rng.random() < 0.6
            ctx.set(dut.half.claim, claim)
            ctx.set(dut.half.valid, with_half)
            if with_half:
                values = [number() for _ in range(lanes)]
                ctx.set(dut.half.address, address_of(half[0]))
                ctx.set(dut.half.half, half[1])
                ctx.set(dut.half.accumulate, half[2])
                data[now + PSUM_HALF_DATA, "half"] = dut.half.data, values
                begin(now, *half, values)
                added += 1
            narrow = rng.randrange(words), rng.randrange(2)
            with_narrow = narrow_free and rng.random() < 0.6 and narrow not in pending and (
                not with_row or narrow[0] != row[0])
            ctx.set(dut.narrow.valid, with_narrow)
            if with_narrow:
                values = [rng.randrange(2 << config.attention_bits) for _ in range(lanes)]
                ctx.set(dut.narrow.address, address_of(narrow[0]))
                ctx.set(dut.narrow.half, narrow[1])
                data[now + PSUM_HALF_DATA, "narrow"] = dut.narrow.data, values
                begin(now, *narrow, False, values)
                narrow_added += 1
            for port, key in ((dut.row, now), (dut.half, (now, "half")),
                              (dut.narrow, (now, "narrow"))):
                if key in data:
                    ctx.set(*data.pop(key))
                elif port is not dut.row:
                    ctx.set(port.data, [0] * lanes)
            # A free slot behind this cycle: no row has it.
            free = not with_row and (now + 1) not in slots
            narrow_free = free and not claim
            for index, port in enumerate(dut.readers):
                if requests[index] is None and rng.random() < 0.7:
                    requests[index] = rng.randrange(words), rng.randrange(
                        config.rows // read_lanes[index])
                request = requests[index]
                if request and collides(now, request[0],
                                        request[1] * read_lanes[index] // lanes):
                    request = requests[index] = None      # asks another time
                ctx.set(port.valid, request is not None)
                if request:
                    ctx.set(port.address, address_of(request[0]))
                    ctx.set(port.group, request[1])
            _, _, half_free, rest_free, *seen = await ctx.tick().sample(
                dut.half.free, dut.narrow.free,
                *[s for p in dut.readers for s in (p.ready, p.data_valid, p.data)])
            assert (half_free, rest_free) == (free, narrow_free)
            open_slot = not (now in slots and slots[now][2])
            for index, width in enumerate(read_lanes):
                ready, data_valid, value = seen[3 * index:3 * index + 3]
                due = answers[index].pop(now, None)
                assert bool(data_valid) == (due is not None)
                if due is not None:
                    assert [value[k] for k in range(width)] == due
                if request := requests[index]:
                    assert ready == open_slot
                    if ready:
                        place, group = request
                        start = group * width
                        answers[index][now + PSUM_LATENCY] = (
                            model[place][start // lanes][start % lanes:start % lanes + width])
                        requests[index] = None
                        accepted += 1
                    open_slot = False
        assert ctx.get(dut.collision) == 0
        assert accepted > 300 and added > 500 and narrow_added > 100

    simulate(dut, bench, cycles=2000)


@pytest.mark.parametrize(("kind", "gap", "collides"), [
    ("half", PSUM_ADD_LATENCY, 1), ("half", PSUM_ADD_LATENCY - 1, 0),
    ("half", PSUM_ADD_LATENCY + 1, 0), ("narrow", PSUM_ADD_LATENCY, 1),
    ("narrow", PSUM_ADD_LATENCY + 1, 0), ("row", PSUM_ADD_LATENCY + 2, 1),
    ("row", PSUM_ADD_LATENCY + 3, 0)])
def test_collision(kind, gap, collides):
    """A read in the cycle in which an addition to its address is written."""
    dut = PartialSums(small(), read_lanes=(8, 4))
    read, write = dut.readers[1], getattr(dut, kind)

    async def bench(ctx):
        ctx.set(write.address, 5)
        if kind != "row":
            ctx.set(write.half, 1)
        ctx.set(read.group, 2)                   # of four: in the upper half
        ctx.set(write.valid, 1)
        for cycle in range(12):
            ctx.set(read.address, 5)
            ctx.set(read.valid, cycle == gap)
            await ctx.tick()
            ctx.set(write.valid, 0)
        assert ctx.get(dut.collision) == collides

    simulate(dut, bench, cycles=20)


@pytest.mark.parametrize(("read_lanes", "message"), [
    ((), "^Readers must be at least 1, not 0$"),
    ((3,), "^Lanes of a port must divide half of 16 rows, not 3$"),
    ((16,), "^Lanes of a port must divide half of 16 rows, not 16$")])
def test_ports_wrong(read_lanes, message):
    with pytest.raises(ValueError, match=message):
        PartialSums(small(), read_lanes=read_lanes)
