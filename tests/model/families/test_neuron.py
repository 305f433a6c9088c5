"""model.families.neuron: IE-LIF of any D, leaking membranes, the LIF baseline, and T."""

from dataclasses import replace

import pytest
import torch

from model.families.network import capture_levels, QsdTransformer
from model.families.neuron import IeLif, LeakyIeLif, Lif, make_neuron, Relu
from model.families.spec import QsdtSpec


torch.set_num_threads(1)

TINY = QsdtSpec(
    name="tiny", in_channels=1, image_size=16, classes=3, dims=(4, 6, 8, 8, 8),
    depths=(1, 1, 1, 1, 1), conv_expansion=(1, 1, 1), mlp_ratio=1, heads=2,
    norm_mean=(0.5,), norm_std=(0.5,), layer_scale_init=0.3,
)


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 7])
def test_ie_lif_of_any_d_counts_thresholds(levels):
    x = torch.linspace(-1, 2, 3 * 2 * 5 * levels + 1, dtype=torch.float64)
    want = sum((x * 2 * levels >= 2 * k - 1).long() for k in range(1, levels + 1))
    neuron = IeLif(levels)
    assert torch.equal(neuron.level(x).long(), want)
    torch.testing.assert_close(neuron(x), want.double() / levels)
    torch.testing.assert_close(IeLif(levels, gain=2)(x), 2 * want.double() / levels)


def test_lif_by_hand():
    """U = [.6, 1.3, .65, 1.825]: below V_th, fires, what is left halves, fires again."""
    neuron = Lif(time_steps=4, leak=0.5)
    x = torch.tensor([0.6, 1.0, 0.5, 1.5]).view(4, 1)
    assert neuron(x).flatten().tolist() == [0, 1, 0, 1]
    assert neuron.level(x).flatten().tolist() == [0, 1, 0, 1]
    assert Lif(time_steps=4, leak=0.0)(x).flatten().tolist() == [0, 1, 0, 1]
    assert Lif(time_steps=2, leak=1.0)(torch.tensor([[0.75], [0.25]])).tolist() == [[0], [1]]
    assert Lif(time_steps=1, leak=0.5, threshold=0.5)(torch.tensor([[0.5]])).tolist() == [[1]]


def test_surrogate_gradient_is_a_window_and_runs_through_time():
    x = torch.tensor([0.2, 0.9, 1.6], requires_grad=True)
    Lif(time_steps=1, leak=0.5)(x).sum().backward()
    assert x.grad.tolist() == [0, 1, 0]
    wide = torch.tensor([0.2, 0.9, 1.6], requires_grad=True)
    Lif(time_steps=1, leak=0.5, width=2.0)(wide).sum().backward()
    assert wide.grad.tolist() == [0.5, 0.5, 0.5]
    # The second membrane, .9, is in the window; the first, .4, is not, so half of it comes through.
    two = torch.tensor([[0.4], [0.7]], requires_grad=True)
    Lif(time_steps=2, leak=0.5)(two)[1].sum().backward()
    assert two.grad.flatten().tolist() == [0.5, 1]


def test_leaky_levels_carry_the_rounding_on():
    neuron = LeakyIeLif(2, time_steps=3, leak=1.0)
    x = torch.tensor([0.2, 0.2, 0.2]).view(3, 1)
    # U = .2, .4 -> level 1 (.5 is fired), .1
    assert neuron.level(x).flatten().tolist() == [0, 1, 0]
    assert neuron(x).flatten().tolist() == [0, 0.5, 0]
    steps = torch.rand(8, 5, dtype=torch.float64)
    torch.testing.assert_close(LeakyIeLif(4, time_steps=4, leak=0.0)(steps), IeLif(4)(steps))


def test_make_neuron():
    assert isinstance(make_neuron(TINY), IeLif)
    assert make_neuron(TINY, attention=True).gain == 2
    assert isinstance(make_neuron(replace(TINY, time_steps=4)), IeLif)  # no leak, no state
    lif = replace(TINY, neuron="lif", levels=1, time_steps=4, leak=0.5)
    assert (make_neuron(lif).threshold, make_neuron(lif, attention=True).threshold) == (1, 0.5)
    leaky = make_neuron(replace(TINY, levels=2, time_steps=2, leak=0.5))
    assert (type(leaky), leaky.levels, leaky.time_steps) == (LeakyIeLif, 2, 2)
    assert isinstance(make_neuron(replace(TINY, neuron="relu")), Relu)


@torch.no_grad()
def test_repeats_of_an_image_change_nothing_without_a_state():
    """Model check 7.6: T = 4 equals T = 1 bit for bit."""
    torch.manual_seed(0)
    one = QsdTransformer(TINY).double().eval()
    four = QsdTransformer(replace(TINY, time_steps=4)).double().eval()
    four.load_state_dict(one.state_dict())
    x = torch.randn(3, 1, 16, 16, dtype=torch.float64)
    assert torch.equal(four(x), one(x))
    assert torch.equal(four(x.expand(4, *x.shape)), one(x))
    slices = torch.randn(4, 3, 1, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(four(slices), torch.stack([one(part) for part in slices]).mean(0))
    with pytest.raises(ValueError, match="images must have 4 time steps, not 3"):
        four(slices[:3])


@pytest.mark.parametrize("changes", [
    {"neuron": "lif", "levels": 1, "time_steps": 4, "leak": 0.5},
    {"levels": 2, "time_steps": 2, "leak": 0.5},
    {"levels": 3}, {"weight_bits": 2}, {"weight_bits": 3},
    {"neuron": "relu", "weight_bits": 32}, {"mprf": "add"}, {"mprf": "replace"},
    {"neuron": "relu", "weight_bits": 32, "attention": "softmax"},
])
def test_every_kind_of_network_trains(changes):
    torch.manual_seed(0)
    model = QsdTransformer(replace(TINY, **changes))
    with capture_levels(model) as levels:
        model(torch.randn(4, 1, 16, 16)).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    assert sum(float(p.grad.abs().sum()) for p in model.block3.parameters()) > 0
    assert bool(levels) == (changes.get("neuron") != "relu")
    steps = changes.get("time_steps", 1)
    assert all(len(level) == 4 * steps for level in levels.values())


def test_weights_of_32_bits_have_no_steps():
    state = QsdTransformer(replace(TINY, weight_bits=32)).state_dict()
    assert not [key for key in state if key.endswith((".alpha", ".init_state"))]


@pytest.mark.parametrize("changes, message", [
    ({"neuron": "if"}, "neuron must be ielif, lif or relu, not 'if'"),
    ({"mprf": 3}, "mprf must be none, add or replace, not 3"),
    ({"attention": "softmax"}, "attention must be sdsa for spiking neurons"),
    ({"leak": 1.5}, r"leak must be 0 to 1, not 1.5"),
    ({"neuron": "lif", "leak": 0.5}, "levels must be 1 for the neuron lif, not 4"),
    ({"neuron": "relu", "time_steps": 2}, "time_steps must be 1 and leak 0 for the neuron relu"),
    ({"time_steps": 0}, "time_steps must be a positive integer, not 0"),
])
def test_spec_rejects(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **changes)


@pytest.mark.parametrize("changes, why", [
    ({}, ""), ({"levels": 3}, ""), ({"levels": 64}, ""), ({"time_steps": 4}, ""),
    ({"levels": 11}, "ties of the attention inexact"),
    ({"levels": 1, "neuron": "lif"}, "its neuron is lif"),
    ({"levels": 2, "leak": 0.5}, "its membranes leak"),
    ({"weight_bits": 32}, "its weights are real numbers"),
])
def test_what_has_no_integer_form(changes, why):
    assert why in replace(TINY, **changes).no_integer_form
    assert bool(replace(TINY, **changes).no_integer_form) == bool(why)


def test_published_specs_are_stored_as_before():
    assert set(TINY.to_dict()) & {"neuron", "leak", "time_steps", "attention", "mprf"} == set()
    other = replace(TINY, mprf="add", leak=0.25, levels=2)
    assert QsdtSpec.from_dict(other.to_dict()) == other and other.to_dict()["mprf"] == "add"
