"""Neurons: membranes in, spikes out, of the same shape and dtype.

`IeLif` fires an integer level 0..D in one step: paper Eq. 9 and the published ``Multispike``
modules, level = floor(clamp(D*x, 0, D) + 0.5), so a tie fires; no state, no leak, no reset. It
hands on level/D, the attention's neuron 2*level/D. `LeakyIeLif` and `Lif` keep a membrane over T
time steps (Eq. 1 to 3). `Relu` stands in their places in the ANN twin. `Sfa` is the neuron of the
Spike-driven Transformer V3.
"""

import torch
from torch import nn, Tensor
from torch.nn import functional as F

from model.families import fused
from model.families.base import NetworkSpec
from model.families.qsdt import QsdtSpec
from model.families.sdt_v3 import SdtV3Spec
from model.families.sdt_v3_large import SdtV3LargeSpec


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


class Neuron(nn.Module):
    """What fires levels 0..`levels`, with the value ``gain*level/levels``.

    Batches of T time steps are (T*B, ...), the first time step first.
    """

    def __init__(self, levels: int, *, gain: int = 1) -> None:
        super().__init__()
        if levels < 1:
            raise ValueError(f"levels must be at least 1, not {levels}")
        self.levels, self.gain = levels, gain

    def level(self, x: Tensor) -> Tensor:
        """The level 0..levels that `forward` fires for membrane `x`, as uint8."""
        with torch.no_grad():
            # Not by a call: hooks that record levels must not see it.
            return torch.round(self.forward(x) * (self.levels / self.gain)).to(torch.uint8)

    def extra_repr(self) -> str:
        return f"levels={self.levels}, gain={self.gain}"


class IeLif(Neuron):
    """Elementwise firing: membrane x of any shape -> gain*level/levels, same shape and dtype.

    Parameters
    ----------
    levels
        D, the highest level; at least 1.
    gain
        Factor on the output: 1, or 2 after attention (the published ``Multispike_att``).
    """

    def __init__(self, levels: int = 4, *, gain: int = 1) -> None:
        super().__init__(levels, gain=gain)

    def level(self, x: Tensor) -> Tensor:
        return torch.floor(torch.clamp(x * self.levels, 0, self.levels) + 0.5).to(torch.uint8)

    def forward(self, x: Tensor) -> Tensor:
        if fused.can_fire(x):
            return fused.fire(x, self.levels, self.gain)
        fired = _Fire.apply(x, self.levels)
        return fired if self.gain == 1 else fired * self.gain


class LeakyIeLif(Neuron):
    """IE-LIF with a membrane: U[t] = leak*H[t-1] + x[t], H[t] = U[t] - level[t]/D (Eq. 1, 3, 9).

    What is taken off is what was fired, so that the rounding of one time step is made up for in
    the next. Gradients run through time, and through the firing as in `IeLif`.

    Parameters
    ----------
    levels, gain
        As of `IeLif`.
    time_steps
        T; the input is (T*B, ...).
    leak
        Share of H that is left a time step later, 0..1.
    """

    def __init__(self, levels: int, *, time_steps: int, leak: float, gain: int = 1) -> None:
        super().__init__(levels, gain=gain)
        self.time_steps, self.leak = time_steps, leak

    def forward(self, x: Tensor) -> Tensor:
        left: Tensor | None = None
        fired = []
        for now in x.unflatten(0, (self.time_steps, -1)):
            u = now if left is None else now + self.leak * left
            spikes, taken = self.fire(u)
            left = u - taken
            fired.append(spikes)
        y = torch.cat(fired)
        return y if self.gain == 1 else y * self.gain

    def fire(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """What membranes (B, ...) hand on before the gain, and what is taken off them."""
        value = _Fire.apply(u, self.levels)
        return value, value

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, time_steps={self.time_steps}, leak={self.leak}"


class _Spike(torch.autograd.Function):
    """1 where u >= threshold; the gradient is 1/width where |u - threshold| < width/2 (Eq. 16)."""

    @staticmethod
    def forward(ctx, u: Tensor, threshold: float, width: float) -> Tensor:
        ctx.save_for_backward(u)
        ctx.window = threshold, width
        return (u >= threshold).to(u.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        (u,) = ctx.saved_tensors
        threshold, width = ctx.window
        return grad * ((u - threshold).abs() < width / 2) / width, None, None


class Lif(LeakyIeLif):
    """Binary leaky integrate-and-fire with soft reset, the baseline of the paper (Eq. 1 to 3).

    U[t] = leak*H[t-1] + x[t]; S[t] = 1 where U[t] >= threshold; H[t] = U[t] - threshold*S[t].

    Parameters
    ----------
    time_steps, leak
        As of `LeakyIeLif`; the published Spike-driven Transformer V2 has 4 and 1/2.
    threshold
        V_th: 1, and 1/2 after attention.
    width
        a of the rectangular surrogate gradient (Eq. 16).
    """

    def __init__(
        self, *, time_steps: int, leak: float, threshold: float = 1.0, width: float = 1.0
    ) -> None:
        super().__init__(1, time_steps=time_steps, leak=leak)
        self.threshold, self.width = threshold, width

    def fire(self, u: Tensor) -> tuple[Tensor, Tensor]:
        spikes = _Spike.apply(u, self.threshold, self.width)
        return spikes, self.threshold * spikes

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, threshold={self.threshold}"


class _FireWholeUp(torch.autograd.Function):
    """floor(clamp(x, 0, D) + 1/2); straight through where 0 < x < D, no gradient elsewhere."""

    @staticmethod
    def forward(ctx, x: Tensor, levels: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.levels = levels
        return x.clamp(0, levels).add_(0.5).floor_()

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(grad, x, 0, ctx.levels), None


class _FireWhole(torch.autograd.Function):
    """round(clamp(x, 0, D)), half to even; straight through where 0 <= x <= D."""

    @staticmethod
    def forward(ctx, x: Tensor, levels: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.levels = levels
        return x.clamp(0, levels).round_()

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grad * ((x >= 0) & (x <= ctx.levels)), None


class Sfa(Neuron):
    """Spike firing approximation: membrane x -> gain*level/levels, level = round(clamp(x, 0, D)).

    No state; x is in levels. The published ``MultiSpike`` of the Spike-driven Transformer V3, where
    ``Norm`` is levels/gain: D, and 1 in front of the head.

    Parameters
    ----------
    levels, gain
        As of `IeLif`; gain is D in front of the head.
    half_even
        Whether ties go to the even level; those of the large models go up.
    """

    def __init__(self, levels: int = 4, *, gain: int = 1, half_even: bool = True) -> None:
        super().__init__(levels, gain=gain)
        self.half_even = half_even

    def forward(self, x: Tensor) -> Tensor:
        if self.half_even and fused.can_fire(x):
            return fused.fire(x, self.levels, self.gain, half_even=True)
        fired = (_FireWhole if self.half_even else _FireWholeUp).apply(x, self.levels)
        return fired if self.gain == self.levels else fired / (self.levels / self.gain)


class Relu(nn.Module):
    """max(x, 0), the activation of the ANN twin."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


def make_neuron(
    spec: NetworkSpec, *, attention: bool = False, head: bool = False
) -> nn.Module:
    """The neuron of a network; `attention` for the one behind Q (K^T V), `head` for the last."""
    if isinstance(spec, SdtV3Spec | SdtV3LargeSpec):
        return Sfa(spec.levels, gain=spec.levels if head else 1, half_even=spec.half_even)
    if not isinstance(spec, QsdtSpec):
        raise TypeError(f"{spec.name}: there is no neuron for a {spec.title}")
    if spec.neuron == "relu":
        return Relu()
    if spec.neuron == "lif":
        return Lif(time_steps=spec.time_steps, leak=spec.leak,
                   threshold=0.5 if attention else 1.0)
    gain = 2 if attention else 1
    if spec.leak and spec.time_steps > 1:
        return LeakyIeLif(spec.levels, time_steps=spec.time_steps, leak=spec.leak, gain=gain)
    return IeLif(spec.levels, gain=gain)
