"""Optimisers and the learning rate."""

import math

import torch
from torch import nn

from model.training.recipe import Recipe
from model.training.timm_parts import timm_part


__all__ = ["learning_rate", "optimiser"]


def learning_rate(recipe: Recipe, progress: float) -> float:
    """Learning rate after `progress` epochs."""
    done = progress / recipe.epochs
    if done < recipe.warmup:
        return recipe.lr * done / recipe.warmup
    rest = (done - recipe.warmup) / (1 - recipe.warmup) if recipe.warmup < 1 else 0.0
    cosine = 0.5 * (1 + math.cos(math.pi * min(rest, 1.0)))
    return recipe.lr * (recipe.final_lr + (1 - recipe.final_lr) * cosine)


def optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's, with up to three groups; ``scale`` of a group multiplies the learning rate.

    Weight decay is on tensors of two dimensions or more. Raises ToolMissing without timm for LAMB.
    """
    named = list(model.named_parameters())
    steps = [p for name, p in named if name.endswith(".alpha")]
    matrices = [p for _, p in named if p.ndim >= 2]
    vectors = [p for name, p in named if p.ndim < 2 and not name.endswith(".alpha")]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay, "scale": 1.0},
        {"params": vectors, "weight_decay": 0.0, "scale": 1.0},
        {"params": steps, "weight_decay": 0.0, "scale": recipe.alpha_lr},
    ]
    groups = [group for group in groups if group["params"]]
    if recipe.optimiser == "lamb":
        # As the published code: trust ratios are clipped, gradients are not.
        return timm_part("optim.lamb").Lamb(
            groups, lr=recipe.lr, trust_clip=True, max_grad_norm=None)
    return torch.optim.AdamW(groups, lr=recipe.lr, fused=True)
