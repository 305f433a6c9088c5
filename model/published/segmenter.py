"""Neck and head of the published segmenter; real weights, batch norms.

Network: Qiu et al., "Quantized Spike-driven Transformer", ICLR 2025, and its published code
(https://github.com/bollossom/QSD-Transformer, ``seg``: ``QFPN`` and ``QFPNHead``). The value of a
level is level/4.
"""

from collections.abc import Sequence

from torch import nn, Tensor
from torch.nn import functional as F

from model.published.detector import check_channels, top_down
from model.published.layers import neuron, Spiking


__all__ = ["Qfpn", "QfpnHead"]


class Qfpn(nn.Module):
    """Membranes (B, C_i, H_i, W_i), the finest first -> maps (B, width, H_i, W_i).

    L_i is a 1x1 convolution with bias and batch norm of what the membrane fires; from coarse to
    fine L_{i-1} += L_i, repeated to its size; the map is a 3x3 convolution with bias and batch norm
    of what the sum fires.

    Parameters
    ----------
    channels
        C_i.
    width
        Channels of all maps; 128 as published.

    Raises
    ------
    ValueError
        With other membranes than C_i.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.lateral_convs = nn.ModuleList(
            _unit(nn.Conv2d(cin, width, 1)) for cin in channels)
        self.fpn_convs = nn.ModuleList(
            _unit(nn.Conv2d(width, width, 3, padding=1)) for _ in channels)

    def forward(self, membranes: Sequence[Tensor]) -> list[Tensor]:
        check_channels(membranes, self.channels)
        laterals = [conv(u) for conv, u in zip(self.lateral_convs, membranes, strict=True)]
        return [conv(u) for conv, u in zip(self.fpn_convs, top_down(laterals), strict=True)]


class QfpnHead(nn.Module):
    """Maps (B, width, H/s_i, W/s_i) -> logits (B, classes, H/s_0, W/s_0).

    Branch i is a row of units, a 3x3 convolution without bias and batch norm of what its input
    fires. Behind each, the map grows to twice its size (bilinear) while it is coarser than the
    first; the first branch has one unit. The branches are added up, and a 1x1 convolution reads
    what the sum fires.

    Parameters
    ----------
    strides
        s_i, each its predecessor's or a power of two of it: 2, 4, 8, 16 as published, where the
        configuration calls them 4, 8, 16, 32.
    width
        Channels of all maps.
    classes
        Of the pixels.
    upsampling
        "bilinear", as published, or "nearest", as a network in integers has it.

    Raises
    ------
    ValueError
        If a stride is not one of those.
    """

    def __init__(self, strides: Sequence[int], width: int, *, classes: int,
                 upsampling: str = "bilinear") -> None:
        super().__init__()
        self.strides, self.upsampling = tuple(strides), upsampling
        branches: list[nn.ModuleList] = []
        for stride in strides:
            times = (stride // strides[0]).bit_length() - 1
            if stride != strides[0] << max(times, 0):
                raise ValueError(f"strides must be {strides[0]} times a power of two, not {stride}")
            branches.append(nn.ModuleList(
                _unit(nn.Conv2d(width, width, 3, padding=1, bias=False))
                for _ in range(max(times, 1))))
        self.scale_heads = nn.ModuleList(branches)
        self.out = Spiking(neuron(whole=False), nn.Conv2d(width, classes, 1))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        sums = []
        for i, (stride, x) in enumerate(zip(self.strides, maps, strict=True)):
            for unit in self.get_submodule(f"scale_heads.{i}").children():
                x = unit(x)
                if stride != self.strides[0]:
                    x = F.interpolate(x, scale_factor=2, mode=self.upsampling)
            sums.append(x)
        return self.out(sum(sums[1:], sums[0]))


def _unit(conv: nn.Conv2d) -> Spiking:
    return Spiking(neuron(whole=False), nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels)))
