"""The published segmenter in integers: what nearest neighbours change, and what integers do."""

from dataclasses import replace
import re

import numpy as np
import pytest
import torch

from model import convert
from model.exchange.onnx_file import to_bytes
from model.exchange.onnx_runtime import differences, OnnxNetwork
from model.families.dense import DenseHeads
from model.families.make import make_network
from model.families.network import capture_levels
from model.families.qsdt import QsdtSpec
from model.integer import golden, qsd_file
from model.integer.export import export
from model.integer.quantise import quantise, sqnr
from model.integer.synthetic import natural_images, synthetic_state
from model.published.checkpoint import is_published, read
from model.published.integer import as_network, logits
from model.published.mask_rcnn import MaskRcnn
from model.training.checkpoint import check, CheckpointError, tensors
from tests.model import detseg_vectors
from tests.model.published.nets import GOLDEN, golden_segmenter, published, written


torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("published")


@pytest.fixture(scope="module")
def path(folder):
    return written(folder / "seg_qsd.pth", published(golden_segmenter()))


@pytest.fixture(scope="module")
def found(path):
    return read(path)


@pytest.fixture(scope="module")
def network(found):
    spec, state = as_network(found, image_size=64)
    check(state, spec)
    return spec, state


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(-128, 128, (2, 3, 64, 64)).astype(np.int8)


def test_spec_says_what_it_is(network):
    spec, _ = network
    heads = spec.dense_heads
    assert heads.taps == ("1_1", "1_2", "2", "4") and heads.channels == 16
    assert heads.published and heads.weight_bits == 32 and heads.classes == spec.classes == 7
    assert heads.segmenter.on_host    # 48 bits of levels, not 112 of sums
    assert [layer.reduction for layer in spec.dense_layers if "lateral" in layer.name] == [
        16, 8, 4, 2]
    assert DenseHeads.from_dict(heads.to_dict()) == heads
    with pytest.raises(ValueError, match="weights of its heads are real numbers: quantise them"):
        spec.check_integer_form()


def test_float_and_wide_form_are_the_published_head_with_nearest(found, network, images):
    """Every level; logits to 1e-9."""
    spec, state = network
    want = logits(found, images, upsampling="nearest")
    model = make_network(spec).double()
    model.load_state_dict(tensors(state), strict=False)
    with torch.inference_mode(), capture_levels(model.eval()) as levels:
        float_form = model(torch.from_numpy(images / 48))["seg"]
    np.testing.assert_allclose(float_form, want, rtol=0, atol=1e-9)
    made = export(state, spec, form="wide").run(images)
    np.testing.assert_allclose(made["seg"], want, rtol=0, atol=1e-9)
    assert {*levels} <= {*made}
    for name, level in levels.items():
        np.testing.assert_array_equal(made[name], level, err_msg=name)
    # The same membrane gives the neck other levels than the next stage.
    assert (made["neck.encode4_lif"] != made["downsample2.encode_lif"]).mean() > 0.2


def test_golden_membranes_give_the_golden_levels(network):
    """Of all neurons in front of the first bilinear map."""
    spec, state = network
    vectors = detseg_vectors.arrays("seg_qfpn")
    wide = export(state, spec, form="wide")
    ends = {"1_1": "ConvBlock1_1.0/u", "1_2": "ConvBlock1_2.0/u", "2": "ConvBlock2_1.0/u"}
    tensors = wide.tensors()
    force = {}
    for i, stage in enumerate(ends):
        encoder = spec.dense_heads.encoders(spec)[stage]
        assert encoder.added in tensors
        force[encoder.added] = np.rint(np.ldexp(vectors[f"in{i}"], wide.params.u_frac)).astype(
            np.int64)
    force["neck.encode16_lif"] = vectors["lv/lateral_convs_spikes.3"]
    made = wide.run(np.zeros((1, 3, 64, 64), np.int8), force=force)
    for i, stride in enumerate((2, 4, 8, 16)):
        if stride < 16:
            np.testing.assert_array_equal(made[f"neck.encode{stride}_lif"],
                                          vectors[f"lv/lateral_convs_spikes.{i}"])
        np.testing.assert_array_equal(made[f"neck.lateral{stride}_lif"],
                                      vectors[f"lv/fpn_convs_spikes.{i}"])
        np.testing.assert_array_equal(made[f"neck.output{stride}_lif"],
                                      vectors[f"lv/head/scale_heads.{i}.0.0"])


def test_what_nearest_and_integers_change(found, network, images):
    """docs/detection.md has the figures."""
    spec, state = network
    bilinear, nearest = (logits(found, images, upsampling=x) for x in ("bilinear", "nearest"))
    same = (bilinear.argmax(1) == nearest.argmax(1)).mean()
    assert 0.96 < same < 0.97 and 11 < sqnr(bilinear, nearest) < 11.3
    ratios, shares = {}, {}
    for bits in (8, 4):
        made = quantise(state, spec, bits)
        assert made.spec.dense_heads.weight_bits == bits and made.spec.weight_bits == 4
        assert {*made.sqnr} == {layer.key for layer in spec.dense_layers if not layer.zero}
        integer = export(made.state, made.spec).run(images, keep=("seg",))["seg"]
        ratios[bits] = sqnr(nearest, integer)
        shares[bits] = (integer.argmax(1) == nearest.argmax(1)).mean()
    assert 8.5 < ratios[8] < 9.5 and 7.3 < ratios[4] < 8.3
    assert shares[8] > 0.95 and shares[4] > 0.93


@pytest.fixture(scope="module")
def small(network):
    """With heads of 8 bits, and the images that it is for."""
    made = quantise(network[1], replace(network[0], image_size=32), 8)
    return made.spec, made.state


def test_file_and_onnx(small, images, tmp_path):
    spec, state = small
    (tmp_path / "seg.qsd").write_bytes(qsd_file.to_bytes(state, spec))
    content = qsd_file.read(tmp_path / "seg.qsd")
    assert content.spec == spec
    network, x = export(state, spec), images[:1, :, :32, :32]
    assert export(content.state, content.spec).digest() == network.digest()
    names = ("neck.lateral4_lif", "segmenter.lif", "neck.encode2_lif")
    assert not next(differences(network, OnnxNetwork(to_bytes(network, keep=names)), x))


def test_whole_levels_are_rounded_half_to_even():
    u = np.arange(-40, 90)
    want = np.clip(np.rint(u / 16), 0, 4)
    np.testing.assert_array_equal(golden.fire_whole(u, u_frac=4), want)
    np.testing.assert_array_equal(golden.fire_membrane(u, u_frac=6, half_even=True), want)


def test_synthetic_weights(network):
    """Of such a spec, with heads of 8 bits and of the backbone's: every neuron fires."""
    for bits in (8, 0):
        spec = replace(network[0], image_size=32, dense_heads=replace(
            network[0].dense_heads, weight_bits=bits))
        state = synthetic_state(spec)
        assert abs(state["neck.output4_conv.weight.q"]).max() > (60 if bits else 4)
        made = export(state, spec).run(natural_images(np.random.default_rng(0), 2, spec))
        for name in ("neck.encode2_lif", "neck.encode16_lif", "neck.lateral2_lif",
                     "segmenter.lif"):
            assert 0.3 < made[name].mean() < 3.5, name


def run(*args):
    return convert.cli([str(arg) for arg in args])


def test_command(path, images, folder, capsys):
    np.savez(folder / "images.npz", image_q=images)
    out = folder / "seg.qsd"
    assert run("--checkpoint", path, "--weight-bits", 8, "--image-size", 64, "--out", out,
               "--images", folder / "images.npz") == 0
    said = capsys.readouterr()
    assert "weights of 4 bits and of the heads 8" in said.out
    assert "bilinear maps inside the published head are nearest neighbours here\n" in said.out
    assert re.search(r"^nearest = bilinear in the class: 0\.\d{4} of 2,048 pixels; signal over "
                     r"error of the logits \d+\.\d dB$", said.out, re.MULTILINE)
    assert "integer = nearest in the class: 0." in said.out and "--data" not in said.out
    assert qsd_file.read(out).spec.image_size == 64
    assert run("--checkpoint", path, "--weight-bits", 4, "--out", out) == 0
    assert "weights of 4 bits, " in capsys.readouterr().out
    assert qsd_file.read(out).spec.image_size == 512


def without(state, *parts):
    return {key: value for key, value in state.items() if not key.startswith(parts)}


WRONG = {
    "no bits": ((), {}, "seg_qsd has heads with real weights: quantise them with --weight-bits 8"),
    "bits": (("--weight-bits", 5), {}, "dense_heads.weight_bits must be 0, 2"),
    "family": (("--weight-bits", 8, "--family", "sdt_v3"), {},
               "holds a QSD-Transformer (--family qsdt), not a SDT-v3"),
    "levels": (("--weight-bits", 8, "--levels", 4), {},
               "--levels is not for a published segmenter"),
    "size": (("--weight-bits", 8, "--image-size", 40), {}, "image_size must be a multiple of 16"),
    "heads": (("--weight-bits", 8, "--heads", 3), {}, "heads must be one of 1, 2, 4, 8, 16"),
    "no head": (("--weight-bits", 8), {"without": ("decode_head.",)},
                "decode_head.conv_seg.weight: missing"),
    "no neck": (("--weight-bits", 8), {"without": ("neck.",)},
                "neck.lateral_convs.0.0.weight: missing"),
    "neither": (("--weight-bits", 8), {"without": ("neck.", "decode_head.")},
                "has no head of the published detector or segmenter (its first key is backbone."),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line(path, tmp_path, capsys, case):
    options, change, message = WRONG[case]
    state = torch.load(path)["state_dict"]
    file = written(tmp_path / "seg_qsd.pth", without(state, *change.get("without", ("?",))))
    out = tmp_path / "seg.qsd"
    assert run("--checkpoint", file, "--out", out, *options) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("error: ") and message in said[0], said
    assert not out.exists()


def test_a_detector_is_refused_by_name(tmp_path, capsys):
    torch.manual_seed(0)
    model = MaskRcnn(replace(GOLDEN, dims=(8, 8, 8, 8, 8)), width=8, hidden=12, classes=3)
    file = written(tmp_path / "det.pth", published(model))
    assert is_published(file)
    assert run("--checkpoint", file, "--weight-bits", 8, "--out", tmp_path / "det.qsd") == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "det.pth: is a detector: its box head reads real sums" in said
    assert not (tmp_path / "det.qsd").exists()


def test_other_files_are_not_published(tmp_path, found):
    torch.save({"state_dict": {"head.weight": torch.zeros(3)}}, tmp_path / "a.pth")
    torch.save([1], tmp_path / "b.pth")
    (tmp_path / "c.pth").write_bytes(b"no")
    assert not is_published(tmp_path / "a.pth") and not is_published(tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match="c.pth: not a PyTorch checkpoint"):
        is_published(tmp_path / "c.pth")


HEADS = {"taps": ["1_1", "1_2", "2", "4"], "channels": 8, "neuron": "published",
         "segmenter": {"classes": 3, "kind": "faithful"}}


@pytest.mark.parametrize("change, message", [
    ({"neuron": "theirs"}, "dense_heads.neuron must be backbone or published"),
    ({"weight_bits": 5}, "dense_heads.weight_bits must be 0, 2, 3, 4, 8 or 32"),
    ({"segmenter": {"classes": 3}}, "dense_heads.neuron must be backbone, but for a faithful"),
    ({"binary_neck": "always"}, "dense_heads.neuron must be backbone, but for a faithful"),
])
def test_specs_that_do_not_fit(change, message):
    with pytest.raises(ValueError, match=message):
        DenseHeads.from_dict(HEADS | change)


def test_spec_of_other_networks():
    spec = QsdtSpec(name="x", dims=(8, 8, 8, 8, 8), dense_heads=HEADS)
    assert not spec.twin().dense_heads.published
    with pytest.raises(ValueError, match="neuron published is for spiking networks with levels"):
        replace(spec, levels=3)
