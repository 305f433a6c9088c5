"""Chains of two 1x1 convolutions made one, before anything is quantised. NumPy only.

A chain is 1x1, batch norm, 1x1, batch norm and, in an attention, another batch norm behind it, all
linear. Its product is one matrix and one batch norm, computed in float64 by operations that IEEE
754 defines exactly, in a fixed order: two machines get the same weights.
"""

from collections.abc import Mapping
from math import fsum
import re

import numpy as np
from numpy.typing import NDArray


__all__ = ["chains", "merge_chains"]


_FIRST = re.compile(r"^(.+)\.conv1\.0\.weight$")
_NORM = ("weight", "bias", "running_mean", "running_var")
_EPSILON = 1e-5    # of every published batch norm
_ROWS = 32         # rows of a product that are made at a time, small enough for a CPU's cache


def chains(keys: Mapping[str, object]) -> tuple[str, ...]:
    """Names of the chains of a state dict: those of which both convolutions are there."""
    found = (match[1] for match in map(_FIRST.match, keys) if match)
    return tuple(name for name in found if f"{name}.conv2.0.weight" in keys)


def merge_chains(state: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """The state dict with every chain as one convolution and one batch norm.

    The chain ``<x>.0`` in front of a batch norm ``<x>.1`` becomes ``<x>.0.weight`` (O, I, 1, 1) and
    ``<x>.1``, both float64; any other chain ``<x>`` becomes ``<x>.0.weight`` and ``<x>.1``.

    Raises ValueError naming the key that is missing, has no fitting shape, or is left over, and
    where weights are quantised already: the product of two such matrices is not.
    """
    left = dict(state)
    made: dict[str, NDArray] = {}
    for name in chains(state):
        made |= _merged(left, name)
    return left | made


def _merged(left: dict[str, NDArray], name: str) -> dict[str, NDArray]:
    """One convolution and batch norm for a chain, whose entries are taken out of `left`."""
    base = name.removesuffix(".0")
    outer = base != name and f"{base}.1.weight" in left
    if f"{name}.conv1.0.alpha" in left:
        raise ValueError(f"{name}: its two 1x1 convolutions are quantised one by one, so that they "
                         "cannot be merged; use the weights in float")
    first, second = (_matrix(left, f"{name}.conv{i}.0.weight") for i in (1, 2))
    if first.shape[0] != second.shape[1]:
        raise ValueError(f"{name}.conv2.0.weight must read the {first.shape[0]} channels of "
                         f"{name}.conv1, not {second.shape[1]}")
    weight, bias, mean, var = _take_norm(left, f"{name}.conv1.1", len(first))
    gain = weight / np.sqrt(var + _EPSILON)
    shift = bias - mean * gain
    reached = np.array([fsum(row) for row in (second * shift).tolist()])
    weight, bias, mean, var = _take_norm(left, f"{name}.conv2.1", len(second))
    if outer:
        factor, added, centre, spread = _take_norm(left, f"{base}.1", len(second))
        factor = factor / np.sqrt(spread + _EPSILON)
        weight, bias = weight * factor, (bias - centre) * factor + added
    norm = dict(zip(_NORM, (weight, bias, mean - reached, var), strict=True))
    target = base if outer else name
    product = _product(second, gain[:, None] * first)[:, :, None, None]
    return {f"{target}.0.weight": product,
            **{f"{target}.1.{part}": value for part, value in norm.items()}}


def _take(left: dict[str, NDArray], key: str) -> NDArray[np.float64]:
    if key not in left:
        raise ValueError(f"{key}: missing")
    return left.pop(key).astype(np.float64)


def _matrix(left: dict[str, NDArray], key: str) -> NDArray[np.float64]:
    value = _take(left, key)
    if value.ndim < 2 or value.shape[2:] != (1,) * (value.ndim - 2) or not value.size:
        raise ValueError(f"{key} must be of a 1x1 convolution, not of shape {value.shape}")
    return value.reshape(value.shape[:2])


def _take_norm(left: dict[str, NDArray], norm: str, channels: int) -> list[NDArray[np.float64]]:
    """Weight, bias, mean and variance of a batch norm."""
    lacking = [part for part in _NORM if f"{norm}.{part}" not in left]
    if lacking == ["running_mean", "running_var"]:
        raise ValueError(f"{norm}.running_mean: missing, as may be statistics of other batch norms;"
                         " save the whole state_dict(), not the parameters alone")
    left.pop(f"{norm}.num_batches_tracked", None)
    values = [_take(left, f"{norm}.{part}") for part in _NORM]
    for part, value in zip(_NORM, values, strict=True):
        if value.shape != (channels,):
            raise ValueError(f"{norm}.{part} must have shape ({channels},), not {value.shape}")
    return values


def _product(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """(O, K) times (K, I), the terms added up in order; a library's product may take any order."""
    total = np.zeros((len(a), b.shape[1]))
    for start in range(0, len(a), _ROWS):
        rows = total[start : start + _ROWS]
        term = np.empty_like(rows)
        for column, row in zip(a[start : start + _ROWS].T, b, strict=True):
            np.multiply(column[:, None], row, out=term)
            rows += term
    return total
