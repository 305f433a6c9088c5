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

from model.families.base import NetworkSpec
from model.families.lsq import integer_weight, LsqLayer
from model.families.network import SpikeAttention, SpikingTransformer


def level_units(spec: NetworkSpec) -> dict[str, float]:
    """Value of a level of what each layer reads, without those that read the image, a multi-bit map
    or the mean membrane."""
    other = {"image", "mean", *(layer.name for layer in spec.layers if layer.multi_bit)}
    return {layer.key: layer.unit for layer in spec.layers if layer.source not in other}


def binary_spikes(level: Tensor, levels: int) -> list[Tensor]:
    """The D maps of 0 and 1, of the dtype of `level`, whose sum is `level`."""
    return [(level >= k).to(level.dtype) for k in range(1, levels + 1)]


@contextmanager
def binary_time_steps(model: SpikingTransformer) -> Iterator[None]:
    """Compute `model` with binary spikes in forward passes made inside the ``with`` block.

    Sums are exact in float64 for every network, in float32 below 2^24. Raises ValueError if the
    neurons are not IE-LIF or its weights are not quantised.
    """
    spec = model.spec
    spec.check_integer_form()
    changed: list[LsqLayer | SpikeAttention] = []
    units = level_units(spec)
    try:
        for name, module in model.named_modules():
            if isinstance(module, LsqLayer) and name in units:
                module.forward = partial(_layer, module, units[name], spec.levels)
                changed.append(module)
            elif isinstance(module, SpikeAttention):
                product = partial(_product, module, spec.levels)
                module.product = product  # type: ignore[method-assign]
                changed.append(module)
        yield
    finally:
        for module in changed:
            del vars(module)["product" if isinstance(module, SpikeAttention) else "forward"]


def _layer(layer: LsqLayer, unit: float, levels: int, x: Tensor) -> Tensor:
    codes = integer_weight(layer.weight, layer.alpha, layer.bits).to(x.dtype)
    spikes = binary_spikes(torch.round(x / unit), levels)
    acc = torch.stack([layer.multiply(part, codes, None) for part in spikes]).sum(0)
    channel = (-1, *[1] * (acc.ndim - 2))
    y = acc * (layer.alpha * unit).view(channel)
    return y if layer.bias is None else y + layer.bias.view(channel)


def _product(
    attention: SpikeAttention, levels: int, q: Tensor, k: Tensor, v: Tensor
) -> Tensor:
    q, k, v = ((x * levels).round() for x in (q, k, v))
    ktv = torch.stack([part.transpose(-2, -1) @ v for part in binary_spikes(k, levels)]).sum(0)
    qktv = torch.stack([part @ ktv for part in binary_spikes(q, levels)]).sum(0)
    return attention.membrane(qktv, levels)
