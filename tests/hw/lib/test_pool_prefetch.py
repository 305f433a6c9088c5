# amaranth: UnusedElaboratable=no
from amaranth import Signal
import numpy as np
import pytest

from hw.config import CoreConfig
from hw.lib.pool_prefetch import DEPTH, PoolPrefetch
from hw.port import POOL_LATENCY
from sim.drive.ports import feed_stream, serve_read, simulate


CONFIG = CoreConfig(rows=16, load_rows=4)


def low_bits(m, word):
    """A note: some bits of the word, inverted, in a register."""
    note = Signal(5)
    m.d.sync += note.eq(~word[:5])
    return note


def run(count, *, source=0.0, pool=0.0, sink=0.0, note=False, seed=0):
    """Read ``count`` random addresses; returns cycles of the first word and of the last, and the
    most words that were requested or waiting. Checks words, notes and ``empty``."""
    rng = np.random.default_rng(seed)
    content = rng.integers(0, 1 << 16, 1 << 16)
    content[:2] = 0, 0xFFFF
    dut = PoolPrefetch(config=CONFIG, **({"note": low_bits, "note_bits": 5} if note else {}))
    addresses = [0, 1, 65535, *rng.integers(0, 1 << 16, count - 3).tolist()]
    words, times, flight, most, waiting = [], [], 0, 0, None

    async def take(ctx):
        nonlocal flight, most, waiting
        cycle = 0
        while len(words) < count:
            ready = rng.random() >= sink
            ctx.set(dut.words.ready, ready)
            assert ctx.get(dut.empty) == (flight == 0)
            _, _, given, valid, word, noted, asked, accepted, address = await ctx.tick().sample(
                dut.addresses.valid & dut.addresses.ready, dut.words.valid, dut.words.payload,
                dut.note, dut.pool.valid, dut.pool.ready, dut.pool.address)
            # A request stays until the pool takes it.
            assert waiting is None or (asked and address == waiting)
            waiting = address if asked and not accepted else None
            if valid and ready:
                words.append((word, noted))
                times.append(cycle)
            flight += given - (valid and ready)
            most = max(most, flight)
            cycle += 1
        ctx.set(dut.words.ready, 0)
        await ctx.tick()
        assert ctx.get(dut.empty)

    simulate(dut, take, cycles=20_000, background=[
        feed_stream(dut.addresses, addresses, rng=rng, stall=source),
        serve_read(dut.pool, lambda address: int(content[address]), latency=POOL_LATENCY, rng=rng,
                   stall=pool)])
    expected = [int(content[address]) for address in addresses]
    assert [word for word, _ in words] == expected
    if note:
        assert [noted for _, noted in words] == [~word & 31 for word in expected]
    return times[0], times[-1], most


@pytest.mark.parametrize("note", [False, True])
@pytest.mark.parametrize("stalls", [(0.5, 0.0, 0.0), (0.0, 0.5, 0.0), (0.0, 0.0, 0.5),
                                    (0.0, 0.0, 0.95), (0.4, 0.4, 0.4), (0.0, 0.7, 0.7)])
def test_words_in_order(stalls, note):
    source, pool, sink = stalls
    *_, most = run(60 if sink > 0.9 else 200, source=source, pool=pool, sink=sink, note=note)
    assert most <= DEPTH
    if sink > 0.9:
        assert most == DEPTH


@pytest.mark.parametrize("note", [False, True])
def test_latency_and_rate(note):
    """The first word comes after the latency of the docstring, the others in a cycle each."""
    first, last, _ = run(100, note=note)
    # The first address is accepted in cycle 0.
    assert first == POOL_LATENCY + 2 + note
    assert last == first + 99
