"""Integer weights for a network that was trained with real ones. NumPy only.

Every output channel gets a step: with 8 bits the largest weight becomes the largest code, with
fewer the step with the least mean square error is taken (Nagel et al., "A White Paper on Neural
Network Quantization", 2021, section 3.1). Nothing is trained: 8 bits change little, while networks
with 4 bits need it (``qsdt train --init``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
import math

import numpy as np
from numpy.typing import NDArray

from model.families.base import code_range, FLOAT_BITS, NetworkSpec
from model.integer.export import integer_weight, with_bits


__all__ = ["Quantised", "quantise", "sqnr", "steps_for"]


_TRIED = np.linspace(0.2, 1.0, 81)
"""Steps that are tried, over the one with which nothing is clipped."""


@dataclass(frozen=True, eq=False)
class Quantised:
    """spec and state dict with LSQ steps; sqnr, of each layer's weights in dB, in order."""

    spec: NetworkSpec
    state: dict[str, NDArray]
    sqnr: dict[str, float]


def quantise(state: Mapping[str, NDArray], spec: NetworkSpec, bits: int) -> Quantised:
    """Give every layer with real weights steps for `bits` bits.

    Raises ValueError if no weights are real, or the family or heads have no such bits.
    """
    real = [layer for layer in spec.layers if spec.bits_of(layer) == FLOAT_BITS]
    if not real:
        raise ValueError(f"{spec.name} has weights of {spec.weight_bits} bits already")
    made, ratios = dict(state), {}
    for key in dict.fromkeys(layer.key for layer in real):
        weight = state[f"{key}.weight"]
        alpha = steps_for(weight, bits)
        q = integer_weight(weight, alpha, bits)
        value = q.astype(np.float32) * alpha.reshape(-1, *[1] * (q.ndim - 1))
        made |= {f"{key}.weight": value, f"{key}.alpha": alpha,
                 f"{key}.init_state": np.ones(1, np.float32)}
        ratios[key] = sqnr(weight, value)
    return Quantised(with_bits(spec, bits), made, ratios)


def sqnr(signal: NDArray, found: NDArray) -> float:
    """Signal over error in dB of `found` in place of `signal`; infinite without either."""
    power, error = (math.fsum(np.square(x, dtype=np.float64).sum(axis=1).tolist())
                    for x in (_rows(signal), _rows(signal) - _rows(found)))
    return 10 * math.log10(power / error) if power and error else math.inf


def steps_for(weight: NDArray, bits: int) -> NDArray[np.float32]:
    """A step (O,) for each channel of a weight (O, ...); 1 where all of it is 0."""
    rows = _rows(weight)
    low, high = code_range(bits)
    whole = np.abs(rows).max(axis=1) / high
    whole[whole == 0] = 1
    if bits >= 8:
        return whole.astype(np.float32)
    best, least = whole, np.full(len(rows), np.inf)
    for factor in _TRIED:
        step = (factor * whole)[:, None]
        error = np.square(rows - step * np.clip(np.rint(rows / step), low, high)).sum(axis=1)
        best, least = np.where(error < least, step[:, 0], best), np.minimum(error, least)
    return best.astype(np.float32)


def _rows(weight: NDArray) -> NDArray[np.float64]:
    return weight.reshape(len(weight), -1).astype(np.float64)
