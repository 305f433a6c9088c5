"""Integer operators against exact arithmetic on Python integers and fractions."""

from fractions import Fraction

import numpy as np
import pytest

from model.integer import golden


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def exact_level(x: Fraction) -> int:
    """IE-LIF of Eq. 9 in exact rationals: floor(clamp(4x, 0, 4) + 1/2)."""
    return int((min(max(4 * x, Fraction(0)), Fraction(4)) + Fraction(1, 2)) // 1)


def test_level_fire_counts_thresholds_per_channel():
    acc = np.arange(-6, 7).reshape(1, 1, 13).repeat(2, axis=1)
    thresholds = [[-2, 0, 3, 5], [5, 3, 0, -2]]
    level = golden.level_fire(acc, thresholds, invert=[False, True])
    for channel, value in enumerate(acc[0, 0]):
        assert level[0, 0, channel] == sum(value >= t for t in thresholds[0])
        assert level[0, 1, channel] == sum(value <= t for t in thresholds[1])
    assert level.dtype == np.int64


def test_level_fire_takes_any_channel_axis():
    acc, thresholds = rng().integers(-9, 9, (5, 7, 3)), rng(1).integers(-9, 9, (3, 4))
    expected = golden.level_fire(np.moveaxis(acc, -1, 1), thresholds)
    np.testing.assert_array_equal(
        golden.level_fire(acc, thresholds, axis=-1), np.moveaxis(expected, 1, -1)
    )


def test_scale_shift_is_an_exact_rounded_affine_map():
    r = rng(2)
    acc = r.integers(-(2**23), 2**23, (2, 27, 4, 5))
    acc[0, :, 0, :2] = [-(2**23), 2**23 - 1]
    shift = np.arange(27)
    multiplier, bias = r.integers(-(2**15), 2**15, 27), r.integers(-(2**43), 2**43, 27)
    out = golden.scale_shift(acc, multiplier, bias, shift)
    for n, c, y, x in np.ndindex(acc.shape):
        exact = int(acc[n, c, y, x]) * int(multiplier[c]) + int(bias[c])
        rounded = (Fraction(exact, 1 << c) + Fraction(1, 2)) // 1 if c else exact
        assert out[n, c, y, x] == rounded


def test_saturate_keeps_the_ends():
    x = [-(2**40), -9, -8, 7, 8, 2**40]
    assert golden.saturate(x, 4).tolist() == [-8, -8, -8, 7, 7, 7]


@pytest.mark.parametrize("u_frac", [3, 5, 10, 28])
def test_fire_membrane_equals_the_neuron_on_reals(u_frac):
    one = 1 << u_frac
    u = np.unique(np.concatenate([k * one // 8 + np.arange(-3, 4) for k in range(-9, 17)]))
    level = golden.fire_membrane(u, u_frac=u_frac)
    assert level.tolist() == [exact_level(Fraction(int(v), one)) for v in u]


def naive_convolution(x, q, stride, padding):
    x = np.pad(x.astype(object), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    (n, _, h, w), (o, _, k, _) = x.shape, q.shape
    rows, cols = (h - k) // stride + 1, (w - k) // stride + 1
    out = np.zeros((n, o, rows, cols), dtype=object)
    for y, x0 in np.ndindex(rows, cols):
        patch = x[:, None, :, y * stride : y * stride + k, x0 * stride : x0 * stride + k]
        out[:, :, y, x0] = (patch * q.astype(object)[None]).sum(axis=(2, 3, 4))
    return out


@pytest.mark.parametrize("kernel, stride, padding", [(1, 1, 0), (3, 2, 1), (7, 2, 3), (3, 1, 1)])
@pytest.mark.parametrize("largest", [4, 2**11, 2**31])
def test_convolve_is_exact(kernel, stride, padding, largest):
    r = rng(kernel)
    x = r.integers(-largest, largest, (2, 3, 8, 9))
    x[0, 0, :2] = -largest
    q = r.integers(-8, 8, (5, 3, kernel, kernel)).astype(np.int8)
    out = golden.convolve(x, q, stride=stride, padding=padding)
    assert out.dtype == np.int64
    assert (out == naive_convolution(x, q, stride, padding)).all()


def test_convolve_refuses_what_a_sum_cannot_hold():
    x, q = np.full((1, 1, 1, 1), 2**51), np.full((1, 1, 1, 1), 4, dtype=np.int8)
    with pytest.raises(ValueError, match="more than a sum can hold"):
        golden.convolve(x, q)


@pytest.mark.parametrize("kernel", [3, 7])
@pytest.mark.parametrize("largest", [4, 2**20, 2**40])
def test_depthwise_equals_one_convolution_a_channel(kernel, largest):
    r = rng(kernel)
    x = r.integers(-largest, largest + 1, (2, 4, 5, 6))
    q = r.integers(-8, 8, (4, kernel, kernel)).astype(np.int8)
    out = golden.depthwise(x, q, padding=kernel // 2)
    for c in range(4):
        single = golden.convolve(x[:, c : c + 1], q[c][None, None], padding=kernel // 2)
        np.testing.assert_array_equal(out[:, c : c + 1], single)


def test_levels_are_four_virtual_time_steps():
    """Model check 7.8: the sum over thermometer steps of binary convolutions is the convolution."""
    r = rng(3)
    level, q = r.integers(0, 5, (2, 6, 7, 7)), r.integers(-8, 8, (9, 6, 3, 3)).astype(np.int8)
    steps = [golden.convolve((level >= k).astype(int), q, padding=1) for k in range(1, 5)]
    np.testing.assert_array_equal(sum(steps), golden.convolve(level, q, padding=1))


@pytest.mark.parametrize("d", [32, 45, 48, 60, 64, 80])
@pytest.mark.parametrize("density", [0.03, 0.2, 1.0])
def test_attention_levels_survive_saturation(d, density):
    """Model check 7.7: the level rule, and both products clamped at 224, on made-up dense data."""
    r = rng(d)
    q, k, v = (
        r.integers(1, 5, (2, 2 * d, 7, 7)) * (r.random((2, 2 * d, 7, 7)) < density)
        for _ in range(3)
    )
    ktv, qktv, level = golden.attention(q, k, v, heads=2, cap=None)
    capped_ktv, capped_qktv, capped_level = golden.attention(
        q, k, v, heads=2, cap=golden.ATTENTION_CAP)
    np.testing.assert_array_equal(capped_level, level)
    np.testing.assert_array_equal(capped_ktv, np.minimum(ktv, 224))
    assert capped_qktv.max() <= 224
    # In real units the neuron's input is 0.25 * Q (K^T V) on values level/4.
    heads = [x.reshape(2, 2, d, 49) / 4 for x in (q, k, v)]
    membrane = 0.25 * np.einsum("nhit,nhis,nhjs->nhjt", heads[0], heads[1], heads[2])
    fired = np.floor(np.clip(4 * membrane, 0, 4) + 0.5).reshape(level.shape)
    np.testing.assert_array_equal(level, fired)
    if density == 1:
        assert (ktv >= 224).any() and (qktv >= 224).all()


def test_attention_sums_tokens_in_each_head():
    q, k, v = (rng(i).integers(0, 5, (1, 6, 2, 3)) for i in range(3))
    ktv, qktv, _ = golden.attention(q, k, v, heads=2, cap=None)
    for h, i, j in np.ndindex(2, 3, 3):
        assert ktv[0, h, i, j] == (k[0, 3 * h + i] * v[0, 3 * h + j]).sum()
    expected = sum(q[0, 3 + i] * ktv[0, 1, i, 2] for i in range(3))
    np.testing.assert_array_equal(qktv[0, 5], expected)


def test_values_of_other_width_have_heads_of_their_own():
    """What q and k give with v is what they give with every part of v of their own width."""
    r = rng(2)
    q, k = (r.integers(0, 5, (2, 6, 3, 4)) for _ in range(2))
    v = r.integers(0, 5, (2, 2 * 12, 3, 4))
    thresholds = (150, 250, 300, 400)
    ktv, qktv, level = golden.attention(q, k, v, heads=2, thresholds=thresholds)
    assert ktv.shape == (2, 2, 3, 12) and qktv.shape == level.shape == v.shape
    parts = v.reshape(2, 2, 4, 3, 3, 4)
    for i in range(4):
        own = parts[:, :, i].reshape(q.shape)
        one = golden.attention(q, k, own, heads=2, thresholds=thresholds)
        np.testing.assert_array_equal(qktv.reshape(parts.shape)[:, :, i].reshape(q.shape), one[1])
        np.testing.assert_array_equal(level.reshape(parts.shape)[:, :, i].reshape(q.shape), one[2])
    want = sum((qktv >= t).astype(int) for t in thresholds)
    np.testing.assert_array_equal(level, want)
    assert set(np.unique(level)) == {0, 1, 2, 3, 4}
    capped = golden.attention(q, k, v, heads=2, thresholds=thresholds, cap=400)
    np.testing.assert_array_equal(capped[2], level)
    np.testing.assert_array_equal(capped[0], np.minimum(ktv, 400))


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 8])
def test_half_even_ties_of_membranes_and_means(levels):
    """Every code of two fraction bits more than a level has, ties of both signs among them."""
    u = np.arange(-80, 64 * 3)
    fired = golden.fire_membrane(u, u_frac=6, levels=levels, half_even=True)
    exact = [min(max(round(Fraction(levels * int(x), 64)), 0), levels) for x in u]
    assert fired.tolist() == exact    # Python rounds half to even
    up = golden.fire_membrane(u, u_frac=6, levels=levels)
    ties = (2 * levels * u) % 128 == 64
    assert (up[~ties] == fired[~ties]).all()
    maps = rng(levels).integers(-9, 40, (1, 4000, 2, 2))
    means = golden.pool_fire(maps, u_frac=4, levels=levels, half_even=True)[0, :, 0, 0]
    sums = maps.sum(axis=(0, 2, 3)).tolist()
    exact = [min(max(round(Fraction(levels * s, 4 * 16)), 0), levels) for s in sums]
    assert means.tolist() == exact
    if levels != 3:    # of which the only tie, 1.5, goes up either way
        assert means.tolist() != golden.pool_fire(maps, u_frac=4, levels=levels)[
            0, :, 0, 0].tolist()


@pytest.mark.parametrize("shape", [(14, 14), (8, 8), (3, 5)])
@pytest.mark.parametrize("u_frac", [5, 10, 28])
def test_pool_fires_the_exact_mean(shape, u_frac):
    """Model check 7.14, ties included."""
    n, r = shape[0] * shape[1], rng(u_frac)
    u = r.integers(-(1 << u_frac), 2 << u_frac, (3, 40, *shape))
    u -= ((u.sum(axis=(2, 3)) // n) - r.integers(-2, 10, (3, 40)) * (1 << u_frac) // 8)[
        ..., None, None
    ]
    u[0, :9] = (np.arange(9) << u_frac)[:, None, None] // 8  # means on and between thresholds
    u[1, :9, 0, 0] -= 1
    level = golden.pool_fire(u, u_frac=u_frac)
    assert level.shape == (3, 40, 1, 1)
    for i, c in np.ndindex(3, 40):
        mean = Fraction(int(u[i, c].sum()), n << u_frac)
        assert level[i, c, 0, 0] == exact_level(mean)
