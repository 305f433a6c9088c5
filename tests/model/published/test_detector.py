"""Neck and heads of the published detector against its vectors, and its first defect."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from model.families.network import capture_levels
from model.families.neuron import IeLif, Neuron
from model.families.spec import spec
from model.integer import golden
from model.published.detector import BoxHead, MaskHead, SpikeFpn, SpikeRpn
from model.published.layers import BinaryInEvaluation, neuron
from model.published.mask_rcnn import Defects, MaskRcnn
from tests.model import detseg_vectors


torch.set_num_threads(1)

PUBLISHED = {"qsdt_t": (2_568_192, 593_935, 14_306_705, 2_643_280),
             "qsdt_m": (5_753_856, 1_333_263, 31_880_081, 5_930_960)}
"""Parameters of neck, RPN, box and mask head."""


def tensors(name, pattern, count):
    """The arrays `pattern` % i, without their time step."""
    vectors = detseg_vectors.arrays(name)
    return [torch.from_numpy(vectors[pattern % i][0]) for i in range(count)]


def loaded(module, name, part, moves):
    """`module` with the weights of a part, in float64; `moves` takes published names to ours."""
    state = {}
    for key, value in detseg_vectors.weights(name).items():
        if key.startswith(part):
            key = key.removeprefix(f"{part}.")
            for old, new in moves:
                key = key.replace(old, new)
            state[key] = torch.from_numpy(value)
    module.double().load_state_dict(state)
    return module.eval()


def fpn(**options):
    return loaded(SpikeFpn((16, 32, 64, 64), 16, **options), "det_fpn_rpn", "neck",
                  [(".1.0.conv", ".layer")])


def check_levels(found, name, prefix):
    """Levels of neurons by their published names, each (T, B, ...) there."""
    vectors = detseg_vectors.arrays(name)
    want = {key.removeprefix(prefix).rpartition(".")[0]: value[0]
            for key, value in vectors.items() if key.startswith(prefix)}
    assert {key.rpartition(".")[0] for key in found} == set(want)
    for key, level in found.items():
        np.testing.assert_array_equal(level.numpy(), want[key.rpartition(".")[0]], err_msg=key)


def test_neurons_are_the_published_ones():
    """Detection check (a): values and gradients of every neuron, ties included."""
    vectors = detseg_vectors.arrays("neurons")
    x = torch.from_numpy(vectors["x"])
    binary = BinaryInEvaluation()
    whole, quarters = neuron(whole=True), neuron(whole=False)
    for name, found in {
        "neck_train": binary.train()(x), "heads_eval": whole.eval()(x), "seg": quarters.eval()(x),
        "backbone": IeLif()(x), "backbone_att": IeLif(gain=2)(x),
    }.items():
        assert torch.equal(found, torch.from_numpy(vectors[name])), name
    assert torch.equal(binary.eval()(x), torch.from_numpy(vectors["neck_eval"]))
    for name, lif in (("head", whole.train()), ("backbone", IeLif())):
        x = torch.from_numpy(vectors[f"grad_x_{name}"]).requires_grad_()
        lif(x).sum().backward()
        assert torch.equal(x.grad, torch.from_numpy(vectors[f"grad_{name}"])), name


@pytest.mark.parametrize("frac", range(1, 13))
def test_thresholds_on_membranes_of_fixed_point(frac):
    """Detection check (d): every membrane of -1..5, with `frac` fraction bits. A level of the
    head's neuron is worth 1, one of the integer form's membrane a quarter."""
    half = 1 << (frac - 1)
    u = np.arange(-2 * half, 10 * half + 1)
    want = sum((u >= t).astype(int) for t in (half + 1, 3 * half, 5 * half + 1, 7 * half))
    assert np.array_equal(golden.fire_membrane(u, u_frac=frac + 2, half_even=True), want)
    fired = neuron(whole=True)(torch.from_numpy(u / (2 * half)))
    assert np.array_equal(fired.numpy(), want)


def test_neck_is_the_published_one_with_levels():
    """Detection check (a): all maps to 1e-9, all levels."""
    model = fpn()
    with torch.inference_mode(), capture_levels(model) as levels:
        maps = model(tensors("det_fpn_rpn", "in%d", 4))
    for found, want in zip(maps, tensors("det_fpn_rpn", "p%d_levels4", 5), strict=True):
        np.testing.assert_allclose(found, want, rtol=0, atol=1e-9)
    vectors = detseg_vectors.arrays("det_fpn_rpn")
    assert len(levels) == 8
    for key, level in levels.items():
        want = vectors[f"lv/{key.removesuffix('lif')}0"][0]
        np.testing.assert_array_equal(level, want, err_msg=key)


def test_neck_evaluates_binary_as_published_by_a_switch():
    """Detection check (a), and the published defect: other maps in evaluation than in training."""
    model = fpn(binary_in_evaluation=True)
    inputs = tensors("det_fpn_rpn", "in%d", 4)
    with torch.inference_mode():
        found, trained = model.eval()(inputs), model.train()(inputs)
    for binary, levels, wrong, right in zip(
            found, trained, tensors("det_fpn_rpn", "p%d_published_eval_binary", 5),
            tensors("det_fpn_rpn", "p%d_levels4", 5), strict=True):
        np.testing.assert_allclose(binary, wrong, rtol=0, atol=1e-9)
        np.testing.assert_allclose(levels, right, rtol=0, atol=1e-9)
        assert not torch.allclose(binary, levels, atol=0.1)


def test_rpn_is_the_published_one():
    """Detection check (a)."""
    model = loaded(SpikeRpn(16), "det_fpn_rpn", "rpn_head", [(".1.0", ".layer")])
    vectors = detseg_vectors.arrays("det_fpn_rpn")
    for i, x in enumerate(tensors("det_fpn_rpn", "p%d_levels4", 5)):
        with torch.inference_mode(), capture_levels(model) as levels:
            (found,) = model([x])
        np.testing.assert_allclose(found.logits, vectors[f"rpn_cls{i}"][0], rtol=0, atol=1e-9)
        np.testing.assert_allclose(found.deltas, vectors[f"rpn_reg{i}"][0], rtol=0, atol=1e-9)
        check_levels(levels, "det_fpn_rpn", f"lv/rpn{i}/")


def test_box_head_is_the_published_one():
    """Detection check (a)."""
    model = loaded(BoxHead(16, hidden=32, classes=5), "det_roi_heads", "bbox_head",
                   [(".1.0.", ".layer.")])
    vectors = detseg_vectors.arrays("det_roi_heads")
    with torch.inference_mode(), capture_levels(model) as levels:
        scores, deltas = model(torch.from_numpy(vectors["bbox_in"][0]))
    np.testing.assert_allclose(scores, vectors["cls_score"][0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(deltas, vectors["bbox_pred"][0], rtol=0, atol=1e-9)
    check_levels(levels, "det_roi_heads", "lv/bbox/")


def mask_head():
    return loaded(MaskHead(16, classes=5), "det_roi_heads", "mask_head",
                  [(".1.0.conv.", ".layer."), (".1.0.", ".layer.")])


def test_mask_head_is_the_published_one():
    """Detection check (a)."""
    vectors = detseg_vectors.arrays("det_roi_heads")
    model = mask_head()
    with torch.inference_mode(), capture_levels(model) as levels:
        masks = model(torch.from_numpy(vectors["mask_in"][0]))
    np.testing.assert_allclose(masks, vectors["mask_pred"], rtol=0, atol=1e-9)
    check_levels(levels, "det_roi_heads", "lv/mask/")


@torch.no_grad()
def test_deconvolution_is_four_1x1_convolutions():
    """Detection check (e): of every second position each; exact on whole numbers."""
    layer = mask_head().upsample.layer
    layer.weight.copy_(torch.randint(-8, 8, layer.weight.shape))
    layer.bias.copy_(torch.randint(-9, 9, layer.bias.shape))
    x = torch.randint(0, 5, (3, 16, 5, 6)).double()
    want = torch.zeros(3, 16, 10, 12, dtype=torch.float64)
    for i in (0, 1):
        for j in (0, 1):
            kernel = layer.weight[:, :, i, j].T[:, :, None, None]
            want[:, :, i::2, j::2] = F.conv2d(x, kernel, layer.bias)
    assert torch.equal(layer(x), want)


def test_neurons_fire_the_same_in_evaluation_and_training():
    """Detection check (h): every neuron of the detector; with the defect, eight of the neck do
    not."""
    x = torch.linspace(-1, 6, 57, dtype=torch.float64)
    small = replace(spec("qsdt_nano"), image_size=32)
    for binary, differ in ((False, 0), (True, 8)):
        model = MaskRcnn(small, width=8, hidden=16, classes=2, defects=Defects(binary_neck=binary))
        neurons = [m for m in model.modules() if isinstance(m, Neuron)]
        found = [torch.equal(m.train()(x), m.eval()(x)) for m in neurons]
        assert found.count(False) == differ
        heads = [name for name, m in model.named_modules() if isinstance(m, Neuron)
                 and not name.startswith("backbone")]
        assert len(heads) == 8 + 3 + 2 + 6


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_the_published_ones(name):
    width, hidden = {"qsdt_t": (256, 1024), "qsdt_m": (384, 1536)}[name]
    with torch.device("meta"):
        model = MaskRcnn(spec(name), width=width, hidden=hidden)
    parts = (model.neck, model.rpn_head, model.box_head, model.mask_head)
    assert tuple(sum(p.numel() for p in part.parameters()) for part in parts) == PUBLISHED[name]
    assert sum(PUBLISHED[name]) == {"qsdt_t": 20_112_112, "qsdt_m": 44_898_160}[name]


def test_maps_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="outputs must be at least 2, not 1"):
        SpikeFpn((8, 8), 4, outputs=1)
    with pytest.raises(ValueError, match="membranes must have 8, 16 channels, not 8, 8"):
        SpikeFpn((8, 16), 4)([torch.zeros(1, 8, 4, 4)] * 2)
    with pytest.raises(ValueError, match="membranes must have 8, 16 channels, not 8"):
        SpikeFpn((8, 16), 4)([torch.zeros(1, 8, 4, 4)])
