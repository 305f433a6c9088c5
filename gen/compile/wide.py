"""Weights of more than 4 bits: as two halves of 4 bits each, and where no unit takes these."""

from dataclasses import replace

import numpy as np

from model.integer.graph import Attention, Conv, Depthwise, Mean, Pool, RepConv
from model.integer.network import IntegerNetwork


__all__ = ["HALF", "halves_bound", "has_wide", "lowered", "split", "weights_of"]


HALF = -8, 7
"""Smallest and largest weight that a unit multiplies with."""


def split(weight):
    """(high, low) of integer weights -136..119: ``16*high + low``, both -8..7."""
    weight = np.asarray(weight, np.int64)
    high = (weight - HALF[0]) >> 4
    return high, weight - 16 * high


def weights_of(op):
    """The arrays of weights of an operator, by field."""
    if isinstance(op, Attention | Mean | Pool):
        return {}
    names = ("pointwise", "depthwise") if isinstance(op, RepConv) else ("weight",)
    return {name: getattr(op, name) for name in names}


def has_wide(op):
    """Whether an operator has weights of more than 4 bits."""
    return any(w.size and not HALF[0] <= w.min() <= w.max() <= HALF[1]
               for w in weights_of(op).values())


def lowered(network):
    """The network with what no unit computes written as what one does.

    A depthwise convolution with wide weights becomes a convolution of all channels, most of whose
    weights are 0: only the array adds up halves of weights.
    """
    if not any(isinstance(op, Depthwise) and has_wide(op) for op in network.ops):
        return network
    return IntegerNetwork(network.spec, network.params,
                          [_dense(op) if isinstance(op, Depthwise) and has_wide(op) else op
                           for op in network.ops],
                          network.input_shape, network.origin, network.info, network.read_out)


def _dense(op):
    channels, kernel, _ = op.weight.shape
    weight = np.zeros((channels, channels, kernel, kernel), op.weight.dtype)
    every = np.arange(channels)
    weight[every, every] = op.weight
    return Conv(op.name, op.source, weight, 1, kernel // 2, op.epilogue)


def halves_bound(network, op):
    """Largest sum of an operator's halves, each for itself, as ``IntegerNetwork.acc_bounds``."""
    high, low = split(op.weight)
    return network.acc_bounds(replace(op, weight=16 * np.abs(high) + np.abs(low)))
