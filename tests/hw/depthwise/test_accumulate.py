# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from hw.config import CoreConfig, PARTIAL_BITS
from hw.depthwise.accumulate import DepthwiseAccumulate
from hw.depthwise.partial import TAPS
from sim.drive.ports import serve_halves, simulate


def random_pass(rng, lanes, extreme):
    """Size of a pass; its sums ``(halves, window, use, negative, last, end)``; and the results of
    its positions (positions, lanes)."""
    rows, width = int(rng.integers(1, 5)), int(rng.integers(1, 5))
    sums, results = [], []
    level = rng.random() < 0.5
    for position in range(rows * width):
        end = position == rows * width - 1
        if level:
            # Of four weights of -8..7, and of three; plane by plane, the highest first.
            halves = rng.integers([-32, -24], [29, 22], (3, lanes, 2))
            if extreme:
                halves[:] = rng.choice([[-32, -24], [28, 21]])
            nothing = np.zeros((TAPS, lanes), int)
            sums += [(halves[k], nothing, nothing.T, 0, k == 2, end and k == 2) for k in range(3)]
            results.append(np.einsum("plh,p->l", halves, [4, 2, 1]))
        else:
            # Three inputs times -8..7; bit by bit of these, that of the sign first.
            limit = 1 << PARTIAL_BITS - 1
            inputs = rng.integers(-limit, limit, (TAPS, lanes))
            weights = rng.integers(-8, 8, (TAPS, lanes))
            if extreme:
                inputs[:], weights[:] = rng.choice([-limit, limit - 1]), rng.choice([-8, 7])
            sums += [(np.zeros((lanes, 2), int), inputs, weights.T >> bit & 1, bit == 3, bit == 0,
                      end and bit == 0) for bit in (3, 2, 1, 0)]
            results.append((inputs * weights).sum(axis=0))
    return rows, width, sums, results


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize(("give_rate", "stall"), [(1.0, 0.0), (0.4, 0.0), (1.0, 0.7), (0.6, 0.5)])
@pytest.mark.parametrize("acc_bits", [20, 24])
def test_results(give_rate, stall, acc_bits, extreme):
    """The results of passes of both kinds are added to the partial sums, or written there."""
    rng = np.random.default_rng(6)
    config = CoreConfig(rows=16, load_rows=4, acc_bits=acc_bits)
    dut = DepthwiseAccumulate(config=config)
    lanes = config.depthwise_lanes
    psum = rng.integers(-1 << acc_bits - 1, 1 << acc_bits - 1, (1024, 2, lanes))

    def wrapped(values):
        return (values + (1 << acc_bits - 1)) % (1 << acc_bits) - (1 << acc_bits - 1)

    def add(address, half, accumulate, data):
        psum[address, half] = wrapped(psum[address, half] * accumulate
                                      + [data[lane] for lane in range(lanes)])

    def put_lanes(ctx, halves, window, use):
        for lane in range(lanes):
            ctx.set(dut.halves[lane], [int(value) % 64 for value in halves[lane]])
            ctx.set(dut.use[lane], sum(int(bit) << tap for tap, bit in enumerate(use[lane])))
        for tap in range(TAPS):
            ctx.set(dut.window[tap], [int(value) % (1 << PARTIAL_BITS) for value in window[tap]])

    async def testbench(ctx):
        for _ in range(4):
            rows, width, sums, results = random_pass(rng, lanes, extreme)
            address, group = int(rng.choice([1022, rng.integers(1024)])), int(rng.integers(2))
            initialise = int(rng.integers(4))
            wanted = psum.copy()
            for position, result in enumerate(results):
                place = (address + position) % 1024, group
                new = initialise & 2 or (initialise & 1 and position < width)
                wanted[place] = wrapped(result + (0 if new else wanted[place]))
            for name, value in (("rows", rows), ("width_last", width - 1), ("address", address),
                                ("group", group), ("initialise", initialise), ("start", 1)):
                ctx.set(getattr(dut, name), value)
            await ctx.tick()
            ctx.set(dut.start, 0)
            left, given = list(sums), None
            while left or ctx.get(dut.busy):
                if given:                       # lanes come a cycle behind their flags
                    put_lanes(ctx, *given[:3])
                if given is None or ctx.get(dut.advance):
                    # Between sums anything may lie on the taps that are not valid.
                    given = left[0] if left and rng.random() < give_rate else None
                ctx.set(dut.valid, given is not None)
                for name, value in zip(("negative", "last", "end"), given[3:] if given else (
                        0, 0, 0), strict=True):
                    ctx.set(getattr(dut, name), int(value))
                if given and ctx.get(dut.advance):
                    left.pop(0)
                _, _, following = await ctx.tick().sample(dut.advance_next)
                assert ctx.get(dut.advance) == following
            ctx.set(dut.valid, 0)
            await ctx.tick()
            np.testing.assert_array_equal(psum, wanted)

    simulate(dut, testbench, cycles=20_000, background=[
        serve_halves(dut.psum, add, rng=rng, stall=stall)])
