"""Shapes and layers of the Spike-driven Transformer V3, its base models; no torch here.

Network: Yao et al., "Scaling Spike-driven Transformer with Efficient Spike Firing Approximation
Training", 2024, there E-SpikeFormer, and its published code
(https://github.com/BICLab/Spike-Driven-Transformer-V3, class
``Spiking_vit_MetaFormer_Spike_SepConv``). Its neurons, there called ``spike``, have the names that
those of other families have here.
"""

from dataclasses import dataclass, replace
from math import isqrt
from typing import Any, ClassVar

from model.families.base import FLOAT_BITS, NetworkSpec
from model.families.parts import Layer, Step


CONV_KERNEL, BLOCK_KERNEL = 7, 3
"""Widths of the depthwise convolutions in convolution and in transformer blocks."""


@dataclass(frozen=True, kw_only=True)
class SdtV3Spec(NetworkSpec):
    """A Spike-driven Transformer V3: the fields of `NetworkSpec`, and this one.

    A neuron fires round(clip(U, 0, D)), half to even, and hands on level/D. Every transformer block
    begins with a SepConv, and nothing but levels and the image is ever multiplied.

    Parameters
    ----------
    value_expansion
        Channels of v and of the attention's result over those of q and k.

    Raises
    ------
    ValueError
        As `NetworkSpec`.
    """

    family: ClassVar[str] = "sdt_v3"
    title: ClassVar[str] = "SDT-v3"
    WEIGHT_BITS: ClassVar[tuple[int, ...]] = (2, 3, 4, 8, FLOAT_BITS)
    half_even: ClassVar[bool] = True
    crop: ClassVar[float] = 224 / 232
    attention_scale: ClassVar[str] = "2/sqrt(d)"

    value_expansion: int = 4

    @property
    def gain(self) -> int:
        return 1

    @property
    def attention_unit(self) -> float:
        return 1 / self.levels

    @property
    def head_unit(self) -> float:
        return 1.0

    def attention_thresholds(self, head_size: int, tokens: int) -> tuple[int, ...]:
        return attention_thresholds(self.levels, head_size, tokens,
                                    self.attention_tokens or tokens)

    def block_steps(self, name: str, stage: int) -> tuple[Step, ...]:
        if stage < 3:
            return self._sep_conv(f"{name}.Conv", stage, CONV_KERNEL), self.convs(name, stage)
        return (self._sep_conv(f"{name}.conv", stage, BLOCK_KERNEL),
                self.sdsa(f"{name}.attn", stage, self.dims[stage] * self.value_expansion),
                self.mlp(name, stage))

    def _sep_conv(self, name: str, stage: int, kernel: int) -> Step:
        """1x1, depthwise, 1x1: a neuron in front of each and a batch norm behind each."""
        c = self.dims[stage]
        hidden = c * self.sep_expansion
        shapes = ((hidden, c, 1, 1), (hidden, 1, kernel, kernel), (c, hidden, 1, 1))
        neurons = [f"{name}.lif{i}" for i in (1, 2, 3)]
        return Step(name, "sepconv", stage, neurons[0], tuple(
            Layer(name=f"{name}.{conv}.0", shape=shape, source=source, unit=self.level_unit,
                  norms=(f"{name}.{conv}.1",), depthwise=conv == "dwconv", neuron=neuron)
            for conv, shape, source, neuron in zip(
                ("pwconv1", "dwconv", "pwconv2"), shapes, neurons, (*neurons[1:], ""), strict=True)
        ))

    def to_dict(self) -> dict[str, Any]:
        return {"family": self.family, **super().to_dict()}


def attention_thresholds(
    levels: int, head_size: int, tokens: int = 1, reference: int = 1
) -> tuple[int, ...]:
    """Least Q (K^T V), in levels, of each level k = 1..D: around (2k-1)*D^3*sqrt(d)/4 * N/N0.

    The membrane is 2/sqrt(d)*N0/N * Q (K^T V) of values level/D; `tokens` and `reference` are N and
    N0. A tie, of which there are some where d is a square, goes to the even level: an odd one needs
    more.
    """
    found = []
    for k in range(1, levels + 1):
        square = ((2 * k - 1) * levels**3 * tokens) ** 2 * head_size
        unit = 16 * reference**2
        below = isqrt(square // unit)
        tie = unit * below * below == square
        found.append(below if tie and k % 2 == 0 else below + 1)
    return tuple(found)


_SDT_V3_T = SdtV3Spec(name="sdt_v3_t", dims=(12, 24, 48, 96, 128))

MODELS: dict[str, NetworkSpec] = {
    model.name: model
    for model in (
        _SDT_V3_T,
        replace(_SDT_V3_T, name="sdt_v3_s", dims=(16, 32, 64, 128, 192)),
        replace(_SDT_V3_T, name="sdt_v3_m", dims=(24, 48, 96, 192, 240)),
        replace(_SDT_V3_T, name="sdt_v3_l", dims=(32, 64, 128, 256, 360)),
        SdtV3Spec(
            name="sdt_v3_nano",
            in_channels=1,
            image_size=28,
            classes=10,
            # 4 heads of 16 channels fill a word of the core, and v has a word for each of them. A
            # head size of 16 is the one with ties in the attention.
            dims=(32, 32, 32, 64, 64),
            strides=(2, 1, 2, 1, 1),
            depths=(1, 1, 1, 1, 1),
            sep_expansion=1,
            conv_expansion=(2, 2, 1),
            mlp_ratio=1,
            heads=4,
            norm_mean=(0.2860,),
            norm_std=(0.3530,),
        ),
        SdtV3Spec(
            name="sdt_v3_scenes",
            in_channels=1,
            image_size=64,
            classes=10,
            # 12 heads of 16 channels: three words of q and k, and a word of v for each head.
            dims=(32, 64, 128, 192, 192),
            depths=(1, 1, 1, 1, 2),
            sep_expansion=1,
            conv_expansion=(1, 1, 2),
            mlp_ratio=3,
            heads=12,
            norm_mean=(0.1208,),
            norm_std=(0.2624,),
        ),
    )
}
"""The published base models by name, and two small ones: of the weights of qsdt_nano, for block RAM
(sdt_v3_nano), and of those of qsdt_s, for SDRAM (sdt_v3_scenes)."""
