# amaranth: UnusedElaboratable=no
"""The same contract for both memory backends: on chip, and the simulation twin."""
import random

import pytest

from hw.memory.onchip_memory import OnChipMemory
from sim.drive.ports import feed_stream, simulate
from sim.twin.memory import MemoryTwin
from sim.twin.storage import Storage


def run_bursts(dut, bursts, *, rng, stall=0.0, cycles=60_000):
    """Run ``(write, address, length)`` bursts against a model of the memory.

    Returns the cycles from each command to the first word of its burst (reads), and the total.
    """
    port = dut.memory
    model = list(dut.init) + [None] * (dut.words - len(dut.init))
    commands, written, expected = [], [], []
    for write, address, length in bursts:
        commands.append({"address": address, "length": length, "write": write})
        for place in range(address, address + length):
            if write:
                model[place] = rng.getrandbits(64)
                written.append(model[place])
            else:
                expected.append(model[place])
    received, taken, arrived, now = [], [], [], [0]

    async def clock(ctx):
        first = [index for index, (write, _, length) in enumerate(bursts) if not write
                 for index in [index] + [None] * (length - 1)]
        while True:
            *_, command, word = await ctx.tick().sample(
                port.commands.valid & port.commands.ready, port.r_data.valid & port.r_data.ready)
            now[0] += 1
            if command:
                taken.append(now[0])
            if word:
                arrived.append((first[len(arrived)], now[0]))

    async def read(ctx):
        while len(received) < len(expected):
            while rng.random() < stall:
                await ctx.tick()
            ctx.set(port.r_data.ready, 1)
            word, = await ctx.tick().sample(port.r_data.payload).until(port.r_data.valid)
            ctx.set(port.r_data.ready, 0 if stall else 1)
            received.append(word)

    simulate(dut, feed_stream(port.commands, commands, rng=rng, stall=stall),
             feed_stream(port.w_data, written, rng=rng, stall=stall), read,
             background=[clock], cycles=cycles)
    for index, (word, right) in enumerate(zip(received, expected, strict=True)):
        assert right is None or word == right, f"word {index}"
    latencies = [cycle - taken[index] for index, cycle in arrived if index is not None]
    return latencies, now[0]


def random_bursts(words, count, rng):
    bursts = [(1, 0, 32), (1, words - 33, 33), (0, words - 33, 33), (1, words - 1, 1),
              (0, words - 1, 1)]
    for _ in range(count):
        length = rng.choice([1, 1, 2, 3, 8, rng.randrange(1, 60)])
        bursts.append((rng.randrange(2), rng.randrange(words - length), length))
    return bursts


BACKENDS = {
    "onchip": lambda: OnChipMemory(words=300, init=range(100, 300)),
    "banks": lambda: OnChipMemory(words=2 * 4096 + 100, init=range(7, 8000)),
    "twin": lambda: MemoryTwin(words=300, init=range(100, 300)),
    "slow_twin": lambda: MemoryTwin(words=300, words_per_cycle=0.3, refresh_interval=50,
                                    refresh_cycles=9, stall=0.1, seed=2),
    "stalling_twin": lambda: MemoryTwin(words=300, stall=0.4, seed=3, latency=7),
}


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("backend", BACKENDS)
def test_bursts(backend, stall):
    rng = random.Random(backend)
    dut = BACKENDS[backend]()
    bursts = random_bursts(dut.words, 60, rng)
    if backend == "banks":
        bursts += [(1, 4080, 40), (0, 4070, 60), (1, 8190, 5), (0, 8185, 15)]
    latencies, _ = run_bursts(dut, bursts, rng=rng, stall=stall)
    if isinstance(dut, MemoryTwin):
        assert min(latencies) >= dut.latency


def test_onchip_speed():
    rng = random.Random(0)
    bursts = [(0, 0, 200), (1, 0, 200), (0, 100, 200)]
    latencies, cycles = run_bursts(OnChipMemory(words=300), bursts, rng=rng)
    assert latencies == [7, 7]
    assert cycles <= 600 + 3 * 2 + 8


def test_twin_speed():
    """Commands that wait hide the latency of those behind them."""
    rng = random.Random(0)
    latencies, cycles = run_bursts(MemoryTwin(words=300, latency=20), [(0, 0, 50)] * 4, rng=rng)
    assert latencies[0] == 20
    assert cycles <= 200 + 24


def test_twin_stalls_as_often_as_told():
    rng = random.Random(0)
    dut = MemoryTwin(words=256, latency=2, stall=0.5, seed=9)
    _, cycles = run_bursts(dut, [(0, 0, 250)] * 8, rng=rng, cycles=10_000)
    assert 3500 < cycles < 4600


@pytest.mark.parametrize("rate", [1.0, 0.625, 0.3])
def test_twin_throughput(rate):
    """Refreshes only take the time in which words could not pass anyway, or their share."""
    rng = random.Random(0)
    bursts = [(1, 0, 250), (0, 0, 250)] * 4
    words = round(rate * 256) / 256
    _, cycles = run_bursts(MemoryTwin(words=256, latency=2, words_per_cycle=rate), bursts, rng=rng)
    assert 2000 / words - 2 <= cycles < 2000 / words * 1.02 + 20
    _, cycles = run_bursts(MemoryTwin(words=256, latency=2, words_per_cycle=rate,
                                      refresh_interval=100, refresh_cycles=20), bursts, rng=rng)
    # One word may pass at once after a pause, for the credit of the time before.
    assert 2000 / words + 10 < cycles < 2000 / words / 0.8 * 1.02 + 40


@pytest.mark.parametrize("make, message", [
    (lambda: OnChipMemory(words=0), "Words must be an integer in 1..2**24, not 0"),
    (lambda: OnChipMemory(words=1, init=[1, 2]),
     "Initial content must be at most 1 words, not 2"),
    (lambda: MemoryTwin(words=0), "Words must be an integer in 1..2**24, not 0"),
    (lambda: MemoryTwin(words=1, init=[1, 2]), "Initial content must be at most 1 words, not 2"),
    (lambda: MemoryTwin(words=8, latency=1), "Latency must be an integer in 2..255, not 1"),
    (lambda: MemoryTwin(words=8, stall=1.0), "Stall must be in 0..0.95, not 1.0"),
    (lambda: MemoryTwin(words=8, words_per_cycle=0), "Words per cycle must be in 1/256..1, not 0"),
    (lambda: MemoryTwin(words=8, refresh_interval=8, refresh_cycles=8),
     "Refresh must pause for less than its interval of at most 65535 cycles, not 8 of 8"),
    (lambda: Storage(words=0), "Words must be an integer of at least 1, not 0"),
    (lambda: Storage(words=4, init=[1], verilog=True),
     "The Verilog array takes no initial content"),
])
def test_wrong_parameters(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message
