"""model.training.masked: what is hidden stays hidden, and silent; the decoder tells of it alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from model.families.make import make_network
from model.families.network import capture_levels
from model.families.spec import SdtV3LargeSpec, SdtV3Spec
from model.training.masked import (
    Cells,
    Decoder,
    draw_hidden,
    MaskedAutoencoder,
    normalised,
    patches,
    pixels,
    positions,
)
from model.training.recipe import Masking
from tests.model.tiny import TINY


torch.set_num_threads(1)

SMALL = Masking(width=16, blocks=1, heads=2)

SDT_V3 = SdtV3Spec(
    name="tiny_v3", in_channels=1, image_size=16, classes=2, dims=(4, 4, 8, 8, 12),
    strides=(2, 1, 2, 1, 1), depths=(1, 1, 1, 1, 1), conv_expansion=(1, 1, 1), mlp_ratio=1,
    heads=2, norm_mean=(0.3,), norm_std=(0.3,))

LARGE = SdtV3LargeSpec(
    name="tiny_large", in_channels=1, image_size=16, classes=2, dims=(4, 4, 8, 12),
    strides=(2, 1, 2, 1), depths=(1, 1, 1, 2), conv_expansion=(1, 1, 1), mlp_ratio=1, heads=2,
    rep_conv=True, layer_scale_init=0.3, norm_mean=(0.3,), norm_std=(0.3,))

FAMILIES = [TINY, SDT_V3, LARGE, replace(TINY, mprf="add"),
            replace(TINY, neuron="lif", levels=1, time_steps=2, leak=0.5)]


def autoencoder(spec=TINY, masking=SMALL):
    """In float64, with images (6, 1, 16, 16) and hidden cells."""
    torch.manual_seed(1)
    model = MaskedAutoencoder(make_network(spec), masking).double()
    for module in model.backbone.modules():
        if isinstance(module, nn.BatchNorm2d):    # so that levels are fired, and 0 is not at rest
            nn.init.normal_(module.bias, 0.5, 0.5)
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.constant_(module.running_var, 0.05)
    x = torch.randn(6, 1, 16, 16, dtype=torch.float64)
    hidden = draw_hidden(np.random.default_rng(2), 6, model.cells)
    return model, x, torch.from_numpy(hidden)


def at(hidden, cells, side):
    """Hidden cells (B, cells) as a map (B, 1, side, side)."""
    grid = hidden.view(-1, 1, cells.grid, cells.grid)
    return grid.repeat_interleave(side // cells.grid, 2).repeat_interleave(side // cells.grid, 3)


@pytest.mark.parametrize("ratio, cell, count",
                         [(0.5, 0, 8), (0.75, 4, 12), (0.3, 0, 5), (0.5, 8, 2)])
def test_mask_ratio_is_exact(ratio, cell, count):
    cells = Cells(TINY, Masking(ratio=ratio, cell=cell))
    hidden = draw_hidden(np.random.default_rng(1), 500, cells)
    assert hidden.shape == (500, cells.count) and hidden.dtype == bool
    assert (hidden.sum(1) == count).all()
    often = hidden.mean(0)
    assert abs(often - count / cells.count).max() < 0.1    # every cell alike
    assert len(np.unique(hidden, axis=0)) > 1


@pytest.mark.parametrize("masking, message", [
    (Masking(cell=6), "cell must be a multiple of 4 .* that divides 16, not 6"),
    (Masking(cell=12), "cell must be a multiple of 4 .* that divides 16, not 12"),
    (Masking(ratio=0.01), "ratio must hide 1 to 15 of 16 cells of tiny, not 0"),
    (Masking(cell=16), "ratio must hide 1 to 0 of 1 cells"),
])
def test_cells_that_do_not_fit(masking, message):
    with pytest.raises(ValueError, match=message):
        Cells(TINY, masking)


def test_a_network_without_spikes_is_refused():
    with pytest.raises(ValueError, match="tiny-ann has no spikes"):
        MaskedAutoencoder(make_network(TINY.twin()), SMALL)


def test_patches_and_pixels_are_inverse():
    x = torch.randn(2, 3, 8, 8)
    tokens = patches(x, 2)
    assert tokens.shape == (2, 16, 12)
    assert torch.equal(tokens[1, 5], x[1, :, 2:4, 2:4].permute(1, 2, 0).flatten())    # row by row
    assert torch.equal(pixels(tokens, 2, 3), x)


def test_normalised_patches():
    flat = torch.cat([torch.randn(3, 4, 16), torch.full((3, 1, 16), 0.25)], 1)
    y, mean, deviation = normalised(flat)
    assert torch.allclose(y[:, :4].mean(-1), torch.zeros(3, 4), atol=1e-6)
    assert torch.allclose(y[:, :4].std(-1), torch.ones(3, 4), atol=1e-4)
    assert torch.equal(y[:, 4], torch.zeros(3, 16))    # a flat patch divides by no 0
    assert torch.allclose(y * deviation + mean, flat)


def test_decoder_shapes_and_places():
    decoder = Decoder(6, 4, 10, SMALL)
    hidden = torch.arange(16).remainder(2).bool().expand(3, -1)
    assert decoder(torch.randn(3, 16, 6), hidden).shape == (3, 16, 10)
    places = positions(4, 16)
    assert places.shape == (16, 16) and len(places.unique(dim=0)) == 16
    assert torch.equal(places[1, :8], places[2, :8])      # the same row
    assert torch.equal(places[1, 8:], places[5, 8:])      # the same column
    predicted = decoder.eval()(torch.randn(1, 16, 6), hidden[:1])
    assert not torch.equal(predicted[0, 1], predicted[0, 3])    # hidden tokens know their places


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("spec", FAMILIES, ids=lambda spec: spec.name + spec.family)
def test_nothing_hidden_reaches_the_encoder(spec, training):
    model, x, hidden = autoencoder(spec)
    model.train(training)
    where = at(hidden, model.cells, 16)
    other = torch.where(where, 9 * torch.randn_like(x), x)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    one = model(x, hidden)
    model.load_state_dict(before)
    assert torch.equal(one, model(other, hidden))
    seen = torch.where(where, x, 9 * torch.randn_like(x))
    model.load_state_dict(before)
    assert not torch.equal(one, model(seen, hidden))


@pytest.mark.parametrize("spec", FAMILIES, ids=lambda spec: spec.name + spec.family)
def test_hidden_positions_are_silent_in_every_layer(spec):
    model, x, hidden = autoencoder(spec)
    with torch.no_grad(), capture_levels(model.backbone) as levels:
        membrane = model.encode(x, hidden)
    assert not membrane[at(hidden, model.cells, 4).expand_as(membrane)].any()
    assert "block3.0.attn.attn_lif" in levels and "block3.0.mlp.fc2_lif" in levels
    for name, level in levels.items():
        steps = len(level) // len(x)
        where = at(hidden, model.cells, level.shape[-1]).repeat(steps, 1, 1, 1).expand_as(level)
        assert not level[where].any(), name
    fired = sum(level.any().item() for level in levels.values())
    assert fired > len(levels) // 2


def test_statistics_are_those_of_visible_positions():
    model, x, hidden = autoencoder()
    norm, seen = model.backbone.downsample1_1.encode_bn, []
    norm.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    norm.reset_running_stats()
    model.train()
    model.encode(x, hidden)
    visible = seen[0].permute(0, 2, 3, 1)[~at(hidden, model.cells, 8)[:, 0]]
    plain = nn.BatchNorm2d(4).double()
    plain(visible.T[None, :, :, None])
    assert torch.allclose(norm.running_mean, plain.running_mean)
    assert torch.allclose(norm.running_var, plain.running_var)


def test_loss_is_that_of_hidden_patches_alone():
    model, x, hidden = autoencoder()
    predicted = model(x, hidden)
    where = model.hidden_tokens(hidden)
    wanted, _, _ = normalised(patches(x, 4))
    loss = model.loss(x, predicted, hidden)
    assert torch.allclose(loss, (predicted - wanted)[where].square().mean())
    assert torch.equal(loss, model.loss(x, torch.where(where[..., None], predicted, 7.0), hidden))
    assert not torch.equal(loss, model.loss(x, predicted + where[..., None], hidden))
    assert model.loss(x, wanted, hidden) == 0
    flat = torch.zeros_like(predicted)
    assert 0.8 < model.loss(x, flat, hidden) < 1    # a guess of the mean costs 1


def test_cells_of_several_tokens():
    model, x, hidden = autoencoder(masking=replace(SMALL, cell=8))
    assert hidden.shape == (6, 4)
    tokens = model.hidden_tokens(hidden)
    assert tokens.shape == (6, 16)
    assert torch.equal(tokens, at(hidden, model.cells, 4).flatten(1))
    assert model(x, hidden).shape == (6, 16, 16)


def test_every_part_but_the_head_learns():
    model, x, hidden = autoencoder(SDT_V3)
    model.loss(x, model(x, hidden), hidden).backward()
    still = {name for name, p in model.named_parameters() if p.grad is None}
    assert still == {f"backbone.head.{key}" for key in ("weight", "bias", "alpha")}
