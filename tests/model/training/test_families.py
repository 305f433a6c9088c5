"""Checkpoints of two families told apart: model.families.infer and model.training.checkpoint."""

from dataclasses import replace
import logging

import numpy as np
import pytest
import torch

from model import convert, evaluate, train, zoo
from model.data import options
from model.families.infer import family_of, infer_spec
from model.families.make import make_network
from model.families.qsdt import QsdtSpec
from model.families.sdt_v3 import SdtV3Spec
from model.families.sdt_v3_large import SdtV3LargeSpec
from model.families.spec import MODELS
from model.integer import qsd_file
from model.training import checkpoint
from model.training.checkpoint import CheckpointError
from model.training.start import adopt
from tests.model.sdt_v3_large_vectors import Vectors
from tests.model.tiny import DATA, TINY


TINY_V3 = SdtV3Spec(name="tiny_v3", image_size=16, in_channels=1, classes=2, dims=(4, 4, 6, 16, 24),
                    strides=(2, 1, 2, 1, 1), depths=(1, 1, 2, 1, 1), conv_expansion=(1, 2, 1),
                    mlp_ratio=1, heads=8, value_expansion=2, norm_mean=(0.3,), norm_std=(0.3,))

TINY_LARGE = SdtV3LargeSpec(name="tiny_large", image_size=16, in_channels=1, classes=2,
                            dims=(4, 4, 6, 16), strides=(2, 1, 2, 1), depths=(1, 1, 2, 2),
                            conv_expansion=(1, 2, 1), mlp_ratio=1, norm_mean=(0.3,),
                            norm_std=(0.3,))


def state_of(spec):
    torch.manual_seed(0)
    return make_network(spec).state_dict()


def saved(path, state):
    torch.save({"model": state, "epoch": 3}, path)
    return path


@pytest.mark.parametrize("changes", [
    {}, {"value_expansion": 4, "sep_expansion": 1, "mlp_ratio": 2}, {"depths": (1, 2, 1, 2, 3)}])
def test_spec_is_read_off_the_shapes(changes):
    spec = replace(TINY_V3, **changes)
    state = state_of(spec)
    assert family_of(state) is SdtV3Spec and family_of(state_of(TINY)) is QsdtSpec
    given = {"name": spec.name, "image_size": 16, "strides": spec.strides,
             "norm_mean": (0.3,), "norm_std": (0.3,)}
    assert infer_spec(state, **given) == spec
    assert infer_spec(state, **given, levels=8).levels == 8
    real = replace(spec, weight_bits=32)
    assert infer_spec(state_of(real), **given) == real


def test_what_no_file_tells_is_taken_as_published_and_said(tmp_path, caplog):
    path = saved(tmp_path / "net.pth", state_of(replace(MODELS["sdt_v3_t"], image_size=32)))
    with caplog.at_level(logging.INFO):
        spec, _ = checkpoint.load(path)
    assert (spec.family, spec.heads, spec.levels, spec.time_steps) == ("sdt_v3", 8, 4, 1)
    assert ("SDT-v3 by its keys; what these do not tell: T 1, D 4, 8 heads of 12 and 16 channels, "
            "attention scale 2/sqrt(d), images of 224 pixels") in caplog.text
    assert checkpoint.read(path, levels=8, heads=4).spec == replace(spec, levels=8, heads=4)
    with pytest.raises(CheckpointError, match=r"heads must be one of 1, 2, .*, not 5"):
        checkpoint.read(path, heads=5)


@pytest.mark.parametrize("changes", [
    {}, {"rep_conv": True, "mlp_ratio": 2}, {"depths": (1, 2, 1, 3)}])
def test_a_large_spec_is_read_off_the_shapes(changes):
    spec = replace(TINY_LARGE, **changes)
    assert family_of(state_of(spec)) is SdtV3LargeSpec
    given = {"name": spec.name, "image_size": 16, "strides": spec.strides,
             "norm_mean": (0.3,), "norm_std": (0.3,)}
    assert infer_spec(state_of(spec), **given) == spec
    real = replace(spec, weight_bits=32)
    assert infer_spec(state_of(real), **given) == real


@pytest.fixture(scope="module")
def published():
    """The state dict of the published large network, as a file has it."""
    return {f"module.{key}": torch.from_numpy(np.array(value, np.float32))
            for key, value in Vectors().published.items()}


def test_a_large_checkpoint_is_merged_and_quantised(tmp_path, published, caplog, capsys):
    """As published: pairs of 1x1 convolutions, real weights, no word of heads."""
    path = saved(tmp_path / "net.pth", published)
    with caplog.at_level(logging.INFO):
        found = checkpoint.read(path, image_size=64)
    assert "8 chains of two 1x1 convolutions merged into one each" in caplog.text
    assert ("large SDT-v3 by its keys; what these do not tell: T 1, D 4, 8 heads of 8 channels, "
            "attention scale 0.125, images of 64 pixels") in caplog.text
    assert found.spec == replace(Vectors().spec, name="net")
    out, images = tmp_path / "net.qsd", tmp_path / "images.npz"
    np.savez(images, image_q=Vectors().image_q)
    assert convert.cli(["--checkpoint", str(path), "--image-size", "64", "--weight-bits", "8",
                        "--images", str(images), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "block3.1.attn.proj_conv.0" in said and "top class: 1.0000 (1 of 1)" in said
    spec = qsd_file.read(out).spec
    assert (spec.family, spec.weight_bits, spec.dims) == ("sdt_v3_large", 8, (8, 16, 32, 64))
    assert evaluate.cli(["--weights", str(out), "--images", str(images), "--form", "wide",
                         "--against", "float"]) == 0
    assert "= float in the top class: 1.0000" in capsys.readouterr().out
    assert convert.cli(["--weights", str(out), "--data", "fashion_mnist",
                        "--out", str(tmp_path / "x.qsd")]) == 1
    assert "no layer of large SDT-v3 makes a z: leave out --data" in capsys.readouterr().err


Q = "module.block3.0.attn.q_conv.0"


@pytest.mark.parametrize("change, said", [
    (lambda s: s | {f"{Q}.conv1.0.alpha": torch.ones(96)}, "quantised one by one"),
    (lambda s: {k: v for k, v in s.items() if k != f"{Q}.conv1.1.weight"},
     "block3.0.attn.q_conv.0.conv1.1.weight: missing"),
    (lambda s: {k: v for k, v in s.items() if ".running_" not in k},
     r"block3.0.attn.q_conv.0.conv1.1.running_mean: missing, .* save the whole state_dict\(\)"),
    (lambda s: {k: v for k, v in s.items() if k != f"{Q}.conv2.0.weight"},
     "state dict must have the key block3.0.attn|block3.0.attn.q_conv.0.* missing"),
    (lambda s: s | {"ConvBlock1_1.0.Conv.pwconv1.0.weight": torch.ones(1)},
     "mixes keys of two families, ConvBlock1_1.0.Conv.pwconv1.0.weight of SDT-v3 and .* of large"),
    (lambda s: s | {"decoder_blocks.0.norm1.weight": torch.ones(1)},
     "has the keys of a spike masked autoencoder, which has no head yet; supported are "
     "QSD-Transformer, SDT-v3, large SDT-v3"),
    (lambda s: s | {"head_kd.weight": torch.ones(1)}, "second head, head_kd"),
])
def test_large_checkpoints_that_are_refused_in_one_line(tmp_path, published, change, said):
    path = saved(tmp_path / "net.pth", change(dict(published)))
    with pytest.raises(CheckpointError, match=said) as caught:
        checkpoint.read(path, image_size=64)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(f"{path}: ")


def test_a_second_head_can_be_left_out(tmp_path, published):
    state = published | {"head_kd.weight": torch.ones(10, 64), "head_kd.bias": torch.ones(10)}
    path, out = saved(tmp_path / "net.pth", state), tmp_path / "net.qsd"
    words = ["--checkpoint", str(path), "--image-size", "64", "--weight-bits", "8", "--out"]
    assert convert.cli([*words, str(out)]) == 1 and not out.exists()
    assert convert.cli([*words, str(out), "--without-kd"]) == 0
    saved(path, published)
    assert convert.cli([*words, str(tmp_path / "one.qsd")]) == 0
    assert out.read_bytes() == (tmp_path / "one.qsd").read_bytes()


def test_training_goes_on_from_a_large_checkpoint(tmp_path, published, monkeypatch):
    """`qsdt train --init`: real weights, merged, into one of 4 bits."""
    spec = replace(Vectors().spec, weight_bits=4, name="large_4", in_channels=3)
    monkeypatch.setitem(MODELS, "large_4", spec)
    found = checkpoint.read(saved(tmp_path / "net.pth", published), image_size=64)
    model = make_network(spec)
    anew = adopt(model, checkpoint.tensors(found.state), weight_bits=found.spec.weight_bits)
    assert anew == ["LSQ steps"]
    layer = model.get_submodule("block3.0.attn.q_conv.0")
    np.testing.assert_allclose(layer.weight.detach().numpy(),
                               found.state["block3.0.attn.q_conv.0.weight"], rtol=1e-6)


V3, QSD = "block3.0.attn.q_conv.0.weight", "block3.0.attn.q_conv.0.body.0.weight"


@pytest.mark.parametrize("spec, change, said", [
    (TINY_V3, lambda s: s | {QSD: torch.ones(1)},
     f"mixes keys of two families, {QSD} of QSD-Transformer and .* of SDT-v3: save one network"),
    (TINY, lambda s: s | {V3: torch.ones(1)}, f"mixes keys of two families, .* and {V3} of SDT-v3"),
    (TINY_V3, lambda s: {k: v for k, v in s.items() if ".running_" not in k},
     "downsample1_1.encode_bn.running_mean: missing, as are statistics of .* more batch norms; save"
     r" the whole state_dict\(\)"),
    (TINY_V3, lambda s: s | {"block3.0.layer_norm.weight": torch.ones(1)},
     "block3.0.layer_norm.weight: not expected"),
    (TINY_V3, lambda s: {k: v for k, v in s.items() if k != "block4.0.conv.dwconv.1.bias"},
     "block4.0.conv.dwconv.1.bias: missing"),
    (TINY_V3, lambda s: s | {"ConvBlock1_1.0.conv1.0.0.bias": torch.ones(1)},
     "mixes keys of two families, .* of SDT-v3 and ConvBlock1_1.0.conv1.0.0.bias of large SDT-v3"),
    (TINY_V3, lambda s: {"patch_embed.proj_conv.weight": torch.ones(1)},
     "has the keys of a Spike-driven Transformer V1, a Spikformer or a Spikingformer; supported are"
     " QSD-Transformer, SDT-v3, large SDT-v3: use a checkpoint of one of these"),
    (TINY_V3, lambda s: {"patch_embed.proj.weight": torch.ones(1), "head.weight": torch.ones(1)},
     r"has no key of a network that is known here \(its first is patch_embed.proj.weight\); "
     "supported are QSD-Transformer, SDT-v3, large SDT-v3, with their published names"),
    (TINY_V3, lambda s: {}, r"has no key of a network that is known here \(it holds no weights\)"),
    (TINY, lambda s: {k: v for k, v in s.items() if not k.endswith((".alpha", ".init_state"))},
     r"has no learned steps \(.alpha\), so it may be a Spike-driven Transformer V2, whose neurons"),
    (TINY, lambda s: {k: v for k, v in s.items() if ".running_" not in k},
     "downsample1_1.encode_bn.running_mean: missing, as are statistics of .* more batch norms"),
    (TINY_V3, lambda s: s | {"block3.0.attn.v_conv.0.weight": torch.ones(48, 16, 1, 1)},
     r"block3.0.attn.v_conv.0.alpha must have shape \(48,\), not \(32,\)"),
    (TINY_V3, lambda s: s | {"head_kd.weight": torch.ones(1)}, "second head, head_kd"),
])
def test_files_that_are_refused_in_one_line(tmp_path, spec, change, said):
    path = saved(tmp_path / "net.pth", change(dict(state_of(spec))))
    with pytest.raises(CheckpointError, match=said) as caught:
        checkpoint.read(path, heads=2 if spec is TINY else None, image_size=16)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(f"{path}: ")


def test_commands_take_a_checkpoint_of_the_family(tmp_path, capsys, monkeypatch):
    """convert, then evaluate in all forms: the same classes."""
    path = saved(tmp_path / "net.pth", state_of(TINY_V3))
    out = tmp_path / "net.qsd"
    assert convert.cli(["--checkpoint", str(path), "--image-size", "32", "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "attention scale 2/sqrt(d)" in said.err and "z: " not in said.out
    assert qsd_file.read(out).spec.family == "sdt_v3"
    assert convert.cli(["--checkpoint", str(path), "--image-size", "32", "--levels", "8",
                        "--out", str(tmp_path / "eight.qsd")]) == 0
    assert qsd_file.read(tmp_path / "eight.qsd").spec.levels == 8
    assert convert.cli(["--weights", str(out), "--data", "fashion_mnist",
                        "--out", str(tmp_path / "x.qsd")]) == 1
    assert "no layer of SDT-v3 makes a z: leave out --data" in capsys.readouterr().err
    assert convert.cli(["--checkpoint", str(path), "--family", "qsdt", "--out", str(out)]) == 1
    assert (f"{path}: holds a SDT-v3 (--family sdt_v3), not a QSD-Transformer"
            in capsys.readouterr().err)
    assert convert.cli(["--weights", str(out), "--family", "sdt_v3", "--out", str(out)]) == 1
    assert "--family goes with --checkpoint" in capsys.readouterr().err
    image_q = (DATA.val.images[:4].repeat(2, 1).repeat(2, 2)[:, None] // 2).astype("int8")
    np.savez(tmp_path / "images.npz", image_q=image_q)
    for form in ("wide", "integer"):
        assert evaluate.cli(["--weights", str(out), "--images", str(tmp_path / "images.npz"),
                             "--form", form, "--against", "float"]) == 0
        assert "= float in the top class: 1.0000" in capsys.readouterr().out or form == "integer"


def test_training_of_the_family(tmp_path, capsys, monkeypatch):
    """Train, go on, convert: `qsdt train` knows the family by its name."""
    monkeypatch.setitem(MODELS, "tiny_v3", TINY_V3)
    monkeypatch.setitem(options.DATASETS, "fake", lambda folder, spec: DATA)
    command = ["--model", "tiny_v3", "--data", "fake", "--out", str(tmp_path), "--batch", "8",
               "--epochs", "1", "--precision", "fp32"]
    assert train.cli(command) == 0
    assert train.cli([*command, "--resume"]) == 0
    found = checkpoint.read(tmp_path / "model.pth")
    assert found.spec == TINY_V3
    assert train.cli([*command[:-4], "--epochs", "1", "--precision", "fp32", "--out",
                      str(tmp_path / "on"), "--init", str(tmp_path / "model.pth")]) == 0
    assert train.cli([*command, "--twin", "--out", str(tmp_path / "twin")]) == 1
    assert "tiny_v3: SDT-v3 has no ANN twin here" in capsys.readouterr().err
    assert convert.cli(["--checkpoint", str(tmp_path / "model.pth"), "--out",
                        str(tmp_path / "net.qsd")]) == 0
    assert zoo.load("tiny_v3", tmp_path / "net.qsd").spec["family"] == "sdt_v3"


def test_trained_in_float_then_quantised_then_tuned(tmp_path, capsys, monkeypatch):
    """Real weights are trained, made integers of 8 and 4 bits, and trained on with 4."""
    monkeypatch.setitem(MODELS, "tiny_v3", TINY_V3)
    monkeypatch.setitem(options.DATASETS, "fake", lambda folder, spec: DATA)
    command = ["--model", "tiny_v3", "--data", "fake", "--batch", "8", "--epochs", "1",
               "--precision", "fp32"]
    real, tuned = tmp_path / "real" / "model.pth", tmp_path / "tuned"
    assert train.cli([*command, "--weight-bits", "32", "--out", str(real.parent)]) == 0
    assert f"--checkpoint {real} --weight-bits 8 " in capsys.readouterr().err
    assert train.cli([*command, "--resume", "--out", str(real.parent)]) == 0
    assert checkpoint.read(real).spec == replace(TINY_V3, weight_bits=32)
    image_q = (DATA.val.images[:, None] // 2).astype("int8")
    np.savez(tmp_path / "images.npz", image_q=image_q)
    for bits in (8, 4):
        out = tmp_path / f"{bits}.qsd"
        capsys.readouterr()
        assert convert.cli(["--checkpoint", str(real), "--weight-bits", str(bits), "--images",
                            str(tmp_path / "images.npz"), "--out", str(out)]) == 0
        said = capsys.readouterr().out
        assert f"weights of {bits} bits" in said and "with real weights in the top class" in said
        assert qsd_file.read(out).spec.weight_bits == bits
        assert evaluate.cli(["--weights", str(out), "--data", "fake", "--form", "integer"]) == 0
    assert train.cli([*command, "--init", str(real), "--out", str(tuned)]) == 0
    assert "new: LSQ steps" in capsys.readouterr().out
    assert checkpoint.read(tuned / "model.pth").spec == TINY_V3
    assert convert.cli(["--checkpoint", str(tuned / "model.pth"),
                        "--out", str(tmp_path / "tuned.qsd")]) == 0
    for words, message in (
        (["--checkpoint", str(real)], "has real weights: quantise them with --weight-bits 8"),
        (["--checkpoint", str(real), "--weight-bits", "5"], "weight_bits must be 2, 3, 4, 8 or 32"),
        (["--checkpoint", str(tuned / "model.pth"), "--weight-bits", "8"],
         "weight_bits is 4 in this file, not 8"),
    ):
        capsys.readouterr()
        assert convert.cli([*words, "--out", str(tmp_path / "x.qsd")]) == 1
        error = capsys.readouterr().err.strip()
        assert message in error and len(error.splitlines()) == 1
    assert train.cli([*command, "--weight-bits", "5", "--out", str(tuned)]) == 1
    assert "weight_bits must be 2, 3, 4, 8 or 32, not 5" in capsys.readouterr().err


def test_recipes_that_do_not_fit_the_family(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(MODELS, "tiny_v3", TINY_V3)
    monkeypatch.setitem(options.DATASETS, "fake", lambda folder, spec: DATA)
    assert train.cli(["--model", "tiny_v3", "--data", "fake", "--recipe", "nano_full",
                      "--out", str(tmp_path)]) == 1
    assert "is no field of the family SDT-v3" in capsys.readouterr().err
