"""What the specs of all families of networks have in common; no torch here.

A family is a kind of networks with one published implementation. What it does its own way is in its
module (`model.families.qsdt`, `model.families.sdt_v3`) as data: the layers of its steps, the units
of its maps, the rule by which its neurons fire.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from math import prod
from typing import Any, ClassVar, Self

from model.families.checks import check_choice, is_finite, is_positive_int, shown
from model.families.dense import DenseHeads
from model.families.parts import Attention, HeadLayer, Layer, Step


__all__ = ["check_choice", "code_range", "FLOAT_BITS", "is_finite", "LIMITS", "NAME_MAX",
           "NetworkSpec", "shown", "STAGES", "WEIGHTS_MAX"]


STAGES = ("1_1", "1_2", "2", "3", "4")
"""Names of the five stages, in order; stage ``s`` begins with the module ``downsample{s}``. Some
families have the first four alone."""

WEIGHTS_MAX = 1 << 26
"""Weights of a network: 32 MB at four bits, all the SDRAM of the boards; qsdt_l has 55 million.
Families that stay in software may have more."""

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
    "value_expansion": 16,
    "mlp_ratio": 64,
    "heads": 4096,        # one channel a head
    "levels": 255,        # levels are stored as bytes
    "time_steps": 64,     # six times the slices of a recording of events
    "image_scale": 127,   # an image's largest value
}
"""Highest value of each whole number in a spec. They keep a typing error or a foreign file from
being computed for hours; no network that fits a board comes near."""

TOKENS_MAX = 65536
"""Highest number of tokens for which an attention's scale may be made."""

NAME_MAX = 100
"""Characters of a network's name, which becomes part of file names."""

FLOAT_BITS = 32
"""Bits of weights that are real numbers, for networks that stay in software."""

_LEVELS_CORE = 4
"""Highest level that the neurons of the core fire (``LEVELS_MAX`` of ``hw.config``)."""

_LEVELS_EXACT = 10
"""Up to this D every (2k-1)/2 survives a division by D and a multiplication in float32."""


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """Everything that fixes the graph of one network; immutable and JSON-able.

    Parameters
    ----------
    name
        Key in `model.families.spec.MODELS`, or any other text for a network of one's own.
    in_channels, image_size, classes
        Images are ``(in_channels, image_size, image_size)``; logits are ``(classes,)``.
    dims
        Membrane channels of the stages, 1_1, 1_2, 2, 3 and 4 in most families.
    strides
        Stride, 1 or 2, of the convolution that begins each stage.
    depths
        Blocks in each stage: convolution blocks in the first three, transformer blocks in those
        behind them.
    stem_kernel
        Odd kernel width of the first convolution; the other four downsamplings use 3.
    sep_expansion, conv_expansion, mlp_ratio
        Hidden channels over membrane channels in SepConv, in the two 3x3 convolutions (one
        number for each convolution stage) and in the MLP.
    heads
        Attention heads; must divide the dims of the stages with transformer blocks.
    weight_bits
        LSQ bits of every weight, one of `WEIGHT_BITS`; 32 for weights that are not quantised.
    levels
        Highest level D that a neuron fires (virtual time steps); levels are 0..D.
    time_steps
        T, the inputs that one result is the mean of: frames of events. A single image is repeated.
    norm_mean, norm_std
        Per-channel statistics on the 0..1 scale that normalise an image.
    attention_tokens
        N0, positions of an attention's map for which its scale is the published one: with N it is
        N0/N times that, so that a network trained at one size can go on at another; 0 for the
        published scale whatever N is.
    dense_heads
        Heads for boxes or classes of pixels in place of the one for classes of images, whose
        `classes` are then those of the boxes, or else of the pixels; a mapping is taken, too.
    image_scale
        Steps of the int8 image for 1 of the normalised one. With 1, mean 0 and std 1/255 counts of
        events go in as they are.

    Raises
    ------
    ValueError
        If a value is out of range or two of them do not fit together.
    """

    family: ClassVar[str]
    """The family's name in files."""

    title: ClassVar[str]
    """The family's name in texts."""

    WEIGHT_BITS: ClassVar[tuple[int, ...]]

    stages: ClassVar[tuple[str, ...]] = STAGES
    """Names of its stages, the first of `STAGES`."""

    weights_max: ClassVar[int] = WEIGHTS_MAX
    """Weights that a network of the family may have."""

    half_even: ClassVar[bool]
    """Whether neurons round half to even, 0.5 to 0 and 1.5 to 2; others round half up."""

    head_fires: ClassVar[bool] = True
    """Whether a neuron fires the mean membrane for the head; else the head reads the mean."""

    crop: ClassVar[float]
    """Share of a picture's side that the published evaluation crops from its middle."""

    attention_scale: ClassVar[str]
    """Factor on Q (K^T V) in words; d is the size of a head."""

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
    norm_mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    norm_std: tuple[float, ...] = (0.229, 0.224, 0.225)
    image_scale: int = 48
    attention_tokens: int = 0
    dense_heads: DenseHeads | None = None

    def __post_init__(self) -> None:
        for field in ("dims", "strides", "depths", "conv_expansion", "norm_mean", "norm_std"):
            value = getattr(self, field)
            if not isinstance(value, list | tuple):
                raise ValueError(f"{field} must be a list of numbers, not {shown(value)}")
            object.__setattr__(self, field, tuple(value))  # JSON gives lists
        if not (isinstance(self.name, str) and self.name.isprintable()
                and 0 < len(self.name) <= NAME_MAX):
            raise ValueError(f"name must be 1 to {NAME_MAX} printable characters, "
                             f"not {shown(self.name)}")
        given: object = self.dense_heads
        if given is not None:
            heads = given if isinstance(given, DenseHeads) else DenseHeads.from_dict(given)
            object.__setattr__(self, "dense_heads", heads)
            object.__setattr__(self, "classes", heads.classes)
        self._check_numbers()
        if not set(self.strides) <= {1, 2}:
            raise ValueError(f"strides must be 1 or 2, not {self.strides}")
        if self.stem_kernel % 2 == 0:
            raise ValueError(f"stem_kernel must be odd, not {self.stem_kernel}")
        check_choice("weight_bits", self.weight_bits, self.WEIGHT_BITS)
        self._check_own()
        if any(dim % self.heads for dim in self.dims[3:]):
            raise ValueError(f"heads must divide the dims {self.dims[3:]}, not be {self.heads}")
        if self.image_size % self.reduction:
            raise ValueError(
                f"image_size must be a multiple of {self.reduction} (the product of strides), "
                f"not {self.image_size}"
            )
        for field in ("norm_mean", "norm_std"):
            value = getattr(self, field)
            if len(value) != self.in_channels or not all(map(is_finite, value)):
                raise ValueError(
                    f"{field} must have one value for each of {self.in_channels} channels, "
                    f"not {shown(value)}"
                )
        if self.attention_tokens != 0 and not (
                is_positive_int(self.attention_tokens) and self.attention_tokens <= TOKENS_MAX):
            raise ValueError(f"attention_tokens must be 0 to {TOKENS_MAX}, "
                             f"not {shown(self.attention_tokens)}")
        if self.dense_heads is not None:
            self.dense_heads.check(self)
        if not all(std > 0 for std in self.norm_std):
            raise ValueError(f"norm_std must be positive, not {self.norm_std}")
        if self.weight_count > self.weights_max:
            raise ValueError(f"a network must have at most {self.weights_max:,} weights, "
                             f"not {self.weight_count:,}")

    def _check_numbers(self) -> None:
        counts = dict.fromkeys(("dims", "strides", "depths"), len(self.stages))
        counts["conv_expansion"] = 3
        for field in (item.name for item in fields(self) if item.name in LIMITS):
            value, count, limit = getattr(self, field), counts.get(field), LIMITS[field]
            parts = (value,) if count is None else value
            if len(parts) != (count or 1) or not all(map(is_positive_int, parts)):
                wanted = "a positive integer" if count is None else f"{count} positive integers"
                raise ValueError(f"{field} must be {wanted}, not {shown(value)}")
            if max(parts) > limit:
                raise ValueError(f"{field} must be at most {limit}, not {shown(max(parts))}")

    def _check_own(self) -> None:
        """Raise ValueError where a field of the family's own is out of range."""

    # -- what a family does its own way ------------------------------------------------------

    @property
    def gain(self) -> int:
        """Levels that a membrane of 1 is worth: a neuron fires round(clip(gain * x, 0, D))."""
        raise NotImplementedError

    @property
    def highest(self) -> float:
        """Membrane that is worth the highest level."""
        return self.levels / self.gain

    @property
    def attention_unit(self) -> float:
        """Value of a level that an attention's neuron hands on."""
        raise NotImplementedError

    @property
    def head_unit(self) -> float:
        """Value of a level that the neuron in front of the head hands on."""
        raise NotImplementedError

    def attention_thresholds(self, head_size: int, tokens: int) -> tuple[int, ...]:
        """Least Q (K^T V), in levels multiplied by levels, of each level 1..D; d = `head_size`,
        N = `tokens`, which matters with `attention_tokens`."""
        raise NotImplementedError

    def block_steps(self, name: str, stage: int) -> tuple[Step, ...]:
        """The updates of the membrane in one block, by the published name of its module."""
        raise NotImplementedError

    # -- what families share -----------------------------------------------------------------

    def thresholds_of(self, stage: int, tokens: int | None = None) -> tuple[int, ...]:
        """`attention_thresholds` of a stage, for an image of `image_size` or for `tokens`."""
        return self.attention_thresholds(
            self.dims[stage] // self.heads, tokens or self.sizes[stage] ** 2)

    def convs(self, block: str, stage: int) -> Step:
        """The two 3x3 convolutions of a convolution block, each behind a neuron."""
        hidden = self.dims[stage] * self.conv_expansion[stage]
        return self._pair(block, "convs", stage, ("conv1", "bn1", "conv2", "bn2"),
                          ("lif1", "lif2"), (hidden, 3, 3))

    def mlp(self, block: str, stage: int, *, scale: str = "") -> Step:
        """The MLP of a transformer block; `scale` as of a `Layer`."""
        hidden = self.dims[stage] * self.mlp_ratio
        keys = ("fc1_conv", "fc1_bn", "fc2_conv", "fc2_bn")
        return self._pair(f"{block}.mlp", "mlp", stage, keys, ("fc1_lif", "fc2_lif"), (hidden, 1),
                          bias=True, scale=scale)

    def sdsa(self, name: str, stage: int, values: int, *, scale: str = "") -> Step:
        """The attention of a transformer block, with 1x1 convolutions for q, k, v and projection.

        values: channels of v and of its result; scale: as of a `Layer`, of the projection.
        """
        c = self.dims[stage]
        entry, fired = f"{name}.head_lif", f"{name}.attn_lif"

        def conv(x: str, cout: int, cin: int, source: str, unit: float, *, neuron: str = "",
                 scale: str = "") -> Layer:
            return Layer(name=f"{name}.{x}_conv.0", shape=(cout, cin, 1, 1), source=source,
                         unit=unit, norms=(f"{name}.{x}_conv.1",), neuron=neuron, scale=scale)

        query, key, value = (f"{name}.{x}_lif" for x in "qkv")
        return Step(name, "attention", stage, entry, (
            conv("q", c, c, entry, self.level_unit, neuron=query),
            conv("k", c, c, entry, self.level_unit, neuron=key),
            conv("v", values, c, entry, self.level_unit, neuron=value),
            Attention(name=fired, query=query, key=key, value=value, heads=self.heads, channels=c,
                      values=values, thresholds=self.thresholds_of(stage)),
            conv("proj", c, values, fired, self.attention_unit, scale=scale),
        ))

    def _pair(self, name: str, kind: str, stage: int, keys: tuple[str, ...],
              neurons: tuple[str, str], shape: tuple[int, ...], *, bias: bool = False,
              scale: str = "") -> Step:
        """Neuron, convolution, batch norm, twice, by way of hidden channels."""
        first, norm, second, last = (f"{name}.{key}" for key in keys)
        entry, middle = (f"{name}.{neuron}" for neuron in neurons)
        c, unit = self.dims[stage], self.level_unit
        hidden, *kernel = shape
        return Step(name, kind, stage, entry, (
            Layer(name=first, shape=(hidden, c, *kernel), source=entry, unit=unit, bias=bias,
                  norms=(norm,), neuron=middle),
            Layer(name=second, shape=(c, hidden, *kernel), source=middle, unit=unit, bias=bias,
                  norms=(last,), scale=scale),
        ))

    # -- what follows from it ----------------------------------------------------------------

    @property
    def level_unit(self) -> float:
        """Value of a level that any other neuron hands on."""
        return 1 / self.levels

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The updates of the membrane, in order."""
        found: list[Step] = []
        blocks = (*self.conv_blocks, *self.transformer_blocks)
        channels = self.in_channels
        for stage, (suffix, dim) in enumerate(zip(self.stages, self.dims, strict=True)):
            name, first = f"downsample{suffix}", stage == 0
            kernel = self.stem_kernel if first else 3
            entry = "image" if first else f"{name}.encode_lif"
            conv = Layer(
                name=f"{name}.encode_conv", shape=(dim, channels, kernel, kernel), source=entry,
                unit=1 / self.image_scale if first else self.level_unit, bias=True,
                norms=(f"{name}.encode_bn",), stride=self.strides[stage],
            )
            found.append(Step(name, "downsample", stage, entry, (conv,)))
            for block, owner in blocks:
                if owner == stage:
                    found += self.block_steps(block, stage)
            channels = dim
        return tuple(found)

    @property
    def head(self) -> Layer:
        """The last layer, behind the neuron "lif", or else of the mean membrane itself, "mean"."""
        source, unit = ("lif", self.head_unit) if self.head_fires else ("mean", 1.0)
        return Layer(name="head", shape=(self.classes, self.dims[-1]), source=source, bias=True,
                     unit=unit)

    @cached_property
    def dense_layers(self) -> tuple[HeadLayer, ...]:
        """The layers of `dense_heads`, in order; () without."""
        return () if self.dense_heads is None else self.dense_heads.layers(self)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Every layer with weights, in order, the head or heads last. Layers of heads that have
        their weights in common follow each other with the same `Layer.key`."""
        parts = (part for step in self.steps for part in step.parts)
        heads = [layer for layer in self.dense_layers if not layer.zero]
        return (*(layer for part in parts for layer in part.layers),
                *(heads if self.dense_heads is not None else [self.head]))

    def bits_of(self, layer: Layer) -> int:
        """Bits of the weights of one of `layers`; `FLOAT_BITS` for real ones."""
        heads = self.dense_heads
        own = heads.weight_bits if heads is not None and isinstance(layer, HeadLayer) else 0
        return own or self.weight_bits

    @property
    def software_only(self) -> bool:
        """Whether it is known beforehand that the hardware cannot compute it."""
        return bool(self.no_integer_form) or self.levels > _LEVELS_CORE

    @property
    def has_z(self) -> bool:
        """Whether a layer hands on a multi-bit map, z in the integer form."""
        return any(layer.multi_bit for layer in self.layers)

    @property
    def no_integer_form(self) -> str:
        """Why the network cannot be computed in integers, "" if it can."""
        if self.weight_bits == FLOAT_BITS:
            return "its weights are real numbers; train it with weight_bits 2, 3 or 4"
        if self.dense_heads is not None and self.dense_heads.weight_bits == FLOAT_BITS:
            return ("the weights of its heads are real numbers: quantise them with qsdt convert "
                    "--weight-bits")
        if self.levels > _LEVELS_EXACT and self.levels & (self.levels - 1):
            return (f"levels of 0..{self.levels} make ties of the attention inexact in floating "
                    f"point; train it with at most {_LEVELS_EXACT}, or a power of two")
        if self.dense_heads is not None and self.dense_heads.binary_neck != "none":
            return ("its neck hands on levels of 0 and 1 alone; binary_neck none is what has an "
                    "integer form")
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
        return prod(self.strides)

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
        """Published module name and stage index (from 3) of every transformer block, in order."""
        return tuple((f"block{STAGES[s]}.{i}", s) for s in range(3, len(self.stages))
                     for i in range(self.depths[s]))

    @property
    def weight_count(self) -> int:
        """Number of quantised weights (biases, steps and batch norms not counted)."""
        return sum({layer.key: prod(layer.shape) for layer in self.layers}.values())

    @property
    def spikes(self) -> bool:
        """Whether its neurons fire levels; those of an ANN do not."""
        return True

    def changed(self, **values: Any) -> Self:
        """The spec with other values. Raises ValueError on a field that the family does not have,
        and as the class does."""
        known = [item.name for item in fields(self)]
        for name in values:
            if name not in known:
                raise ValueError(f"{name} is no field of the family {self.title}")
        return replace(self, **values)

    def twin(self) -> "NetworkSpec":
        """The ANN of the same shape. Raises ValueError if the family has none."""
        raise ValueError(f"{self.name}: {self.title} has no ANN twin here")

    @classmethod
    def _left_out(cls) -> tuple[str, ...]:
        """Fields that `to_dict` names only where they have another value than their default."""
        return ("time_steps", "image_scale", "attention_tokens", "dense_heads")

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, texts and lists; `model.families.spec.from_dict` gives an equal object.

        Without those of `_left_out` that have their default, so that files of networks as
        published stay the same.
        """
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        if self.dense_heads is not None:
            values["dense_heads"] = self.dense_heads.to_dict()
        plain, rarely = {item.name: item.default for item in fields(self)}, self._left_out()
        return {k: v for k, v in values.items() if k not in rarely or v != plain[k]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build a spec from `to_dict`'s result. Raises ValueError on a missing or unknown key."""
        given = {key: value for key, value in values.items() if key != "family"}
        try:
            return cls(**given)
        except TypeError as error:
            raise ValueError(f"a spec must have the keys of {cls.__name__}: {error}") from None


def code_range(bits: int) -> tuple[int, int]:
    """Smallest and largest integer weight of `bits` bits.

    -2^(b-1) and 2^(b-1)-1. The largest of 8 bits is 119: the hardware multiplies with two weights
    of 4 bits, 16*h + l, and 16*7 + 7 is all that they reach.
    """
    half = 1 << (bits - 1)
    return -half, 119 if bits == 8 else half - 1
