"""Neck and heads of the published detector, a Mask R-CNN; real weights and biases, no batch norm.

Network: Qiu et al., "Quantized Spike-driven Transformer", ICLR 2025, and its published code
(https://github.com/bollossom/QSD-Transformer, ``det``: ``SpikeFPN``, ``SpikeRPNHead``,
``SharedSpike2FCBBoxHead``, ``SpikeFCNMaskHead``), with T = 1. Its ReLUs between a layer and a
neuron are left out: the neuron makes 0 of what is negative.
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn, Tensor
from torch.nn import functional as F

from model.published.layers import BinaryInEvaluation, neuron, Spiking


__all__ = ["BOX_SIDE", "MASK_SIDE", "BoxHead", "MaskHead", "RpnMap", "SpikeFpn", "SpikeRpn"]


BOX_SIDE, MASK_SIDE = 7, 14
"""Positions, each way, of what the two heads see of a region."""

_MASK_CONVS = 4


class SpikeFpn(nn.Module):
    """Membranes (B, C_i, H_i, W_i), the finest first -> maps (B, width, H_i, W_i), and more.

    L_i is a 1x1 convolution of what the membrane fires; from coarse to fine L_{i-1} += L_i,
    repeated (nearest) to its size; P_i is a 3x3 convolution of what L_i fires. Further maps have
    every second position of the one before.

    Parameters
    ----------
    channels
        C_i.
    width
        Channels of all maps: 256 for qsdt_t, 384 for qsdt_m.
    outputs
        Maps, at least as many as there are membranes.
    binary_in_evaluation
        Do as published: fire levels in training, but 0 or 1 in evaluation, with which no map is
        the one that was trained.

    Raises
    ------
    ValueError
        With fewer outputs than membranes, and with other membranes than C_i.
    """

    def __init__(
        self, channels: Sequence[int], width: int, *, outputs: int = 5,
        binary_in_evaluation: bool = False,
    ) -> None:
        super().__init__()
        if outputs < len(channels):
            raise ValueError(f"outputs must be at least {len(channels)}, not {outputs}")
        self.channels, self.outputs = tuple(channels), outputs

        def lif() -> nn.Module:
            return BinaryInEvaluation() if binary_in_evaluation else neuron(whole=True)

        self.lateral_convs = nn.ModuleList(
            Spiking(lif(), nn.Conv2d(cin, width, 1)) for cin in channels)
        self.fpn_convs = nn.ModuleList(
            Spiking(lif(), nn.Conv2d(width, width, 3, padding=1)) for _ in channels)

    def forward(self, membranes: Sequence[Tensor]) -> list[Tensor]:
        check_channels(membranes, self.channels)
        laterals = [conv(u) for conv, u in zip(self.lateral_convs, membranes, strict=True)]
        maps = [conv(u) for conv, u in zip(self.fpn_convs, top_down(laterals), strict=True)]
        while len(maps) < self.outputs:
            maps.append(maps[-1][:, :, ::2, ::2])
        return maps


class RpnMap(NamedTuple):
    """What the RPN says of a map with A anchors a position: logits (B, A, H, W) of being an object,
    and deltas (B, 4A, H, W), those of an anchor next to each other."""

    logits: Tensor
    deltas: Tensor


class SpikeRpn(nn.Module):
    """The region proposal network on maps (B, width, H, W) of any number and size: one 3x3 and two
    1x1 convolutions, each behind a neuron, the same for all maps."""

    def __init__(self, width: int, *, anchors: int = 3) -> None:
        super().__init__()
        self.rpn_conv = Spiking(neuron(whole=True), nn.Conv2d(width, width, 3, padding=1))
        self.rpn_cls = Spiking(neuron(whole=True), nn.Conv2d(width, anchors, 1))
        self.rpn_reg = Spiking(neuron(whole=True), nn.Conv2d(width, 4 * anchors, 1))

    def forward(self, maps: Sequence[Tensor]) -> list[RpnMap]:
        hidden = map(self.rpn_conv, maps)
        return [RpnMap(self.rpn_cls(u), self.rpn_reg(u)) for u in hidden]


class BoxHead(nn.Module):
    """Regions (R, width, 7, 7) -> logits (R, classes + 1), the background last, and deltas
    (R, 4 classes), those of a class next to each other.

    Two layers see levels; the last ones see real sums, without a neuron.

    Parameters
    ----------
    width
        Channels of a region.
    hidden
        Channels between the layers: 1024 for qsdt_t, 1536 for qsdt_m.
    classes
        Without the background.
    """

    def __init__(self, width: int, *, hidden: int, classes: int) -> None:
        super().__init__()
        self.shared_fcs = nn.ModuleList(
            Spiking(neuron(whole=True), nn.Linear(cin, hidden))
            for cin in (width * BOX_SIDE**2, hidden))
        self.fc_cls = nn.Linear(hidden, classes + 1)
        self.fc_reg = nn.Linear(hidden, 4 * classes)

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        x = regions.flatten(1)
        for layer in self.shared_fcs:
            x = layer(x)
        return self.fc_cls(x), self.fc_reg(x)


class MaskHead(nn.Module):
    """Regions (R, width, 14, 14) -> logits (R, classes, 28, 28) of belonging to the object: four
    3x3 convolutions, a deconvolution to twice the size and a 1x1, each behind a neuron."""

    def __init__(self, width: int, *, classes: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            Spiking(neuron(whole=True), nn.Conv2d(width, width, 3, padding=1))
            for _ in range(_MASK_CONVS))
        self.upsample = Spiking(neuron(whole=True), nn.ConvTranspose2d(width, width, 2, stride=2))
        self.conv_logits = Spiking(neuron(whole=True), nn.Conv2d(width, classes, 1))

    def forward(self, regions: Tensor) -> Tensor:
        x = regions
        for layer in (*self.convs, self.upsample, self.conv_logits):
            x = layer(x)
        return x


def check_channels(membranes: Sequence[Tensor], channels: Sequence[int]) -> None:
    """Raise ValueError unless there is a membrane (B, C, H, W) for each of `channels`."""
    found = [u.shape[1] if u.ndim == 4 else tuple(u.shape) for u in membranes]
    if found != list(channels):
        raise ValueError(f"membranes must have {', '.join(map(str, channels))} channels, not "
                         f"{', '.join(map(str, found))}")


def top_down(laterals: Sequence[Tensor]) -> list[Tensor]:
    """Each map with the coarser ones behind it added, repeated to its size (nearest)."""
    sums = list(laterals)
    for i in range(len(sums) - 1, 0, -1):
        sums[i - 1] = sums[i - 1] + F.interpolate(sums[i], sums[i - 1].shape[2:], mode="nearest")
    return sums
