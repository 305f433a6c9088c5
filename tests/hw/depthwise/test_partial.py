# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from hw.config import CoreConfig, PARTIAL_BITS
from hw.depthwise.partial import PartialTaps, TAPS
from hw.port import PSUM_LATENCY
from sim.drive.ports import serve_read, simulate


CONFIG = CoreConfig(rows=16, load_rows=4)


@pytest.mark.parametrize(("psum_stall", "take_rate", "enable_rate"), [
    (0.0, 1.0, 1.0), (0.6, 1.0, 1.0), (0.0, 0.4, 1.0), (0.3, 0.7, 0.5)])
def test_taps(psum_stall, take_rate, enable_rate):
    """What is to be added for each weight bit of each position: the taps whose weight has the bit,
    where the map has an input."""
    rng = np.random.default_rng(5)
    dut = PartialTaps(config=CONFIG)
    lanes = CONFIG.depthwise_lanes
    psum, asked = {}, 0

    def read(address):
        nonlocal asked
        asked += 1
        return psum[address]

    async def testbench(ctx):
        nonlocal asked
        for rows, width in ((1, 1), (3, 2), (2, 9), (5, 3), (1, 4), (4, 1)):
            address = int(rng.choice([1020, rng.integers(1 << 10)]))
            # Wider than what is kept of them.
            inputs = rng.integers(-1 << 23, 1 << 23, (rows, width, lanes))
            inputs[:, ::2] = rng.choice([-1 << 17, (1 << 17) - 1], inputs[:, ::2].shape)
            weights = rng.integers(-8, 8, (lanes, 7))
            weights[0], weights[1] = -8, 7
            psum.clear()
            asked = 0
            psum.update({(address + number) % 1024: row.tolist()
                         for number, row in enumerate(inputs.reshape(-1, lanes))})
            for name, value in (("address", address), ("rows", rows), ("width_last", width - 1),
                                ("start", 1)):
                ctx.set(getattr(dut, name), value)
            for lane in range(lanes):
                ctx.set(dut.weights[lane], [int(w) % 16 for w in weights[lane]])
            found, count, wanted, advance = [], 4 * rows * width, None, 1
            before = 0
            while len(found) < count or wanted:
                following = int(rng.random() < take_rate)
                ctx.set(dut.advance, advance)
                ctx.set(dut.advance_next, following)
                ctx.set(dut.advance_lanes, 15 * before)
                ctx.set(dut.enable, rng.random() < enable_rate)
                if wanted:                          # taken a cycle ago: here are its lanes
                    found.append((wanted, [
                        [(ctx.get(dut.window[tap][lane]) if ctx.get(dut.use[lane]) >> tap & 1
                          else None) for tap in range(TAPS)] for lane in range(lanes)]))
                valid = ctx.get(dut.valid) and advance
                wanted = tuple(ctx.get(getattr(dut, name)) for name in (
                    "negative", "last", "end")) if valid else None
                before, advance = advance, following
                await ctx.tick()
                ctx.set(dut.start, 0)
            for number, ((negative, last, end), taken) in enumerate(found):
                position, bit = number // 4, 3 - number % 4
                y, x = divmod(position, width)
                assert (negative, last) == (bit == 3, bit == 0)
                if last:
                    assert end == (position == rows * width - 1)
                assert taken == [
                    [(int(inputs[y, x + tap - 1, lane]) % (1 << PARTIAL_BITS)
                      if 0 <= x + tap - 1 < width and weights[lane, tap + 2] >> bit & 1 else None)
                     for tap in range(TAPS)] for lane in range(lanes)]
            assert not ctx.get(dut.active) and asked == rows * width

    simulate(dut, testbench, cycles=20_000, background=[
        serve_read(dut.psum, read, latency=PSUM_LATENCY, rng=rng, stall=psum_stall)])


def test_four_cycles_a_position():
    """The rows of a pass are one sequence, in which every cycle gives a bit of a position."""
    dut = PartialTaps(config=CONFIG)
    times = []

    async def testbench(ctx):
        for name, value in (("rows", 3), ("width_last", 4), ("advance", 1), ("advance_next", 1),
                            ("advance_lanes", 15), ("enable", 1), ("start", 1)):
            ctx.set(getattr(dut, name), value)
        for cycle in range(100):
            if ctx.get(dut.valid):
                times.append(cycle)
            await ctx.tick()
            ctx.set(dut.start, 0)

    simulate(dut, testbench, background=[
        serve_read(dut.psum, lambda address: [0] * CONFIG.depthwise_lanes, latency=PSUM_LATENCY,
                   rng=np.random.default_rng(0))])
    assert times == list(range(times[0], times[0] + 3 * 5 * 4))
