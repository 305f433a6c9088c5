"""What is measured of a float network: accuracy, activity, and where NaN begins."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
import torch
from torch import nn, Tensor

from model.data.dataset import batches, Split
from model.families.base import NetworkSpec
from model.families.network import capture_levels, SpikingTransformer
from model.training.parallel import add_up, rank, world


__all__ = ["activity", "evaluate", "first_not_finite", "to_input"]


def to_input(image_q: np.ndarray, spec: NetworkSpec, device: torch.device | str = "cpu") -> Tensor:
    """The network's input, image_q over the spec's image_scale, channels last.

    image_q is int8 (B, C, H, W), or (B, T, C, H, W), of which (T, B, C, H, W) is made.
    """
    if image_q.ndim == 5:
        frames = image_q.swapaxes(0, 1)
        flat = to_input(frames.reshape(-1, *frames.shape[2:]), spec, device)
        return flat.unflatten(0, frames.shape[:2])
    x = torch.from_numpy(image_q).to(device).to(torch.get_default_dtype()) / spec.image_scale
    return x.contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def evaluate(model: SpikingTransformer, split: Split, *, batch: int = 100) -> float:
    """Accuracy 0..1 of `model` in float32 evaluation mode; each process takes a part."""
    model.eval()
    own = Split(images=split.images[rank()::world()], labels=split.labels[rank()::world()])
    device, hits = next(model.parameters()).device, 0
    for image_q, labels in batches(own, model.spec, batch=batch):
        logits = model(to_input(image_q, model.spec, device))
        hits += (logits.argmax(1).cpu().numpy() == labels).sum().item()
    return add_up(hits)[0] / len(split)


@torch.inference_mode()
def activity(model: SpikingTransformer, image_q: NDArray[np.int8]) -> dict[str, Any]:
    """Mean level of all neurons, and of each attention block the share of levels at the top.

    That is the share of Q (K^T V) of at least the last threshold, 224 for a QSD-Transformer with
    D = 4. Measured on the images given; without spikes both are empty.
    """
    model.eval()
    with capture_levels(model) as levels:
        model(to_input(image_q, model.spec, next(model.parameters()).device))
    top = model.spec.levels
    if not levels:
        return {"mean_level": 0.0, "attention_top": {}}
    return {
        "mean_level": round(
            sum(int(x.sum()) for x in levels.values()) / sum(x.numel() for x in levels.values()), 4
        ),
        "attention_top": {
            name.removesuffix(".attn.attn_lif"): round((x == top).float().mean().item(), 4)
            for name, x in levels.items()
            if name.endswith(".attn_lif")
        },
    }


@torch.no_grad()
def first_not_finite(model: SpikingTransformer, x: Tensor) -> str:
    """The first parameter, or else the first layer in a pass over `x`, with NaN or infinities."""
    for name, value in model.named_parameters():
        if not torch.isfinite(value).all():
            return f"the weights {name}"
    found: list[str] = []

    def hook(name: str) -> Callable[..., None]:
        def look(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            if not torch.isfinite(output).all():
                found.append(name)
        return look

    leaves = [(n, m) for n, m in model.named_modules() if n and not list(m.children())]
    handles = [module.register_forward_hook(hook(name)) for name, module in leaves]
    try:
        model(x)
    finally:
        for handle in handles:
            handle.remove()
    return f"the output of {found[0]}" if found else "the loss alone"
