# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from hw.neuron.rescale import Rescale
from model.integer import golden
from sim.drive.ports import simulate


def operands(rng, acc_bits, multiplier_bits, frac, count, levels):
    """Random operands whose results fall in and around the output range, then all extremes."""
    def ends(bits):
        return [-(1 << (bits - 1)), (1 << (bits - 1)) - 1, -1, 0, 1]

    shift = rng.integers(0, 27, size=count)
    scale = rng.integers(1, np.minimum(multiplier_bits - 1, 17) + 1, size=count)
    m = rng.integers(-(1 << (multiplier_bits - 1)), 1 << (multiplier_bits - 1), size=count) >> scale
    acc_scale = rng.integers(0, acc_bits, size=count)
    acc = rng.integers(-(1 << (acc_bits - 1)), 1 << (acc_bits - 1), size=count) >> acc_scale
    bias = rng.integers(-(1 << 43), 1 << 43, size=count) >> rng.integers(0, 44, size=count)
    addend = rng.integers(-(1 << 15), 1 << 15, size=count)
    rows = list(zip(acc, m, bias, shift, addend, strict=True))
    rows += [(a, mm, b, s, u) for a in ends(acc_bits) for mm in ends(multiplier_bits)
             for b in ends(44)[:3] for s in (0, 1, 7, 8, 26)
             for u in (-(1 << 15), 0, (1 << 15) - 1)]
    # Ties, and sums just inside and outside of the range.
    rows += [(0, 0, (edge << s) + d, s, 0) for edge in (-32769, -32768, -1, 0, 32767, 32768)
             for s in (0, 1, 3, 26) for d in (-(1 << s) // 2, -1, 0, 1, (1 << s) // 2)]
    return np.array(rows, dtype=np.int64)


def edges(frac, per_unit, levels):
    """Operands around all levels and what is half way between two, of which a membrane of 1 is
    worth `per_unit`."""
    return [(0, 0, 0, 0, edge + d) for parts in range(-4, 2 * levels + 3)
            if abs(edge := -((-parts << frac) // (2 * per_unit))) + 1 < 1 << 15 for d in (-1, 0, 1)]


@pytest.mark.parametrize(("acc_bits", "multiplier_bits", "frac", "width", "half_even",
                          "levels"), [
    (20, 8, 4, 4, False, 4), (24, 16, 10, 16, False, 4), (24, 16, 12, 12, False, 4),
    (30, 18, 14, 16, False, 4), (20, 8, 4, 16, True, 4), (24, 16, 10, 16, True, 4),
    (24, 16, 14, 16, True, 4),
    (24, 16, 4, 16, False, 3), (24, 16, 14, 16, False, 3), (24, 16, 9, 16, True, 3),
    (24, 16, 4, 16, True, 2), (24, 16, 14, 16, False, 2), (24, 16, 9, 16, True, 1)])
def test_matches_golden(acc_bits, multiplier_bits, frac, width, half_even, levels):
    check(acc_bits, multiplier_bits, frac, width, half_even, levels)


@pytest.mark.parametrize("half_even", [False, True])
@pytest.mark.parametrize("frac", [4, 10, 12, 14])
@pytest.mark.parametrize("whole", [0, 1])
def test_whole_levels_match_golden(frac, half_even, whole):
    check(24, 16, frac, 16, half_even, 4, whole=whole)


def check(acc_bits, multiplier_bits, frac, width, half_even, levels, whole=None):
    rng = np.random.default_rng(0)
    rows = operands(rng, acc_bits, multiplier_bits, frac, 1500, levels)
    dut = Rescale(acc_bits=acc_bits, multiplier_bits=multiplier_bits, membrane_frac=frac,
                  levels=levels, half_even=half_even, whole_levels=whole is not None)
    per_unit = 1 if whole else levels    # levels that a membrane of 1 is worth
    rows = np.concatenate([rows, edges(frac, per_unit, levels)])
    values, fired = [], []

    async def bench(ctx):
        ctx.set(dut.limit, 0xffff & -(1 << (width - 1)))
        if whole is not None:
            ctx.set(dut.whole, whole)
        for cycle in range(len(rows) + dut.LEVEL_LATENCY):
            for column, (signal, delay) in enumerate([
                    (dut.acc, 0), (dut.multiplier, 0), (dut.bias, dut.BIAS_DELAY),
                    (dut.shift, dut.SHIFT_DELAY), (dut.addend, dut.ADDEND_DELAY)]):
                index = min(max(cycle - delay, 0), len(rows) - 1)
                ctx.set(signal, int(rows[index, column]))
            if cycle >= dut.VALUE_LATENCY:
                values.append((ctx.get(dut.value), ctx.get(dut.clipped)))
            if cycle >= dut.LEVEL_LATENCY:
                fired.append(ctx.get(dut.level))
            await ctx.tick()

    simulate(dut, bench)
    acc, m, bias, shift, addend = rows.T
    exact = golden.scale_shift(acc, m, bias, shift, axis=0) + addend
    expected = golden.saturate(exact, width)
    value, clipped = np.array(values[:len(rows)]).T
    sign = 1 << (width - 1)
    value = ((value & (2 * sign - 1)) ^ sign) - sign
    wrong = np.flatnonzero((value != expected) | (clipped != (exact != expected)))
    assert not len(wrong), [(rows[i].tolist(), value[i], expected[i]) for i in wrong[:5]]
    if width == 16:
        np.testing.assert_array_equal(
            fired, golden.fire_whole(expected, u_frac=frac, levels=levels) if whole else
            golden.fire_membrane(expected, u_frac=frac, levels=levels, half_even=half_even))
        assert {*fired} == {*range(min(levels, (1 << 16 - frac) // 2 if whole else levels) + 1)}


@pytest.mark.parametrize(("settings", "message"), [
    ({"acc_bits": 17}, "^Accumulator width must be 18..35 bits, not 17$"),
    ({"multiplier_bits": 19}, "^Multiplier width must be 2..18 bits, not 19$"),
    ({"levels": 0}, "^Levels must be 1..4, not 0$"),
    ({"levels": 3, "whole_levels": True}, "^Whole levels need levels of 4, not 3$"),
    ({"membrane_frac": 3}, "^Membrane fraction must be 4..14 bits, not 3$")])
def test_settings_wrong(settings, message):
    with pytest.raises(ValueError, match=message):
        Rescale(**{"acc_bits": 24, "multiplier_bits": 16, "membrane_frac": 10, **settings})
