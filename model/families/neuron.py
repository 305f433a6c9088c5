"""IE-LIF, the neuron that fires an integer level 0..D in one step.

Paper Eq. 9 and the published ``Multispike`` modules: level = floor(clamp(D*x, 0, D) + 0.5), so a
tie fires; no state, no leak, no reset. The neuron hands on level/D, the attention neuron 2*level/D.
"""

import torch
from torch import nn, Tensor


class _Fire(torch.autograd.Function):
    """level/D; straight through where 0 < x < 1, no gradient elsewhere."""

    @staticmethod
    def forward(ctx, x: Tensor, levels: int) -> Tensor:
        ctx.save_for_backward(x)
        # In place on the first result: this is the most frequent operation of the network.
        return (x * levels).clamp_(0, levels).add_(0.5).floor_().div_(levels)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        # grad * (0 < x < 1), strictly, in one kernel.
        return torch.ops.aten.hardtanh_backward(grad, x, 0, 1), None


class IeLif(nn.Module):
    """Elementwise firing: membrane x of any shape -> gain*level/levels, same shape and dtype.

    Parameters
    ----------
    levels
        D, the highest level; at least 1.
    gain
        Factor on the output: 1, or 2 after attention (the published ``Multispike_att``).
    """

    def __init__(self, levels: int = 4, *, gain: int = 1) -> None:
        super().__init__()
        if levels < 1:
            raise ValueError(f"levels must be at least 1, not {levels}")
        self.levels, self.gain = levels, gain

    def level(self, x: Tensor) -> Tensor:
        """The level 0..levels that `forward` fires for membrane `x`, as uint8."""
        return torch.floor(torch.clamp(x * self.levels, 0, self.levels) + 0.5).to(torch.uint8)

    def forward(self, x: Tensor) -> Tensor:
        fired = _Fire.apply(x, self.levels)
        return fired if self.gain == 1 else fired * self.gain

    def extra_repr(self) -> str:
        return f"levels={self.levels}, gain={self.gain}"
