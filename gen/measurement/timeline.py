"""When each layer of an image has its turn, from the core's log."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gen.machine.cost import spans


__all__ = ["Turn", "timeline"]


@dataclass(frozen=True)
class Turn:
    """A layer's time in an image, or that of fused layers that take turns strip by strip. In a
    sample of several images a layer has a turn in each, "<layer> (image n)" from 0 on.

    Parameters
    ----------
    layers : tuple of str
        In the order of the program.
    start, end : int
        Cycles since the image began.
    """

    layers: tuple[str, ...]
    start: int
    end: int

    @property
    def name(self) -> str:
        """The layer, or the first and the last one of several."""
        if len(self.layers) == 1:
            return self.layers[0]
        return f"{self.layers[0]} to {self.layers[-1]} ({len(self.layers)} layers)"

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"layers": list(self.layers), "start": self.start, "end": self.end}


def timeline(program: Any, records: np.ndarray) -> list[Turn]:
    """The turns of an image, without gaps from its begin to its end.

    A layer has the cycles by which its descriptors prolong the run, as in
    :func:`gen.machine.cost.layer_cycles`; layers whose cycles lie between each other's are one
    turn.

    Parameters
    ----------
    program : gen.isa.program.Program
    records : numpy.ndarray
        The core's log of an image, two words a descriptor.
    """
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    finish = 0
    for descriptor, (_, end) in zip(program.descriptors, spans(records), strict=True):
        layer = descriptor.layer
        if program.steps > 1:
            layer += f" (image {descriptor.step})"
        first.setdefault(layer, finish)
        finish = max(finish, end)
        last[layer] = finish
    turns: list[Turn] = []
    for layer, start in first.items():
        end = last[layer]
        names = [layer]
        # A layer that began before the one in front of it had ended belongs to the same turn.
        while turns and start < turns[-1].end:
            names = [*turns[-1].layers, *names]
            start, end = min(start, turns[-1].start), max(end, turns[-1].end)
            turns.pop()
        turns.append(Turn(tuple(names), start, end))
    return _without_empty(turns)


def _without_empty(turns: Sequence[Turn]) -> list[Turn]:
    """Layers that another one hides have no time of their own: they join the turn before them."""
    result: list[Turn] = []
    for turn in turns:
        if result and turn.end == turn.start:
            before = result.pop()
            turn = Turn((*before.layers, *turn.layers), before.start, before.end)
        result.append(turn)
    return result
