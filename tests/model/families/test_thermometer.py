"""model.families.thermometer: binary virtual time steps against the integer form, exactly."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.families.network import capture_levels, QsdTransformer
from model.families.spec import QsdtSpec
from model.families.thermometer import binary_spikes, binary_time_steps, level_units
from model.integer.epilogue import IntegerParams
from model.integer.export import export
from model.integer.random_network import random_spec, random_state


torch.set_num_threads(1)


def random_model(seed: int, **changes) -> tuple[QsdTransformer, dict, QsdtSpec]:
    """A float64 network with made-up weights, its state dict and spec."""
    rng = np.random.default_rng(seed)
    drawn = replace(random_spec(rng, max_dim=24, name=f"random{seed}"), **changes)
    state = random_state(rng, drawn, IntegerParams(), ("negative", "zero"))
    model = QsdTransformer(drawn)
    model.load_state_dict({key: torch.from_numpy(np.array(v)) for key, v in state.items()})
    return model.double().eval(), state, drawn


def images(drawn: QsdtSpec, seed: int) -> np.ndarray:
    size = max(drawn.reduction, 12 // drawn.reduction * drawn.reduction)
    shape = (2, drawn.in_channels, size, size)
    return np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)


@torch.no_grad()
@pytest.mark.parametrize("levels, mprf, bits", [
    (4, "none", 4), (4, "replace", 2), (3, "none", 3), (3, "add", 4), (2, "add", 2), (1, "none", 4),
    (5, "replace", 3)])
@pytest.mark.parametrize("seed", [1, 2])
def test_binary_steps_equal_the_integer_form(levels, mprf, bits, seed):
    """Model check 7.8 on whole networks: every level of every neuron, and the logits."""
    model, state, drawn = random_model(seed, levels=levels, mprf=mprf, weight_bits=bits)
    image_q = images(drawn, seed)
    wide = export(state, drawn, form="wide", input_shape=image_q.shape[1:]).run(image_q)
    x = torch.from_numpy(image_q / 48)
    with capture_levels(model) as fired:
        plain = model(x)
        whole = dict(fired)
        with binary_time_steps(model):
            logits = model(x)
        steps = dict(fired)
    for name, level in steps.items():
        want = wide[name] if name != "lif" else wide[name][:, :, 0, 0]
        np.testing.assert_array_equal(level.numpy(), want, err_msg=name)
        np.testing.assert_array_equal(whole[name].numpy(), want, err_msg=name)
    assert max(int(level.max()) for level in steps.values()) == levels
    np.testing.assert_allclose(logits.numpy(), wide["logits"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(model(x).numpy(), plain.numpy(), rtol=0, atol=0)


def test_sums_of_binary_steps_are_whole_numbers():
    model, *_ = random_model(3, levels=3)
    seen = []
    layers = {name: m for name, m in model.named_modules() if hasattr(m, "alpha")}
    conv = layers["downsample1_2.encode_conv"]
    multiply = type(conv).multiply

    def spy(self, x, weight, bias):
        seen.append((set(x.unique().tolist()), torch.equal(weight, weight.round())))
        return multiply(self, x, weight, bias)

    conv.multiply = spy.__get__(conv)
    with torch.no_grad(), binary_time_steps(model):
        model(torch.rand(1, model.spec.in_channels, 16, 16, dtype=torch.float64))
    assert len(seen) == 3
    assert all(values <= {0.0, 1.0} and integers for values, integers in seen)


def test_layers_that_read_levels():
    model, _, drawn = random_model(1)
    names = [n for n, m in model.named_modules() if hasattr(m, "alpha")]
    units = level_units(drawn)
    assert {unit for name, unit in units.items() if ".proj_conv." in name} == {2 / drawn.levels}
    assert units["head"] == units["downsample3.encode_conv"] == 1 / drawn.levels
    real = [name for name in names if name not in units]
    assert "head" not in real and "downsample1_1.encode_conv" in real
    assert {name.rpartition(".")[2] for name in real} == {"encode_conv", "pwconv2", "0", "1"}
    assert sum(name.endswith("encode_conv") for name in real) == 1


def test_binary_spikes_add_up():
    level = torch.tensor([0, 1, 2, 3])
    assert [part.tolist() for part in binary_spikes(level, 3)] == [
        [0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]]


def test_networks_without_levels_are_refused():
    model = QsdTransformer(replace(random_model(1)[2], neuron="relu", weight_bits=32))
    with pytest.raises(ValueError, match="no integer form: its neuron is relu"):
        with binary_time_steps(model):
            pass
