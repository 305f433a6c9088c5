"""Batch norm and firing in one pass each way, in bfloat16 training on one thread of a CPU.

torch makes a pass over memory of each of their ten operations, which together are a third of a
training step of the small network. Same functions, rounded once instead of after each operation.
Where they do not apply the layers are torch's.
"""

from functools import cache
from typing import Any

import torch
from torch import nn, Tensor
from torch.autograd.function import once_differentiable


__all__ = ["can_fire", "can_normalise", "fire", "normalise"]


@cache
def _kernels() -> Any:
    """The compiled loops; None without numba."""
    try:
        from model.families import kernels
    except ImportError:
        return None
    return kernels


def _usable(x: Tensor) -> bool:
    """Whether `x` belongs to a training step in bfloat16 that one thread of a CPU computes."""
    return (
        x.device.type == "cpu" and torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()
        and torch.get_autocast_dtype("cpu") == torch.bfloat16 and x.requires_grad
        and torch.get_num_threads() == 1 and _kernels() is not None
    )


def can_fire(x: Tensor) -> bool:
    """Whether `fire` takes membranes `x`."""
    return _usable(x) and x.dtype in (torch.float32, torch.bfloat16) and (
        x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last))


def can_normalise(norm: nn.BatchNorm2d, x: Tensor) -> bool:
    """Whether `normalise` takes `norm` and `x` (B, C, H, W)."""
    return (
        _usable(x) and x.dtype == torch.bfloat16 and norm.training
        and x.is_contiguous(memory_format=torch.channels_last) and x.numel() > x.shape[1]
        and norm.weight is not None and norm.weight.dtype == torch.float32
        and norm.running_mean is not None and norm.momentum is not None
        and "forward" not in vars(norm)    # that of several processes
    )


def _like(grad: Tensor, x: Tensor) -> Tensor:
    """`grad` in bfloat16 with the strides of `x`."""
    if grad.dtype == torch.bfloat16 and grad.stride() == x.stride():
        return grad
    return torch.empty_like(x, dtype=torch.bfloat16).copy_(grad)


class _Norm(torch.autograd.Function):
    """Batch norm of (B, C, H, W) by the batch's moments; with levels, what it fires."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: Any, levels: int
    ) -> Tensor:
        channels = x.shape[1]
        y, saved = torch.empty_like(x), torch.empty(4, channels)
        _kernels().norm_forward(
            x.numel() // channels, channels, x.data_ptr(), weight.data_ptr(), bias.data_ptr(),
            norm.running_mean.data_ptr(), norm.running_var.data_ptr(), norm.momentum, norm.eps,
            levels, saved.data_ptr(), y.data_ptr())
        norm.num_batches_tracked.add_(1)
        ctx.save_for_backward(x, saved)
        ctx.fires = levels > 0
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, saved = ctx.saved_tensors
        channels, grad = x.shape[1], _like(grad, x)
        grad_x, affine = torch.empty_like(x), torch.empty(2, channels)
        _kernels().norm_backward(
            x.numel() // channels, channels, x.data_ptr(), grad.data_ptr(), saved.data_ptr(),
            ctx.fires, grad_x.data_ptr(), affine.data_ptr())
        return grad_x, affine[0], affine[1], None, None


class _Fire(torch.autograd.Function):
    """gain*level/levels of a dense membrane in float32 or bfloat16, as bfloat16."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, levels: int, gain: int) -> Tensor:
        y = torch.empty_like(x, dtype=torch.bfloat16)
        fire = _kernels().fire if x.dtype == torch.bfloat16 else _kernels().fire_float
        fire(x.numel(), x.data_ptr(), levels, gain, y.data_ptr())
        ctx.save_for_backward(x)
        ctx.gain = gain
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        grad, grad_x = _like(grad, x), torch.empty_like(x)
        back = _kernels().fire_back if x.dtype == torch.bfloat16 else _kernels().fire_back_float
        back(x.numel(), x.data_ptr(), grad.data_ptr(), ctx.gain, grad_x.data_ptr())
        return grad_x, None, None


def fire(x: Tensor, levels: int, gain: int) -> Tensor:
    """gain*level/levels of membranes `x`, in bfloat16, in which a level of up to 256 is exact."""
    return _Fire.apply(x, levels, gain)


def normalise(norm: nn.BatchNorm2d, x: Tensor, levels: int = 0) -> Tensor:
    """The batch norm of `x` in training, or with `levels` what it fires, level/levels."""
    return _Norm.apply(x, norm.weight, norm.bias, norm, levels)
