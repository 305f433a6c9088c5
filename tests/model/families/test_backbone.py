"""Taps of a network: the published maps of detection and segmentation, and their strides."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.families.backbone import Backbone
from model.families.make import make_network
from model.families.spec import MODELS, spec
from model.families.taps import DETECTION, SEGMENTATION, Tap, taps
from tests.model import detseg_vectors


torch.set_num_threads(1)


def backbone(stages):
    model = Backbone(detseg_vectors.backbone_spec(), stages).double().eval()
    state = {key: torch.from_numpy(value) for key, value in
             detseg_vectors.backbone_state().items()}
    lacking = model.network.load_state_dict(state, strict=False)
    assert not lacking.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in lacking.missing_keys)
    return model


def test_taps_are_the_published_maps():
    """Detection check (a): membranes of the backbone, to 1e-9."""
    vectors = detseg_vectors.arrays("backbone_taps")
    x = torch.from_numpy(vectors["image_q"]).double() / 48
    shared = {"seg_tap1": "det_tap0", "seg_tap2": "det_tap1", "seg_tap3": "det_tap3"}
    with torch.inference_mode():
        for kind, stages in (("det", DETECTION), ("seg", SEGMENTATION)):
            model = backbone(stages)
            for i, (tap, u) in enumerate(zip(model.taps, model(x), strict=True)):
                name = f"{kind}_tap{i}"
                want = vectors[shared.get(name, name)]
                np.testing.assert_allclose(u, want, rtol=0, atol=1e-9, err_msg=name)
                assert u.shape[1:] == (tap.channels, 64 // tap.stride, 64 // tap.stride)


def test_stored_vectors_are_the_shared_ones():
    if not detseg_vectors.SHARED.is_dir():
        pytest.skip("the shared vectors are not here")
    for path in detseg_vectors.SHARED.glob("*.npz"):
        ours = detseg_vectors.arrays(path.stem)
        with np.load(path) as archive:
            theirs = {key: archive[key] for key in archive.files}
        if path.stem == "backbone_taps":
            for i, j in ((0, 1), (1, 2), (3, 3)):
                np.testing.assert_array_equal(theirs[f"det_tap{i}"], theirs.pop(f"seg_tap{j}"))
            kept = {key for key in ours if not key.startswith("q/")}
            for key, value in detseg_vectors.backbone_state().items():
                if key.endswith(".weight") and f"q/{key.removesuffix('.weight')}" in ours:
                    step = theirs[f"w/{key.removesuffix('weight')}alpha"]
                    step = step.reshape(-1, *[1] * (value.ndim - 1))
                    codes = np.rint(np.clip(theirs.pop(f"w/{key}") / step, -8, 7))
                    np.testing.assert_array_equal(codes * step, value)
                elif key.endswith(".init_state"):
                    np.testing.assert_array_equal(theirs.pop(f"w/{key}"), value)
            ours = {key: ours[key] for key in kept}
        assert set(ours) == set(theirs)
        for key, value in theirs.items():
            np.testing.assert_array_equal(ours[key], value, err_msg=key)


def test_strides_of_the_published_taps_are_derived():
    """Stage 4 has stride 16, which the published detector takes for 32."""
    assert [tap.stride for tap in taps(spec("qsdt_t"), DETECTION)] == [4, 8, 16, 16]
    assert taps(spec("qsdt_t"), SEGMENTATION) == (
        Tap("1_1", "ConvBlock1_1.0", 32, 2), Tap("1_2", "ConvBlock1_2.0", 64, 4),
        Tap("2", "ConvBlock2_2.0", 128, 8), Tap("4", "block4.1", 360, 16))
    other = replace(spec("qsdt_t"), strides=(2, 1, 2, 2, 2))
    assert [tap.stride for tap in taps(other, DETECTION)] == [2, 4, 8, 16]


def test_keys_are_those_of_published_checkpoints():
    """1669 keys less 552 of act.* and 4 of the head."""
    with torch.device("meta"):
        assert len(Backbone(spec("qsdt_t"), DETECTION).network.state_dict()) == 1113


@pytest.mark.parametrize("name", ["qsdt_nano", "sdt_v3_nano"])
def test_every_family_has_taps(name):
    """The last tap is what the classifier pools."""
    torch.manual_seed(0)
    network = MODELS[name]
    model = Backbone(network, DETECTION).eval()
    whole = make_network(network).eval()
    whole.load_state_dict(model.network.state_dict(), strict=False)
    x = torch.randn(2, 1, 28, 28)
    with torch.no_grad():
        found = model(x)
        assert torch.equal(found[-1], whole.membrane(x))
        names = [name for name, _ in whole.membranes(x)]
    assert names[0] == "downsample1_1" and names[-1] == model.taps[-1].name
    assert len(names) == sum(network.depths) + len(network.stages)
    assert {tap.name for tap in model.taps} <= set(names)
    for tap, u in zip(model.taps, found, strict=True):
        assert u.shape == (2, tap.channels, 28 // tap.stride, 28 // tap.stride)


def test_what_lies_behind_the_last_tap_is_not_computed():
    model = Backbone(MODELS["qsdt_nano"], ("1_1", "1_2"))
    seen = []
    for name in ("downsample1_2", "downsample2"):
        model.network.get_submodule(name).register_forward_hook(
            lambda module, args, out: seen.append(module))
    assert len(model(torch.zeros(1, 1, 28, 28))) == 2
    assert seen == [model.network.downsample1_2]


@pytest.mark.parametrize("stages, message", [
    (("1_2", "5"), "stage must be one of 1_1, 1_2, 2, 3, 4, not 5"),
    (("2", "1_2"), "stages must be in the order of the network, not 1_2 behind 2"),
    (("2", "2"), "stages must be in the order of the network, not 2 behind 2"),
])
def test_bad_stages_are_named(stages, message):
    with pytest.raises(ValueError, match=message):
        taps(spec("qsdt_t"), stages)


def test_images_of_a_wrong_size_are_named():
    model = Backbone(MODELS["qsdt_nano"], DETECTION)
    with pytest.raises(ValueError, match="height and width must be multiples of 4, not 30 and 28"):
        model(torch.zeros(1, 1, 30, 28))
