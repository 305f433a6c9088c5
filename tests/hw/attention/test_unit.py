# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from hw.attention.unit import AttentionUnit
from hw.config import CoreConfig
from hw.port import POOL_LATENCY
from sim.drive.ports import run_unit, serve_read, serve_write, simulate
from sim.reference.attention import attention
from sim.reference.lanes import to_planes
from sim.reference.state import Memories


POOL_WORDS = 4096


def config(rows=16, head_words=4):
    return CoreConfig(rows=rows, head_words=head_words, load_rows=8)


def layout(*, tokens, words, slot_log2, base=0, gap=1):
    """A descriptor whose maps lie one behind the other, the positions ``gap`` words too far."""
    stride = 3 * words + gap
    size = tokens * stride
    fields = {"query": base, "key": base + size, "value": base + 2 * size,
              "output": base + 3 * size, "position_stride": stride, "tokens": tokens,
              "words": words, "slot_log2": slot_log2}
    return {name: value & 0xffff for name, value in fields.items()}


def put(pool, address, stride, levels, rows):
    """Write levels (tokens, words * rows) as maps of the pool."""
    for n, token in enumerate(levels):
        words = to_planes(token.reshape(-1, rows), bits=3).reshape(-1)
        pool[(address + n * stride + np.arange(len(words))) % len(pool)] = words


def fill(pool, fields, *, q, k, v, rows):
    for name, levels in (("query", q), ("key", k), ("value", v)):
        put(pool, fields[name], fields["position_stride"], np.asarray(levels), rows)


def random_levels(rng, shape, rate):
    return np.where(rng.random(shape) < rate, rng.integers(1, 5, shape), 0)


def run(jobs, pool, *, rows, stall=0.0, seed=0, cycles=200_000):
    """Run descriptors on one unit; checks each against the model. Returns cycles of each."""
    rng = np.random.default_rng(seed)
    dut = AttentionUnit(config=config(rows))
    took, wanted = [], pool.copy()
    memories = Memories(pool=wanted, psum=None, rows=rows, acc_bits=24)

    async def testbench(ctx):
        for fields in jobs:
            expected = attention(fields, memories)
            sig, events = await run_unit(ctx, dut.control, fields)
            took.append(clock[0])
            clock[0] = 0
            assert (sig, events) == expected.completion
            np.testing.assert_array_equal(pool, wanted)

    clock = [0]

    async def count(ctx):
        while True:
            await ctx.tick()
            clock[0] += 1


    def written(address, data):
        pool[address % len(pool)] = data

    simulate(dut, testbench, cycles=cycles, background=(
        serve_read(dut.pool, lambda a: int(pool[a % len(pool)]), latency=POOL_LATENCY, rng=rng,
                   stall=stall),
        serve_write(dut.write, written, rng=rng, stall=stall),
        count))
    return took


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("words, slot_log2", [(1, 4), (1, 2), (1, 0), (4, 4), (2, 3)])
def test_matches_reference(words, slot_log2, stall):
    rng = np.random.default_rng(words + slot_log2)
    rate = 0.2 if words == 4 else 0.6
    pool = rng.integers(0, 1 << 16, POOL_WORDS, dtype=np.uint64)
    jobs = []
    for base, tokens in ((60, 6), (1200, 1), (65500, 8)):           # the last one wraps
        fields = layout(tokens=tokens, words=words, slot_log2=slot_log2, base=base)
        fill(pool, fields, rows=16, v=random_levels(rng, (tokens, 16), rate),
             q=random_levels(rng, (tokens, 16 * words), rate),
             k=random_levels(rng, (tokens, 16 * words), rate))
        jobs.append(fields)
    run(jobs, pool, rows=16, stall=stall)


@pytest.mark.parametrize("rows", [32, 64])
def test_wide(rows):
    rng = np.random.default_rng(rows)
    pool = np.zeros(POOL_WORDS, dtype=np.uint64)
    fields = layout(tokens=3, words=2, slot_log2=5, gap=0)
    fill(pool, fields, rows=rows, v=random_levels(rng, (3, rows), 0.5),
         q=random_levels(rng, (3, 2 * rows), 0.2), k=random_levels(rng, (3, 2 * rows), 0.4))
    run([fields], pool, rows=rows, stall=0.2)


def test_saturates():
    pool = np.zeros(POOL_WORDS, dtype=np.uint64)
    fields = layout(tokens=20, words=1, slot_log2=4)
    full = np.full((20, 16), 4)
    fill(pool, fields, rows=16, q=full, k=full, v=full)
    run([fields], pool, rows=16)
    assert (pool[fields["output"] + 2] == 0xffff) and pool[fields["output"]] == 0


@pytest.mark.parametrize("level", [1, 3, 4])
def test_thresholds(level):
    """Sums around 32, 96, 160 and 224: a single k row, q picks it with every level."""
    pool = np.zeros(POOL_WORDS, dtype=np.uint64)
    tokens = 60
    fields = layout(tokens=tokens, words=1, slot_log2=4)
    q, k, v = (np.zeros((tokens, 16), dtype=int) for _ in range(3))
    k[:, 3] = level
    for j in range(16):
        v[:4 * j, j] = 1
        v[0, j] = j % 4 if j else 0
    q[:, 3] = np.arange(tokens) % 5
    fill(pool, fields, rows=16, q=q, k=k, v=v)
    run([fields], pool, rows=16)


@pytest.mark.parametrize("distance", range(1, 7))
@pytest.mark.parametrize("stall", [0.0, 0.3])
def test_same_row(distance, stall):
    """The same row is hit again after ``distance`` events, in planes and in tokens."""
    rng = np.random.default_rng(distance)
    pool = np.zeros(POOL_WORDS, dtype=np.uint64)
    jobs = []
    for index, level in enumerate((1, 3)):          # 3: in two planes that follow each other
        fields = layout(tokens=12, words=1, slot_log2=4, base=1000 * index)
        k = np.zeros((12, 16), dtype=int)
        k[:, rng.permutation(16)[:distance]] = level
        fill(pool, fields, rows=16, k=k, q=random_levels(rng, (12, 16), 0.4),
             v=random_levels(rng, (12, 16), 0.6))
        jobs.append(fields)
    run(jobs, pool, rows=16, stall=stall)


def test_nothing_fires():
    pool = np.zeros(POOL_WORDS, dtype=np.uint64)
    fields = layout(tokens=50, words=1, slot_log2=4)
    pool[fields["output"]:fields["output"] + 200] = 0xffff
    cycles, = run([fields], pool, rows=16)
    assert cycles == 50 * 6 + 50 * 3 + 23


def test_cycles():
    """The cost that the docstring promises, on typical data, within 10 %."""
    rng = np.random.default_rng(1)
    pool = np.zeros(POOL_WORDS, dtype=np.uint64)
    fields = layout(tokens=80, words=1, slot_log2=4, gap=0)
    k, q, v = (random_levels(rng, (80, 16), 0.3) for _ in range(3))
    fill(pool, fields, rows=16, k=k, q=q, v=v)
    cycles, = run([fields], pool, rows=16)
    planes = [(x[..., None] >> np.arange(3) & 1).sum(axis=1) for x in (k, q)]
    e_k, e_q = planes
    doublings = (e_q[:, 2] > 0).astype(int) + (e_q[:, 1:].sum(axis=1) > 0)
    e_k, e_q = e_k.sum(axis=1), e_q.sum(axis=1)
    expected = (np.maximum(6, np.maximum(e_k, (e_k + 10) / 2)).sum()
                + np.maximum(3, e_q + doublings).sum() + 23)
    assert abs(cycles / expected - 1) < 0.1
