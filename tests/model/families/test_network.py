"""model.network, lsq, neuron and spec against the published code's vectors and numbers."""

from dataclasses import replace
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from model.families.infer import infer_spec
from model.families.lsq import integer_weight, LsqConv2d, quantise
from model.families.network import (
    Attention,
    BnAndPad,
    capture_levels,
    QsdTransformer,
    RepConv,
)
from model.families.neuron import IeLif
from model.families.qsdt import MODELS, QsdtSpec
from model.families.spec import spec


torch.set_num_threads(1)  # with two, a busy second core makes these small layers wait for it

ROOT = Path(__file__).parents[3]
SMALL = ROOT / "tests/data/official_small.npz"
DIGITS = ROOT.parent / "shared/vectors/official_digits.npz"
PUBLISHED_WEIGHTS = {"qsdt_t": 15_015_072, "qsdt_m": 31_193_520, "qsdt_l": 55_163_456}

TINY = QsdtSpec(
    name="tiny",
    in_channels=1,
    image_size=16,
    classes=3,
    dims=(4, 6, 8, 10, 12),
    depths=(1, 1, 2, 1, 1),
    conv_expansion=(2, 1, 1),
    mlp_ratio=2,
    heads=2,
    norm_mean=(0.5,),
    norm_std=(0.5,),
)
COLOUR = {"in_channels": 3, "norm_mean": (0.5,) * 3, "norm_std": (0.5,) * 3}


def load_vectors(path: Path) -> tuple[QsdTransformer, np.lib.npyio.NpzFile]:
    """The published network of a vector file, in float64 evaluation mode."""
    vectors = np.load(path)
    state = {}
    for key in vectors.files:
        if "/" in key or "." not in key:
            continue
        value = vectors[key]
        if key.endswith(".weight.q"):
            key = key.removesuffix(".q")
            alpha = vectors[key.removesuffix("weight") + "alpha"]
            value = np.float32(value * alpha.reshape(-1, *[1] * (value.ndim - 1)))
        state[key] = torch.from_numpy(np.array(value))
    config = json.loads(str(vectors["config"]))["model"]
    model = QsdTransformer(
        infer_spec(state, heads=config["num_heads"], image_size=config["img_size_h"])
    )
    model.load_state_dict(state)  # strict: every published key, and no other
    return model.double().eval(), vectors


def check_vectors(model: QsdTransformer, vectors: np.lib.npyio.NpzFile) -> None:
    x = torch.from_numpy(vectors["image_q"] / 48)
    with torch.inference_mode(), capture_levels(model) as levels:
        logits = model(x).numpy()
    assert list(levels) == list(vectors["levels_order"])
    for name, level in levels.items():
        np.testing.assert_array_equal(level.numpy(), vectors[f"levels/{name}"], err_msg=name)
    np.testing.assert_allclose(logits, vectors["logits"], rtol=0, atol=1e-9)


def test_levels_and_logits_equal_the_published_code():
    """Model check 7.10: random weights of both signs, float64, logits to 1e-9, every level."""
    check_vectors(*load_vectors(SMALL))


def test_infer_spec_reads_shapes():
    model, _ = load_vectors(SMALL)
    assert model.spec.dims == (8, 16, 32, 48, 64)
    assert model.spec.depths == (1, 1, 2, 3, 1)
    assert (model.spec.classes, model.spec.heads, model.spec.mlp_ratio) == (10, 4, 4)
    tiny = QsdTransformer(TINY).state_dict()
    assert infer_spec(
        tiny, name="tiny", heads=2, image_size=16, norm_mean=(0.5,), norm_std=(0.5,)
    ) == replace(TINY, layer_scale_init=1e-6)
    assert (
        infer_spec(QsdTransformer(replace(TINY, **COLOUR)).state_dict(), heads=2).norm_std[0]
        == 0.229
    )
    with pytest.raises(ValueError, match="has no key of a network that is known here"):
        infer_spec({})


@pytest.mark.skipif(not DIGITS.is_file(), reason="the shared vectors are not here")
def test_trained_digits_network_equals_the_published_code():
    model, vectors = load_vectors(DIGITS)
    check_vectors(model, vectors)
    x = torch.from_numpy(vectors["test500/image_q"] / 48).repeat(1, 3, 1, 1)
    with torch.inference_mode():
        logits = model(x).numpy()
    np.testing.assert_allclose(logits, vectors["test500/logits"], rtol=0, atol=1e-9)
    assert (logits.argmax(1) == vectors["test500/labels"]).sum() == 493


# Acceptance checks of the specification: neuron and quantiser.

MEMBRANES = [-1, 0, 0.125 - 1e-6, 0.125, 0.375, 0.625, 0.875, 0.874, 1, 7]


def test_ie_lif_fires_at_ties():
    """Model check 7.1."""
    x = torch.tensor(MEMBRANES, dtype=torch.float64)
    want = torch.tensor([0, 0, 0, 1, 2, 3, 4, 3, 4, 4])
    assert torch.equal(IeLif().level(x).long(), want)
    assert torch.equal(IeLif()(x), want / 4)
    assert torch.equal(IeLif(gain=2)(x), want / 2)


def test_ie_lif_gradient_is_one_strictly_inside():
    """Model check 7.2."""
    x = torch.tensor(MEMBRANES, dtype=torch.float64, requires_grad=True)
    IeLif()(x).sum().backward()
    assert x.grad.tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 0, 0]


def test_ie_lif_rejects_no_levels():
    with pytest.raises(ValueError, match="levels must be at least 1, not 0"):
        IeLif(0)


def test_lsq_codes_and_first_step():
    """Model check 7.3."""
    weight = torch.tensor([2.5, 9.0, -9.0, 2.5]).view(4, 1, 1, 1)
    alpha = torch.tensor([1.0, 1.0, 1.0, -1.0])
    assert integer_weight(weight, alpha).flatten().tolist() == [2, 7, -8, -2]
    assert quantise(weight, alpha).flatten().tolist() == [2, 7, -8, 2]
    layer = LsqConv2d(1, 4, 1)
    with torch.no_grad():
        layer.weight.copy_(weight)
    layer.reset_alpha()
    assert layer.alpha.tolist() == pytest.approx([4.346591] * 4, abs=1e-6)
    assert layer.init_state.item() == 1


def test_lsq_gradients():
    weight = torch.tensor([[2.4, 9.0, -9.0]], dtype=torch.float64, requires_grad=True)
    alpha = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
    (quantise(weight, alpha) * torch.tensor([[1.0, 10.0, 100.0]])).sum().backward()
    assert weight.grad.tolist() == [[1, 0, 0]]
    slope = 1 * (2 - 2.4) + 10 * 7 + 100 * -8
    assert alpha.grad.item() == pytest.approx(slope / (3 * 7) ** 0.5)


@pytest.mark.parametrize("bits, low, high", [(2, -2, 1), (3, -4, 3), (4, -8, 7)])
def test_lsq_bits(bits, low, high):
    codes = integer_weight(torch.linspace(-20, 20, 401)[None], torch.ones(1), bits)
    assert (codes.min(), codes.max()) == (low, high)
    with pytest.raises(ValueError, match="weight_bits must be 2, 3, 4 or 8, not 5"):
        integer_weight(torch.ones(1, 1), torch.ones(1), 5)


# Acceptance checks of the specification: the network.


@pytest.mark.parametrize("name", MODELS)
def test_layer_weight_and_key_counts(name):
    """Model check 7.4."""
    with torch.device("meta"):
        model = QsdTransformer(spec(name))
    layers = [m for m in model.modules() if hasattr(m, "alpha")]
    count = sum(layer.weight.numel() for layer in layers)
    assert count == spec(name).weight_count == PUBLISHED_WEIGHTS.get(name, count)
    if name in PUBLISHED_WEIGHTS:
        assert len(layers) == 138
        assert sum(isinstance(m, IeLif) for m in model.modules()) == 77
        assert len(model.state_dict()) == 1669 - 4 * 138  # act.*: 4 keys a layer, unused
        other = sum(p.numel() for p in model.parameters()) - count
        assert other == {"qsdt_t": 145_360, "qsdt_m": 209_840, "qsdt_l": 279_120}[name]


def test_qsdt_nano_fits_its_purpose():
    nano = spec("qsdt_nano")
    assert 100_000 <= nano.weight_count <= 300_000
    tokens = [nano.sizes[stage] ** 2 for _, stage in nano.transformer_blocks]
    assert sum(n >= 49 for n in tokens) >= 2
    heads = [dim // nano.heads for dim in nano.dims[3:]]
    assert any(d & (d - 1) for d in heads)


def test_qsdt_s_fits_its_purpose():
    s = spec("qsdt_s")
    assert 3_500_000 <= s.weight_count <= 4_100_000
    block_ram_bytes = 208 * 18 * 1024 // 8  # LFE5U-85F: 208 EBR of 18 Kbit
    assert s.weight_count * s.weight_bits // 8 > 3 * block_ram_bytes
    assert all(s.sizes[stage] ** 2 >= 16 for _, stage in s.transformer_blocks)
    assert all(d & (d - 1) for d in (dim // s.heads for dim in s.dims[3:]))


def randomised(model: QsdTransformer, seed: int = 0) -> QsdTransformer:
    """Fill batch norms, steps and layer scales with values of both signs."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("running_mean"):
                value.normal_(0, 0.3)
            elif name.endswith("running_var"):
                value.uniform_(0.1, 1)
            elif name.endswith(".alpha"):
                value.mul_(torch.where(torch.rand_like(value) < 0.1, -1, 1))
            elif ".layer_scale" in name:
                value.uniform_(-0.5, 0.5)
            elif "bn" in name and name.endswith(".weight"):
                value.uniform_(-0.2, 1.5)
            elif "bn" in name and name.endswith(".bias"):
                value.normal_(0.3, 0.3)
    return model


@torch.no_grad()
def test_rep_conv_is_one_padded_3x3():
    """Model check 7.5."""
    model = randomised(QsdTransformer(TINY)).double().eval()
    for layer in (m for m in model.modules() if isinstance(m, RepConv)):
        first, pad, (depth, second, last) = layer.body
        x = torch.randn(2, first.weight.shape[1], 5, 6, dtype=torch.float64)

        def affine(bn):
            gain = bn.weight / torch.sqrt(bn.running_var + bn.eps)
            return gain, bn.bias - bn.running_mean * gain

        (g1, h1), (g2, h2) = affine(pad.bn), affine(last)
        p1 = first.quantised_weight()[:, :, 0, 0] * g1[:, None]
        p2 = second.quantised_weight()[:, :, 0, 0] * g2[:, None]
        taps = depth.quantised_weight()[:, 0]
        kernel = torch.einsum("oc,cyx,ci->oiyx", p2, taps, p1)
        bias = p2 @ (h1 * taps.sum((1, 2))) + h2
        y = layer(x)
        error = (y - F.conv2d(x, kernel, bias, padding=1)).abs().max() / y.abs().max()
        assert error < 1e-12


def test_border_is_the_batch_norm_image_of_zero():
    pad = BnAndPad(3)
    x = torch.randn(2, 3, 4, 4)
    pad(x)  # one training step moves the running statistics, which the border uses
    y = pad.eval()(x)
    assert y.shape == (2, 3, 6, 6)
    torch.testing.assert_close(y[:, :, :1, :1], pad.bn(torch.zeros(2, 3, 1, 1)))


@torch.no_grad()
@pytest.mark.parametrize("limit", [2**30, 224])
def test_attention_level_in_integers(limit):
    """Model check 7.7 on the network's own levels."""
    model = randomised(QsdTransformer(TINY)).double().eval()
    for name, block in model.named_modules():
        if not isinstance(block, Attention):
            continue
        channels = block.q_conv[1].num_features
        for branch in (block.q_conv, block.k_conv, block.v_conv):
            branch[1].bias.normal_(0, 0.5)
        with capture_levels(block) as levels:
            block(torch.randn(2, channels, 14, 14, dtype=torch.float64))
        q, k, v = (levels[f"{x}_lif"].long().view(2, 2, channels // 2, -1) for x in "qkv")
        ktv = torch.einsum("bhin,bhjn->bhij", k, v).clamp(max=limit)
        assert limit > 224 or ktv.max() == 224, "saturation must be met"
        qktv = torch.einsum("bhin,bhij->bhjn", q, ktv).clamp(max=limit)
        want = ((qktv + 32) >> 6).clamp(0, 4).view(2, channels, 14, 14)
        assert torch.equal(levels["attn_lif"].long(), want), name
        assert len(want.unique()) > 1


def test_four_binary_passes_equal_one_level_pass():
    torch.manual_seed(0)
    level = torch.randint(0, 5, (2, 6, 9, 9)).double()
    codes = torch.randint(-8, 8, (4, 6, 3, 3)).double()
    passes = sum(F.conv2d((level >= k).double(), codes, padding=1) for k in range(1, 5))
    assert torch.equal(passes, F.conv2d(level, codes, padding=1))


@torch.no_grad()
def test_levels_are_multiples_and_dtypes_hold():
    model = randomised(QsdTransformer(TINY)).eval()
    x = torch.randn(2, 1, 16, 16)
    assert model(x).dtype == torch.float32
    with capture_levels(model) as levels:
        assert model.double()(x.double()).dtype == torch.float64
    assert len(levels) == sum(isinstance(m, IeLif) for m in model.modules())
    assert all(level.dtype == torch.uint8 and level.max() <= 4 for level in levels.values())
    levels.clear()
    model(x.double())
    assert not levels, "hooks must be gone after the with block"


def test_fresh_network_is_exportable_and_trains():
    model = QsdTransformer(TINY)
    state = model.state_dict()
    assert all(v.item() == 1 for k, v in state.items() if k.endswith("init_state"))
    assert all(torch.isfinite(v).all() and v.min() > 0 for k, v in state.items() if "alpha" in k)
    model(torch.randn(4, 1, 16, 16)).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_the_product_of_the_attention_is_exact_in_bfloat16():
    """Sums over tokens need more bits than bfloat16 has."""
    attention = Attention(8, spec=replace(TINY, heads=1))
    q, k, v = (torch.randint(0, 5, (2, 1, 49, 8)) / 4 for _ in range(3))
    attention.operands = lambda u: (q, k, v)
    membranes = []
    attention.attn_lif.register_forward_pre_hook(lambda module, args: membranes.append(args[0]))
    with torch.autocast("cpu", torch.bfloat16):
        attention(torch.zeros(2, 8, 7, 7))
    want = attention.product(*(x.double() for x in (q, k, v)))
    got = membranes[0].flatten(2).transpose(1, 2)[:, None]
    assert torch.equal(got.double(), want)


def test_all_maps_of_a_grey_picture_are_channels_last():
    """Values and gradients: of one input channel a convolution would begin another layout."""
    model = QsdTransformer(TINY).to(memory_format=torch.channels_last)
    seen = []

    def look(module, args):
        x = args[0]
        seen.append(x.is_contiguous(memory_format=torch.channels_last))
        if x.requires_grad:
            x.register_hook(
                lambda grad: seen.append(grad.is_contiguous(memory_format=torch.channels_last)))

    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.register_forward_pre_hook(look)
    model(torch.randn(2, 1, 16, 16)).sum().backward()
    assert len(seen) == 2 * len(norms)
    assert all(seen)


def test_state_dict_round_trip():
    """Model check 7.9: bit for bit."""
    one, two = randomised(QsdTransformer(TINY), 1), QsdTransformer(TINY)
    two.load_state_dict(one.state_dict())
    assert all(
        torch.equal(a, b)
        for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    )


# Spec.


def test_unknown_model_lists_the_known_ones():
    with pytest.raises(ValueError, match="model must be one of qsdt_t, qsdt_m, .*, not qsdt_x"):
        spec("qsdt_x")


@pytest.mark.parametrize("name", MODELS)
def test_spec_survives_json(name):
    assert QsdtSpec.from_dict(json.loads(json.dumps(spec(name).to_dict()))) == spec(name)


def test_spec_from_dict_names_a_bad_key():
    with pytest.raises(ValueError, match="keys of QsdtSpec.*'colour'"):
        QsdtSpec.from_dict({**TINY.to_dict(), "colour": 1})


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("classes", 0, "classes must be a positive integer, not 0"),
        ("dims", (1, 2), r"dims must be 5 positive integers, not \(1, 2\)"),
        ("strides", (2, 2, 3, 1, 1), "strides must be at most 2, not 3"),
        ("stem_kernel", 4, "stem_kernel must be odd, not 4"),
        ("weight_bits", 8, "weight_bits must be 2, 3, 4 or 32, not 8"),
        ("heads", 4, r"heads must divide the dims \(10, 12\), not be 4"),
        ("image_size", 20, "image_size must be a multiple of 16 .*, not 20"),
        ("norm_mean", (0.5, 0.5), "norm_mean must have one value for each of 1 channels"),
        ("norm_std", (0.0,), "norm_std must be positive"),
    ],
)
def test_spec_rejects(field, value, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **{field: value})
