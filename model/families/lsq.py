"""Layers whose weights are quantised with a learned step (LSQ), one step per output channel.

Paper Eq. 4 and the published ``quan_w.py``: Q(W) = alpha * round(clip(W/alpha, -2^(b-1),
2^(b-1)-1)), rounding half to even, gradients as in Esser et al., "Learned Step Size
Quantization", ICLR 2020. State: ``weight``, ``alpha`` (out_channels,), ``init_state`` (1,) and,
where there is one, ``bias``.
"""

import math

import torch
from torch import nn, Tensor
from torch.nn import functional as F

from model.families import fused
from model.families.base import code_range, FLOAT_BITS


def bounds(bits: int) -> tuple[int, int]:
    """Smallest and largest quantised weight. Raises ValueError unless bits is 2, 3, 4 or 8."""
    if bits not in (2, 3, 4, 8):
        raise ValueError(f"weight_bits must be 2, 3, 4 or 8, not {bits}")
    return code_range(bits)


class _Quantise(torch.autograd.Function):
    """Q(weight), straight through in range; the step's gradient is scaled by 1/sqrt(n*q_max)."""

    @staticmethod
    def forward(ctx, weight: Tensor, step: Tensor, low: int, high: int) -> Tensor:
        ctx.save_for_backward(weight, step)
        ctx.bounds = low, high
        return torch.round(torch.clamp(weight / step, low, high)) * step

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        weight, step = ctx.saved_tensors
        low, high = ctx.bounds
        ratio = weight / step
        inside = ((ratio >= low) & (ratio <= high)).to(grad.dtype)
        slope = torch.round(torch.clamp(ratio, low, high)) - inside * ratio
        scale = 1.0 / math.sqrt(weight.numel() * high)
        dims = tuple(range(1, weight.ndim))
        return grad * inside, (grad * slope).sum(dims, keepdim=True) * scale, None, None


def quantise(weight: Tensor, alpha: Tensor, bits: int = 4) -> Tensor:
    """Return Q(weight), same shape; `alpha` (out_channels,) goes with the first axis.

    alpha may be negative but not 0. Differentiable in both (Eq. 4 with straight-through).
    """
    low, high = bounds(bits)
    return _Quantise.apply(weight, alpha.view(-1, *[1] * (weight.ndim - 1)), low, high)


def integer_weight(weight: Tensor, alpha: Tensor, bits: int = 4) -> Tensor:
    """Return the int8 codes q of Q(weight) = q * alpha, same shape as `weight`."""
    low, high = bounds(bits)
    ratio = weight / alpha.view(-1, *[1] * (weight.ndim - 1))
    return torch.round(torch.clamp(ratio, low, high)).to(torch.int8)


class LsqLayer(nn.Module):
    """State and start values shared by the quantised layers; subclasses give the product."""

    init_state: Tensor

    def __init__(self, shape: tuple[int, ...], *, bias: bool, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.empty(shape[0])) if bias else None
        if bits != FLOAT_BITS:
            bounds(bits)
            self.alpha = nn.Parameter(torch.empty(shape[0]))
            self.register_buffer("init_state", torch.zeros(1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights and bias as torch's own layers do, then set the steps."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.weight[0].numel())
            nn.init.uniform_(self.bias, -bound, bound)
        if self.bits != FLOAT_BITS:
            self.reset_alpha()

    @torch.no_grad()
    def reset_alpha(self) -> None:
        """Set every step to 2*mean|W|/sqrt(q_max), as the published code does at its first step.

        Done at construction, so that a network is exportable (init_state is 1) at any time.
        """
        self.alpha.copy_(2 * self.weight.abs().mean() / math.sqrt(bounds(self.bits)[1]))
        self.init_state.fill_(1)

    def quantised_weight(self) -> Tensor:
        """Q(weight), the values the layer multiplies with; weight itself with 32 bits."""
        if self.bits == FLOAT_BITS:
            return self.weight
        if fused.can_quantise(self.weight, self.alpha):
            return fused.quantise(self.weight, self.alpha, *bounds(self.bits))
        return quantise(self.weight, self.alpha, self.bits)

    def multiply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The layer's product with any `weight` of its shape, and `bias` added to it."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, bits={self.bits}, bias={self.bias is not None}"


class LsqConv2d(LsqLayer):
    """2-D convolution, square kernel: (B, cin, H, W) -> (B, cout, H', W')."""

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        bias: bool = False,
        bits: int = 4,
    ) -> None:
        super().__init__((cout, cin // groups, kernel, kernel), bias=bias, bits=bits)
        self.stride, self.padding, self.groups = stride, padding, groups
        depthwise = groups == cin == cout and stride == 1 and padding == kernel // 2
        self._fast_gradient = depthwise and kernel >= 7 and not bias

    def forward(self, x: Tensor) -> Tensor:
        weight = self.quantised_weight()
        if self._fast_gradient and fused.can_convolve(x):
            return fused.depthwise(x, weight.bfloat16())
        return self.multiply(x, weight, self.bias)

    def multiply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, weight, bias, self.stride, self.padding, 1, self.groups)


class LsqConv1d(LsqLayer):
    """Pointwise convolution over tokens, kept as a map: (B, cin, H, W) -> (B, cout, H, W).

    The weight has the published Conv1d shape (cout, cin, 1).
    """

    def __init__(self, cin: int, cout: int, *, bias: bool = True, bits: int = 4) -> None:
        super().__init__((cout, cin, 1), bias=bias, bits=bits)

    def forward(self, x: Tensor) -> Tensor:
        return self.multiply(x, self.quantised_weight(), self.bias)

    def multiply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, weight.unsqueeze(-1), bias)


class LsqLinear(LsqLayer):
    """Linear layer: (B, cin) -> (B, cout)."""

    def __init__(self, cin: int, cout: int, *, bias: bool = True, bits: int = 4) -> None:
        super().__init__((cout, cin), bias=bias, bits=bits)

    def forward(self, x: Tensor) -> Tensor:
        return self.multiply(x, self.quantised_weight(), self.bias)

    def multiply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)
