# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from hw.config import CoreConfig
from hw.depthwise.unit import DepthwiseUnit
from hw.port import POOL_LATENCY, PSUM_LATENCY
from sim.drive.ports import feed_stream, run_unit, serve_halves, serve_read, simulate
from sim.reference.depthwise import depthwise, pack_depthwise, weight_words
from sim.reference.lanes import to_planes
from sim.reference.state import Memories


LEVEL, PARTIAL = 0, 1
POOL_WORDS = 4096
PSUM_WORDS = 256
SIGNED_18 = -1 << 17, (1 << 17) - 1


def job(mode, *, kernel, height, width, first_row=0, out_rows=None, source=0, gap=0, psum=0,
        source_row=0, ring=0, half=0, planes=3):
    """A descriptor; ``gap`` pool words lie unused behind every position and every row."""
    stride = planes + gap
    return {"mode": mode, "kernel": kernel, "source": source,
            "row_stride": width * stride + gap, "position_stride": stride, "height": height,
            "width": width, "first_row": first_row,
            "out_rows": height - first_row if out_rows is None else out_rows,
            "psum": psum, "source_row": source_row, "ring": ring, "half": half}


def random_weights(rng, fields, rows, weights=None):
    """Words of the weight stream. ``weights``: a constant for all taps, else random."""
    kernel = fields["kernel"]
    shape = rows // 2 if fields["half"] else rows, kernel, kernel
    w = rng.integers(-8, 8, shape) if weights is None else np.full(shape, weights)
    return pack_depthwise(w).tolist()


def run(jobs, pool, psum, *, rows=16, acc_bits=24, stall=0.0, seed=0, weights=None,
        levels=4, cycles=300_000):
    """Run descriptors on one unit and check each against the model. Returns cycles of each."""
    rng = np.random.default_rng(seed)
    half = any(fields["half"] for fields in jobs)
    config = CoreConfig(rows=rows, acc_bits=acc_bits, depthwise_half=half, levels=levels)
    dut = DepthwiseUnit(config=config)
    lanes = rows // 2
    words = [random_weights(rng, fields, rows, weights) for fields in jobs]
    wanted = psum.copy()
    expected_memories = Memories(pool=pool, psum=wanted, rows=rows, acc_bits=acc_bits,
                                 level_planes=config.level_planes)
    took, clock = [], [0]

    async def testbench(ctx):
        for fields, group in zip(jobs, words, strict=True):
            assert len(group) == weight_words(fields, rows=rows)
            expected = depthwise(fields, group, expected_memories)
            clock[0] = 0
            sig, events = await run_unit(ctx, dut.control, fields)
            took.append(clock[0])
            np.testing.assert_array_equal(psum, wanted)
            assert (sig, events) == expected.completion

    async def count(ctx):
        while True:
            await ctx.tick()
            clock[0] += 1

    def read(address, group):
        return psum[address % len(psum), group * lanes:(group + 1) * lanes].tolist()

    def add(address, half, accumulate, data):
        part = psum[address % len(psum), half * lanes:(half + 1) * lanes]
        total = part * accumulate + [data[j] for j in range(lanes)]
        part[:] = (total + (1 << acc_bits - 1)) % (1 << acc_bits) - (1 << acc_bits - 1)

    simulate(dut, testbench,
             feed_stream(dut.weights, [w for group in words for w in group], rng=rng, stall=stall),
             cycles=cycles, background=(
                 serve_read(dut.pool, lambda a: int(pool[a % len(pool)]), latency=POOL_LATENCY,
                            rng=rng, stall=stall),
                 serve_read(dut.psum_read, read, latency=PSUM_LATENCY, rng=rng, stall=stall,
                            grouped=True),
                 serve_halves(dut.psum, add, rng=rng, stall=stall),
                 count))
    return took


def memories(rng, rows=16, low=SIGNED_18[0], high=SIGNED_18[1]):
    pool = to_planes(rng.integers(0, 5, (POOL_WORDS // 3 + 1, rows)), bits=3).reshape(-1)
    return pool[:POOL_WORDS].copy(), rng.integers(low, high + 1, (PSUM_WORDS, rows))


LEVEL_JOBS = [
    job(LEVEL, kernel=7, height=5, width=6, source=100, gap=2),
    job(LEVEL, kernel=3, height=4, width=5, first_row=1, out_rows=2, source=50, psum=30),
    job(LEVEL, kernel=5, height=9, width=3, first_row=4, out_rows=3, source=65000, psum=250),
    job(LEVEL, kernel=7, height=8, width=1, first_row=6, out_rows=2),
    job(LEVEL, kernel=1, height=2, width=2, psum=7),
    job(LEVEL, kernel=7, height=1, width=1),
    job(LEVEL, kernel=7, height=20, width=4, first_row=9, out_rows=1, source=3),
]
RING_JOBS = [
    job(LEVEL, kernel=7, height=20, width=4, first_row=-3, out_rows=6, source=65530, ring=61),
    job(LEVEL, kernel=7, height=9, width=3, first_row=2, out_rows=2, source=7, gap=1, ring=50),
    job(LEVEL, kernel=5, height=9, width=5, first_row=-4, out_rows=2, source=900, ring=1000),
    job(LEVEL, kernel=3, height=2, width=1, first_row=-1, out_rows=3, source=5, ring=3),
    job(LEVEL, kernel=7, height=1, width=2, first_row=-6, out_rows=7, source=5, ring=16_383),
    job(LEVEL, kernel=1, height=4, width=3, first_row=-2, out_rows=5, source=80, ring=9),
]
PARTIAL_JOBS = [
    job(PARTIAL, kernel=3, height=5, width=6, source=100),
    job(PARTIAL, kernel=3, height=6, width=4, first_row=2, out_rows=2, source_row=1, source=200,
        psum=20),
    job(PARTIAL, kernel=3, height=3, width=1, source=250, psum=100),
    job(PARTIAL, kernel=3, height=1, width=1, source=3, psum=100),
    job(PARTIAL, kernel=3, height=9, width=7, first_row=7, out_rows=2, source_row=6, source=60,
        psum=250),
]


HALF_JOBS = [fields | {"half": half} for half, fields in (
    (1, LEVEL_JOBS[1]), (1, LEVEL_JOBS[6]), (0, LEVEL_JOBS[1]), (1, RING_JOBS[0]),
    (1, LEVEL_JOBS[3]), (1, PARTIAL_JOBS[1]), (1, LEVEL_JOBS[4]), (1, LEVEL_JOBS[5]))]


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("jobs", [LEVEL_JOBS, PARTIAL_JOBS, RING_JOBS, [
    LEVEL_JOBS[1], *PARTIAL_JOBS[:2], LEVEL_JOBS[2], RING_JOBS[0], PARTIAL_JOBS[3]], HALF_JOBS],
                         ids=["level", "partial", "ring", "mixed", "half"])
def test_matches_reference(jobs, stall):
    rng = np.random.default_rng(len(jobs))
    pool, psum = memories(rng)
    if any(fields["mode"] == PARTIAL for fields in jobs):
        # Results become inputs of later descriptors: keep them narrow.
        psum //= 64
    run(jobs, pool, psum, stall=stall)


TWO_PLANES = [
    job(LEVEL, kernel=7, height=5, width=6, source=100, gap=1, planes=2),
    job(LEVEL, kernel=3, height=4, width=1, first_row=1, out_rows=2, source=50, psum=30, planes=2),
    job(LEVEL, kernel=7, height=20, width=4, first_row=-3, out_rows=6, source=65530, ring=61,
        planes=2),
    job(LEVEL, kernel=3, height=9, width=6, first_row=2, out_rows=4, half=1, planes=2),
    PARTIAL_JOBS[1],
    job(LEVEL, kernel=1, height=4, width=2, planes=2),
]


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_two_planes(stall):
    """Levels of 0..3: a position in two cycles."""
    pool, psum = memories(np.random.default_rng(2))
    psum //= 64
    took = run(TWO_PLANES, pool, psum, stall=stall, levels=3)
    if not stall:
        for index, positions in ((0, 6 * (5 * 7 - 12)), (3, 12 * 6)):
            fields = TWO_PLANES[index]
            groups = 1 if fields["half"] else 2
            expected = 34 + groups * (15 * fields["kernel"] + 2 * positions)
            assert expected - 1 <= took[index] <= expected + groups * 6


@pytest.mark.parametrize("acc_bits", [20, 24, 30])
@pytest.mark.parametrize("weight", [-8, 7])
@pytest.mark.parametrize("value", SIGNED_18)
def test_partial_extremes(value, weight, acc_bits):
    rng = np.random.default_rng(0)
    pool, psum = memories(rng)
    psum[:] = value
    run([PARTIAL_JOBS[1]], pool, psum, weights=weight, acc_bits=acc_bits)


@pytest.mark.parametrize("weight", [-8, 7])
def test_level_extremes(weight):
    rng = np.random.default_rng(0)
    pool, psum = memories(rng)
    pool[:] = (1 << 16) - 1                        # 7, beyond any level
    run([LEVEL_JOBS[0]], pool, psum, weights=weight)


@pytest.mark.parametrize("rows", [32, 64])
def test_rows(rows):
    rng = np.random.default_rng(rows)
    pool, psum = memories(rng, rows=rows)
    psum //= 64
    run([LEVEL_JOBS[1], PARTIAL_JOBS[1]], pool, psum, rows=rows, stall=0.2)


@pytest.mark.parametrize("fields", [
    job(LEVEL, kernel=7, height=9, width=6),
    job(LEVEL, kernel=3, height=9, width=6, first_row=2, out_rows=4),
    job(LEVEL, kernel=1, height=4, width=1),
    job(PARTIAL, kernel=3, height=9, width=6, source=100),
    job(PARTIAL, kernel=3, height=9, width=6, source=100, first_row=4, out_rows=3),
    job(LEVEL, kernel=7, height=9, width=6, half=1),
    job(LEVEL, kernel=3, height=9, width=6, first_row=2, out_rows=4, half=1)])
def test_cycles(fields):
    """The cost that the docstring promises."""
    pool, psum = memories(np.random.default_rng(0))
    took, = run([fields], pool, psum)
    kernel, first = fields["kernel"], fields["first_row"]
    used = [y + ky - kernel // 2 for ky in range(kernel)
            for y in range(first, first + fields["out_rows"])]
    positions = sum(0 <= y < fields["height"] for y in used) * fields["width"]
    above = sum(y < 0 for y in used)
    # Of 8 lanes; the load of their weights is hidden.
    groups = 1 if fields["half"] else 2
    if fields["mode"] == LEVEL:
        expected = 34 + groups * (18 * kernel + 3 * positions)
    else:
        expected = 33 + groups * (17 * kernel + 4 * positions)
    assert expected - 1 <= took <= expected + groups * above
