# amaranth: UnusedElaboratable=no
import random

import pytest

from hw.array.reader import ArrayReader
from hw.config import CoreConfig, PLANES_MIN
from hw.descriptor import HIGH_PLANES, RING_UNIT
from hw.port import POOL_LATENCY
from sim.drive.ports import serve_read, simulate, take_stream
from tests.hw.array.tile_headers import feed_headers


def random_job(rng, *, plane_skip, wide_weights):
    """Fields of a descriptor, and of the header of each of its tiles."""
    stride = rng.choice([1, 1, 2])
    height, width = rng.randint(1, 6), rng.randint(1, 6)
    fields = {
        "source": rng.randrange(1 << 16), "row_stride": rng.randrange(1 << 16),
        "position_stride": rng.randrange(1 << 12), "stride": stride,
        "planes": rng.randint(PLANES_MIN, 15) if plane_skip else rng.randint(2, 5),
        "signed": rng.randrange(2), "height": height, "width": width,
        "first_row": rng.randint(-2, height - 1), "out_rows": rng.randint(1, 4),
        "out_width": rng.randint(1, 5), "tiles": rng.randint(1, 3),
        "psum": rng.choice([0, 1023, rng.randrange(1024)]), "accumulate": rng.randrange(2),
        "ring": rng.choice([0, 0, 7, (1 << 14) - 1])}
    headers = [{"offset": rng.randrange(1 << 16), "dy": rng.randint(-2, 2),
                "dx": rng.randint(-2, 2), "high": int(wide_weights and rng.randrange(2))}
               for _ in range(fields["tiles"])]
    return fields, headers


def items_of(fields, headers, pool, repeats):
    """The items of every tile, as ``(word, plane, last, negate, psum, end)``; of a bubble only
    ``plane`` and ``end``, the others are None. And the set bits of all words read."""
    items, events = [], 0
    for tile, header in enumerate(headers):
        add, found = tile > 0 or fields["accumulate"], []
        positions = [(y, x) for y in range(fields["out_rows"]) for x in range(fields["out_width"])]
        for number, (y, x) in enumerate(positions):
            iy = (fields["first_row"] + y) * fields["stride"] + header["dy"]
            ix = x * fields["stride"] + header["dx"]
            psum = (fields["psum"] + number) % 1024
            in_ring = iy < 0 and fields["ring"] != 0
            inside = (0 <= iy < fields["height"] or in_ring) and 0 <= ix < fields["width"]
            if inside:
                top = (fields["source"] + header["offset"] + iy * fields["row_stride"]
                       + ix * fields["position_stride"] + fields["planes"] - 1
                       + in_ring * fields["ring"] * RING_UNIT)
                skipped = repeats(top % (1 << 16)) if repeats else 0
                words = [pool(address % (1 << 16)) for address in
                         range(top - skipped, top - fields["planes"], -1)]
                events += sum(word.bit_count() for word in words)
                words += [0] * (HIGH_PLANES * header["high"])
            else:
                words = [] if add else [0, 0]
            found += [(word, 1, k == len(words) - 1, inside and fields["signed"] and k == 0, psum)
                      for k, word in enumerate(words)]
        if not words:
            found.append((None, 0, None, None, None))
        items += [(*item, k == len(found) - 1) for k, item in enumerate(found)]
    return items, events


@pytest.mark.parametrize("plane_skip, wide_weights", [(False, False), (True, False), (False, True),
                                                      (True, True)])
@pytest.mark.parametrize(("stalls", "rows"), [
    ((0.0, 0.0, 0.0), 64), ((0.5, 0.0, 0.3), 16), ((0.3, 0.6, 0.0), 16), ((0.0, 0.2, 0.9), 16)])
def test_items(stalls, rows, plane_skip, wide_weights):
    """What the tiles of random descriptors look up, in order; maps of a few positions, padded,
    strided and in rings."""
    header_stall, pool_stall, sink_stall = stalls
    rng = random.Random(rows)
    config = CoreConfig(rows=rows, load_rows=16, plane_skip=plane_skip, wide_weights=wide_weights)
    dut = ArrayReader(config)
    words = [rng.choice([0, (1 << rows) - 1, rng.getrandbits(rows)]) for _ in range(1021)]
    waiting, reads, taken = [], 0, 0

    def pool(address):
        return words[address % len(words)]

    def repeats(address):
        return address * 7919 % 11 % 7          # of at least 8 planes 2 are read

    def read(address):
        nonlocal reads
        reads += 1
        assert reads - taken <= dut.DEPTH
        return pool(address)

    async def testbench(ctx):
        nonlocal reads, taken
        for _ in range(8 if sink_stall < 0.9 else 4):
            fields, headers = random_job(rng, plane_skip=plane_skip, wide_weights=wide_weights)
            for name, value in fields.items():
                ctx.set(getattr(dut.descriptor, name), value)
            skip = plane_skip and rng.randrange(2)
            if plane_skip:
                ctx.set(dut.skip_planes, skip)
            ctx.set(dut.begin, 1)
            await ctx.tick()
            ctx.set(dut.begin, 0)
            waiting.extend(headers)
            expected, events = items_of(fields, headers, pool, repeats if skip else None)
            reads = taken = 0
            take, found = take_stream(dut.o, len(expected), rng=rng, stall=sink_stall)
            await take(ctx)
            for item, wanted in zip(found, expected, strict=True):
                tag = item.tag
                got = item.word, tag.plane, tag.last, tag.negate, tag.psum, tag.end
                assert [value for value, known in zip(got, wanted, strict=True)
                        if known is not None] == [known for known in wanted if known is not None]
            await ctx.tick().repeat(rows.bit_length() + 1)      # log2(rows) + 2
            assert ctx.get(dut.events) == events
            assert not ctx.get(dut.o.valid)

    async def count(ctx):
        nonlocal taken
        while True:
            _, _, item = await ctx.tick().sample(dut.o.valid & dut.o.ready & dut.o.p.tag.plane)
            taken += item

    async def serve_repeats(ctx):
        while True:
            _, _, enable, address = await ctx.tick().sample(dut.repeats.enable,
                                                            dut.repeats.address)
            if enable:
                ctx.set(dut.repeats.count, repeats(address))

    simulate(dut, testbench, cycles=50_000, background=[
        feed_headers(dut.headers, waiting, rng=rng, stall=header_stall), count,
        serve_read(dut.pool, read, latency=POOL_LATENCY, rng=rng, stall=pool_stall),
        *([serve_repeats] if plane_skip else [])])


@pytest.mark.parametrize(("plane_skip", "planes"), [
    (False, 2), (False, 3), (False, 5), (False, 8), (True, 2), (True, 7), (True, 8)])
def test_a_plane_per_cycle(plane_skip, planes):
    """Where nothing waits, the planes of a tile follow each other; the next tile follows when a
    last position of 5 planes would have been read, of 7 with ``plane_skip``."""
    gap = max(0, (7 if plane_skip else 5) - planes)
    dut = ArrayReader(CoreConfig(rows=16, load_rows=4, plane_skip=plane_skip))
    times = []
    count = 16 * planes

    async def testbench(ctx):
        fields = {"planes": planes, "stride": 1, "height": 4, "width": 4, "out_rows": 4,
                  "out_width": 4, "tiles": 3, "position_stride": planes, "row_stride": 4 * planes}
        for name, value in fields.items():
            ctx.set(getattr(dut.descriptor, name), value)
        ctx.set(dut.begin, 1)
        ctx.set(dut.headers.valid, 1)
        ctx.set(dut.o.ready, 1)
        for cycle in range(3 * count + 80):
            if ctx.get(dut.o.valid):
                times.append(cycle)
            await ctx.tick()
            ctx.set(dut.begin, 0)

    simulate(dut, testbench, background=[
        serve_read(dut.pool, lambda address: 0, latency=POOL_LATENCY, rng=random.Random(0))])
    assert [cycle - times[0] for cycle in times[:3 * count]] == [
        tile * (count + gap) + plane for tile in range(3) for plane in range(count)]
