"""Shapes and layers of the Quantized Spike-driven Transformers; no torch here.

Network: Qiu et al., "Quantized Spike-driven Transformer", ICLR 2025, and its published code
(https://github.com/bollossom/QSD-Transformer, class ``Spiking_vit_MetaFormer``).
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from model.families.base import (
    check_choice,
    FLOAT_BITS,
    is_finite,
    NAME_MAX,
    NetworkSpec,
    shown,
)
from model.families.parts import Attention, Layer, Part, RepConv, Step


NEURONS = ("ielif", "lif", "relu")
"""What fires: integer levels 0..D, binary spikes with a leaking membrane, or, in the ANN twin that
a network is compared with and taught by, no spikes at all."""

ATTENTIONS = ("sdsa", "softmax")
"""Q (K^T V) on spikes, or the softmax attention of an ANN."""

MPRFS = ("none", "add", "replace")
"""Where the membrane-potential rectification of q, k and v stands: nowhere, behind the outer batch
norm of their RepConv, or in its place."""

_SEP_KERNEL = 7


@dataclass(frozen=True, kw_only=True)
class QsdtSpec(NetworkSpec):
    """A Quantized Spike-driven Transformer: the fields of `NetworkSpec`, and these.

    Parameters
    ----------
    neuron
        One of `NEURONS`; levels must be 1 for "lif".
    leak
        Share of the membrane, 0..1, that is left at the next time step, after what fired was
        taken off. 0, as published, is no state: T repeats of an image give T equal results.
    attention
        One of `ATTENTIONS`; softmax is for "relu".
    mprf
        One of `MPRFS`.
    layer_scale_init
        Initial value of both per-channel layer scales of a transformer block.

    Raises
    ------
    ValueError
        As `NetworkSpec`.
    """

    family: ClassVar[str] = "qsdt"
    title: ClassVar[str] = "QSD-Transformer"
    WEIGHT_BITS: ClassVar[tuple[int, ...]] = (2, 3, 4, FLOAT_BITS)
    half_even: ClassVar[bool] = False
    crop: ClassVar[float] = 224 / 256
    attention_scale: ClassVar[str] = "0.25"

    neuron: str = "ielif"
    leak: float = 0.0
    attention: str = "sdsa"
    mprf: str = "none"
    layer_scale_init: float = 1e-6

    def _check_own(self) -> None:
        for field, choices in (("neuron", NEURONS), ("attention", ATTENTIONS), ("mprf", MPRFS)):
            check_choice(field, getattr(self, field), choices)
        if not (is_finite(self.leak) and 0 <= self.leak <= 1):
            raise ValueError(f"leak must be 0 to 1, not {shown(self.leak)}")
        if self.neuron == "lif" and self.levels != 1:
            raise ValueError(f"levels must be 1 for the neuron lif, not {self.levels}")
        if self.neuron == "relu" and (self.time_steps, self.leak) != (1, 0):
            raise ValueError("time_steps must be 1 and leak 0 for the neuron relu")
        if self.neuron != "ielif" and self.attention_tokens:
            raise ValueError("attention_tokens must be 0 unless the neuron is ielif, "
                             f"not {shown(self.attention_tokens)}")
        if self.attention == "softmax" and self.neuron != "relu":
            raise ValueError("attention must be sdsa for spiking neurons")
        if not is_finite(self.layer_scale_init):
            raise ValueError(
                f"layer_scale_init must be a number, not {shown(self.layer_scale_init)}"
            )

    @property
    def gain(self) -> int:
        return self.levels

    @property
    def attention_unit(self) -> float:
        return 2 / self.levels

    @property
    def head_unit(self) -> float:
        return 1 / self.levels

    def attention_thresholds(self, head_size: int, tokens: int) -> tuple[int, ...]:
        return attention_thresholds(self.levels, tokens, self.attention_tokens or tokens)

    def block_steps(self, name: str, stage: int) -> tuple[Step, ...]:
        if stage < 3:
            return self._sep_conv(f"{name}.Conv", stage), self.convs(name, stage)
        return self._attention(name, stage), self.mlp(name, stage, scale=f"{name}.layer_scale2")

    def _sep_conv(self, name: str, stage: int) -> Step:
        """Nothing stands between the depthwise convolution and the 1x1 behind it."""
        c, unit = self.dims[stage], self.level_unit
        hidden, size = c * self.sep_expansion, (_SEP_KERNEL, _SEP_KERNEL)
        entry, fired, depth = f"{name}.lif1", f"{name}.lif2", f"{name}.dwconv"
        return Step(name, "sepconv", stage, entry, (
            Layer(name=f"{name}.pwconv1", shape=(hidden, c, 1, 1), source=entry, unit=unit,
                  norms=(f"{name}.bn1",), neuron=fired),
            Layer(name=depth, shape=(hidden, 1, *size), source=fired, unit=unit, depthwise=True,
                  multi_bit=True),
            Layer(name=f"{name}.pwconv2", shape=(c, hidden, 1, 1), source=depth,
                  norms=(f"{name}.bn2",)),
        ))

    def _attention(self, block: str, stage: int) -> Step:
        name, c = f"{block}.attn", self.dims[stage]
        entry = f"{name}.head_lif"
        parts: list[Part] = []
        for x in "qkv":
            norms = {"none": (f"{name}.{x}_conv.1",), "replace": (f"{name}.{x}_mprf",),
                     "add": (f"{name}.{x}_conv.1", f"{name}.{x}_mprf")}[self.mprf]
            parts.append(RepConv(name=f"{name}.{x}_conv", channels=c, source=entry, norms=norms,
                                 unit=self.level_unit, neuron=f"{name}.{x}_lif"))
        query, key, value = (f"{name}.{x}_lif" for x in "qkv")
        attended = f"{name}.attn_lif"
        parts += [
            Attention(name=attended, query=query, key=key, value=value, heads=self.heads,
                      channels=c, values=c,
                      thresholds=self.thresholds_of(stage)),
            RepConv(name=f"{name}.proj_conv", channels=c, source=attended,
                    unit=self.attention_unit, norms=(f"{name}.proj_conv.1",),
                    scale=f"{block}.layer_scale1"),
        ]
        return Step(name, "attention", stage, entry, tuple(parts))

    @property
    def no_integer_form(self) -> str:
        if self.neuron != "ielif":
            return f"its neuron is {self.neuron}; only ielif fires integer levels"
        if self.leak:
            return f"its membranes leak ({self.leak:g}); only neurons without state can be exported"
        return super().no_integer_form

    @property
    def spikes(self) -> bool:
        return self.neuron != "relu"

    def twin(self) -> "QsdtSpec":
        """The ANN of the same shape: ReLU, softmax attention, real weights, one time step."""
        return replace(
            self, name=f"{self.name}-ann"[:NAME_MAX], neuron="relu", attention="softmax",
            mprf="none", weight_bits=FLOAT_BITS, levels=4, time_steps=1, leak=0.0,
            attention_tokens=0,
            dense_heads=self.dense_heads and replace(self.dense_heads, binary_neck="none",
                                                     neuron="backbone", weight_bits=0),
        )

    @classmethod
    def _left_out(cls) -> tuple[str, ...]:
        return (*super()._left_out(), "neuron", "leak", "attention", "mprf")


def attention_thresholds(levels: int, tokens: int = 1, reference: int = 1) -> tuple[int, ...]:
    """(2k-1)*2D^2 * N/N0, rounded up, for k = 1..D, whatever the head size: 32, 96, 160, 224 for
    D = 4 and N = N0; `tokens` and `reference` are N and N0.

    The membrane is 0.25*N0/N * Q (K^T V) of values level/D, and D times that in levels.
    """
    return tuple(-(-(2 * k - 1) * 2 * levels**2 * tokens // reference)
                 for k in range(1, levels + 1))


_QSDT_T = QsdtSpec(name="qsdt_t", dims=(32, 64, 128, 256, 360))

MODELS: dict[str, NetworkSpec] = {
    model.name: model
    for model in (
        _QSDT_T,
        replace(_QSDT_T, name="qsdt_m", dims=(48, 96, 192, 384, 480)),
        replace(_QSDT_T, name="qsdt_l", dims=(64, 128, 256, 512, 640)),
        QsdtSpec(
            name="qsdt_nano",
            in_channels=1,
            image_size=28,
            classes=10,
            # 60 channels in 4 heads: a head size, 15, that is no power of two, is exercised too.
            dims=(32, 32, 32, 64, 60),
            strides=(2, 1, 2, 1, 1),
            depths=(1, 1, 1, 1, 1),
            conv_expansion=(2, 2, 1),
            mlp_ratio=1,
            heads=4,
            layer_scale_init=0.1,  # 1e-6 is made for 300 epochs; this start is faster
            norm_mean=(0.2860,),
            norm_std=(0.3530,),
        ),
        QsdtSpec(
            name="qsdt_s",
            in_channels=1,
            image_size=64,
            classes=10,
            # Weights where an image reuses them least (16 tokens), so that they must be streamed
            # and training stays cheap; 184 channels in 8 heads give a head size of 23.
            dims=(32, 64, 128, 184, 184),
            depths=(1, 1, 1, 1, 3),
            sep_expansion=1,
            conv_expansion=(1, 1, 2),
            layer_scale_init=0.1,
            norm_mean=(0.1208,),
            norm_std=(0.2624,),
        ),
    )
}
"""Known networks by name: the three published ones, one whose weights fit into the block RAM of a
small board (qsdt_nano) and one whose weights do not, both trained (qsdt_s)."""
