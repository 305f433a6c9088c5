"""A network read at its taps, in the place of its last neuron and head."""

from collections.abc import Iterable

from torch import nn, Tensor

from model.families.base import NetworkSpec
from model.families.make import make_network
from model.families.taps import taps


__all__ = ["Backbone"]


class Backbone(nn.Module):
    """Images (B, in_channels, H, W) -> the membranes (T*B, C, H/s, W/s) of its taps.

    Parameters
    ----------
    spec
        The network; ``classes`` has no meaning here.
    stages
        Of `model.families.taps.taps`, whose errors it raises.
    """

    def __init__(self, spec: NetworkSpec, stages: Iterable[str]) -> None:
        super().__init__()
        self.taps = taps(spec, stages)
        self.network = make_network(spec)
        del self.network.lif, self.network.head

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Raises ValueError unless H and W are multiples of the last tap's stride."""
        stride = self.taps[-1].stride
        if x.shape[-1] % stride or x.shape[-2] % stride:
            raise ValueError(f"height and width must be multiples of {stride}, not "
                             f"{x.shape[-2]} and {x.shape[-1]}: fill up with zeros")
        wanted = [tap.name for tap in self.taps]
        found: list[Tensor] = []
        for name, u in self.network.membranes(x):
            if name == wanted[len(found)]:
                found.append(u)
                if len(found) == len(wanted):
                    break
        return tuple(found)
