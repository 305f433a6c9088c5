"""Networks whose weights were quantised with Brevitas, taken over without loss.

Brevitas (https://github.com/Xilinx/brevitas) computes a layer's scale while it runs: a state dict
has the real weights and often no scale at all. So the integers come from the modules themselves,
``quant_weight()`` of each layer, and `save` writes them to a file that ``qsdt convert
--checkpoint`` and `model.training.checkpoint.read` take. Nothing here imports Brevitas.

The module must have the published structure and names of one of the families, with
``QuantConv2d`` and ``QuantLinear`` in the places of the convolutions and linear layers. A file may
be written without this program, too: a dictionary with the key ``brevitas``, see `content_of`.
"""

from collections.abc import Collection, Mapping
import io
import math
import os
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
import torch
from torch import nn, Tensor

from model.families.base import code_range
from model.files import write_atomic


__all__ = ["content_of", "KEY", "keys", "save", "unpacked"]


KEY = "brevitas"
"""Of a file's dictionary: under it lie ``layers`` and ``state``."""

_PARTS = ("int_weight", "scale", "zero_point", "bit_width")

_OTHER_QUANTISERS = ("input_quant", "output_quant", "bias_quant", "act_quant")

_STATE = re.compile(r"\.(weight|input|output|bias|act)_quant\.")

_WIDTHS = (2, 3, 4, 8)


def save(module: nn.Module, path: str | os.PathLike) -> None:
    """Write the integers of a module of Brevitas, and everything else of its state dict.

    Raises ValueError as `content_of`, OSError if the file cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(content_of(module), buffer)
    write_atomic(path, buffer.getvalue())


@torch.no_grad()
def content_of(module: nn.Module) -> dict[str, Any]:
    """What `save` writes: ``{"brevitas": {"layers": ..., "state": ...}}``.

    layers: of each quantised layer its name and {int_weight int8 (O, ...), scale (O, 1, ...) or (),
    zero_point, bit_width}; state: every other entry of the state dict. Weights are quantised as
    they are in evaluation.

    Raises ValueError naming the layer that is not quantised, is quantised in another way than by
    its weights, or has no signed integers; or if there is no layer of Brevitas.
    """
    layers: dict[str, dict[str, Tensor]] = {}
    training = module.training
    module.eval()
    try:
        for name, layer in module.named_modules():
            for kind in _OTHER_QUANTISERS:
                if getattr(getattr(layer, kind, None), "is_quant_enabled", False):
                    raise ValueError(f"{name}: its {kind} is on, but neurons fire fixed levels and "
                                     "biases stay real: train it with weight_quant alone")
            if callable(getattr(layer, "quant_weight", None)):
                layers[name] = _layer(name, layer.quant_weight())
    finally:
        module.train(training)
    if not layers:
        raise ValueError("no layer is one of Brevitas (QuantConv2d, QuantLinear)")
    weights = {f"{name}.weight" for name in layers}
    state = {key: value for key, value in module.state_dict().items()
             if key not in weights and not _STATE.search(key)}
    return {KEY: {"layers": layers, "state": state}}


def _layer(name: str, quantised: Any) -> dict[str, Tensor]:
    if not all(hasattr(quantised, part) for part in ("int", "scale", "zero_point", "bit_width")):
        raise ValueError(f"{name}: its weights are no scaled integers; train it with "
                         "weight_quant=Int8WeightPerChannelFloat and a weight_bit_width")
    return {"int_weight": quantised.int(), "scale": quantised.scale.detach(),
            "zero_point": quantised.zero_point.detach(), "bit_width": quantised.bit_width.detach()}


def keys(content: Mapping[str, Any]) -> list[str]:
    """Keys of the state dict that a file stands for; `content` as of `unpacked`.

    Raises ValueError if it has no layers or no state.
    """
    layers, state = content.get("layers"), content.get("state")
    if not isinstance(layers, Mapping) or not isinstance(state, Mapping) or not layers:
        raise ValueError(f"{KEY} must hold layers and state, as model.training.brevitas.save writes"
                         " them")
    return [*(f"{name}.weight" for name in layers), *map(str, state)]


def unpacked(
    content: Mapping[str, Any], allowed: Collection[int] = _WIDTHS
) -> tuple[dict[str, Any], int]:
    """State dict with LSQ steps, as networks here have it, and the bits of its weights.

    The step of a channel is its scale; the widest layer says how many bits there are, which hold
    the codes of all others. Codes of 8 bits go to 119 here (`model.families.base.code_range`), to
    -128 at the other end: a channel that goes beyond 119 at one end alone is stored with both signs
    turned, which is the same weight.

    Args:
        content: What lies under `KEY` in a file.
        allowed: Bits that the family can have.

    Raises:
        ValueError: Naming the layer whose zero point is not 0, whose width is not possible, or
            whose scale or codes cannot be held without loss.
    """
    keys(content)
    made, bits = dict(content["state"]), 0
    for name, parts in content["layers"].items():
        q, scale, width = _checked(str(name), parts, allowed)
        bits = max(bits, width)
        step = scale.reshape(-1, *[1] * (q.ndim - 1))
        made |= {f"{name}.weight": torch.from_numpy(q.astype(scale.dtype) * step),
                 f"{name}.alpha": torch.from_numpy(scale), f"{name}.init_state": torch.ones(1)}
    return made, bits


def _checked(name: str, parts: Any, allowed: Collection[int]) -> tuple[NDArray, NDArray, int]:
    """Integers int8, scale float32 or float64 (O,) and bits of a layer, if it can be held."""
    if not isinstance(parts, Mapping) or not all(isinstance(parts.get(p), Tensor) for p in _PARTS):
        raise ValueError(f"{name}: must have the tensors {', '.join(_PARTS)}")
    q, scale, zero, width = (parts[part].detach().cpu() for part in _PARTS)
    if bool((zero != 0).any()):
        raise ValueError(f"{name}: its zero point is not 0: only symmetric weights can be taken, "
                         "such as those of Int8WeightPerChannelFloat")
    bits = float(width) if width.numel() == 1 else math.nan
    if bits not in allowed:
        known = ", ".join(map(str, sorted(allowed)))
        raise ValueError(f"{name}: weights of {bits:g} bits; possible are {known}")
    if q.ndim < 2 or q.is_floating_point() or not q.numel():
        raise ValueError(f"{name}: int_weight must be integers (O, ...), not {q.dtype} "
                         f"{tuple(q.shape)}")
    count = len(q)
    if scale.numel() != 1 and tuple(scale.shape) not in ((count,), (count, *[1] * (q.ndim - 1))):
        raise ValueError(f"{name}: one scale for each output channel, or for all of them, can be "
                         f"taken, not {tuple(scale.shape)} for weights {tuple(q.shape)}")
    alpha: NDArray = scale.to(torch.float64 if scale.dtype == torch.float64 else torch.float32
                              ).numpy().reshape(-1)
    alpha = np.array(np.broadcast_to(alpha, (count,)))
    if not (np.isfinite(alpha).all() and (alpha > 0).all()):
        raise ValueError(f"{name}: scales must be positive and finite")
    codes = q.numpy().astype(np.int64)
    half = 1 << (int(bits) - 1)
    if codes.min() < -half or codes.max() >= half:
        raise ValueError(f"{name}: codes {codes.min()}..{codes.max()} are no signed integers of "
                         f"{bits:g} bits")
    codes, alpha = _turned(name, codes, alpha, int(bits))
    step = alpha.astype(np.float32).reshape(-1, *[1] * (codes.ndim - 1))
    with np.errstate(all="ignore"):
        again = np.rint(codes.astype(np.float32) * step / step)
    if not np.array_equal(again, codes):
        raise ValueError(f"{name}: a scale of {alpha[np.abs(alpha).argmin()]:.3g} to "
                         f"{alpha[np.abs(alpha).argmax()]:.3g} is beyond what float32 holds")
    return codes.astype(np.int8), alpha, int(bits)


def _turned(name: str, codes: NDArray, alpha: NDArray, bits: int) -> tuple[NDArray, NDArray]:
    """Codes within `code_range`: channels that go beyond its end with both signs turned."""
    low, high = code_range(bits)
    rows = codes.reshape(len(codes), -1)
    over = rows.max(axis=1) > high
    beyond = over & ((-rows.min(axis=1)) > high)
    if beyond.any():
        raise ValueError(f"{name}: {int(beyond.sum())} channels have codes beyond {high} and "
                         f"-{high}; weights of {bits} bits can be {low}..{high}: train it with "
                         "weights of 4 bits, or from the real weights (qsdt convert --weight-bits)")
    sign = np.where(over, -1, 1)
    return codes * sign.reshape(-1, *[1] * (codes.ndim - 1)), alpha * sign.astype(alpha.dtype)
