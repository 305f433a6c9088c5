"""Integers of Brevitas taken over as they are; the package itself is needed by one test alone."""

from dataclasses import dataclass, replace
from pathlib import Path
import re

import numpy as np
import pytest
import torch

from model import convert, zoo
from model.families.lsq import LsqConv2d, LsqLayer, LsqLinear
from model.families.make import make_network
from model.integer import qsd_file
from model.training import brevitas, checkpoint
from model.training.checkpoint import CheckpointError
from tests.model.tiny import TINY
from tests.model.training.test_families import TINY_V3


LAYER = "block3.0.attn.q_conv.0"


@dataclass
class Quantised:
    """What ``quant_weight()`` of Brevitas 0.13 gives: an ``IntQuantTensor``."""

    codes: torch.Tensor
    scale: torch.Tensor
    zero_point: torch.Tensor
    bit_width: torch.Tensor

    def int(self):
        return self.codes


class Proxy:
    def __init__(self, *, on):
        self.is_quant_enabled = on


def drawn(weight, bits=4, *, one_scale=False, rng=None):
    """Symmetric codes of a narrow range with a scale by channel, as Int8WeightPerChannelFloat."""
    rng = rng or np.random.default_rng(0)
    half = 2 ** (bits - 1)
    codes = rng.integers(1 - half, half, weight.shape).astype(np.int8)
    shape = () if one_scale else (len(weight), *[1] * (weight.ndim - 1))
    scale = rng.uniform(0.01, 0.3, shape).astype(np.float32)
    return Quantised(torch.from_numpy(codes), torch.from_numpy(np.asarray(scale)),
                     torch.tensor(0.0), torch.tensor(float(bits)))


def module_of(spec, bits=4, **changes):
    """A network whose layers answer ``quant_weight()``, and what they answer, by name."""
    torch.manual_seed(0)
    model, rng, made = make_network(replace(spec, weight_bits=32)), np.random.default_rng(1), {}
    for name, layer in model.named_modules():
        if isinstance(layer, LsqLayer):
            made[name] = drawn(layer.weight, bits, one_scale=name == "head", rng=rng)
            if name == LAYER:
                made[name] = replace(made[name], **changes)
            layer.quant_weight = lambda found=made[name]: found
    return model, made


@pytest.mark.parametrize("spec, heads", [(TINY_V3, None), (TINY, TINY.heads)])
def test_integers_and_scales_are_the_very_same(tmp_path, spec, heads):
    model, made = module_of(spec)
    path = tmp_path / "net.pth"
    brevitas.save(model, path)
    found = checkpoint.read(path, heads=heads, image_size=spec.image_size)
    assert found.spec.weight_bits == 4 and found.spec.family == spec.family
    stored = qsd_file.stored_state(found.state, found.spec)
    for name, quantised in made.items():
        codes, alpha = stored[f"{name}.weight.q"], stored[f"{name}.alpha"]
        np.testing.assert_array_equal(codes, quantised.codes.numpy(), err_msg=name)
        scale = np.broadcast_to(quantised.scale.numpy().reshape(-1), alpha.shape)
        np.testing.assert_array_equal(alpha, scale, err_msg=name)
    for key, value in model.state_dict().items():
        if not key.endswith((".weight", "num_batches_tracked")) or "bn" in key:
            np.testing.assert_array_equal(found.state[key], value.numpy(), err_msg=key)


def test_the_network_computes_what_its_integers_say(tmp_path, capsys):
    """Through the command, to a file; with the weights codes * scale the float network agrees."""
    model, made = module_of(TINY_V3)
    path, out = tmp_path / "net.pth", tmp_path / "net.qsd"
    brevitas.save(model, path)
    assert convert.cli(["--checkpoint", str(path), "--image-size", "32", "--out", str(out)]) == 0
    assert "weights of 4 bits" in capsys.readouterr().out
    with torch.no_grad():
        for name, quantised in made.items():
            model.get_submodule(name).weight.copy_(quantised.codes * quantised.scale)
    x = torch.from_numpy(np.random.default_rng(2).integers(-128, 128, (2, 1, 32, 32)))
    own = zoo.float_network(zoo.read(weights=out))
    # Strides are in no state dict: those of the file are the published ones.
    same = make_network(replace(own.spec, weight_bits=32)).double().eval()
    same.load_state_dict(model.state_dict())
    with torch.no_grad():
        np.testing.assert_allclose(own.double()(x.double() / 48), same(x.double() / 48),
                                   rtol=1e-6, atol=1e-6)


def test_the_page_writes_the_same_file(tmp_path, monkeypatch):
    """The code of docs/tutorials/other-weights.md that needs nothing of this project."""
    text = (Path(__file__).parents[3] / "docs" / "tutorials" / "other-weights.md").read_text()
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)
               if "quant_weight" in block)
    model, _ = module_of(TINY_V3)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "page", "exec"), {"module": model})    # noqa: S102
    one = checkpoint.read(tmp_path / "net.pth")
    brevitas.save(model, tmp_path / "net.pth")
    other = checkpoint.read(tmp_path / "net.pth")
    assert one.spec == other.spec and one.state.keys() == other.state.keys()
    assert all(np.array_equal(value, other.state[key]) for key, value in one.state.items())


def test_codes_of_other_widths_go_into_the_widest(tmp_path):
    """Beyond 119 at one end of 8 bits both signs of a channel are turned: the same weight."""
    model, made = module_of(TINY_V3, 8)
    for name, quantised in made.items():
        codes = quantised.codes.clamp(-110, 119)
        codes.view(len(codes), -1)[0, 0] = 127    # the largest weight of a channel, as always there
        made[name].codes = codes
    made["head"].codes, made["head"].bit_width = made["head"].codes // 64, torch.tensor(2.0)
    brevitas.save(model, tmp_path / "net.pth")
    found = checkpoint.read(tmp_path / "net.pth", image_size=16)
    assert found.spec.weight_bits == 8
    for name, quantised in made.items():
        stored = qsd_file.stored_state(found.state, found.spec)
        codes, alpha = stored[f"{name}.weight.q"].astype(int), stored[f"{name}.alpha"]
        assert codes.min() >= -128 and codes.max() <= 119
        turned = alpha < 0
        assert turned[0] == (name != "head")
        value = codes * alpha.reshape(-1, *[1] * (codes.ndim - 1)).astype(float)
        want = quantised.codes.numpy().astype(int) * quantised.scale.numpy().astype(float)
        np.testing.assert_array_equal(value, want, err_msg=name)


def test_scales_of_float64_are_kept(tmp_path):
    model, made = module_of(TINY_V3)
    made[LAYER].scale = made[LAYER].scale.double() / 3
    brevitas.save(model, tmp_path / "net.pth")
    found = checkpoint.read(tmp_path / "net.pth", image_size=16)
    out = tmp_path / "net.qsd"
    qsd_file.save(out, found.state, found.spec)
    alpha = qsd_file.read(out).state[f"{LAYER}.alpha"]
    np.testing.assert_array_equal(alpha, made[LAYER].scale.numpy().reshape(-1))


@pytest.mark.parametrize("changes, said", [
    ({"zero_point": torch.tensor([[[[3.0]]]])}, "its zero point is not 0: only symmetric weights"),
    ({"bit_width": torch.tensor(5.0)}, "weights of 5 bits; possible are 2, 3, 4, 8"),
    ({"bit_width": torch.ones(2)}, "weights of nan bits; possible are 2, 3, 4, 8"),
    ({"bit_width": torch.tensor(2.0)}, r"codes -7\.\.7 are no signed integers of 2 bits"),
    ({"scale": torch.ones(1, 16, 1, 1)}, r"one scale for each output channel, or for all of them, "
                                         r"can be taken, not \(1, 16, 1, 1\) for weights"),
    ({"scale": torch.zeros(16, 1, 1, 1)}, "scales must be positive and finite"),
    ({"scale": torch.full((16, 1, 1, 1), torch.inf)}, "scales must be positive and finite"),
    ({"scale": torch.full((16, 1, 1, 1), 1e38)}, r"a scale of 1e\+38 to 1e\+38 is beyond what"),
    ({"scale": torch.tensor(1e-60, dtype=torch.float64)}, "a scale of 1e-60 to 1e-60 is beyond"),
    ({"codes": torch.ones(16, 16, 1, 1)}, r"int_weight must be integers \(O, ...\), not torch.fl"),
])
def test_what_cannot_be_held_is_named_with_its_layer(tmp_path, changes, said):
    path = tmp_path / "net.pth"
    brevitas.save(module_of(TINY_V3, **changes)[0], path)
    with pytest.raises(CheckpointError, match=said) as caught:
        checkpoint.read(path, image_size=16)
    assert str(caught.value).startswith(f"{path}: {LAYER}: ") and "\n" not in str(caught.value)


def test_widths_are_those_of_the_family(tmp_path):
    model, _ = module_of(TINY, 8)
    brevitas.save(model, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match="weights of 8 bits; possible are 2, 3, 4"):
        checkpoint.read(tmp_path / "net.pth", heads=2)
    brevitas.save(module_of(TINY_V3)[0], tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match="weight_bits is 4 in this file, not 8"):
        checkpoint.read(tmp_path / "net.pth", weight_bits=8)


def test_channels_that_go_beyond_both_ends_of_8_bits(tmp_path):
    model, made = module_of(TINY_V3, 8)
    for quantised in made.values():
        quantised.codes.clamp_(-119, 119)
    made[LAYER].codes[3, :2, 0, 0] = torch.tensor([-120, 120], dtype=torch.int8)
    brevitas.save(model, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=f"{LAYER}: 1 channels have codes beyond 119"):
        checkpoint.read(tmp_path / "net.pth")


def test_modules_that_are_refused():
    model, _ = module_of(TINY_V3)
    layer = model.get_submodule(LAYER)
    for kind in ("input_quant", "output_quant", "bias_quant", "act_quant"):
        setattr(layer, kind, Proxy(on=True))
        with pytest.raises(ValueError, match=f"{LAYER}: its {kind} is on, but neurons fire fixed"):
            brevitas.content_of(model)
        setattr(layer, kind, Proxy(on=False))
    brevitas.content_of(model)
    layer.quant_weight = lambda: layer.weight
    with pytest.raises(ValueError, match=f"{LAYER}: its weights are no scaled integers; train it"):
        brevitas.content_of(model)
    with pytest.raises(ValueError, match=r"no layer is one of Brevitas \(QuantConv2d, QuantLinear"):
        brevitas.content_of(make_network(TINY))
    assert model.training


@pytest.mark.parametrize("content, said", [
    ({"brevitas": {}}, "brevitas must hold layers and state, as model.training.brevitas.save writ"),
    ({"brevitas": {"layers": {}, "state": {}}}, "brevitas must hold layers and state"),
    ({"brevitas": {"layers": {LAYER: 3}, "state": {}}}, f"{LAYER}: must have the tensors int_weig"),
    ({"model": {f"{LAYER}.weight_quant.tensor_quant.scaling_impl.value": torch.ones(1)}},
     "a state dict of Brevitas, which does not hold its integers; write the module with"),
])
def test_files_that_are_refused(tmp_path, content, said):
    path = tmp_path / "net.pth"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=said):
        checkpoint.read(path)


@pytest.mark.parametrize("bits", [2, 4])
def test_layers_of_the_package_itself(tmp_path, bits):
    """Convolutions and the linear layer of Brevitas in the places of those here."""
    nn = pytest.importorskip("brevitas.nn")
    quant = pytest.importorskip("brevitas.quant")
    torch.manual_seed(0)
    model, given = make_network(replace(TINY_V3, weight_bits=32)), {}
    for name, layer in list(model.named_modules()):
        if not isinstance(layer, LsqLayer):
            continue
        kind = (quant.Int8WeightPerChannelFloatMSE if name.endswith("fc1_conv")
                else quant.Int8WeightPerTensorFloat if name == "head"
                else quant.Int8WeightPerChannelFloat)
        options = {"bias": layer.bias is not None, "weight_quant": kind, "weight_bit_width": bits}
        cout, cin = layer.weight.shape[:2]
        if isinstance(layer, LsqLinear):
            made = nn.QuantLinear(cin, cout, **options)
        elif isinstance(layer, LsqConv2d):
            made = nn.QuantConv2d(cin * layer.groups, cout, layer.weight.shape[-1],
                                  groups=layer.groups, **options)
        else:
            made = nn.QuantConv1d(cin, cout, 1, **options)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, made)
        given[name] = made
    brevitas.save(model, tmp_path / "net.pth")
    found = checkpoint.read(tmp_path / "net.pth", image_size=16)
    assert found.spec.weight_bits == bits
    stored = qsd_file.stored_state(found.state, found.spec)
    for name, layer in given.items():
        quantised = layer.quant_weight()
        codes, alpha = stored[f"{name}.weight.q"], stored[f"{name}.alpha"]
        np.testing.assert_array_equal(codes, quantised.int().numpy(), err_msg=name)
        step = alpha.reshape(-1, *[1] * (codes.ndim - 1))
        np.testing.assert_array_equal(codes * step, quantised.value.detach().numpy(), err_msg=name)
