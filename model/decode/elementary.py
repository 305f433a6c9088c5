"""Functions of single numbers in float64, the same wherever they lie in an array.

NumPy computes exp in vectors, in ways that differ between processors in the last digit; here the C
library's scalar function is called for every number.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


__all__ = ["check_finite", "exp", "sigmoid", "softmax"]


def check_finite(what: str, *arrays: NDArray) -> None:
    """Raise ValueError, which calls the numbers `what`, if one is NaN or infinite."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError(f"{what} must be finite, but have NaN or infinite values")


def exp(x: ArrayLike) -> NDArray[np.float64]:
    """e^x of finite numbers up to 709, of any shape."""
    x = np.asarray(x, np.float64)
    return np.array([math.exp(v) for v in x.ravel().tolist()], np.float64).reshape(x.shape)


def sigmoid(x: ArrayLike) -> NDArray[np.float64]:
    """1 / (1 + e^-x) of finite numbers, of any shape."""
    x = np.asarray(x, np.float64)
    small = exp(-np.abs(x))
    return np.where(x < 0, small, 1.0) / (1.0 + small)


def softmax(x: ArrayLike) -> NDArray[np.float64]:
    """e^x over its sum along the last of two axes, (N, K)."""
    x = np.asarray(x, np.float64)
    if not x.size:
        return x
    raised = exp(x - x.max(1, keepdims=True))
    return raised / np.array([[math.fsum(row)] for row in raised.tolist()])
