"""Real weights made integers: steps, errors, and the command."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from model import convert
from model.families.make import make_network
from model.families.sdt_v3 import SdtV3Spec
from model.integer import qsd_file
from model.integer.export import integer_weight
from model.integer.quantise import quantise, steps_for
from model.training import checkpoint
from tests.model.tiny import TINY


REAL = SdtV3Spec(name="real", image_size=16, in_channels=1, classes=3, dims=(4, 4, 6, 16, 24),
                 depths=(1, 1, 1, 1, 1), strides=(2, 1, 2, 1, 1), heads=8, value_expansion=2,
                 weight_bits=32, norm_mean=(0.0,), norm_std=(1.0,))


def state_of(spec):
    torch.manual_seed(3)
    model = make_network(spec)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
    return {key: value.numpy().copy() for key, value in model.state_dict().items()}


def test_eight_bits_reach_the_largest_weight_of_each_channel():
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(5, 4, 3, 3)).astype(np.float32) * 10.0 ** np.arange(5)[
        :, None, None, None].astype(np.float32)
    weight[2] = 0
    alpha = steps_for(weight, 8)
    q = integer_weight(weight, alpha, 8)
    assert np.abs(q).reshape(5, -1).max(1).tolist() == [119, 119, 0, 119, 119]
    assert alpha[2] == 1
    assert (np.abs(weight - q * alpha[:, None, None, None]) <= 0.501 * alpha[
        :, None, None, None]).all()


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_few_bits_have_the_step_with_the_least_error(bits):
    """No step of a fine grid is better by more than the grid that is searched is wide."""
    rng = np.random.default_rng(bits)
    weight = rng.normal(size=(3, 400)).astype(np.float32)

    def error(alpha):
        q = integer_weight(weight, alpha.astype(np.float32), bits)
        return np.square(weight.astype(float) - q * alpha[:, None]).sum(1)

    found = error(steps_for(weight, bits).astype(float))
    largest = np.abs(weight).max(1)
    for share in np.linspace(0.02, 2, 300):
        assert (found <= 1.02 * error(share * largest)).all()
    assert (found < error(largest / (2 ** (bits - 1) - 1))).all()


@pytest.mark.parametrize("spec", [REAL, replace(TINY, weight_bits=32)], ids=lambda s: s.family)
def test_the_state_is_that_of_a_quantised_network(spec):
    state = state_of(spec)
    made = quantise(state, spec, 4)
    assert made.spec == replace(spec, weight_bits=4) and list(made.sqnr) == [
        layer.name for layer in spec.layers]
    checkpoint.check(made.state, made.spec)
    assert all(5 < value < 70 for value in made.sqnr.values())
    again = qsd_file.stored_state(made.state, made.spec)
    for layer in spec.layers:
        value = made.state[f"{layer.name}.weight"]
        step = made.state[f"{layer.name}.alpha"].reshape(-1, *[1] * (value.ndim - 1))
        np.testing.assert_array_equal(again[f"{layer.name}.weight.q"] * step, value)
    with pytest.raises(ValueError, match="has weights of 4 bits already"):
        quantise(made.state, made.spec, 4)


def test_eight_bits_are_closer_than_four():
    state = state_of(REAL)
    four, eight = (quantise(state, REAL, bits).sqnr for bits in (4, 8))
    assert all(eight[name] > four[name] + 15 for name in four)
    with pytest.raises(ValueError, match="weight_bits must be 2, 3, 4, 8 or 32, not 5"):
        quantise(state, REAL, 5)


def test_command(tmp_path, capsys):
    path, out = tmp_path / "real.pth", tmp_path / "net.qsd"
    torch.save({key: torch.from_numpy(value) for key, value in state_of(REAL).items()}, path)
    image_q = np.random.default_rng(0).integers(-100, 100, (8, 1, 16, 16), np.int8)
    np.savez(tmp_path / "x.npz", image_q=image_q)
    command = ["--checkpoint", str(path), "--image-size", "16", "--out", str(out)]
    assert convert.cli(command) == 1
    said = capsys.readouterr().err
    assert "real has real weights: quantise them with --weight-bits 8, or train it" in said
    assert not out.exists()
    assert convert.cli([*command, "--weight-bits", "8", "--images", str(tmp_path / "x.npz")]) == 0
    said = capsys.readouterr().out
    assert "signal over error of the weights in 8 bits, dB:" in said
    assert "block3.0.attn.v_conv.0" in said and "cost accuracy" not in said
    assert "integer = float with real weights in the top class: " in said and "of 8)" in said
    assert qsd_file.read(out).spec.weight_bits == 8
    assert convert.cli([*command, "--weight-bits", "4"]) == 0
    assert "4 bits cost accuracy without training: qsdt train --init" in capsys.readouterr().out
    assert convert.cli(["--weights", str(out), "--images", "x.npz", "--out", str(out)]) == 1
    assert "--images goes with --checkpoint" in capsys.readouterr().err


def test_networks_without_spikes_stay_without_integer_form(tmp_path, capsys):
    torch.save({"model": make_network(TINY.twin()).state_dict(), "spec": TINY.twin().to_dict()},
               tmp_path / "net.pth")
    assert convert.cli(["--checkpoint", str(tmp_path / "net.pth"), "--weight-bits", "4",
                        "--out", str(tmp_path / "net.qsd")]) == 1
    assert "its neuron is relu" in capsys.readouterr().err
