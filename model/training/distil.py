"""Fine-grained distillation (FGD): what q, k and v of a network say about which tokens are alike.

Paper Eq. 13 and 14, of which the published code has nothing; the form is that of Q-ViT's
distribution-guided distillation. The teacher is an ANN of the same shape (`QsdtSpec.twin`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn, Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from model.families.base import NetworkSpec
from model.families.make import make_network
from model.families.network import SpikeAttention, SpikingTransformer
from model.training import checkpoint


__all__ = ["capture_operands", "fgd_loss", "load_teacher", "logit_loss", "Operands", "shown",
           "similarity"]

_NORM_EPS, _ROOT_EPS = 1e-6, 1e-12
"""A silent head has the similarity 0: without the first it is 0/0, without the second the gradient
of the root there is infinite."""

_LANES = 16
"""float32 numbers in a vector register."""

Operands = list[tuple[Tensor, Tensor, Tensor]]
"""q, k and v of every attention block."""


@contextmanager
def capture_operands(model: nn.Module) -> Iterator[Operands]:
    """Collect (q, k, v) of every attention block, in order, in forward passes inside the block.

    Each is (T*B, heads, tokens, d), with its gradient; clear the list after every pass.
    """
    found: Operands = []
    blocks = [module for module in model.modules() if isinstance(module, SpikeAttention)]
    for block in blocks:
        block.record = found
    try:
        yield found
    finally:
        for block in blocks:
            block.record = None


def shown(teacher: SpikingTransformer, x: Tensor, steps: int) -> tuple[Tensor, Operands]:
    """The teacher's logits and operands, the operands repeated for the time steps of a student.

    Every time step learns from the same picture; of frames of events (T, B, C, H, W) that is their
    sum, all events in one frame.
    """
    with capture_operands(teacher) as found:
        logits = teacher(x.sum(0) if x.ndim == 5 else x)
    if steps == 1:
        return logits, list(found)
    return logits, [(q.repeat(steps, 1, 1, 1), k.repeat(steps, 1, 1, 1), v.repeat(steps, 1, 1, 1))
                    for q, k, v in found]


def similarity(x: Tensor) -> Tensor:
    """X X^T over its Frobenius norm: (B, heads, tokens, d) -> (B, heads, tokens, tokens)."""
    gram = x @ x.transpose(-2, -1)
    return gram / (gram.flatten(2).norm(dim=2)[..., None, None] + _NORM_EPS)


def fgd_loss(student: Operands, teacher: Operands) -> Tensor:
    """Mean over blocks, heads, images and q, k, v of ||G_student - G_teacher||, each 0..sqrt(2).

    Gradients reach the student alone. Raises ValueError unless both have the same blocks, heads
    and tokens.
    """
    if len(student) != len(teacher):
        raise ValueError(f"the teacher must have {len(student)} attention blocks, "
                         f"not {len(teacher)}")
    terms = []
    for own, other in zip(student, teacher, strict=True):
        for x, y in zip(own, other, strict=True):
            if x.shape[:3] != y.shape[:3]:
                raise ValueError(f"images, heads and tokens of the teacher must be "
                                 f"{tuple(x.shape[:3])}, not {tuple(y.shape[:3])}")
            terms.append(_distance(x, y).mean())
    return torch.stack(terms).mean()


class _Distance(torch.autograd.Function):
    """||G_x - G_y|| of (B, heads, tokens, d) and (B, heads, tokens, e), (B, heads).

    Without the similarities: of X X^T and Y Y^T inner products alone are needed, and
    <X X^T, Y Y^T> = ||X^T Y||^2, a small matrix where the similarities have tokens x tokens. With
    zeros up to w columns each, a multiple of 16, the products are twice as fast. The gradient is
    that of x alone.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        width = -(-max(x.shape[-1], y.shape[-1]) // _LANES) * _LANES
        both = x.new_zeros(*x.shape[:-1], 2 * width)
        both[..., : x.shape[-1]] = x
        both[..., width : width + y.shape[-1]] = y
        products = both.transpose(-2, -1) @ both
        own, other, cross = (
            torch.linalg.vector_norm(products[..., rows, columns], dim=(-2, -1))
            for rows, columns in (
                (slice(width), slice(width)), (slice(width, None), slice(width, None)),
                (slice(width), slice(width, None))))
        norm, norm_y = own + _NORM_EPS, other + _NORM_EPS
        square = (own * own / (norm * norm) + other * other / (norm_y * norm_y)) - (
            2 * cross * cross / (norm * norm_y))
        root = (square.clamp(min=0) + _ROOT_EPS).sqrt()
        # Of a silent head the norm has no gradient.
        bent = (cross * cross / norm_y - own * own / norm) / (norm * norm * own)
        bent = torch.where(own > 0, bent, torch.zeros_like(own))
        ctx.save_for_backward(both, products, (2 / root) * (1 / (norm * norm) + bent),
                              (-2 / root) / (norm * norm_y))
        ctx.size = x.shape[-1]
        return root - root.new_tensor(_ROOT_EPS).sqrt()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        both, products, of_own, of_cross = ctx.saved_tensors
        factors = torch.stack((grad * of_own, grad * of_cross), -1)[..., None, None]
        width = products.shape[-1] // 2
        slope = products[..., :width].unflatten(-2, (2, width)) * factors
        return (both @ slope.flatten(-3, -2))[..., : ctx.size], None


def _distance(x: Tensor, y: Tensor) -> Tensor:
    """`_Distance` in float32 at least."""
    return _Distance.apply(*(z if z.dtype == torch.float64 else z.float() for z in (x, y)))


def logit_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(teacher || student) of the softmax of logits (B, classes) over T, batch mean."""
    return temperature**2 * F.kl_div(
        F.log_softmax(student / temperature, 1), F.log_softmax(teacher.detach() / temperature, 1),
        reduction="batchmean", log_target=True)


def load_teacher(path: Path, spec: NetworkSpec) -> SpikingTransformer:
    """The network of a checkpoint that `model.train` wrote, in evaluation mode.

    Raises ValueError naming what of its shape differs from `spec`, or OSError.
    """
    found = checkpoint.read(path)
    for field in ("image_size", "in_channels", "image_scale", "classes", "heads", "strides",
                  "depths"):
        own, wanted = getattr(found.spec, field), getattr(spec, field)
        if own != wanted:
            raise ValueError(f"{path}: {field} of the teacher must be {wanted}, not {own}")
    teacher = make_network(found.spec)
    teacher.load_state_dict(checkpoint.tensors(found.state), strict=False)
    return teacher.eval().requires_grad_(False)
