"""Widths of the integer arithmetic, and what follows an accumulator. NumPy only.

An epilogue turns an operator's exact accumulators into levels, membranes U, rescaled multi-bit maps
z, or raw results. It is data: a compiler reads its fields, `model.integer.graph` calls `apply`.
Arrays are never written after construction.
"""

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.integer import golden


def level_count() -> int:
    """Field of an operator that fires levels 0..D: D. A digest counts it where it is not 4."""
    return usually(golden.MAX_LEVEL)


def half_even() -> bool:
    """Field of an operator that fires: whether ties go to the even level instead of the upper."""
    return usually(False)


def usually(default: Any) -> Any:
    """Field of an operator that a digest counts only where it is not `default`."""
    return field(default=default, metadata={USUAL: lambda op: default})


def usually_like(usual: Callable[[Any], Any], default: Any) -> Any:
    """Field that a digest counts only where it is not what `usual` makes of the operator."""
    return field(default=default, metadata={USUAL: usual})


USUAL = "usual"
"""Key of a field's metadata: what gives the value that is not counted, of the operator."""

LOGITS = "logits"
"""Name of the class scores, the one output of a classification network."""

Tensors = Mapping[str, NDArray]
Stats = MutableMapping[str, int]


@dataclass(frozen=True, kw_only=True)
class IntegerParams:
    """Widths of the integer arithmetic (generator parameters).

    Parameters
    ----------
    u_frac, u_bits
        Fraction bits and signed width of the membrane U.
    z_bits, z_frac
        Signed width and fraction bits of z, the multi-bit maps inside RepConv and SepConv.
    z_bits_of, z_frac_of
        Pairs (layer, bits) that override `z_bits` and `z_frac`. A layer is the name of the
        operator that makes z, or its end, so ``("proj_conv", 5)`` holds for every attention
        output; of several pairs that match, the last counts.
    mult_bits, bias_bits, max_shift
        Signed widths of the multiplier and bias of a scale, and its largest right shift.
    acc_bits
        Signed width of accumulators; thresholds take one bit more.

    Raises
    ------
    ValueError
        If a width is out of its range.
    """

    u_frac: int = 10
    u_bits: int = 16
    z_bits: int = 12
    z_frac: int = 6
    z_bits_of: tuple[tuple[str, int], ...] = ()
    z_frac_of: tuple[tuple[str, int], ...] = ()
    mult_bits: int = 16
    bias_bits: int = 44
    max_shift: int = 26
    acc_bits: int = 24

    def __post_init__(self) -> None:
        z_bits, z_frac = (2, 44), (0, 32)
        for name, (low, high) in (("z_bits", z_bits), ("z_frac", z_frac)):
            pairs = tuple((str(layer), bits) for layer, bits in getattr(self, f"{name}_of"))
            object.__setattr__(self, f"{name}_of", pairs)  # JSON gives lists
            for layer, bits in pairs:
                _check_range(f"{name} of {layer}", bits, low, high)
        for name, low, high in (
            ("u_frac", 3, 34),  # firing needs the bit of 1/8
            ("u_bits", 4, 48),
            ("z_bits", *z_bits),
            ("z_frac", *z_frac),
            ("mult_bits", 2, 32),
            ("bias_bits", 2, 56),
            ("max_shift", 0, 40),
            ("acc_bits", 2, 54),
        ):
            _check_range(name, getattr(self, name), low, high)
        if self.mult_bits + self.acc_bits > 63:  # the product must fit the model's int64
            raise ValueError(
                f"mult_bits + acc_bits must be at most 63, not {self.mult_bits} + {self.acc_bits}"
            )

    def z_bits_for(self, name: str) -> int:
        """Signed width of a z, by the name of the operator that makes it or its own."""
        return _last(self.z_bits_of, name, self.z_bits)

    def z_frac_for(self, name: str) -> int:
        """Fraction bits of a z, by the name of the operator that makes it or its own."""
        return _last(self.z_frac_of, name, self.z_frac)

    def to_dict(self) -> dict[str, Any]:
        """Values by name, for files and digests; `z_bits_of` only where it says something."""
        values = asdict(self)
        if not self.z_bits_of:  # as before there was such a thing
            del values["z_bits_of"]
        return values


def z_name(layer: str) -> str:
    """Name of the map z that operator `layer` makes."""
    return f"{layer}/z"


def matches(name: str, layer: str) -> bool:
    """Whether `name`, of an operator or of its z, is a `layer` of `IntegerParams.z_bits_of`."""
    name = name.removesuffix(z_name(""))
    return name == layer or name.endswith("." + layer)


def _last(pairs: tuple[tuple[str, int], ...], name: str, default: int) -> int:
    """Value of the last of `pairs` that `name` matches."""
    found = default
    for layer, value in pairs:
        if matches(name, layer):
            found = value
    return found


def _check_range(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{name} must be an integer in {low}..{high}, not {value}")


WIDE = IntegerParams(u_frac=28, u_bits=44, z_bits=40, z_frac=24, acc_bits=54, mult_bits=9)
"""Widths of the wide form: fine enough to equal the float64 network on every level.

Its scales are real numbers, so mult_bits, bias_bits and max_shift have no meaning there.
"""


@dataclass(frozen=True, eq=False)
class Thresholds:
    """Exact firing rule of O channels on accumulators, see `golden.level_fire`.

    thresholds (O, D) int64; invert (O,) bool, the scale is negative; constant (O,) bool, the
    scale is 0, so the thresholds are all "always" or "never". Always and never lie one step
    outside the accumulator's range, in acc_bits + 1 bits.
    """

    thresholds: NDArray[np.int64]
    invert: NDArray[np.bool_]
    constant: NDArray[np.bool_]

    def count(self, stats: Stats, acc_bits: int) -> None:
        """Count channels of zero and negative scale and thresholds clipped to always or never."""
        low, high = threshold_limits(acc_bits, invert=self.invert[:, None])
        clipped = (self.thresholds <= low) | (self.thresholds >= high)
        add_count(stats, "zero_scale", self.constant)
        add_count(stats, "negative_scale", self.invert)
        add_count(stats, "threshold_clipped", clipped & ~self.constant[:, None])


def threshold_limits(acc_bits: int, *, invert: NDArray[np.bool_]) -> tuple[NDArray, NDArray]:
    """Smallest and largest useful threshold: always/never if not inverted, never/always if so."""
    limit = np.int64(1) << (acc_bits - 1)
    return np.where(invert, -limit - 1, -limit), np.where(invert, limit - 1, limit)


@dataclass(frozen=True, eq=False)
class Scale:
    """Fixed-point affine map of O channels, see `golden.scale_shift`; int64 (O,) each."""

    multiplier: NDArray[np.int64]
    bias: NDArray[np.int64]
    shift: NDArray[np.int64]

    def apply(self, acc: NDArray) -> NDArray[np.int64]:
        """Accumulators (N, O, H, W) -> results in units of the output's last bit."""
        return golden.scale_shift(acc, self.multiplier, self.bias, self.shift)


@dataclass(frozen=True, eq=False)
class RealScale:
    """The same map without rounding its constants, for the wide form; float64 (O,) each."""

    multiplier: NDArray[np.float64]
    bias: NDArray[np.float64]

    def apply(self, acc: NDArray) -> NDArray[np.int64]:
        """Accumulators (N, O, H, W) -> floor(multiplier * acc + bias + 1/2)."""
        multiplier, bias = (x.reshape(-1, 1, 1) for x in (self.multiplier, self.bias))
        # Beyond this nothing but saturation is left, and int64 must not wrap.
        return np.clip(np.floor(multiplier * acc + bias + 0.5), -(2.0**60), 2.0**60).astype(
            np.int64
        )


def _count_scale(scale: Scale | RealScale, stats: Stats) -> None:
    add_count(stats, "zero_scale", scale.multiplier == 0)
    add_count(stats, "negative_scale", scale.multiplier < 0)


def add_count(stats: Stats, key: str, mask: NDArray[np.bool_]) -> None:
    """Add the number of True in `mask` to a counter."""
    stats[key] = stats.get(key, 0) + int(np.count_nonzero(mask))


def _integers(x: NDArray, bits: int) -> NDArray:
    return x.astype(np.int32 if bits <= 32 else np.int64)


@dataclass(frozen=True, eq=False)
class Fire:
    """Accumulators -> levels `level`, by exact thresholds."""

    thresholds: Thresholds
    level: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return ()

    @property
    def outputs(self) -> dict[str, str]:
        return {self.level: "level"}

    @property
    def levels(self) -> int:
        """D, the highest level that it fires."""
        return self.thresholds.thresholds.shape[1]

    def apply(
        self, acc: NDArray, tensors: Tensors, params: IntegerParams, stats: Stats
    ) -> dict[str, NDArray]:
        rule = self.thresholds
        fired = golden.level_fire(acc, rule.thresholds, invert=rule.invert)
        return {self.level: fired.astype(np.uint8)}

    def count(self, stats: Stats, params: IntegerParams) -> None:
        self.thresholds.count(stats, params.acc_bits)


@dataclass(frozen=True, eq=False)
class Integrate:
    """u_out = saturate(u_in + scale(acc)) and, where `level` is given, its levels.

    `u_in` None replaces the membrane instead of adding to one. With `upsample` 2 the membrane added
    at (y, x) is that of `u_in` at (y // 2, x // 2): a map of half as many rows and columns, rounded
    up (nearest neighbour; a feature pyramid's way down). With `whole` a membrane of 1 is worth one
    level, not D of them, and a tie goes to the even level.
    """

    scale: Scale | RealScale
    u_out: str
    u_in: str | None = None
    level: str | None = None
    levels: int = level_count()
    half_even: bool = half_even()
    upsample: int = usually(1)
    whole: bool = usually(False)

    @property
    def inputs(self) -> tuple[str, ...]:
        return () if self.u_in is None else (self.u_in,)

    def added_shape(self, c: int, h: int, w: int) -> tuple[int, int, int]:
        """Shape that `u_in` must have for a result of shape (c, h, w)."""
        return c, -(-h // self.upsample), -(-w // self.upsample)

    @property
    def outputs(self) -> dict[str, str]:
        return {self.u_out: "u"} | ({} if self.level is None else {self.level: "level"})

    def apply(
        self, acc: NDArray, tensors: Tensors, params: IntegerParams, stats: Stats
    ) -> dict[str, NDArray]:
        u = self.scale.apply(acc)
        if self.u_in is not None:
            u += golden.upsample(tensors[self.u_in], self.upsample)[..., :u.shape[2], :u.shape[3]]
        saturated = golden.saturate(u, params.u_bits)
        add_count(stats, "u_saturated", saturated != u)
        made = {self.u_out: _integers(saturated, params.u_bits)}
        if self.level is not None:
            made[self.level] = self.fire(saturated, params).astype(np.uint8)
        return made

    def fire(self, u: NDArray, params: IntegerParams) -> NDArray[np.int64]:
        """Levels of membranes."""
        if not self.whole:
            return golden.fire_membrane(u, u_frac=params.u_frac, levels=self.levels,
                                        half_even=self.half_even)
        return golden.fire_whole(u, u_frac=params.u_frac, levels=self.levels)

    def count(self, stats: Stats, params: IntegerParams) -> None:
        _count_scale(self.scale, stats)


@dataclass(frozen=True, eq=False)
class Requantise:
    """z = saturate(scale(acc)): the multi-bit input of the next 1x1 convolution."""

    scale: Scale | RealScale
    z: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return ()

    @property
    def outputs(self) -> dict[str, str]:
        return {self.z: "z"}

    def apply(
        self, acc: NDArray, tensors: Tensors, params: IntegerParams, stats: Stats
    ) -> dict[str, NDArray]:
        z = self.scale.apply(acc)
        bits = params.z_bits_for(self.z)
        saturated = golden.saturate(z, bits)
        add_count(stats, "z_saturated", saturated != z)
        return {self.z: _integers(saturated, bits)}

    def count(self, stats: Stats, params: IntegerParams) -> None:
        _count_scale(self.scale, stats)


@dataclass(frozen=True, eq=False)
class Raw:
    """Hand on the accumulators as "<name>_acc"; the host makes "<name>" = scale*acc + offset.

    scale, offset: float64 (O,). "logits", the class scores, are (N, O) float64 of "logits_acc",
    (N, O, 1, 1) int64; an output of another name is a map, both of them are (N, O, H, W). With
    `steps` T > 1, T images that follow each other give one result: their accumulators are added
    up, exactly, and `scale` makes the mean of them. With `on_host` the accumulators are the host's
    work, too, a 1x1 convolution of a level map: what is read out has 3 bits an input channel, not
    16 for each of many classes.
    """

    scale: NDArray[np.float64]
    offset: NDArray[np.float64]
    steps: int = usually(1)
    name: str = usually("logits")
    on_host: bool = usually(False)

    @property
    def acc(self) -> str:
        """Name of the accumulators."""
        return f"{self.name}_acc"

    @property
    def inputs(self) -> tuple[str, ...]:
        return ()

    @property
    def outputs(self) -> dict[str, str]:
        return {self.acc: "raw"}

    def apply(
        self, acc: NDArray, tensors: Tensors, params: IntegerParams, stats: Stats
    ) -> dict[str, NDArray]:
        if self.steps > 1:
            acc = acc.reshape(-1, self.steps, *acc.shape[1:]).sum(axis=1)
        return {self.acc: acc, self.name: self.values(acc)}

    def values(self, acc: NDArray) -> NDArray[np.float64]:
        """Accumulators (N, O, H, W) -> what they stand for."""
        if self.name == LOGITS:
            return self.scale * acc[:, :, 0, 0] + self.offset
        return self.scale.reshape(-1, 1, 1) * acc + self.offset.reshape(-1, 1, 1)

    def count(self, stats: Stats, params: IntegerParams) -> None:
        pass


Epilogue = Fire | Integrate | Requantise | Raw
