"""The large models of the Spike-driven Transformer V3 in PyTorch, their 1x1 chains merged.

Yao et al., 2024; https://github.com/BICLab/Spike-Driven-Transformer-V3, ``Model_Large``, class
``Spikformer``. State-dict names are the published ones, but for what `model.families.merge` makes
one of two. Weights can be quantised with learned steps.
"""

import torch
from torch import nn, Tensor

from model.families.e_spikeformer import PointwiseAttention
from model.families.lsq import LsqConv2d
from model.families.network import BatchNorm, fire, Mlp, SpikingTransformer
from model.families.neuron import make_neuron
from model.families.sdt_v3_large import ATTENTION_DIVISOR, SdtV3LargeSpec


class SpikeConvBlock(nn.Module):
    """One residual step on the membrane (B, C, H, W): SN -> 3x3 -> BN -> SN -> 3x3 -> BN."""

    def __init__(self, channels: int, *, expansion: int, spec: SdtV3LargeSpec) -> None:
        super().__init__()
        hidden = channels * expansion

        def conv(cin: int, cout: int) -> nn.Sequential:
            layer = LsqConv2d(cin, cout, 3, padding=1, bias=True, bits=spec.weight_bits)
            return nn.Sequential(nn.Sequential(layer, BatchNorm(cout)))

        self.lif1, self.lif2 = make_neuron(spec), make_neuron(spec)
        self.conv1, self.conv2 = conv(channels, hidden), conv(hidden, channels)

    def forward(self, u: Tensor) -> Tensor:
        layer, norm = self.conv1.get_submodule("0.0"), self.conv1.get_submodule("0.1")
        return u + self.conv2(fire(self.lif2, norm, layer(self.lif1(u))))


class LargeAttention(PointwiseAttention):
    """SDSA of the large models: proj(SN(0.125 * Q (K^T V)))."""

    def membrane(self, products: Tensor, steps: int = 1) -> Tensor:
        products, tokens = self.relative(products)
        return products / (steps**3 * ATTENTION_DIVISOR * tokens)


class LargeBlock(nn.Module):
    """Residual steps on the membrane (B, C, H, W): a 1x1 in some models, attention, MLP."""

    def __init__(self, channels: int, *, spec: SdtV3LargeSpec) -> None:
        super().__init__()
        if spec.rep_conv:
            self.lif = make_neuron(spec)
            self.rep_conv = nn.Sequential(
                LsqConv2d(channels, channels, 1, bits=spec.weight_bits), BatchNorm(channels))
        self.attn = LargeAttention(channels, values=channels, spec=spec)
        self.mlp = Mlp(channels, spec=spec)
        self.layer_scale1 = nn.Parameter(torch.full((channels,), spec.layer_scale_init))
        self.layer_scale2 = nn.Parameter(torch.full((channels,), spec.layer_scale_init))

    def forward(self, u: Tensor) -> Tensor:
        if hasattr(self, "rep_conv"):
            u = u + self.rep_conv(self.lif(u))
        u = u + self.layer_scale1.view(-1, 1, 1) * self.attn(u)
        return u + self.layer_scale2.view(-1, 1, 1) * self.mlp(u)


class LargeESpikeFormer(SpikingTransformer):
    """A large Spike-driven Transformer V3, see `SpikingTransformer`."""

    spec: SdtV3LargeSpec

    def conv_block(self, stage: int) -> nn.Module:
        return SpikeConvBlock(self.spec.dims[stage], expansion=self.spec.conv_expansion[stage],
                              spec=self.spec)

    def transformer_block(self, channels: int) -> nn.Module:
        return LargeBlock(channels, spec=self.spec)
