"""Spike masked autoencoder: a network learns from pictures without labels, by filling in.

Yao et al., "Scaling Spike-driven Transformer with Efficient Spike Firing Approximation Training",
2024, and its published code (https://github.com/BICLab/Spike-Driven-Transformer-V3). Cells of a
picture are hidden; the network sees the others, and a small decoder, which is thrown away, tells
the pixels of the hidden ones.

A hidden cell stays silent in every layer: behind each batch norm, whose statistics are those of
what is visible, hidden positions are 0, so that they fire nothing, and no attention counts them.
Tokens keep their places. The published code does so in its convolution stages; its transformer
blocks see hidden tokens as zeros, and it tells the decoder nothing of which are hidden. Here, as in
He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022, they are left out of all
the network, and the decoder has one learned token in their places.
"""

from functools import partial
import math

import numpy as np
from numpy.typing import NDArray
import torch
from torch import nn, Tensor
from torch.nn import functional as F

from model.families.base import NetworkSpec
from model.families.network import SpikingTransformer
from model.training.recipe import Masking


__all__ = ["Cells", "Decoder", "draw_hidden", "MaskedAutoencoder", "normalised", "patches",
           "pixels", "positions"]

_EPS = 1e-6
"""Added to a patch's variance, as published."""


class Cells:
    """The cells of the pictures of `spec` that are hidden or not, each `side` pixels wide.

    `grid` cells a side, of which `hidden` of all `count` are hidden.

    Raises ValueError if cells do not cut the picture and its tokens into whole parts.
    """

    def __init__(self, spec: NetworkSpec, masking: Masking) -> None:
        self.side = masking.cell or spec.reduction
        if self.side % spec.reduction or spec.image_size % self.side:
            raise ValueError(
                f"cell must be a multiple of {spec.reduction} (the pixels of a token of "
                f"{spec.name}) that divides {spec.image_size}, not {self.side}")
        self.grid = spec.image_size // self.side
        self.count = self.grid**2
        self.hidden = round(masking.ratio * self.count)
        if not 0 < self.hidden < self.count:
            raise ValueError(f"ratio must hide 1 to {self.count - 1} of {self.count} cells of "
                             f"{spec.name}, not {self.hidden}; choose smaller cells")


def draw_hidden(rng: np.random.Generator, count: int, cells: Cells) -> NDArray[np.bool_]:
    """Which cells are hidden, (count, cells): exactly `cells.hidden` of each picture."""
    order = rng.random((count, cells.count)).argsort(1)
    hidden = np.zeros((count, cells.count), bool)
    np.put_along_axis(hidden, order[:, :cells.hidden], True, 1)
    return hidden


def patches(x: Tensor, side: int) -> Tensor:
    """Pictures (B, C, H, W) as the pixels of each token, (B, tokens, side*side*C), row by row."""
    batch, channels, height, width = x.shape
    x = x.reshape(batch, channels, height // side, side, width // side, side)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, side * side * channels)


def pixels(tokens: Tensor, side: int, channels: int) -> Tensor:
    """The inverse of `patches` for square pictures."""
    grid = math.isqrt(tokens.shape[1])
    x = tokens.reshape(-1, grid, grid, side, side, channels)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(-1, channels, grid * side, grid * side)


def normalised(tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Patches (B, tokens, pixels) with mean 0 and variance 1, and what they had: mean, deviation.

    The deviation is sqrt(variance + 1e-6), with the unbiased variance, as published.
    """
    mean = tokens.mean(-1, keepdim=True)
    deviation = (tokens.var(-1, keepdim=True) + _EPS).sqrt()
    return (tokens - mean) / deviation, mean, deviation


def positions(grid: int, width: int) -> Tensor:
    """Fixed sines and cosines of row and column, (grid*grid, width); width is a multiple of 4."""
    frequencies = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angles = torch.arange(grid, dtype=torch.float64)[:, None] * frequencies
    line = torch.cat([angles.sin(), angles.cos()], 1)
    rows, columns = line[:, None].expand(-1, grid, -1), line[None].expand(grid, -1, -1)
    return torch.cat([rows, columns], 2).reshape(grid * grid, width).float()


class Decoder(nn.Module):
    """A small vision transformer with real weights: visible tokens to the pixels of all.

    ``forward`` takes tokens (B, N, C) and which are hidden (B, N), bool; what the hidden ones hold
    is not read. It returns (B, N, pixels).
    """

    places: Tensor

    def __init__(self, channels: int, grid: int, patch: int, masking: Masking) -> None:
        super().__init__()
        width = masking.width
        self.norm = nn.BatchNorm1d(channels)
        self.embed = nn.Linear(channels, width)
        self.token = nn.Parameter(torch.zeros(width))
        nn.init.normal_(self.token, std=0.02)
        self.register_buffer("places", positions(grid, width), persistent=False)
        self.blocks = nn.Sequential(*(
            nn.TransformerEncoderLayer(width, masking.heads, 4 * width, dropout=0.0,
                                       activation="gelu", batch_first=True, norm_first=True)
            for _ in range(masking.blocks)))
        self.last_norm = nn.LayerNorm(width)
        self.predict = nn.Linear(width, patch)

    def forward(self, tokens: Tensor, hidden: Tensor) -> Tensor:
        seen = self.embed(self.norm(tokens[~hidden]))
        x = self.token.to(seen.dtype).repeat(*hidden.shape, 1)
        x[~hidden] = seen
        return self.predict(self.last_norm(self.blocks(x + self.places)))


class MaskedAutoencoder(nn.Module):
    """`backbone`, changed so that it keeps hidden cells silent, and a decoder.

    ``forward`` takes pictures (B, C, H, W) and which cells are hidden (B, cells), bool, row by row,
    and returns the predicted patches, each normalised, (B, tokens, pixels).

    Raises ValueError if cells do not fit the network, or it does not spike.
    """

    def __init__(self, backbone: SpikingTransformer, masking: Masking) -> None:
        super().__init__()
        spec = backbone.spec
        if not spec.spikes:
            raise ValueError(f"{spec.name} has no spikes: a hidden token would not be silent")
        self.cells = Cells(spec, masking)
        self.backbone = backbone
        self.decoder = Decoder(spec.dims[-1], spec.image_size // spec.reduction,
                               spec.reduction**2 * spec.in_channels, masking)
        self._visible: dict[int, Tensor] = {}    # by the side of a map: places of its pixels
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                vars(module)["forward"] = partial(self._norm, module)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        membrane = self.encode(x, hidden)
        return self.decoder(membrane.flatten(2).transpose(1, 2), self.hidden_tokens(hidden))

    def encode(self, x: Tensor, hidden: Tensor) -> Tensor:
        """The last membrane, mean over time, (B, C, h, w); 0 where hidden."""
        spec, grid, steps = self.backbone.spec, self.cells.grid, self.backbone.spec.time_steps
        visible = (~hidden).view(-1, 1, grid, grid).to(x.dtype)
        maps = {side: F.interpolate(visible, size=(side, side))
                for side in {spec.image_size, *spec.sizes}}
        self._visible = {side: seen.repeat(steps, 1, 1, 1).flatten().nonzero()[:, 0]
                         for side, seen in maps.items()}
        try:
            x = (x * maps[spec.image_size]).contiguous(memory_format=torch.channels_last)
            membrane = self.backbone.membrane(x)
        finally:
            self._visible = {}
        return membrane.unflatten(0, (steps, -1)).mean(0)

    def hidden_tokens(self, hidden: Tensor) -> Tensor:
        """Which tokens are hidden, (B, tokens), of which cells are, (B, cells)."""
        grid, spec = self.cells.grid, self.backbone.spec
        factor = self.cells.side // spec.reduction
        tokens = hidden.view(-1, grid, grid).repeat_interleave(factor, 1)
        return tokens.repeat_interleave(factor, 2).flatten(1)

    def loss(self, x: Tensor, predicted: Tensor, hidden: Tensor) -> Tensor:
        """Mean squared error of the hidden patches; x (B, C, H, W), hidden (B, cells)."""
        wanted, _, _ = normalised(patches(x, self.backbone.spec.reduction))
        each = (predicted - wanted).square().mean(-1)
        return each[self.hidden_tokens(hidden)].mean()

    def _norm(self, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
        """The batch norm of (B, C, H, W) over visible positions; 0 at the others."""
        rows = x.permute(0, 2, 3, 1)
        flat, index = rows.flatten(0, 2), self._visible[x.shape[-1]]
        y = F.batch_norm(
            flat.index_select(0, index), norm.running_mean, norm.running_var, norm.weight,
            norm.bias, norm.training, norm.momentum or 0.0, norm.eps)
        if norm.training and norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
        y = torch.zeros_like(flat, dtype=y.dtype).index_copy(0, index, y)
        return y.view(rows.shape).permute(0, 3, 1, 2)
