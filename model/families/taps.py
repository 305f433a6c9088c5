"""Where heads for detection and segmentation read the membrane of a network; no torch here.

A tap is the membrane behind the last block of a stage, real and before any neuron. The published
detector and segmenter of the QSD-Transformer have no norm on it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from model.families.base import NetworkSpec


__all__ = ["DETECTION", "SEGMENTATION", "Tap", "taps"]


DETECTION = ("1_2", "2", "3", "4")
"""Stages that the published detector reads."""

SEGMENTATION = ("1_1", "1_2", "2", "4")
"""Stages that the published segmenter reads."""


@dataclass(frozen=True)
class Tap:
    """One map that a head reads.

    stage: of `model.families.base.STAGES`; name: the module behind which the membrane is read;
    channels; stride: pixels of the image from one position to the next.
    """

    stage: str
    name: str
    channels: int
    stride: int


def taps(spec: "NetworkSpec", stages: Iterable[str]) -> tuple[Tap, ...]:
    """The taps of `stages`, in this order; their strides follow from those of the network.

    Raises ValueError on a stage that the network does not have, or that comes before the one that
    stands in front of it.
    """
    found: list[Tap] = []
    last = -1
    for name in stages:
        if name not in spec.stages:
            raise ValueError(f"stage must be one of {', '.join(spec.stages)}, not {name}")
        stage = spec.stages.index(name)
        if stage <= last:
            raise ValueError(f"stages must be in the order of the network, not {name} behind "
                             f"{spec.stages[last]}")
        last = stage
        blocks = [block for block, owner in (*spec.conv_blocks, *spec.transformer_blocks)
                  if owner == stage]
        found.append(Tap(name, blocks[-1], spec.dims[stage], prod(spec.strides[: stage + 1])))
    return tuple(found)
