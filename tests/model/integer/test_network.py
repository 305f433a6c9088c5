"""The integer network against the published implementation's vectors and the float network."""

from fractions import Fraction
import json
from math import floor
from pathlib import Path

import numpy as np
import pytest

from model import zoo
from model.evaluate import run as run_form
from model.families.layout import state_shapes
from model.families.spec import MODELS
from model.integer import fixed_point
from model.integer.epilogue import Fire, Integrate, Raw, threshold_limits
from model.integer.export import export, fold
from model.integer.graph import Conv, Depthwise, RepConv
from model.integer.network import IntegerNetwork, IntegerParams, STATS
from model.integer.random_network import EXTREMES, random_network
from model.training import checkpoint
from model.zoo import Weights


ROOT = Path(__file__).parents[3]
SMALL = ROOT / "tests" / "data" / "official_small.npz"
DIGITS = ROOT.parent / "shared" / "vectors" / "official_digits.npz"


class Vectors:
    """An archive of the published implementation's tensors and the network they belong to."""

    def __init__(self, path: Path) -> None:
        self.spec, self.state = checkpoint.load_vectors(path)
        with np.load(path) as archive:
            self.arrays = {key: archive[key] for key in archive.files}
        self.levels = {name: self.arrays[f"levels/{name}"] for name in self["levels_order"]}
        self.levels["lif"] = self.levels["lif"][:, :, None, None]

    def __getitem__(self, key: str) -> np.ndarray:
        return self.arrays[key]

    def network(self, params: IntegerParams | None = None, form: str = "integer"):
        return export(self.state, self.spec, params, form=form)


@pytest.fixture(scope="module")
def small():
    return Vectors(SMALL)  # fails, not skips, if the file is not there


@pytest.fixture(scope="module")
def digits():
    if not DIGITS.exists():
        pytest.skip(f"no digits vectors: {DIGITS} is not there")
    return Vectors(DIGITS)


def assert_published(vectors: Vectors) -> None:
    made = vectors.network(form="wide").run(vectors["image_q"])
    assert [n for n in made if n in vectors.levels] == sorted(vectors.levels, key=list(made).index)
    for name, expected in vectors.levels.items():
        np.testing.assert_array_equal(made[name], expected, err_msg=name)
    for key in vectors.arrays:
        if key.startswith("attn/"):
            np.testing.assert_array_equal(made[key.removeprefix("attn/")], vectors[key])
    np.testing.assert_allclose(made["logits"], vectors["logits"], rtol=0, atol=1e-9)


def test_wide_form_equals_the_published_network(small):
    """Model check 7.11: every level map, both attention products, the logits."""
    assert_published(small)


def test_wide_form_equals_the_published_digits_network(digits):
    assert_published(digits)


def test_digits_scores(digits):
    """Model check 7.13: 493 of 500 exactly in wide form, within a point at the default widths."""
    image_q = digits["test500/image_q"].repeat(3, axis=1)
    labels, float_top = digits["test500/labels"], digits["test500/logits"].argmax(1)
    wide = digits.network(form="wide").classify(image_q)
    assert (wide.argmax(1) == labels).sum() == 493
    np.testing.assert_allclose(wide, digits["test500/logits"], rtol=0, atol=1e-9)
    top = digits.network().classify(image_q).argmax(1)
    assert abs((top == labels).sum() - 493) <= 5
    assert (top == float_top).mean() >= 0.98


@pytest.mark.parametrize("z_frac, share, near", [(8, 1e-3, 0.1), (12, 1e-4, 0.01)])
def test_teacher_forced_widths(digits, z_frac, share, near):
    """Model check 7.12 on the digits net: few levels differ, by 1, at a threshold.

    F=12 and 16-bit multipliers. Shares and distances (in levels) are for this net, whose z are
    small: 6.3e-4 and 6.4e-5, 0.07 and 0.005 seen; at Z=8 the large one has 3.0e-4 and 0.03.
    """
    params = IntegerParams(u_frac=12, u_bits=18, z_frac=z_frac, z_bits=z_frac + 8, acc_bits=32)
    network = digits.network(params)
    made = network.run(digits["image_q"], force=digits.levels)
    wide = digits.network(form="wide").run(digits["image_q"])
    differing = total = 0
    for name, expected in digits.levels.items():
        off = np.flatnonzero(made[name] != expected)
        differing, total = differing + off.size, total + expected.size
        if name.endswith((".lif2", ".fc2_lif", ".attn_lif")):
            assert off.size == 0, name  # no rescaled input: exact at any width
        assert np.abs(made[name].astype(int) - expected).max() <= 1, name
    assert 0 < differing <= share * total
    for op in network.ops:
        if isinstance(getattr(op, "epilogue", None), Integrate) and op.epilogue.level:
            level, u = op.epilogue.level, op.epilogue.u_out
            distance = 4 * wide[u][made[level] != digits.levels[level]] / 2.0**28 - 0.5
            assert (np.abs(distance - np.rint(distance)) < near).all()


def test_bias_of_the_inner_batch_norm_reaches_the_border(small):
    """The graph pads with zeros where the published RepConv pads with its batch norm's border."""
    state = dict(small.state)
    for key in state:
        if key.endswith(".body.1.bn.bias"):
            state[key] = state[key] + np.float32(3)
    weights = Weights(small.spec, None, state)
    wide = run_form(weights, small["image_q"], "wide", tensors=True)
    real = run_form(weights, small["image_q"], "float", tensors=True)
    assert list(wide) == list(real)
    for name in wide:
        np.testing.assert_allclose(wide[name], real[name], rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", [3, 5, 8, 11])
def test_wide_form_equals_float_on_random_networks(seed):
    """Odd sizes, one or three channels, 2..4 bits, extremes: same levels as PyTorch in float64."""
    made = random_network(seed, max_dim=48)
    weights, image_q = Weights(made.spec, None, made.state), made.images(2)
    wide = run_form(weights, image_q, "wide", tensors=True)
    real = run_form(weights, image_q, "float", tensors=True)
    assert list(wide) == list(real)
    for name in wide:
        np.testing.assert_allclose(wide[name], real[name], rtol=1e-9, atol=1e-9, err_msg=name)


def test_random_networks_reach_every_extreme():
    stats: dict[str, int] = {}
    for seed in (0, 1):
        made = random_network(seed, extremes=EXTREMES, max_dim=64)
        one: dict[str, int] = {}
        tensors = made.network.run(made.images(3), stats=one)
        assert min(one[key] for key in STATS) > 0, one
        stats |= one
        for name, (kind, *shape) in made.network.tensors().items():
            if kind == "image":
                continue
            assert tensors[name].shape[1:] == tuple(shape)
            bits = {"z": made.params.z_bits, "u": made.params.u_bits}.get(kind)
            if bits:
                assert -(1 << bits - 1) <= tensors[name].min()
                assert tensors[name].max() < 1 << bits - 1
    assert set(stats) == set(STATS)


def test_random_networks_are_reproducible_and_differ():
    digests = [random_network(seed).network.digest() for seed in (4, 4, 5)]
    assert digests[0] == digests[1] != digests[2]


def test_digest_knows_the_shape_of_the_image():
    """The same graph and constants for a taller image are another network."""
    found = random_network(4).network
    channels, height, width = found.input_shape
    taller = IntegerNetwork(found.spec, found.params, found.ops, (channels, height + 16, width))
    assert taller.digest() != found.digest()
    same = IntegerNetwork(found.spec, found.params, found.ops, found.input_shape)
    assert same.digest() == found.digest()


@pytest.mark.parametrize("head_size", [5, 9, 45, 80])
def test_random_networks_have_the_head_size_asked_for(head_size):
    spec = random_network(0, head_size=head_size).spec
    assert {spec.dims[3] // spec.heads, spec.dims[4] // spec.heads} >= {head_size} or (
        spec.dims[3] % head_size == spec.dims[4] % head_size == 0
    )


def adversarial(network: IntegerNetwork, op, low: int, high: int):
    """Largest |sum| each channel of `op` can reach on inputs low..high, by constructing them."""
    if isinstance(op, RepConv):
        first = op.pointwise.astype(int)
        top = np.where(first > 0, high, low) * first
        bottom = np.where(first > 0, low, high) * first
        ends = np.stack([top.sum(1), bottom.sum(1)])
        taps = op.depthwise.reshape(len(first), 1, -1).astype(int)
        both = taps * ends.T[:, :, None]
        return ends, np.stack([both.max(1).sum(1), both.min(1).sum(1)])
    q = op.weight.reshape(len(op.weight), -1).astype(int)
    return ((np.stack([np.where(q > 0, x, y) for x, y in ((high, low), (low, high))]) * q).sum(2),)


def test_accumulators_stay_in_their_bounds(digits):
    """Model check 7.19: inputs at their extremes, chosen by each weight's sign."""
    network = digits.network()
    tensors = network.tensors()
    for op in network.ops:
        if isinstance(op, Conv | Depthwise | RepConv):
            kind = tensors[op.source][0]
            low, high = {"image": (-128, 127), "level": (0, 4), "z": (-2048, 2047)}[kind]
            reached = adversarial(network, op, low, high)
            for found, bound in zip(reached, network.acc_bounds(op), strict=True):
                assert (np.abs(found) <= bound).all(), op.name
            assert network.acc_bound(op) < 1 << network.params.acc_bits - 1


def test_thresholds_equal_the_neuron_on_exact_rationals():
    """Model check 7.15: both signs, zero and tiny scales, ties, accumulators -2^12..2^12."""
    r = np.random.default_rng(5)
    scale = np.concatenate([r.normal(0, 1, 60) * 2.0 ** r.integers(-14, 2, 60), [0] * 6])
    scale = np.concatenate([scale, [2.0**-7, -(2.0**-7), 1e-300, -1e-300, 0.1, -0.3]])
    offset = r.normal(0.4, 1, len(scale))
    offset[60:68] = [0.125, 0.12499, 0.875, -1, 2, 0.5, 0.0, 0.5]
    rule = fixed_point.thresholds(scale, offset, acc_bits=14)
    acc = np.arange(-(2**12), 2**12 + 1)
    fire = Fire(rule, "level")
    level = fire.apply(np.broadcast_to(acc, (1, len(scale), len(acc))), {}, IntegerParams(), {})[
        "level"
    ]
    for c, (a, b) in enumerate(zip(scale.tolist(), offset.tolist(), strict=True)):
        a, b = Fraction(a), Fraction(b)
        for i in range(0, len(acc), 1 if c > 55 else 37):
            clamped = min(max(4 * (a * int(acc[i]) + b), Fraction(0)), Fraction(4))
            assert level[0, c, i] == floor(clamped + Fraction(1, 2))
    np.testing.assert_array_equal(rule.invert, scale < 0)
    np.testing.assert_array_equal(rule.constant, scale == 0)


@pytest.mark.parametrize("levels, gain", [(4, 1), (8, 1), (3, 2), (4, 4)])
def test_half_even_thresholds_equal_the_neuron_on_exact_rationals(levels, gain):
    """Detection check (d), whose neuron has gain 1: ties of both signs, zero scales at a tie, and
    every accumulator of -2^9..2^9."""
    r = np.random.default_rng(levels)
    scale = np.array([2.0**-5, -(2.0**-5), 0.25, -0.25, 0, 0, 0, 0, *r.normal(0, 0.02, 8)])
    offset = np.array([0.5, 1.5, 0.0, 2.0, 0.5 / gain, 1.5 / gain, 2.5 / gain, -1,
                       *r.normal(1, 1, 8)])
    acc = np.arange(-(2**9), 2**9 + 1)
    rule = fixed_point.thresholds(
        scale, offset, acc_bits=14, levels=levels, gain=gain, half_even=True)
    level = Fire(rule, "level").apply(
        np.broadcast_to(acc, (1, len(scale), len(acc))), {}, IntegerParams(), {})["level"]
    for c, (a, b) in enumerate(zip(scale.tolist(), offset.tolist(), strict=True)):
        a, b = Fraction(a), Fraction(b)
        want = [min(max(round(gain * (a * int(x) + b)), 0), levels) for x in acc]
        assert level[0, c].tolist() == want


def test_clipped_thresholds_mean_always_and_never():
    scale, offset = np.repeat([1e-3, -1e-3, 0.0], 2), np.tile([1e9, -1e9], 3)
    rule = fixed_point.thresholds(scale, offset, acc_bits=8)
    acc = np.arange(-128, 128)[None, None].repeat(6, axis=1)
    level = Fire(rule, "x").apply(acc, {}, IntegerParams(), {})["x"]
    assert (level == np.array([4, 0] * 3)[:, None]).all()
    low, high = threshold_limits(8, invert=rule.invert[:, None])
    assert ((rule.thresholds == low) | (rule.thresholds == high)).all()
    assert rule.thresholds.min() >= -256 and rule.thresholds.max() <= 255  # one bit wider


def test_fixed_scale_takes_the_largest_shift_that_fits():
    params = IntegerParams(mult_bits=8, max_shift=26, bias_bits=44)
    under = 128 * (1 - 2.0**-20)  # would round up to 128 at shift 10
    scale = np.array([under * 2.0**-10, 1.0, -1.0, 2.0**-40, 0.0, 1e9, -1e9])
    made = fixed_point.fixed_scale(scale, np.full(7, 1e30), frac=0, params=params)
    assert made.shift.tolist() == [9, 6, 6, 26, 26, 0, 0]
    assert made.multiplier.tolist() == [64, 64, -64, 0, 0, 127, -127]
    assert (made.bias == 2**43 - 1).all()


def test_fixed_scale_error_bound():
    """|result - real| <= 1/2 + |acc| 2^(-S-1) + 2^(-S-1), in units of the last bit."""
    r = np.random.default_rng(6)
    params, acc = IntegerParams(), r.integers(-(2**18), 2**18, (1, 300, 20, 1))
    scale, offset = r.normal(0, 1, 300) * 2.0 ** r.integers(-20, 3, 300), r.normal(0, 2, 300)
    made = fixed_point.fixed_scale(scale, offset, frac=10, params=params)
    real = (scale[:, None, None] * acc + offset[:, None, None]) * 2**10
    ulp = 2.0 ** -made.shift[:, None, None].astype(float)
    assert (np.abs(made.apply(acc) - real) <= 0.5 + (np.abs(acc) + 1) * ulp / 2 + 1e-6).all()


def test_too_narrow_accumulator_is_refused(small):
    with pytest.raises(ValueError, match=r"encode_conv: accumulator needs 1\d bits.* is 12"):
        small.network(IntegerParams(acc_bits=12))


@pytest.mark.parametrize("values", [{"u_frac": 2}, {"z_bits": 1}, {"mult_bits": 16.0}])
def test_params_are_checked(values):
    with pytest.raises(ValueError, match=f"{next(iter(values))} must be an integer in"):
        IntegerParams(**values)


def test_z_fraction_can_differ_by_layer(small):
    params = IntegerParams(z_frac=6, z_frac_of=(("proj_conv", 4), ("block3.1.attn.q_conv", 5)))
    assert params.z_frac_for("block3.0.attn.proj_conv") == 4
    # The last pair that matches counts, whatever its name's length.
    pairs = (("attn.q_conv", 3), ("q_conv", 7), ("block3.0.attn.q_conv", 5))
    assert IntegerParams(z_frac_of=pairs).z_frac_for("block3.0.attn.q_conv") == 5
    assert IntegerParams(z_frac_of=pairs).z_frac_for("block3.1.attn.q_conv") == 7
    base, other = small.network(), small.network(params)
    for a, b in zip(base.ops, other.ops, strict=True):
        if isinstance(a, RepConv):
            factor = 2.0 ** (params.z_frac_for(a.name) - 6)
            scales = [x.epilogue.scale.multiplier / 2.0**x.epilogue.scale.shift for x in (a, b)]
            np.testing.assert_allclose(scales[1], scales[0] * factor, rtol=1e-3, atol=1e-6)


def test_z_width_can_differ_by_layer(small):
    """Each z saturates at its own width, at both ends; everything else stays as it is."""
    params = IntegerParams(z_bits_of=(("q_conv", 3), ("dwconv", 5), ("block3.1.attn.q_conv", 14)))
    base, other = small.network(), small.network(params)
    widths = other.z_widths()
    assert widths["block3.0.attn.q_conv/z"] == 3 and widths["block3.1.attn.q_conv/z"] == 14
    assert widths["block3.0.attn.k_conv/z"] == 12
    assert set(base.z_widths().values()) == {12}
    exact = base.run(small["image_q"])
    stats: dict[str, int] = {}
    made = other.run(small["image_q"], force=exact, stats=stats)
    clipped = 0
    for name, bits in widths.items():
        limit = 1 << bits - 1
        wanted = np.clip(exact[name], -limit, limit - 1)
        np.testing.assert_array_equal(made[name], wanted)
        clipped += np.count_nonzero(wanted != exact[name])
    assert stats["z_saturated"] == clipped > 0
    assert {made["ConvBlock1_1.0.Conv.dwconv/z"].min(), made["ConvBlock1_1.0.Conv.dwconv/z"].max()
            } == {-16, 15}
    # What reads a narrow z needs fewer accumulator bits.
    for op in other.ops:
        if op.inputs[0] in widths:
            factor = 2.0 ** (widths[op.inputs[0]] - 12)
            assert other.acc_bound(op) == base.acc_bound(op) * factor


def test_widths_of_unknown_layers_are_refused(small):
    for pairs in ({"z_bits_of": (("qconv", 8),)}, {"z_frac_of": (("conv1", 8),)}):
        message = "_of: no layer with a z is called q?conv1?; known are ConvBlock.*, .*proj_conv$"
        with pytest.raises(ValueError, match=message):
            small.network(IntegerParams(**pairs))
    with pytest.raises(ValueError, match="z_bits of q_conv must be an integer in 2..44, not 1"):
        IntegerParams(z_bits_of=(("q_conv", 1),))


def test_one_width_leaves_digests_as_they_are():
    """Networks without widths by layer have the digests that records hold."""
    assert "z_bits_of" not in IntegerParams().to_dict()
    assert IntegerParams(z_bits_of=[["q_conv", 8]]).to_dict()["z_bits_of"] == (("q_conv", 8),)
    record = ROOT / "docs" / "results" / "digests.json"
    assert zoo.load("qsdt_nano").digest() == json.loads(record.read_text())[
        "integer network qsdt_nano"]


def test_graph_is_checked(small):
    network = small.network()
    spec, params, shape = network.spec, network.params, network.input_shape
    with pytest.raises(ValueError, match="is not made by an earlier layer"):
        IntegerNetwork(spec, params, network.ops[1:], shape)
    with pytest.raises(ValueError, match="weights for 3 channels, source has 1"):
        IntegerNetwork(spec, params, network.ops, (1, 64, 64))
    with pytest.raises(ValueError, match="is made twice"):
        IntegerNetwork(spec, params, (network.ops[0], network.ops[0]), shape)
    head = network.ops[-1]
    wrong = Conv("head", "downsample1_1/u", head.weight, 1, 0, head.epilogue)
    with pytest.raises(ValueError, match="must be image or level or z, not u"):
        IntegerNetwork(spec, params, (network.ops[0], wrong), shape)


def test_run_checks_images_and_names(small):
    network = small.network()
    with pytest.raises(ValueError, match=r"images must be int8 \(N, 3, 64, 64\)"):
        network.run(small["image_q"].astype(np.int16))
    with pytest.raises(ValueError, match="network has no tensor nothing"):
        network.run(small["image_q"], keep=("nothing",))


def test_batches_give_the_same(digits):
    network, image_q, seen = digits.network(), digits["image_q"][:21], []
    whole_stats: dict[str, int] = {}
    parts_stats: dict[str, int] = {}
    keep = ("logits", "block3.0/ktv", "block4.0.mlp/u")
    whole = network.run(image_q, keep=keep, stats=whole_stats)
    parts = network.run_batched(
        image_q, batch=8, keep=keep, stats=parts_stats, progress=seen.append
    )
    assert seen == [8, 8, 5] and whole_stats == parts_stats
    for name in keep:
        np.testing.assert_array_equal(whole[name], parts[name])
    np.testing.assert_array_equal(whole["logits"], network.classify(image_q))


def test_raw_logits_are_the_head_on_integers(small):
    network = small.network()
    made, head = network.run(small["image_q"]), network.ops[-1]
    assert isinstance(head.epilogue, Raw)
    acc = made["logits_acc"][:, :, 0, 0]
    np.testing.assert_array_equal(made["logits"], head.epilogue.scale * acc + head.epilogue.offset)


def test_every_layer_of_the_published_layout_is_folded():
    shapes = state_shapes(MODELS["qsdt_t"])
    assert len(shapes) == 1669 - 4 * 138  # without the unused .act. entries
    assert sum(np.prod(s) for k, s in shapes.items() if len(s) > 1) == 15_015_072
    made = random_network(0)
    layers = {key.removesuffix(".alpha") for key in made.state if key.endswith(".alpha")}
    assert set(fold(made.state, made.spec)) == layers
