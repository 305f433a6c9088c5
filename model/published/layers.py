"""Neurons of the published heads, and the layers behind them.

They fire round(clip(U, 0, 4)), half to even, of the membrane itself: the backbone's fire 4U. In the
detector the value of a level is the level, in the segmenter level/4. The gradient passes where
0 <= U <= 4.
"""

from torch import nn, Tensor

from model.families.neuron import Sfa


__all__ = ["LEVELS", "BinaryInEvaluation", "Spiking", "neuron"]


LEVELS = 4


def neuron(*, whole: bool) -> Sfa:
    """A neuron that hands on levels, 0..4, if `whole`, else level/4."""
    return Sfa(LEVELS, gain=LEVELS if whole else 1)


class BinaryInEvaluation(Sfa):
    """Levels 0..4 in training; 0 and 1 in evaluation, as the published neck has it by mistake."""

    def __init__(self) -> None:
        super().__init__(LEVELS, gain=LEVELS)

    def forward(self, x: Tensor) -> Tensor:
        fired = super().forward(x)
        return fired if self.training else fired.clamp(max=1)


class Spiking(nn.Module):
    """A neuron and the layer that reads what it fires: ``lif`` and ``layer``."""

    def __init__(self, lif: nn.Module, layer: nn.Module) -> None:
        super().__init__()
        self.lif, self.layer = lif, layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.lif(x))
