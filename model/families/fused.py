"""Batch norm, firing, LSQ and depthwise gradients for training in bfloat16 on one thread of a CPU.

torch makes a pass over memory of each of the ten operations of a batch norm and a neuron, and of
the seventeen of a quantised weight; together they are a third of a training step of the small
network. Here each is one pass forwards and one or two back: the same functions, rounded once
instead of after each operation. Where they do not apply the layers are torch's.
"""

from functools import cache
import math
from typing import Any

import torch
from torch import nn, Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


__all__ = ["can_convolve", "can_fire", "can_normalise", "can_quantise", "depthwise", "fire",
           "normalise", "quantise"]


@cache
def _kernels() -> Any:
    """The compiled loops; None without numba."""
    try:
        from model.families import kernels
    except ImportError:
        return None
    return kernels


def _rule(half_even: bool) -> Any:
    """How a membrane fires, and what gradient passes."""
    return _kernels().HALF_EVEN if half_even else _kernels().HALF_UP


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


def can_quantise(weight: Tensor, alpha: Tensor) -> bool:
    """Whether `quantise` takes weights and steps."""
    return _usable(weight) and weight.dtype == alpha.dtype == torch.float32 and (
        weight.is_contiguous() or weight.is_contiguous(memory_format=torch.channels_last))


def can_convolve(x: Tensor) -> bool:
    """Whether `depthwise` takes maps `x` (B, C, H, W)."""
    return _usable(x) and x.dtype == torch.bfloat16 and x.is_contiguous(
        memory_format=torch.channels_last)


def _like(grad: Tensor, x: Tensor) -> Tensor:
    """`grad` in bfloat16 with the strides of `x`."""
    if grad.dtype == torch.bfloat16 and grad.stride() == x.stride():
        return grad
    return torch.empty_like(x, dtype=torch.bfloat16).copy_(grad)


class _Norm(torch.autograd.Function):
    """Batch norm of (B, C, H, W) by the batch's moments; with levels, what it fires."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: Any, levels: int, half_even: bool
    ) -> Tensor:
        channels, (fired, passed) = x.shape[1], _rule(half_even)
        y, saved = torch.empty_like(x), torch.empty(4, channels)
        _kernels().norm_forward(
            x.numel() // channels, channels, x.data_ptr(), weight.data_ptr(), bias.data_ptr(),
            norm.running_mean.data_ptr(), norm.running_var.data_ptr(), norm.momentum, norm.eps,
            levels, fired, saved.data_ptr(), y.data_ptr())
        norm.num_batches_tracked.add_(1)
        ctx.save_for_backward(x, saved)
        ctx.rule = levels, passed
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, saved = ctx.saved_tensors
        channels, grad = x.shape[1], _like(grad, x)
        grad_x, affine = torch.empty_like(x), torch.empty(2, channels)
        _kernels().norm_backward(
            x.numel() // channels, channels, x.data_ptr(), grad.data_ptr(), saved.data_ptr(),
            *ctx.rule, grad_x.data_ptr(), affine.data_ptr())
        return grad_x, affine[0], affine[1], None, None, None


class _Fire(torch.autograd.Function):
    """gain*level/levels of a dense membrane in float32 or bfloat16, as bfloat16."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, levels: int, gain: int, half_even: bool) -> Tensor:
        y = torch.empty_like(x, dtype=torch.bfloat16)
        fire = _kernels().fire if x.dtype == torch.bfloat16 else _kernels().fire_float
        fired, passed = _rule(half_even)
        fire(x.numel(), x.data_ptr(), levels, gain, fired, y.data_ptr())
        ctx.save_for_backward(x)
        ctx.rule = levels, gain, passed
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        grad, grad_x = _like(grad, x), torch.empty_like(x)
        back = _kernels().fire_back if x.dtype == torch.bfloat16 else _kernels().fire_back_float
        back(x.numel(), x.data_ptr(), grad.data_ptr(), *ctx.rule, grad_x.data_ptr())
        return grad_x, None, None, None


class _Quantise(torch.autograd.Function):
    """LSQ in float32, the result in bfloat16."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, alpha: Tensor, low: int, high: int) -> Tensor:
        y = torch.empty_like(weight, dtype=torch.bfloat16)
        rows = len(alpha)
        _kernels().quantise(rows, weight.numel() // rows, weight.data_ptr(), alpha.data_ptr(),
                            low, high, y.data_ptr())
        ctx.save_for_backward(weight, alpha)
        ctx.bounds = low, high
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, alpha = ctx.saved_tensors
        low, high = ctx.bounds
        grad, rows = _like(grad, weight), len(alpha)
        grad_weight, grad_alpha = torch.empty_like(weight), torch.empty_like(alpha)
        _kernels().quantise_back(
            rows, weight.numel() // rows, weight.data_ptr(), alpha.data_ptr(), low, high,
            grad.data_ptr(), 1 / math.sqrt(weight.numel() * high), grad_weight.data_ptr(),
            grad_alpha.data_ptr())
        return grad_weight, grad_alpha, None, None


class _Depthwise(torch.autograd.Function):
    """torch's depthwise "same" convolution with a weight gradient of ours.

    On CPUs without AMX that of oneDNN takes 4 to 6 times as long.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, None, 1, weight.shape[-1] // 2, 1, x.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        grad = _like(grad, x)
        batch, channels, height, width = x.shape
        kernel = weight.shape[-1]
        grad_x = torch.ops.aten.convolution_backward(
            *(grad, x, weight, [0], [1, 1], [kernel // 2] * 2, [1, 1], False, [0, 0], channels),
            [True, False, False],
        )[0]
        taps = torch.empty(kernel * kernel, channels)
        _kernels().depthwise_taps(batch, height, width, channels, kernel, x.data_ptr(),
                                  grad.data_ptr(), taps.data_ptr())
        return grad_x, taps.t().reshape(weight.shape).bfloat16()


def quantise(weight: Tensor, alpha: Tensor, low: int, high: int) -> Tensor:
    """`lsq.quantise` of any `weight` (out_channels, ...) to codes low..high, in bfloat16."""
    return _Quantise.apply(weight, alpha, low, high)


def depthwise(x: Tensor, weight: Tensor) -> Tensor:
    """Depthwise "same" convolution without bias; `weight` (C, 1, k, k), k odd, in bfloat16."""
    return _Depthwise.apply(x, weight)


def fire(x: Tensor, levels: int, gain: int, *, half_even: bool = False) -> Tensor:
    """gain*level/levels of membranes `x`, in bfloat16, in which a level of up to 256 is exact.

    As `model.families.neuron.IeLif`, with `half_even` as `model.families.neuron.Sfa`.
    """
    return _Fire.apply(x, levels, gain, half_even)


def normalise(
    norm: nn.BatchNorm2d, x: Tensor, levels: int = 0, *, half_even: bool = False
) -> Tensor:
    """The batch norm of `x` in training, or with `levels` what it fires, level/levels."""
    return _Norm.apply(x, norm.weight, norm.bias, norm, levels, half_even)
