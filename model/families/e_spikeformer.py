"""E-SpikeFormer, the Spike-driven Transformer V3, in PyTorch, with the published state-dict names.

Yao et al., 2024; https://github.com/BICLab/Spike-Driven-Transformer-V3, class
``Spiking_vit_MetaFormer_Spike_SepConv``. Weights can be quantised with learned steps.
"""

import math

from torch import nn, Tensor

from model.families.base import NetworkSpec
from model.families.lsq import LsqConv2d
from model.families.network import BatchNorm, fire, Mlp, SpikeAttention, SpikingTransformer
from model.families.neuron import make_neuron
from model.families.sdt_v3 import BLOCK_KERNEL, CONV_KERNEL, SdtV3Spec


class SpikeSepConv(nn.Module):
    """SN -> 1x1 -> BN -> SN -> depthwise -> BN -> SN -> 1x1 -> BN, shape (B, C, H, W) kept."""

    def __init__(self, channels: int, *, kernel: int, spec: SdtV3Spec) -> None:
        super().__init__()
        hidden, bits = channels * spec.sep_expansion, spec.weight_bits
        self.lif1, self.lif2, self.lif3 = (make_neuron(spec) for _ in range(3))
        self.pwconv1 = nn.Sequential(LsqConv2d(channels, hidden, 1, bits=bits), BatchNorm(hidden))
        self.dwconv = nn.Sequential(
            LsqConv2d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden, bits=bits),
            BatchNorm(hidden))
        self.pwconv2 = nn.Sequential(LsqConv2d(hidden, channels, 1, bits=bits), BatchNorm(channels))

    def forward(self, x: Tensor) -> Tensor:
        x = fire(self.lif2, self.pwconv1[1], self.pwconv1[0](self.lif1(x)))
        x = fire(self.lif3, self.dwconv[1], self.dwconv[0](x))
        return self.pwconv2(x)


class PointwiseAttention(SpikeAttention):
    """An attention whose q, k, v and projection are 1x1 -> BN; `values` are the channels of v.

    Head h owns channels h*d .. h*d+d-1 of q and k, and of v as many as there are to a head.
    """

    def __init__(self, channels: int, *, values: int, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self.head_size = channels // spec.heads
        self.q_conv, self.k_conv, self.v_conv, self.proj_conv = (
            nn.Sequential(LsqConv2d(cin, cout, 1, bits=spec.weight_bits), BatchNorm(cout))
            for cin, cout in ((channels, channels), (channels, channels), (channels, values),
                              (values, channels))
        )
        self.q_lif, self.k_lif, self.v_lif = (make_neuron(spec) for _ in range(3))


class LinearAttention(PointwiseAttention):
    """SDSA of the V3: proj(SN(2/sqrt(d) * Q (K^T V))), with more channels in v than in q and k."""

    def membrane(self, products: Tensor, steps: int = 1) -> Tensor:
        # A division, whose result is exact wherever it is a tie.
        products, tokens = self.relative(products)
        return products / (steps**3 * (math.sqrt(self.head_size) / 2) * tokens)


class SpikeBlock(nn.Module):
    """Three residual steps on the membrane (B, C, H, W): SepConv 3x3, attention, MLP."""

    def __init__(self, channels: int, *, spec: SdtV3Spec) -> None:
        super().__init__()
        self.conv = SpikeSepConv(channels, kernel=BLOCK_KERNEL, spec=spec)
        self.attn = LinearAttention(channels, values=channels * spec.value_expansion, spec=spec)
        self.mlp = Mlp(channels, spec=spec)

    def forward(self, u: Tensor) -> Tensor:
        u = u + self.conv(u)
        u = u + self.attn(u)
        return u + self.mlp(u)


class ESpikeFormer(SpikingTransformer):
    """A Spike-driven Transformer V3, see `SpikingTransformer`."""

    spec: SdtV3Spec

    def sep_conv(self, channels: int) -> nn.Module:
        return SpikeSepConv(channels, kernel=CONV_KERNEL, spec=self.spec)

    def transformer_block(self, channels: int) -> nn.Module:
        return SpikeBlock(channels, spec=self.spec)
