"""Operators of an integer network. NumPy only.

An operator turns its source maps into exact integer accumulators and its epilogue finishes them.
It is data: a compiler reads its fields, `model.integer.network` calls `run`. Arrays are never
written after construction. The names of `model.integer.epilogue` can be imported from here as well.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.families.qsdt import attention_thresholds
from model.integer import golden
from model.integer.epilogue import (
    add_count,
    Epilogue,
    Fire,
    half_even,
    IntegerParams,
    Integrate,
    level_count,
    Raw,
    RealScale,
    Requantise,
    Scale,
    Stats,
    Tensors,
    threshold_limits,
    Thresholds,
    usually_like,
    WIDE,
)


__all__ = [
    "IMAGE_MAX",
    "WIDE",
    "Attention",
    "Conv",
    "Depthwise",
    "Epilogue",
    "Fire",
    "IntegerParams",
    "Integrate",
    "Mean",
    "Op",
    "Pool",
    "Raw",
    "RealScale",
    "RepConv",
    "Requantise",
    "Scale",
    "Thresholds",
    "threshold_limits",
]


IMAGE_MAX = 128
"""Largest magnitude of an int8 image value."""


class _Accumulating:
    """What operators with accumulators share: one source, an epilogue and its results."""

    source: str
    epilogue: Epilogue

    def accumulate(self, x: NDArray) -> NDArray[np.int64]:
        """Exact accumulators of the source; every operator has its own."""
        raise NotImplementedError

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the tensors it reads, `source` first."""
        return (self.source, *self.epilogue.inputs)

    @property
    def outputs(self) -> dict[str, str]:
        """Name and kind of every tensor it makes."""
        return self.epilogue.outputs

    def run(self, tensors: Tensors, params: IntegerParams, stats: Stats) -> dict[str, NDArray]:
        """Compute every output from `tensors`; adds to the counters in `stats`."""
        acc = self.accumulate(tensors[self.source])
        return self.epilogue.apply(acc, tensors, params, stats)

    def count(self, stats: Stats, params: IntegerParams) -> None:
        """Add what the constants tell: zero and negative scales, clipped thresholds."""
        self.epilogue.count(stats, params)


@dataclass(frozen=True, eq=False)
class Conv(_Accumulating):
    """Dense convolution of an image, level or z map; weight int8 (O, I, kh, kw).

    Fully connected layers are 1x1 convolutions.
    """

    name: str
    source: str
    weight: NDArray[np.int8]
    stride: int
    padding: int
    epilogue: Epilogue

    def accumulate(self, x: NDArray) -> NDArray[np.int64]:
        """(N, I, H, W) -> exact accumulators (N, O, H', W')."""
        return golden.convolve(x, self.weight, stride=self.stride, padding=self.padding)

    def shape(self, c: int, h: int, w: int) -> tuple[int, int, int]:
        """Shape of its results for a source of shape (c, h, w)."""
        _, cin, kh, kw = self.weight.shape
        _check_channels(self.name, cin, c)
        rows, cols = (
            (size + 2 * self.padding - kernel) // self.stride + 1
            for size, kernel in ((h, kh), (w, kw))
        )
        return len(self.weight), rows, cols

    def acc_bounds(self, source_max: int) -> tuple[NDArray[np.int64], ...]:
        """Largest |accumulator| of every channel for sources up to `source_max`."""
        return (_weight_sums(self.weight) * source_max,)


@dataclass(frozen=True, eq=False)
class Depthwise(_Accumulating):
    """Depthwise convolution of a level map, stride 1, size kept; weight int8 (C, k, k)."""

    name: str
    source: str
    weight: NDArray[np.int8]
    epilogue: Fire | Requantise

    def accumulate(self, x: NDArray) -> NDArray[np.int64]:
        return golden.depthwise(x, self.weight, padding=self.weight.shape[-1] // 2)

    def shape(self, c: int, h: int, w: int) -> tuple[int, int, int]:
        _check_channels(self.name, len(self.weight), c)
        return c, h, w

    def acc_bounds(self, source_max: int) -> tuple[NDArray[np.int64], ...]:
        return (_weight_sums(self.weight) * source_max,)


@dataclass(frozen=True, eq=False)
class RepConv(_Accumulating):
    """First half of a RepConv: 1x1, then depthwise 3x3 on its exact accumulators.

    pointwise int8 (C, I), depthwise int8 (C, 3, 3). Zero padding between the two, no rounding:
    the published border equals what the 1x1 gives for zero spikes.
    """

    name: str
    source: str
    pointwise: NDArray[np.int8]
    depthwise: NDArray[np.int8]
    epilogue: Requantise

    def accumulate(self, x: NDArray) -> NDArray[np.int64]:
        first = golden.convolve(x, self.pointwise[:, :, None, None])
        return golden.depthwise(first, self.depthwise, padding=1)

    def shape(self, c: int, h: int, w: int) -> tuple[int, int, int]:
        _check_channels(self.name, self.pointwise.shape[1], c)
        return len(self.pointwise), h, w

    def acc_bounds(self, source_max: int) -> tuple[NDArray[np.int64], ...]:
        """Bounds after the 1x1 and after the depthwise convolution."""
        first = _weight_sums(self.pointwise) * source_max
        return first, _weight_sums(self.depthwise) * first


@dataclass(frozen=True, eq=False)
class Attention:
    """Q (K^T V) of three level maps, see `golden.attention`; `cap` None leaves products exact.

    `thresholds` are the least values of Q (K^T V) that fire each level 1..D, `levels`. Value and
    result may have more or fewer channels than query and key. Beside its level map it leaves the
    products "<block>/ktv" and "<block>/qktv" for inspection.
    """

    name: str
    query: str
    key: str
    value: str
    heads: int
    level: str
    block: str
    cap: int | None = golden.ATTENTION_CAP
    thresholds: tuple[int, ...] = usually_like(
        lambda op: attention_thresholds(op.levels), golden.ATTENTION_THRESHOLDS)
    levels: int = level_count()

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.query, self.key, self.value

    @property
    def outputs(self) -> dict[str, str]:
        return {self.level: "level"}

    def shape(self, c: int, h: int, w: int) -> tuple[int, int, int]:
        """Shape of its result for a value of shape (c, h, w)."""
        if c % self.heads:
            raise ValueError(f"{self.name}: {self.heads} heads must divide {c} channels")
        return c, h, w

    def run(self, tensors: Tensors, params: IntegerParams, stats: Stats) -> dict[str, NDArray]:
        ktv, qktv, level = golden.attention(
            *(tensors[name] for name in self.inputs),
            heads=self.heads, thresholds=self.thresholds, cap=self.cap,
        )
        top = self.thresholds[-1]
        add_count(stats, "ktv_saturated", ktv >= top)
        add_count(stats, "qktv_saturated", qktv >= top)
        return {
            self.level: level.astype(np.uint8),
            f"{self.block}/ktv": ktv.astype(np.int32),
            f"{self.block}/qktv": qktv.astype(np.int32),
        }

    def count(self, stats: Stats, params: IntegerParams) -> None:
        pass


@dataclass(frozen=True, eq=False)
class Pool:
    """Fire the exact spatial mean of membrane `source`: (C, H, W) -> levels (C, 1, 1)."""

    name: str
    source: str
    level: str
    levels: int = level_count()
    half_even: bool = half_even()

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.source,)

    @property
    def outputs(self) -> dict[str, str]:
        return {self.level: "level"}

    def shape(self, c: int, h: int, w: int) -> tuple[int, int, int]:
        return c, 1, 1

    def run(self, tensors: Tensors, params: IntegerParams, stats: Stats) -> dict[str, NDArray]:
        fired = golden.pool_fire(
            tensors[self.source], u_frac=params.u_frac, levels=self.levels,
            half_even=self.half_even,
        )
        return {self.level: fired.astype(np.uint8)}

    def count(self, stats: Stats, params: IntegerParams) -> None:
        pass


@dataclass(frozen=True, eq=False)
class Mean(_Accumulating):
    """z of the spatial mean of membrane `source`: (C, H, W) -> (C, 1, 1).

    The accumulator is the exact sum over `positions` = H*W; the epilogue's scale divides.
    """

    name: str
    source: str
    positions: int
    epilogue: Requantise

    def accumulate(self, x: NDArray) -> NDArray[np.int64]:
        return x.sum(axis=(2, 3), keepdims=True, dtype=np.int64)

    def shape(self, c: int, h: int, w: int) -> tuple[int, int, int]:
        _check_channels(self.name, len(self.epilogue.scale.multiplier), c)
        if h * w != self.positions:
            raise ValueError(f"{self.name}: for {self.positions} positions, source has {h * w}")
        return c, 1, 1

    def acc_bounds(self, source_max: int) -> tuple[NDArray[np.int64], ...]:
        channels = len(self.epilogue.scale.multiplier)
        return (np.full(channels, self.positions * source_max, np.int64),)


Op = Conv | Depthwise | RepConv | Attention | Pool | Mean


def _weight_sums(weight: NDArray[np.int8]) -> NDArray[np.int64]:
    return np.abs(weight.astype(np.int64)).reshape(len(weight), -1).sum(axis=1)


def _check_channels(name: str, wanted: int, got: int) -> None:
    if wanted != got:
        raise ValueError(f"{name}: weights for {wanted} channels, source has {got}")
