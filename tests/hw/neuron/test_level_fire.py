# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from hw.neuron.level_fire import LevelFire
from model.integer import golden
from sim.drive.ports import simulate


@pytest.mark.parametrize("acc_bits, levels", [(20, 4), (24, 4), (30, 4), (24, 3), (20, 2), (24, 1)])
def test_matches_golden(acc_bits, levels):
    rng = np.random.default_rng(0)
    low, high = -(1 << acc_bits), (1 << acc_bits) - 1          # "always" and "never"
    count = 600
    scale = rng.integers(0, acc_bits, size=(count, 1))
    thresholds = rng.integers(low, high + 1, size=(count, levels)) >> scale
    acc = rng.integers(low // 2, high // 2 + 1, size=count) >> scale[:, 0]
    thresholds[:100] = rng.choice([low, low + 1, -1, 0, 1, high - 1, high], size=(100, levels))
    acc[:100] = rng.choice([low // 2, low // 2 + 1, -1, 0, 1, high // 2], size=100)
    thresholds[100:200] = acc[100:200, None] + rng.integers(-1, 2, size=(100, levels))    # ties
    invert = rng.integers(0, 2, size=count)
    dut = LevelFire(acc_bits=acc_bits, levels=levels)
    fired = []

    async def bench(ctx):
        for cycle in range(count + dut.LATENCY):
            index = min(cycle, count - 1)
            ctx.set(dut.acc, int(acc[index]))
            ctx.set(dut.thresholds, thresholds[index].tolist())
            ctx.set(dut.invert, int(invert[index]))
            if cycle >= dut.LATENCY:
                fired.append(ctx.get(dut.level))
            await ctx.tick()

    simulate(dut, bench)
    expected = golden.level_fire(acc, thresholds, invert=invert.astype(bool), axis=0)
    np.testing.assert_array_equal(fired, expected)
    assert expected.max() == levels


@pytest.mark.parametrize("settings, text", [
    ({"acc_bits": 0}, r"^Accumulator width must be at least 1, not 0$"),
    ({"acc_bits": 24, "levels": 5}, r"^Levels must be 1..4, not 5$")])
def test_settings_wrong(settings, text):
    with pytest.raises(ValueError, match=text):
        LevelFire(**settings)
