"""Checkpoints of the published detector and segmenter: keys, mixtures, and what is missing."""

from dataclasses import replace
from fractions import Fraction
import re

import pytest
import torch

from model.families.qsdt import QsdtSpec
from model.families.spec import spec
from model.published.checkpoint import load_detector, load_segmenter, published_key, read
from model.published.mask_rcnn import Defects, MaskRcnn
from model.published.semantic_fpn import SemanticFpn
from model.training import checkpoint
from model.training.checkpoint import CheckpointError
from tests.model import detseg_vectors
from tests.model.published.nets import published, written


torch.set_num_threads(1)

SPEC = QsdtSpec(name="tiny", classes=1, dims=(4, 6, 8, 8, 16), depths=(1, 1, 1, 2, 1))
SIZES = {"width": 8, "hidden": 12, "classes": 3}


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return MaskRcnn(SPEC, **SIZES)


@pytest.fixture(scope="module")
def segmenter():
    torch.manual_seed(1)
    return SemanticFpn(SPEC, width=8, classes=5)


def test_head_keys_of_the_vectors_are_ours_by_name(tmp_path):
    """Detection check (b): containers count the neuron as 0 and what it feeds as 1."""
    ours = [*MaskRcnn(SPEC, **SIZES).state_dict(), *SemanticFpn(SPEC).state_dict()]
    found = {published_key(key) for key in ours}
    theirs = {*detseg_vectors.weights("det_fpn_rpn"), *detseg_vectors.weights("seg_qfpn"),
              *(f"roi_head.{key}" for key in detseg_vectors.weights("det_roi_heads"))}
    assert theirs == {key for key in found if not key.startswith("backbone.")
                      and not key.endswith("num_batches_tracked")}
    with pytest.raises(ValueError, match="head.lif: no key of a published network"):
        published_key("head.lif")


def test_backbone_has_the_published_keys():
    """1113, as many as the published files have, less what is never read."""
    with torch.device("meta"):
        keys = [published_key(key) for key in MaskRcnn(spec("qsdt_t")).state_dict()]
    assert len([key for key in keys if key.startswith("backbone.")]) == 1113
    assert "backbone.block3.5.attn.q_conv.0.body.2.1.alpha" in keys
    assert not any(key.startswith("backbone.head") for key in keys)


def check_equal(model, other):
    ours, theirs = model.state_dict(), other.state_dict()
    assert set(ours) == set(theirs)
    for key, value in theirs.items():
        assert torch.equal(ours[key], value), key


def test_detector_comes_back(tmp_path, detector):
    """Detection check (b): every value, sizes from shapes, defects by a switch."""
    path = written(tmp_path / "det_qsd.pth", published(detector))
    found = read(path)
    assert found.kind == "detector" and found.sizes == SIZES
    assert replace(found.spec, name="tiny", image_size=SPEC.image_size) == SPEC
    right, wrong = load_detector(path), load_detector(path, defects=Defects(True, True))
    assert right.strides == [4, 8, 16, 16, 32] and wrong.strides == [4, 8, 16, 32, 64]
    for model in (right, wrong):
        assert not model.training
        check_equal(model, detector)


def test_segmenter_comes_back(tmp_path, segmenter):
    """Detection check (b)."""
    state = {f"module.{key}": value for key, value in published(segmenter).items()}
    path = written(tmp_path / "seg.pth", state)
    model = load_segmenter(path)
    check_equal(model, segmenter)
    x = torch.randn(1, 3, 32, 48)
    assert torch.equal(model(x), segmenter.eval()(x)) and model.segment(x).shape == (32, 48)
    segmenter.train()


def test_backbone_alone_fits_a_classifier(tmp_path, detector):
    """Its state is that of the network without head."""
    found = read(written(tmp_path / "det.pth", published(detector)))
    checkpoint.check_shapes(found.backbone, {
        key: tuple(value.shape) for key, value in detector.backbone.network.state_dict().items()})


def test_batch_counters_may_lack(tmp_path, segmenter):
    state = {key: value for key, value in published(segmenter).items()
             if not key.endswith("num_batches_tracked")}
    assert load_segmenter(written(tmp_path / "seg.pth", state)).head.strides == (2, 4, 8, 16)


def broken(state, change):
    state = dict(state)
    change(state)
    return state


CASES = {
    "no backbone": (lambda s: [s.pop(k) for k in list(s) if k.startswith("backbone.")],
                    "has no key of a backbone; save the whole network"),
    "no neck": (lambda s: [s.pop(k) for k in list(s) if k.startswith("neck.")],
                "neck.lateral_convs.0.1.0.conv.weight: missing"),
    "a key less": (lambda s: s.pop("rpn_head.rpn_cls.1.0.bias"),
                   "rpn_head.rpn_cls.1.0.bias: missing"),
    "a key less in the backbone": (
        lambda s: s.pop("backbone.block4.0.layer_scale1"),
        "backbone.block4.0.layer_scale1: missing"),
    "no last stage": (lambda s: s.pop("backbone.downsample4.encode_conv.weight"),
                      "backbone.downsample4.encode_conv.weight: missing, or of a wrong shape"),
    "no stem": (lambda s: s.pop("backbone.downsample1_1.encode_conv.weight"),
                "must have the key backbone.downsample1_1.encode_conv.weight"),
    "no statistics": (
        lambda s: [s.pop(k) for k in list(s) if k.endswith(("running_mean", "running_var"))],
        "backbone.downsample1_1.encode_bn.running_mean: missing, as are statistics of"),
    "another head": (lambda s: s.update({"bbox_head.retina_cls.weight": torch.zeros(3)}),
                     "bbox_head.retina_cls.weight: not expected"),
    "a classifier's head": (lambda s: s.update({"backbone.head.weight": torch.zeros(3, 16)}),
                            "backbone.head.weight: not expected"),
    "both": (lambda s: s.update({"decode_head.conv_seg.weight": torch.zeros(3)}),
             "mixes keys of two networks, neck.lateral_convs.0.1.0.conv.weight of a detector and "
             "decode_head.conv_seg.weight of a segmenter: save one of them alone"),
    "a shape": (lambda s: s.update({"rpn_head.rpn_cls.1.0.bias": torch.zeros(9)}),
                r"rpn_head.rpn_cls.1.0.bias must have shape (3,), not (9,)"),
    "no classes": (lambda s: s.update({"roi_head.bbox_head.fc_cls.weight": torch.zeros(1, 12)}),
                   "classes must be at least 1, not 0"),
    "NaN": (lambda s: s.update({"rpn_head.rpn_cls.1.0.bias": torch.full((3,), float("nan"))}),
            "rpn_head.rpn_cls.1.0.bias must be finite"),
    "a step of 0": (
        lambda s: s.update({"backbone.block3.0.mlp.fc1_conv.alpha": torch.zeros(32)}),
        "backbone.block3.0.mlp.fc1_conv.alpha must not be 0"),
    "two families": (
        lambda s: s.update({"backbone.block3.0.attn.q_conv.0.weight": torch.zeros(8, 8, 1, 1)}),
        "mixes keys of two families"),
    "no weights": (lambda s: s.clear(), "has no head of the published detector or segmenter"),
    "only a backbone": (lambda s: [s.pop(k) for k in list(s) if not k.startswith("backbone.")],
                        "has no head of the published detector or segmenter (its first key is "
                        "backbone.downsample1_1"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_said_in_one_line(tmp_path, detector, case):
    change, message = CASES[case]
    path = written(tmp_path / "det.pth", broken(published(detector), change))
    with pytest.raises(CheckpointError, match=re.escape(message)) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


def test_the_other_kind_is_named(tmp_path, detector, segmenter):
    one = written(tmp_path / "det.pth", published(detector))
    two = written(tmp_path / "seg.pth", published(segmenter))
    with pytest.raises(CheckpointError, match="det.pth: is a detector, not a segmenter"):
        load_segmenter(one)
    with pytest.raises(CheckpointError, match="seg.pth: is a segmenter, not a detector"):
        load_detector(two)


def test_heads_that_do_not_divide_are_named(tmp_path, detector):
    path = written(tmp_path / "det.pth", published(detector))
    assert read(path, heads=4).spec.heads == 4
    with pytest.raises(CheckpointError, match="heads must be one of 1, 2, 4, 8 .* not 3"):
        read(path, heads=3)


def test_objects_of_the_trainer_are_refused(tmp_path, detector):
    """A checkpoint of a running training holds objects of mmengine, such as HistoryBuffer."""
    path = written(tmp_path / "det.pth", published(detector), message_hub=Fraction(1, 2))
    with pytest.raises(CheckpointError, match="refused: it asks for fractions.Fraction"):
        read(path)


@pytest.mark.parametrize("name, kind", [("detector", "detector"), ("segmenter", "segmenter")])
def test_commands_for_classifiers_say_what_it_is(tmp_path, request, name, kind):
    path = written(tmp_path / "x.pth", published(request.getfixturevalue(name)))
    with pytest.raises(CheckpointError, match=f"has the keys of a {kind}"):
        checkpoint.read(path)
