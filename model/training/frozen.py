"""A network that no longer learns, with fewer passes: what FGD's teacher is run as."""

import copy

import torch
from torch import nn, Tensor
from torch.nn import functional as F

from model.families.lsq import LsqLayer
from model.families.network import (
    Attention,
    ConvBlock,
    Downsample,
    Mlp,
    SepConv,
    SpikingTransformer,
)


__all__ = ["frozen"]


def _scale(norm: nn.Module) -> Tensor:
    """What a batch norm in evaluation multiplies by, (C,)."""
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_var is None:
        raise TypeError(f"must be a batch norm with running statistics, not {norm}")
    return norm.weight / torch.sqrt(norm.running_var + norm.eps)


def _weight(layer: nn.Module) -> Tensor:
    """The quantised weights (cout, cin, k, k) of a convolution."""
    if not isinstance(layer, LsqLayer):
        raise TypeError(f"must be a convolution, not {layer}")
    weight = layer.quantised_weight()
    return weight if weight.ndim == 4 else weight.unsqueeze(-1)


class _Conv(nn.Module):
    """A convolution with the batch norm behind it."""

    weight: Tensor
    bias: Tensor

    def __init__(self, layer: LsqLayer, norm: nn.Module) -> None:
        super().__init__()
        scale = _scale(norm)
        bias = norm(torch.zeros_like(scale).view(1, -1, 1, 1)).flatten()
        if layer.bias is not None:
            bias = bias + layer.bias * scale
        weight = _weight(layer) * scale.view(-1, 1, 1, 1)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.options = (getattr(layer, "stride", 1), getattr(layer, "padding", 0), 1,
                        getattr(layer, "groups", 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, *self.options)


class _Linear(nn.Module):
    """A RepConv and the batch norms behind it: three convolutions and what they make of 0.

    All of it is linear up to that map, which depends on the place because of the border.
    """

    first: Tensor
    taps: Tensor
    last: Tensor

    def __init__(self, whole: nn.Sequential) -> None:
        super().__init__()
        self.whole = whole
        conv, norm, depthwise, last = (
            whole.get_submodule(f"0.body.{part}") for part in ("0", "1.bn", "2.0", "2.1"))
        norms = [whole.get_submodule("0.body.2.2"), *list(whole.children())[1:]]
        scale = torch.stack([_scale(each) for each in norms]).prod(0)
        self.register_buffer("first", _weight(conv) * _scale(norm).view(-1, 1, 1, 1))
        self.register_buffer("taps", _weight(depthwise))
        self.register_buffer("last", _weight(last) * scale.view(-1, 1, 1, 1))
        self.constants: dict[tuple[torch.Size, torch.dtype], Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        y = F.conv2d(x, self.first)
        y = F.conv2d(F.conv2d(y, self.taps, None, 1, 1, 1, y.shape[1]), self.last)
        return y.add_(self._constant(y))

    def _constant(self, y: Tensor) -> Tensor:
        """What the layers make of 0, (1, C, H, W), in the layout and type of `y`."""
        key = y.shape[1:], y.dtype
        if key not in self.constants:
            with torch.autocast(y.device.type, enabled=False):
                zero = self.first.new_zeros(1, self.first.shape[1], *y.shape[2:])
                self.constants[key] = self.whole(zero).to(y.dtype).contiguous(
                    memory_format=torch.channels_last)
        return self.constants[key]


class _Operands(nn.Module):
    """The last block where nobody reads the logits: q, k and v of its attention, and no more."""

    def __init__(self, attn: nn.Module) -> None:
        super().__init__()
        self.attn = attn

    def forward(self, u: Tensor) -> Tensor:
        self.attn.operands(u)  # type: ignore[operator]
        return u


_PAIRS = {Downsample: [("encode_conv", "encode_bn")],
          SepConv: [("pwconv1", "bn1"), ("pwconv2", "bn2")],
          ConvBlock: [("conv1", "bn1"), ("conv2", "bn2")],
          Mlp: [("fc1_conv", "fc1_bn"), ("fc2_conv", "fc2_bn")]}
"""Convolutions and the batch norms behind them."""


@torch.no_grad()
def frozen(network: SpikingTransformer, *, logits: bool = True) -> SpikingTransformer:
    """A copy of `network` for evaluation alone, its batch norms folded into the convolutions.

    Equal to it up to rounding. Without `logits` it ends at q, k and v of the last attention block,
    and what it returns means nothing.
    """
    made = copy.deepcopy(network).eval().requires_grad_(False)
    for module in list(made.modules()):
        for conv, norm in _PAIRS.get(type(module), ()):
            setattr(module, conv, _Conv(getattr(module, conv), getattr(module, norm)))
            setattr(module, norm, nn.Identity())
        if isinstance(module, Attention):
            for x in ("q", "k", "v", "proj"):
                layers, mprf = list(getattr(module, f"{x}_conv")), f"{x}_mprf"
                if hasattr(module, mprf):
                    layers.append(getattr(module, mprf))
                    setattr(module, mprf, nn.Identity())
                setattr(module, f"{x}_conv", nn.Sequential(
                    _Linear(nn.Sequential(*layers)), nn.Identity()))
    blocks = [name for name, _ in made.spec.transformer_blocks]
    if not logits and blocks:
        made.set_submodule(blocks[-1], _Operands(made.get_submodule(f"{blocks[-1]}.attn")))
    return made
