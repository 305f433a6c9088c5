"""The float form of heads for dense prediction: `model.families.dense` computed layer by layer."""

from collections.abc import Callable, Mapping
from functools import partial
import math

import torch
from torch import nn, Tensor
from torch.nn import functional as F

from model.families.base import NetworkSpec
from model.families.dense import GROUPS, source_of
from model.families.lsq import LsqConv2d
from model.families.neuron import make_neuron, Sfa
from model.families.parts import HeadLayer


__all__ = ["add_heads", "heads_forward", "PRIOR"]


PRIOR = 0.01
"""Probability of every class at every place in the beginning (Lin et al., "Focal Loss", 2017)."""

Fire = Callable[[nn.Module, nn.Module, Tensor], Tensor]


def add_heads(model: nn.Module, spec: NetworkSpec, make_norm: Callable[[int], nn.Module]) -> None:
    """Give `model` the modules of the spec's heads, by their names in the state dict.

    Weights and biases are drawn as torch's own; those of the predictors so that every class has the
    probability `PRIOR` and every box the sides of two strides.
    """
    for group in GROUPS:
        if any(layer.name.startswith(f"{group}.") for layer in spec.dense_layers):
            model.add_module(group, nn.Module())
    heads = spec.dense_heads
    published = heads is not None and heads.published
    lif = partial(Sfa, spec.levels) if published else partial(make_neuron, spec)
    for stage in (() if heads is None else heads.taps):
        if (name := source_of(spec, stage)).startswith("neck."):
            _put(model, name, lif())
    for layer in spec.dense_layers:
        if not layer.zero and not _has(model, layer.key):
            outputs, inputs, kernel, _ = layer.shape
            _put(model, layer.key, LsqConv2d(inputs, outputs, kernel, padding=kernel // 2,
                                             bias=layer.bias, bits=spec.bits_of(layer)))
        for norm in layer.norms:
            _put(model, norm, make_norm(layer.shape[0]))
        if layer.neuron:
            _put(model, layer.neuron, lif())
    for key, value in (("detector.cls", -math.log(1 / PRIOR - 1)), ("detector.reg", 0.0)):
        if _has(model, key):
            nn.init.constant_(model.get_submodule(key).bias, value)  # type: ignore[arg-type]


def heads_forward(
    model: nn.Module, spec: NetworkSpec, fired: Mapping[str, Tensor], fire: Fire
) -> dict[str, Tensor]:
    """Outputs by name, (B, O, H, W) each.

    Parameters
    ----------
    fired
        What the neurons of the taps hand on, by their names.
    fire
        A neuron behind a batch norm (`model.families.network.fire`).
    """
    maps, found = dict(fired), {}
    heads = spec.dense_heads
    binary = heads is not None and (
        heads.binary_neck == "always" or (heads.binary_neck == "evaluation" and not model.training))
    for layer in spec.dense_layers:
        x = maps[layer.source]
        if layer.zero:
            maps[layer.membrane] = _grown(maps[layer.added], layer.upsample, x)
            maps[layer.neuron] = model.get_submodule(layer.neuron)(maps[layer.membrane])
            continue
        if binary and layer.name.startswith("neck."):
            x = x.clamp(max=spec.level_unit)
        x = model.get_submodule(layer.key)(x)
        if layer.output:
            found[layer.output] = x
        elif not layer.membrane:
            maps[layer.neuron] = fire(*_modules(model, layer), x)
        else:
            u = model.get_submodule(layer.norms[0])(x)
            if layer.added:
                u = u + _grown(maps[layer.added], layer.upsample, u)
            maps[layer.membrane] = u
            if layer.neuron:
                maps[layer.neuron] = model.get_submodule(layer.neuron)(u)
    return found


def _modules(model: nn.Module, layer: HeadLayer) -> tuple[nn.Module, nn.Module]:
    return model.get_submodule(layer.neuron), model.get_submodule(layer.norms[0])


def _grown(u: Tensor, factor: int, wanted: Tensor) -> Tensor:
    """`u` with every position repeated, as large as `wanted`."""
    if factor == 1:
        return u
    grown = F.interpolate(u, scale_factor=factor, mode="nearest")
    grown = grown[..., :wanted.shape[-2], :wanted.shape[-1]]
    return grown.contiguous(memory_format=torch.channels_last)


def _has(model: nn.Module, name: str) -> bool:
    group, _, rest = name.partition(".")
    return hasattr(model, group) and hasattr(getattr(model, group), rest)


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    group, _, rest = name.partition(".")
    getattr(model, group).add_module(rest, module)
