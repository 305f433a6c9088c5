"""model.training.frozen: the same network with batch norms folded, and where it may end."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from model.families.network import capture_levels, QsdTransformer
from model.training.distil import capture_operands
from model.training.frozen import frozen
from tests.model.tiny import TINY


torch.set_num_threads(1)


def network(spec) -> QsdTransformer:
    """Random moments, gains and offsets in every batch norm; float64."""
    torch.manual_seed(3)
    model = QsdTransformer(spec).double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias)
    return model


@torch.no_grad()
def shown(model: QsdTransformer):
    x = torch.randn(5, 1, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with capture_operands(model) as operands, capture_levels(model) as levels:
        logits = model(x)
    return [x for block in operands for x in block], levels, logits


@pytest.mark.parametrize("spec", [
    TINY.twin(), TINY, replace(TINY, mprf="add"), replace(TINY, mprf="replace", weight_bits=32),
], ids=["twin", "spiking", "mprf", "replace"])
def test_it_is_the_same_network(spec):
    model = network(spec)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    want, levels, logits = shown(model)
    got, own_levels, own_logits = shown(frozen(model))
    assert len(got) == len(want) == 6
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(own_logits, logits, rtol=1e-9, atol=1e-9)
    assert list(own_levels) == list(levels)
    assert all(torch.equal(own_levels[name], levels[name]) for name in levels)
    # What it was made of stays.
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_without_logits_it_ends_at_the_last_operands():
    model = network(TINY.twin())
    short = frozen(model, logits=False)
    for a, b in zip(shown(short)[0], shown(model)[0], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    names = [name for name, _ in short.named_modules()]
    assert "block3.0.mlp" in names
    assert "block4.0.mlp" not in names


def test_other_sizes_have_other_borders():
    model = network(TINY.twin())
    own = frozen(model)
    for side in (16, 24):
        x = torch.randn(2, 1, side, side, dtype=torch.float64)
        torch.testing.assert_close(own(x), model(x), rtol=1e-9, atol=1e-9)
