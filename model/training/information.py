"""What levels tell: histograms, entropies, saturation, and how much of a teacher they carry.

Paper sections 4.1 and 4.2 and Eq. 7, 8 and 11, made measurable: per attention block, head and
tensor (q, k, v and the attention's output), from histograms of levels alone. Entropies are in
bits; the most that levels 0..D can have is log2(D + 1).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

from model.data.dataset import batches, Split
from model.families.network import capture_levels, SpikingTransformer
from model.training.distil import capture_operands, shown
from model.training.measures import to_input


__all__ = ["bimodality", "conditional_entropy", "entropy", "gaussian_entropy", "measure",
           "Measured", "TENSORS"]


BINS = 16
"""Quantile bins of a teacher's real values."""

TENSORS = ("q", "k", "v", "attention")

BIMODAL = 5 / 9
"""Sarle's coefficient of a uniform distribution; two separate peaks have more."""


def entropy(counts: NDArray) -> float:
    """Bits of a histogram."""
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum()) if len(share) > 1 else 0.0


def conditional_entropy(joint: NDArray) -> float:
    """H(S|A) in bits of the joint histogram (A, S)."""
    total = joint.sum()
    return float(sum(row.sum() / total * entropy(row) for row in joint if row.any()))


def bimodality(counts: NDArray) -> float | None:
    """Sarle's coefficient (skewness^2 + 1)/kurtosis of levels 0..D; None if all are equal."""
    levels, share = np.arange(len(counts)), counts / counts.sum()
    away = levels - (share * levels).sum()
    second, third, fourth = ((share * away**n).sum() for n in (2, 3, 4))
    if not second:
        return None
    return float((third**2 / second**3 + 1) / (fourth / second**2))


def gaussian_entropy(mean: float, std: float, levels: int = 4) -> float:
    """Bits of the level that a membrane of N(mean, std^2) fires (Eq. 11, with D = `levels`).

    The thresholds are (2k-1)/2D, since a membrane of 1 fires level D.
    """
    below = [0.5 * math.erfc(-((2 * k - 1) / (2 * levels) - mean) / (std * math.sqrt(2)))
             for k in range(1, levels + 1)]
    return entropy(np.diff([0.0, *below, 1.0]))


@dataclass
class Measured:
    """Counts of one head's tensor, and what follows from them.

    histogram (D + 1,); with a teacher joint (bins, D + 1) and the edges of its bins, else None.
    """

    block: str
    head: int
    tensor: str
    histogram: NDArray[np.int64]
    joint: NDArray[np.int64] | None = None
    edges: NDArray[np.float64] | None = field(default=None, repr=False)

    def add(self, level: Tensor, real: Tensor | None) -> None:
        """Count levels, any shape, and the teacher's values of the same shape."""
        flat = level.flatten().long()
        size = len(self.histogram)
        self.histogram += torch.bincount(flat, minlength=size).numpy()
        if real is None:
            return
        values = real.flatten().double().numpy()
        if self.edges is None or self.joint is None:
            self.edges = np.quantile(values, np.arange(1, BINS) / BINS)
            self.joint = np.zeros((BINS, size), np.int64)
        index = np.searchsorted(self.edges, values, side="right") * size + flat.numpy()
        self.joint += np.bincount(index, minlength=BINS * size).reshape(BINS, size)

    def row(self) -> dict[str, Any]:
        """Plain numbers: entropy, shares, bimodality; H(S|A) and I(S;A) with a teacher."""
        counts, total = self.histogram, int(self.histogram.sum())
        row: dict[str, Any] = {
            "block": self.block, "head": self.head, "tensor": self.tensor,
            "histogram": counts.tolist(),
            "entropy": entropy(counts),
            "mean": float((np.arange(len(counts)) * counts).sum() / total),
            "zero": float(counts[0] / total),
            "top": float(counts[-1] / total),
            "bimodality": bimodality(counts),
        }
        if self.joint is not None:
            row["conditional"] = conditional_entropy(self.joint)
            row["information"] = row["entropy"] - row["conditional"]
        return row


@torch.inference_mode()
def measure(
    model: SpikingTransformer, split: Split, *, teacher: SpikingTransformer | None = None,
    batch: int = 100
) -> list[dict[str, Any]]:
    """A row (`Measured.row`) for every block, head and tensor, on all images of `split`.

    The teacher's tensor is what its attention multiplies; its output has no row of information,
    since only q, k and v are taught. The bins are the quantiles of its values in the first batch.

    Raises ValueError if the network does not spike, or the teacher has other blocks or heads.
    """
    if not model.spec.spikes:
        raise ValueError(f"{model.spec.name} does not spike: name it with --teacher")
    names = [name for name, _ in model.spec.transformer_blocks]
    levels = model.spec.levels
    found = {
        (name, head, tensor): Measured(name, head, tensor, np.zeros(levels + 1, np.int64))
        for name in names for tensor in TENSORS for head in range(model.spec.heads)
    }
    for own, other, top in _passes(model, split, teacher, batch):
        if other is not None and [q.shape for q, _, _ in own] != [q.shape for q, _, _ in other]:
            raise ValueError(f"the teacher must have the blocks, heads and size of "
                             f"{model.spec.name}")
        for i, name in enumerate(names):
            for head in range(model.spec.heads):
                for j, tensor in enumerate("qkv"):
                    level = (own[i][j][:, head] * levels).round()
                    real = None if other is None else other[i][j][:, head]
                    found[name, head, tensor].add(level, real)
                part = top[name].unflatten(1, (model.spec.heads, -1))[:, head]
                found[name, head, "attention"].add(part, None)
    return [part.row() for part in found.values()]


def _passes(
    model: SpikingTransformer, split: Split, teacher: SpikingTransformer | None, batch: int
) -> Iterator[tuple[list, list | None, dict[str, Tensor]]]:
    """Per batch: (q, k, v) of every block, the teacher's, and the attention's levels by block."""
    model.eval()
    for image_q, _ in batches(split, model.spec, batch=batch):
        x = to_input(image_q, model.spec)
        with capture_operands(model) as own, capture_levels(model) as levels:
            model(x)
        top = {name: levels[f"{name}.attn.attn_lif"] for name, _ in model.spec.transformer_blocks}
        if teacher is None:
            yield list(own), None, top
            continue
        _, other = shown(teacher.eval(), x, model.spec.time_steps)
        yield list(own), other, top
