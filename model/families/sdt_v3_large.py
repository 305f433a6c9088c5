"""Shapes and layers of the large models of the Spike-driven Transformer V3; no torch here.

Network: Yao et al., "Scaling Spike-driven Transformer with Efficient Spike Firing Approximation
Training", 2024, and its published code (https://github.com/BICLab/Spike-Driven-Transformer-V3,
``Model_Large``, class ``Spikformer``). There every convolution of an attention is two 1x1 with a
batch norm each and nothing that fires in between. Here it is one 1x1, the product of both
(`model.families.merge`), so that nothing but levels is multiplied. Neurons, there called
``neuron1``, have the names that those of other families have here.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from model.families.base import FLOAT_BITS, is_finite, NetworkSpec, shown, STAGES
from model.families.parts import Layer, Step


ATTENTION_DIVISOR = 8
"""1 over the factor on Q (K^T V), a constant in the published code whatever the head size."""


@dataclass(frozen=True, kw_only=True)
class SdtV3LargeSpec(NetworkSpec):
    """A large Spike-driven Transformer V3: the fields of `NetworkSpec`, and these.

    A neuron fires floor(clip(U, 0, D) + 1/2) and hands on level/D. There are four stages, no
    SepConv, and the head reads the mean membrane itself.

    Parameters
    ----------
    rep_conv
        Whether every transformer block begins with a 1x1 convolution, as in the model of 83 M.
    layer_scale_init
        Initial value of both per-channel layer scales of a transformer block.

    Raises
    ------
    ValueError
        As `NetworkSpec`.
    """

    family: ClassVar[str] = "sdt_v3_large"
    title: ClassVar[str] = "large SDT-v3"
    WEIGHT_BITS: ClassVar[tuple[int, ...]] = (2, 3, 4, 8, FLOAT_BITS)
    stages: ClassVar[tuple[str, ...]] = STAGES[:4]
    weights_max: ClassVar[int] = 1 << 27
    half_even: ClassVar[bool] = False
    head_fires: ClassVar[bool] = False
    crop: ClassVar[float] = 224 / 232
    attention_scale: ClassVar[str] = "0.125"

    strides: tuple[int, ...] = (2, 2, 2, 2)
    depths: tuple[int, ...] = (1, 1, 2, 12)
    rep_conv: bool = False
    layer_scale_init: float = 1e-6

    def _check_own(self) -> None:
        if not isinstance(self.rep_conv, bool):
            raise ValueError(f"rep_conv must be true or false, not {shown(self.rep_conv)}")
        if not is_finite(self.layer_scale_init):
            raise ValueError(
                f"layer_scale_init must be a number, not {shown(self.layer_scale_init)}")

    @property
    def software_only(self) -> bool:
        return True

    @property
    def gain(self) -> int:
        return 1

    @property
    def attention_unit(self) -> float:
        return 1 / self.levels

    def attention_thresholds(self, head_size: int, tokens: int) -> tuple[int, ...]:
        return attention_thresholds(self.levels, tokens, self.attention_tokens or tokens)

    def block_steps(self, name: str, stage: int) -> tuple[Step, ...]:
        if stage < 3:
            return (self._convs(name, stage),)
        first = (self._pointwise(name, stage),) if self.rep_conv else ()
        return (*first,
                self.sdsa(f"{name}.attn", stage, self.dims[stage], scale=f"{name}.layer_scale1"),
                self.mlp(name, stage, scale=f"{name}.layer_scale2"))

    def _convs(self, block: str, stage: int) -> Step:
        """Two 3x3 convolutions with bias, each behind a neuron."""
        hidden = self.dims[stage] * self.conv_expansion[stage]
        return self._pair(block, "convs", stage,
                          ("conv1.0.0", "conv1.0.1", "conv2.0.0", "conv2.0.1"), ("lif1", "lif2"),
                          (hidden, 3, 3), bias=True)

    def _pointwise(self, block: str, stage: int) -> Step:
        name, entry, c = f"{block}.rep_conv", f"{block}.lif", self.dims[stage]
        return Step(name, "pointwise", stage, entry, (
            Layer(name=f"{name}.0", shape=(c, c, 1, 1), source=entry, unit=self.level_unit,
                  norms=(f"{name}.1",)),
        ))

    def to_dict(self) -> dict[str, Any]:
        return {"family": self.family, **super().to_dict()}

    @classmethod
    def _left_out(cls) -> tuple[str, ...]:
        return (*super()._left_out(), "sep_expansion")


def attention_thresholds(levels: int, tokens: int = 1, reference: int = 1) -> tuple[int, ...]:
    """Least Q (K^T V), in levels, of each level k = 1..D: 4(2k-1)*D^3 * N/N0, rounded up.

    The membrane is 0.125*N0/N * Q (K^T V) of values level/D; `tokens` and `reference` are N and N0.
    """
    return tuple(-(-(2 * k - 1) * ATTENTION_DIVISOR // 2 * levels**3 * tokens // reference)
                 for k in range(1, levels + 1))


_SDT_V3_83M = SdtV3LargeSpec(name="sdt_v3_83m", dims=(64, 128, 256, 512), rep_conv=True)

MODELS: dict[str, NetworkSpec] = {
    model.name: model
    for model in (
        _SDT_V3_83M,
        replace(_SDT_V3_83M, name="sdt_v3_173m", dims=(98, 196, 384, 768), rep_conv=False),
    )
}
"""The published large models by name."""
