"""Shapes of the Quantized Spike-driven Transformers this project knows; no torch here.

Network: Qiu et al., "Quantized Spike-driven Transformer", ICLR 2025, and its published code
(https://github.com/bollossom/QSD-Transformer, class ``Spiking_vit_MetaFormer``).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any


STAGES = ("1_1", "1_2", "2", "3", "4")
"""Names of the five stages, in order; stage ``s`` begins with the module ``downsample{s}``."""


WEIGHTS_MAX = 1 << 26
"""Weights of a network: 32 MB at four bits, all the SDRAM of the boards; qsdt_l has 55 million."""

LIMITS = {
    "in_channels": 64,    # lanes of the array's input words
    "image_size": 1024,   # no supported layout is evaluated above 384; 1 M pixels a channel
    "classes": 65536,     # three times ImageNet-21k's
    "dims": 4096,         # six times the widest published stage
    "depths": 64,         # five times the deepest published stage
    "strides": 2,
    "stem_kernel": 31,    # four times the published width
    "sep_expansion": 16,  # four times the largest published ratio, also below
    "conv_expansion": 16,
    "mlp_ratio": 64,
    "heads": 4096,        # one channel a head
    "levels": 255,        # levels are stored as bytes
    "time_steps": 64,     # six times the slices of a recording of events
    "image_scale": 127,   # an image's largest value
}
"""Highest value of each whole number in a spec. They keep a typing error or a foreign file from
being computed for hours; no network that fits a board comes near."""

NAME_MAX = 100
"""Characters of a network's name, which becomes part of file names."""


NEURONS = ("ielif", "lif", "relu")
"""What fires: integer levels 0..D, binary spikes with a leaking membrane, or, in the ANN twin that
a network is compared with and taught by, no spikes at all."""

ATTENTIONS = ("sdsa", "softmax")
"""Q (K^T V) on spikes, or the softmax attention of an ANN."""

MPRFS = ("none", "add", "replace")
"""Where the membrane-potential rectification of q, k and v stands: nowhere, behind the outer batch
norm of their RepConv, or in its place."""

WEIGHT_BITS = (2, 3, 4, 32)
"""Bits of a weight; 32 are real numbers, for networks that stay in software."""

_CHOICES = {"neuron": NEURONS, "attention": ATTENTIONS, "mprf": MPRFS, "weight_bits": WEIGHT_BITS}

_LEVELS_EXACT = 10
"""Up to this D every (2k-1)/2 survives a division by D and a multiplication in float32."""

_LEFT_OUT = ("time_steps", "neuron", "leak", "attention", "mprf", "image_scale")
"""Fields that `QsdtSpec.to_dict` names only where they differ from the published network."""


@dataclass(frozen=True, kw_only=True)
class QsdtSpec:
    """Everything that fixes the graph of one network; immutable and JSON-able.

    Parameters
    ----------
    name
        Key in `MODELS`, or any other text for a network of one's own.
    in_channels, image_size, classes
        Images are ``(in_channels, image_size, image_size)``; logits are ``(classes,)``.
    dims
        Membrane channels of stages 1_1, 1_2, 2, 3 and 4.
    strides
        Stride, 1 or 2, of the convolution that begins each of the five stages.
    depths
        Blocks in each stage: convolution blocks in the first three, transformer blocks in the
        last two.
    stem_kernel
        Odd kernel width of the first convolution; the other four downsamplings use 3.
    sep_expansion, conv_expansion, mlp_ratio
        Hidden channels over membrane channels in SepConv, in the two 3x3 convolutions (one
        number for each convolution stage) and in the MLP.
    heads
        Attention heads; must divide the last two dims.
    weight_bits
        LSQ bits of every weight: 2, 3 or 4; 32 for weights that are not quantised.
    levels
        Highest level D that an IE-LIF fires (virtual time steps); levels are 0..D. 1 for "lif".
    time_steps
        T, the inputs that one result is the mean of: frames of events. A single image is repeated.
    neuron
        One of `NEURONS`.
    leak
        Share of the membrane, 0..1, that is left at the next time step, after what fired was
        taken off. 0, as published, is no state: T repeats of an image give T equal results.
    attention
        One of `ATTENTIONS`; softmax is for "relu".
    mprf
        One of `MPRFS`.
    layer_scale_init
        Initial value of both per-channel layer scales of a transformer block.
    norm_mean, norm_std
        Per-channel statistics on the 0..1 scale that normalise an image.
    image_scale
        Steps of the int8 image for 1 of the normalised one. With 1, mean 0 and std 1/255 counts of
        events go in as they are.

    Raises
    ------
    ValueError
        If a value is out of range or two of them do not fit together.
    """

    name: str
    in_channels: int = 3
    image_size: int = 224
    classes: int = 1000
    dims: tuple[int, ...]
    strides: tuple[int, ...] = (2, 2, 2, 2, 1)
    depths: tuple[int, ...] = (1, 1, 2, 6, 2)
    stem_kernel: int = 7
    sep_expansion: int = 2
    conv_expansion: tuple[int, ...] = (4, 4, 4)
    mlp_ratio: int = 4
    heads: int = 8
    weight_bits: int = 4
    levels: int = 4
    time_steps: int = 1
    neuron: str = "ielif"
    leak: float = 0.0
    attention: str = "sdsa"
    mprf: str = "none"
    layer_scale_init: float = 1e-6
    norm_mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    norm_std: tuple[float, ...] = (0.229, 0.224, 0.225)
    image_scale: int = 48

    def __post_init__(self) -> None:
        for field in ("dims", "strides", "depths", "conv_expansion", "norm_mean", "norm_std"):
            value = getattr(self, field)
            if not isinstance(value, list | tuple):
                raise ValueError(f"{field} must be a list of numbers, not {_shown(value)}")
            object.__setattr__(self, field, tuple(value))  # JSON gives lists
        if not (isinstance(self.name, str) and self.name.isprintable()
                and 0 < len(self.name) <= NAME_MAX):
            raise ValueError(f"name must be 1 to {NAME_MAX} printable characters, "
                             f"not {_shown(self.name)}")
        counts = {"dims": 5, "strides": 5, "depths": 5, "conv_expansion": 3}
        for field, limit in LIMITS.items():
            value, count = getattr(self, field), counts.get(field)
            parts = (value,) if count is None else value
            if len(parts) != (count or 1) or not all(map(_is_positive_int, parts)):
                wanted = "a positive integer" if count is None else f"{count} positive integers"
                raise ValueError(f"{field} must be {wanted}, not {_shown(value)}")
            if max(parts) > limit:
                raise ValueError(f"{field} must be at most {limit}, not {_shown(max(parts))}")
        if not set(self.strides) <= {1, 2}:
            raise ValueError(f"strides must be 1 or 2, not {self.strides}")
        if self.stem_kernel % 2 == 0:
            raise ValueError(f"stem_kernel must be odd, not {self.stem_kernel}")
        for field, choices in _CHOICES.items():
            value = getattr(self, field)
            if isinstance(value, bool) or value not in choices:
                known = f"{', '.join(map(str, choices[:-1]))} or {choices[-1]}"
                raise ValueError(f"{field} must be {known}, not {_shown(value)}")
        if not (_is_finite(self.leak) and 0 <= self.leak <= 1):
            raise ValueError(f"leak must be 0 to 1, not {_shown(self.leak)}")
        if self.neuron == "lif" and self.levels != 1:
            raise ValueError(f"levels must be 1 for the neuron lif, not {self.levels}")
        if self.neuron == "relu" and (self.time_steps, self.leak) != (1, 0):
            raise ValueError("time_steps must be 1 and leak 0 for the neuron relu")
        if self.attention == "softmax" and self.neuron != "relu":
            raise ValueError("attention must be sdsa for spiking neurons")
        if self.dims[3] % self.heads or self.dims[4] % self.heads:
            raise ValueError(f"heads must divide the dims {self.dims[3:]}, not be {self.heads}")
        if self.image_size % self.reduction:
            raise ValueError(
                f"image_size must be a multiple of {self.reduction} (the product of strides), "
                f"not {self.image_size}"
            )
        for field in ("norm_mean", "norm_std"):
            value = getattr(self, field)
            if len(value) != self.in_channels or not all(map(_is_finite, value)):
                raise ValueError(
                    f"{field} must have one value for each of {self.in_channels} channels, "
                    f"not {_shown(value)}"
                )
        if not all(std > 0 for std in self.norm_std):
            raise ValueError(f"norm_std must be positive, not {self.norm_std}")
        if not _is_finite(self.layer_scale_init):
            raise ValueError(
                f"layer_scale_init must be a number, not {_shown(self.layer_scale_init)}"
            )
        if self.weight_count > WEIGHTS_MAX:
            raise ValueError(
                f"a network must have at most {WEIGHTS_MAX:,} weights, not {self.weight_count:,}"
            )

    @property
    def no_integer_form(self) -> str:
        """Why the network cannot be computed in integers, "" if it can."""
        if self.neuron != "ielif":
            return f"its neuron is {self.neuron}; only ielif fires integer levels"
        if self.leak:
            return f"its membranes leak ({self.leak:g}); only neurons without state can be exported"
        if self.weight_bits == 32:
            return "its weights are real numbers; train it with weight_bits 2, 3 or 4"
        if self.levels > _LEVELS_EXACT and self.levels & (self.levels - 1):
            return (f"levels of 0..{self.levels} make ties of the attention inexact in floating "
                    f"point; train it with at most {_LEVELS_EXACT}, or a power of two")
        return ""

    def check_integer_form(self) -> None:
        """Raise ValueError saying why, if the network cannot be computed in integers."""
        if self.no_integer_form:
            raise ValueError(f"{self.name} has no integer form: {self.no_integer_form}")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of what one result is made of: (C, H, W), with T > 1 time steps (T, C, H, W)."""
        image = self.in_channels, self.image_size, self.image_size
        return image if self.time_steps == 1 else (self.time_steps, *image)

    @property
    def reduction(self) -> int:
        """Image side over the side of the last membrane."""
        product = 1
        for stride in self.strides:
            product *= stride
        return product

    @property
    def sizes(self) -> tuple[int, ...]:
        """Height and width of the membrane of each stage, in pixels."""
        sizes, size = [], self.image_size
        for stride in self.strides:
            size //= stride
            sizes.append(size)
        return tuple(sizes)

    @property
    def conv_blocks(self) -> tuple[tuple[str, int], ...]:
        """Published module name and stage index (0..2) of every convolution block, in order.

        The published code gives stages 1_1 and 1_2 one list each, and every block of stage 2 a
        list of its own: ``ConvBlock2_1.0``, ``ConvBlock2_2.0``.
        """
        names = [(f"ConvBlock{STAGES[s]}.{i}", s) for s in (0, 1) for i in range(self.depths[s])]
        return (*names, *((f"ConvBlock2_{i + 1}.0", 2) for i in range(self.depths[2])))

    @property
    def transformer_blocks(self) -> tuple[tuple[str, int], ...]:
        """Published module name and stage index (3 or 4) of every transformer block, in order."""
        return tuple((f"block{STAGES[s]}.{i}", s) for s in (3, 4) for i in range(self.depths[s]))

    @property
    def weight_count(self) -> int:
        """Number of quantised weights (biases, steps and batch norms not counted)."""
        total, channels = 0, self.in_channels
        for stage, dim in enumerate(self.dims):
            total += channels * dim * (self.stem_kernel if stage == 0 else 3) ** 2
            channels = dim
        for _, stage in self.conv_blocks:
            dim, hidden = self.dims[stage], self.dims[stage] * self.sep_expansion
            total += 2 * dim * hidden + 49 * hidden
            total += 2 * 9 * dim * dim * self.conv_expansion[stage]
        for _, stage in self.transformer_blocks:
            dim = self.dims[stage]
            total += 4 * (2 * dim * dim + 9 * dim) + 2 * dim * dim * self.mlp_ratio
        return total + self.dims[-1] * self.classes

    def twin(self) -> "QsdtSpec":
        """The ANN of the same shape: ReLU, softmax attention, real weights, one time step."""
        return replace(
            self, name=f"{self.name}-ann"[:NAME_MAX], neuron="relu", attention="softmax",
            mprf="none", weight_bits=32, levels=4, time_steps=1, leak=0.0,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, texts and lists; `from_dict` gives an equal object back.

        Without those of `_LEFT_OUT` that have their default, so that files of networks as
        published stay the same.
        """
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        plain = {item.name: item.default for item in fields(self)}
        return {k: v for k, v in values.items() if k not in _LEFT_OUT or v != plain[k]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "QsdtSpec":
        """Build a spec from `to_dict`'s result. Raises ValueError on a missing or unknown key."""
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"a spec must have the keys of QsdtSpec: {error}") from None


def _is_finite(value: object) -> bool:
    return (isinstance(value, int | float) and not isinstance(value, bool)
            and abs(value) < float("inf"))


def _shown(value: object) -> str:
    """`value` for a message of one line, whatever a file holds in its place."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # an integer of too many digits
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_positive_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


_QSDT_T = QsdtSpec(name="qsdt_t", dims=(32, 64, 128, 256, 360))

MODELS: dict[str, QsdtSpec] = {
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
"""Every known network by name: the three published ones, one whose weights fit into the block RAM
of a small board (qsdt_nano) and one whose weights do not, both trained (qsdt_s)."""


def spec(name: str) -> QsdtSpec:
    """Return the registered spec `name`. Raises ValueError listing the known names."""
    if name not in MODELS:
        raise ValueError(f"model must be one of {', '.join(MODELS)}, not {name}")
    return MODELS[name]
