# amaranth: UnusedElaboratable=no
"""The twin does what the controller on the chip model does, in nearly the same time."""
import random

import pytest

from boards import find_board
from hw.sdram_config import SdramConfig
from sim.drive.ports import feed_stream, simulate
from sim.twin.sdram import SdramTwin
from sim.twin.sdram_system import SdramSystem


CONFIG = SdramConfig(clock_hz=130_000_000, **find_board("ulx3s").sdram.times, row_bits=4,
                     column_bits=8, power_up_ns=300)

SYNC_HZ = 80_000_000


def run(dut, bursts, *, seed):
    """Words read, and cycles from the first command taken to the last word read."""
    rng = random.Random(seed)
    port = dut.memory
    written = [rng.getrandbits(64) for write, _, length in bursts if write for _ in range(length)]
    count = sum(length for write, _, length in bursts if not write)
    received, now, began = [], [0], []

    async def clock(ctx):
        while True:
            *_, command = await ctx.tick().sample(port.commands.valid & port.commands.ready)
            now[0] += 1
            if command and not began:
                began.append(now[0])

    async def read(ctx):
        ctx.set(port.r_data.ready, 1)
        for _ in range(count):
            word, = await ctx.tick().sample(port.r_data.payload).until(port.r_data.valid)
            received.append(word)

    commands = [{"address": address, "length": length, "write": write}
                for write, address, length in bursts]
    simulate(dut, feed_stream(port.commands, commands, rng=rng),
             feed_stream(port.w_data, written, rng=rng), read, background=[clock],
             clocks={"sdram": SYNC_HZ / CONFIG.clock_hz} if isinstance(dut, SdramSystem) else {})
    return received, now[0] - began[0]


def linear(length):
    return [(write, start, length) for write in (1, 0) for start in range(0, 1024, length)]


def mixed(lengths):
    """Streams that share the memory: weights, a map read, a map written."""
    rng = random.Random(5)
    bursts = [(1, start, 128) for start in range(0, 1024, 128)]
    places = [0, 300, 700]
    for _ in range(70):
        stream = rng.randrange(3)
        length = rng.choice(lengths)
        bursts.append((stream == 2, places[stream], length))
        places[stream] = (places[stream] + length) % 960
    return bursts + [(0, 0, 4)]


@pytest.mark.parametrize("bursts", [linear(16), linear(128), mixed([16]), mixed([1, 2, 4])],
                         ids=["linear 16", "linear 128", "mixed", "mixed short"])
def test_same_words_and_nearly_the_same_cycles(bursts):
    words, cycles = run(SdramSystem(CONFIG), bursts, seed=2)
    twin_words, twin_cycles = run(SdramTwin(CONFIG, sync_hz=SYNC_HZ), bursts, seed=2)
    print(f"controller {cycles} cycles, twin {twin_cycles}")
    assert twin_words == words
    assert twin_cycles == pytest.approx(cycles, rel=0.05)


def test_first_word():
    """The latency of an idle memory, the row closed."""
    _, cycles = run(SdramSystem(CONFIG), [(0, 0, 1)], seed=0)
    _, twin_cycles = run(SdramTwin(CONFIG, sync_hz=SYNC_HZ), [(0, 0, 1)], seed=0)
    print(f"controller {cycles} cycles, twin {twin_cycles}")
    assert twin_cycles == pytest.approx(cycles, abs=1)
