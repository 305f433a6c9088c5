"""A network computed with binary spikes: every level as D virtual time steps (Eq. 10).

In step k = 1..D a neuron spikes where its level is at least k. A layer adds up what D binary maps
give it and fires once, at the end: no leak and no reset in between. Its sums are whole numbers, so
nothing is rounded and the order of the steps does not matter. Each attention product expands one
of its operands, K^T V = sum of k_t^T V and Q (K^T V) = sum of q_t (K^T V): expanding both step by
step would lose the terms of different steps.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from model.families.lsq import integer_weight, LsqLayer
from model.families.network import Attention, QsdTransformer


_REAL_INPUTS = (".body.2.0", ".body.2.1", ".pwconv2")
"""Ends of the names of layers whose inputs are multi-bit maps."""


def reads_levels(name: str) -> bool:
    """Whether the inputs of quantised layer `name` are levels, not the image or a multi-bit map."""
    return name != "downsample1_1.encode_conv" and not name.endswith(_REAL_INPUTS)


def binary_spikes(level: Tensor, levels: int) -> list[Tensor]:
    """The D maps of 0 and 1, of the dtype of `level`, whose sum is `level`."""
    return [(level >= k).to(level.dtype) for k in range(1, levels + 1)]


@contextmanager
def binary_time_steps(model: QsdTransformer) -> Iterator[None]:
    """Compute `model` with binary spikes in forward passes made inside the ``with`` block.

    Sums are exact in float64 for every network, in float32 below 2^24. Raises ValueError if the
    neurons are not IE-LIF or its weights are not quantised.
    """
    spec = model.spec
    spec.check_integer_form()
    changed: list[LsqLayer | Attention] = []
    try:
        for name, module in model.named_modules():
            if isinstance(module, LsqLayer) and reads_levels(name):
                unit = (2 if name.endswith(".proj_conv.0.body.0") else 1) / spec.levels
                module.forward = partial(_layer, module, unit, spec.levels)
                changed.append(module)
            elif isinstance(module, Attention):
                module.product = partial(_product, spec.levels)  # type: ignore[method-assign]
                changed.append(module)
        yield
    finally:
        for module in changed:
            del vars(module)["product" if isinstance(module, Attention) else "forward"]


def _layer(layer: LsqLayer, unit: float, levels: int, x: Tensor) -> Tensor:
    codes = integer_weight(layer.weight, layer.alpha, layer.bits).to(x.dtype)
    spikes = binary_spikes(torch.round(x / unit), levels)
    acc = torch.stack([layer.multiply(part, codes, None) for part in spikes]).sum(0)
    channel = (-1, *[1] * (acc.ndim - 2))
    y = acc * (layer.alpha * unit).view(channel)
    return y if layer.bias is None else y + layer.bias.view(channel)


def _product(levels: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = ((x * levels).round() for x in (q, k, v))
    ktv = torch.stack([part.transpose(-2, -1) @ v for part in binary_spikes(k, levels)]).sum(0)
    qktv = torch.stack([part @ ktv for part in binary_spikes(q, levels)]).sum(0)
    # 0.25 * Q (K^T V) of the values level/D, which are these whole numbers over D^3.
    return qktv / (4 * levels**2) / levels
