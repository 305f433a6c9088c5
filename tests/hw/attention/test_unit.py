# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from hw.attention.unit import AttentionUnit
from hw.config import attention_cap, CoreConfig, level_planes
from hw.port import POOL_LATENCY
from sim.drive.ports import run_unit, serve_halves, serve_read, simulate
from sim.reference.attention import attention
from sim.reference.lanes import to_planes
from sim.reference.state import Memories


POOL_WORDS, PSUM_WORDS = 4096, 256


def config(rows=16, head_words=4, **settings):
    return CoreConfig(rows=rows, head_words=head_words, load_rows=8, **settings)


def layout(*, tokens, words, slot_log2, base=0, gap=1, queries=None, planes=3, **fields):
    """A descriptor whose maps lie one behind the other, the positions ``gap`` words too far, those
    of v twice as much."""
    stride = planes * words + gap
    size = tokens * stride
    fields = {"query": base, "key": base + size, "value": base + 2 * size, "psum": base % 100,
              "position_stride": stride, "value_stride": planes + 2 * gap, "tokens": tokens,
              "queries": tokens if queries is None else queries, "words": words,
              "slot_log2": slot_log2, "keep": 0, **fields}
    return {name: value & 0xffff for name, value in fields.items()}


def put(pool, address, stride, levels, rows, planes):
    """Write levels (tokens, words * rows) as maps of the pool."""
    for n, token in enumerate(levels):
        words = to_planes(token.reshape(-1, rows), bits=planes).reshape(-1)
        pool[(address + n * stride + np.arange(len(words))) % len(pool)] = words


def fill(pool, fields, *, q, k, v, rows, planes=3):
    for name, levels in (("query", q), ("key", k), ("value", v)):
        stride = fields["value_stride" if name == "value" else "position_stride"]
        put(pool, fields[name], stride, np.asarray(levels), rows, planes)


def random_levels(rng, shape, rate, levels=4):
    return np.where(rng.random(shape) < rate, rng.integers(1, levels + 1, shape), 0)


def run(jobs, pool, *, rows=16, bits=8, levels=4, stall=0.0, seed=0, cycles=200_000):
    """Run descriptors on one unit; checks each against the model. Returns the sums of each and its
    cycles."""
    rng = np.random.default_rng(seed)
    core = config(rows, attention_bits=bits, levels=levels)
    dut = AttentionUnit(config=core)
    found = []
    psum = rng.integers(-1 << 23, 1 << 23, (PSUM_WORDS, rows))    # what was there before
    wanted = psum.copy()
    memories = Memories(pool=pool, psum=wanted, rows=rows, acc_bits=24, attention_bits=bits,
                        level_planes=core.level_planes)

    async def testbench(ctx):
        for fields in jobs:
            expected = attention(fields, memories)
            sig, events = await run_unit(ctx, dut.control, fields)
            at = fields["psum"] + np.arange(fields["queries"])
            found.append((psum[at % PSUM_WORDS], clock[0]))
            clock[0] = 0
            assert (sig, events) == expected.completion
            np.testing.assert_array_equal(psum, wanted)

    clock = [0]

    async def count(ctx):
        while True:
            await ctx.tick()
            clock[0] += 1

    def written(address, half, data):
        side = slice(half * rows // 2, (half + 1) * rows // 2)
        psum[address % PSUM_WORDS, side] = [data[lane] for lane in range(rows // 2)]

    simulate(dut, testbench, cycles=cycles, background=(
        serve_read(dut.pool, lambda a: int(pool[a % len(pool)]), latency=POOL_LATENCY, rng=rng,
                   stall=stall),
        serve_halves(dut.psum, written, rng=rng, stall=stall),
        count))
    return found


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
    run(jobs, pool, stall=stall)


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("words, levels, bits", [(1, 3, 6), (4, 3, 7), (2, 2, 6), (1, 1, 8)])
def test_two_planes(words, levels, bits, stall):
    """Levels below 4, for each of which two words lie in the pool."""
    rng = np.random.default_rng(words + levels)
    rate = 0.2 if words == 4 else 0.6
    pool = rng.integers(0, 1 << 16, POOL_WORDS, dtype=np.uint64)
    jobs = []
    for base, tokens, keep in ((60, 6, 0), (1200, 1, 0), (65500, 8, 0), (65500, 8, 1)):
        fields = layout(tokens=tokens, words=words, slot_log2=2, base=base, planes=2, keep=keep)
        fill(pool, fields, rows=16, v=random_levels(rng, (tokens, 16), rate, levels),
             q=random_levels(rng, (tokens, 16 * words), rate, levels),
             k=random_levels(rng, (tokens, 16 * words), rate, levels), planes=2)
        jobs.append(fields)
    assert any(sums.any() for sums, _ in run(jobs, pool, bits=bits, levels=levels, stall=stall))


@pytest.mark.parametrize("stall", [0.0, 0.6])
@pytest.mark.parametrize("words", [1, 3])
def test_chunks(words, stall):
    """The tokens of q in several descriptors, of which all but the first keep K^T V, give what one
    gives; so does an attention between others, and each its own events."""
    rng = np.random.default_rng(words)
    pool = np.zeros(POOL_WORDS, dtype=np.uint64)
    jobs, wanted = [], []
    for base, tokens in ((0, 12), (1500, 7)):
        whole = layout(tokens=tokens, words=words, slot_log2=3 if words == 1 else 4, base=base,
                       psum=100)
        fill(pool, whole, rows=16, v=random_levels(rng, (tokens, 16), 0.5),
             q=random_levels(rng, (tokens, 16 * words), 0.5),
             k=random_levels(rng, (tokens, 16 * words), 0.5))
        wanted.append(len(jobs))
        jobs.append(whole)
        first = 0
        for count in (tokens - 4, 3, 1):
            # What a descriptor that keeps does not look at.
            nothing = {"key": 9, "value": 9, "tokens": 0, "keep": 1} if first else {}
            jobs.append({**whole, "query": whole["query"] + first * whole["position_stride"],
                         "psum": 40 + first, "queries": count, **nothing})
            first += count
    found = run(jobs, pool, stall=stall)
    for index in wanted:
        whole, *parts = (sums for sums, _ in found[index:index + 4])
        assert whole.any()
        np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("rows", [32, 64])
def test_wide(rows):
    rng = np.random.default_rng(rows)
    pool = np.zeros(POOL_WORDS, dtype=np.uint64)
    fields = layout(tokens=3, words=2, slot_log2=5, gap=0)
    fill(pool, fields, rows=rows, v=random_levels(rng, (3, rows), 0.5),
         q=random_levels(rng, (3, 2 * rows), 0.2), k=random_levels(rng, (3, 2 * rows), 0.4))
    run([fields], pool, rows=rows, stall=0.2)


@pytest.mark.parametrize("bits, stall, levels", [
    (8, 0.4, 4), (10, 0.0, 4), (11, 0.2, 4), (6, 0.4, 3), (7, 0.0, 3), (8, 0.2, 2)])
def test_saturates(bits, stall, levels):
    """All levels the highest with more and more tokens: below the cap of K^T V, around it, far
    above; and around what the sums can hold."""
    cap, planes = attention_cap(bits), level_planes(levels)
    pool = np.zeros(POOL_WORDS, dtype=np.uint64)
    lanes, square = np.array((16, 2, 1, 0, 7)), levels**2
    most = cap // square + 3
    fields = layout(tokens=most, words=1, slot_log2=4, queries=len(lanes), gap=0, planes=planes)
    full = np.full((most, 16), levels)
    fill(pool, fields, rows=16, k=full, v=full, planes=planes,
         q=np.where(np.arange(16) < lanes[:, None], levels, 0))
    jobs = [{**fields, "tokens": tokens} for tokens in (1, cap // square - 1, cap // square, most)]
    for job, (sums, _) in zip(jobs, run(jobs, pool, bits=bits, levels=levels, stall=stall),
                              strict=True):
        exact = levels * lanes * min(square * job["tokens"], cap)
        over = 1 << bits
        wanted = np.where(exact < over, exact, over + exact % over)
        np.testing.assert_array_equal(sums, np.repeat(wanted[:, None], 16, axis=1))


@pytest.mark.parametrize("level", [1, 3, 4])
def test_sums(level):
    """All sums around 32, 96, 160 and 224: a single k row, q picks it with every level."""
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
    (sums, _), = run([fields], pool)
    assert sums.max() > 224


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
    run(jobs, pool, stall=stall)


@pytest.mark.parametrize("levels, key, query, once", [(4, 6, 3, 21), (3, 4, 3, 20)])
def test_nothing_fires(levels, key, query, once):
    """Tokens without a bit, at the pace of their words; they write 0."""
    pool = np.zeros(POOL_WORDS, dtype=np.uint64)
    fields = layout(tokens=50, words=1, slot_log2=4)
    (sums, cycles), = run([fields], pool, levels=levels)
    assert not sums.any()
    assert cycles == 50 * key + 50 * query + once


@pytest.mark.parametrize("bits", [0, 1])
def test_zero_token(bits):
    """Tokens of q with no bit, or one, between others: no sum is left over."""
    rng = np.random.default_rng(bits)
    pool = np.zeros(POOL_WORDS, dtype=np.uint64)
    fields = layout(tokens=30, words=1, slot_log2=4)
    q = random_levels(rng, (30, 16), 0.3)
    q[1::3] = 0
    q[1::3, 2] = bits
    q[2::3] = 0
    fill(pool, fields, rows=16, q=q, k=random_levels(rng, (30, 16), 0.5),
         v=random_levels(rng, (30, 16), 0.5))
    for stall in (0.0, 0.7):
        (sums, _), = run([fields], pool, stall=stall)
        assert sums[::3].any() and not sums[2::3].any() and sums[1::3].any() == bits


@pytest.mark.parametrize("levels, planes", [(4, 3), (3, 2)])
def test_cycles(levels, planes):
    """The cost that the docstring promises, on typical data, within 10 %."""
    rng = np.random.default_rng(1)
    pool = np.zeros(POOL_WORDS, dtype=np.uint64)
    fields = layout(tokens=80, words=1, slot_log2=4, gap=0, planes=planes)
    k, q, v = (random_levels(rng, (80, 16), 0.3, levels) for _ in range(3))
    fill(pool, fields, rows=16, k=k, q=q, v=v, planes=planes)
    (_, cycles), = run([fields], pool, levels=levels)
    e_k, e_q = ((x[..., None] >> np.arange(planes) & 1).sum(axis=1) for x in (k, q))
    doublings = sum((e_q[:, plane:].sum(axis=1) > 0).astype(int) for plane in range(1, planes))
    e_k, e_q = e_k.sum(axis=1), e_q.sum(axis=1)
    expected = (np.maximum(2 * planes, np.maximum(e_k, (e_k + 4) / 2 + planes)).sum()
                + np.maximum(3, e_q + doublings).sum() + 21)
    assert abs(cycles / expected - 1) < 0.1
