"""Fine-grained distillation (FGD): what q, k and v of a network say about which tokens are alike.

Paper Eq. 13 and 14, of which the published code has nothing; the form is that of Q-ViT's
distribution-guided distillation. The teacher is an ANN of the same shape (`QsdtSpec.twin`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn, Tensor
from torch.nn import functional as F

from model.families.network import Attention, QsdTransformer
from model.families.spec import QsdtSpec
from model.training import checkpoint


__all__ = ["capture_operands", "fgd_loss", "load_teacher", "logit_loss", "Operands",
           "similarity"]

_NORM_EPS, _ROOT_EPS = 1e-6, 1e-12
"""A silent head has the similarity 0: without the first it is 0/0, without the second the gradient
of the root there is infinite."""

Operands = list[tuple[Tensor, Tensor, Tensor]]
"""q, k and v of every attention block."""


@contextmanager
def capture_operands(model: nn.Module) -> Iterator[Operands]:
    """Collect (q, k, v) of every attention block, in order, in forward passes inside the block.

    Each is (T*B, heads, tokens, d), with its gradient; clear the list after every pass.
    """
    found: Operands = []
    blocks = [module for module in model.modules() if isinstance(module, Attention)]
    for block in blocks:
        block.record = found
    try:
        yield found
    finally:
        for block in blocks:
            block.record = None


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
            away = similarity(x.float()) - similarity(y.detach().float())
            square = away.square().flatten(2).sum(2) + _ROOT_EPS
            terms.append((square.sqrt() - square.new_tensor(_ROOT_EPS).sqrt()).mean())
    return torch.stack(terms).mean()


def logit_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(teacher || student) of the softmax of logits (B, classes) over T, batch mean."""
    return temperature**2 * F.kl_div(
        F.log_softmax(student / temperature, 1), F.log_softmax(teacher.detach() / temperature, 1),
        reduction="batchmean", log_target=True)


def load_teacher(path: Path, spec: QsdtSpec) -> QsdTransformer:
    """The network of a checkpoint that `model.train` wrote, in evaluation mode.

    Raises ValueError naming what of its shape differs from `spec`, or OSError.
    """
    found = checkpoint.read(path)
    for field in ("image_size", "in_channels", "classes", "heads", "strides", "depths"):
        own, wanted = getattr(found.spec, field), getattr(spec, field)
        if own != wanted:
            raise ValueError(f"{path}: {field} of the teacher must be {wanted}, not {own}")
    teacher = QsdTransformer(found.spec)
    teacher.load_state_dict(checkpoint.tensors(found.state), strict=False)
    return teacher.eval().requires_grad_(False)
