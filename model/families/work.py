"""Multiply-accumulates of every layer of a network, and what each of them multiplies; no torch."""

from dataclasses import dataclass
from math import prod

from model.families.base import NetworkSpec
from model.families.parts import Attention


__all__ = ["Work", "work"]


@dataclass(frozen=True)
class Work:
    """One layer for one image and time step.

    layer, its published name, or "<block>.attn.KtV" and ".QKtV"; macs; reads: "image", "level",
    "raw" (a multi-bit map inside RepConv and SepConv) or "attention"; neuron, the module whose
    levels it sees, for a raw map those that the map was made of, "" for the image and for a mean of
    membranes, which is a raw map, too.
    """

    layer: str
    macs: int
    reads: str
    neuron: str


def work(spec: NetworkSpec) -> tuple[Work, ...]:
    """The layers in order of execution; biases and batch norms are not counted."""
    found: list[Work] = []
    made_of = {"image": ""}    # of a map: the neuron whose levels it was made of
    for step in spec.steps:
        side = spec.sizes[step.stage]
        for part in step.parts:
            if isinstance(part, Attention):
                # K^T V and Q (K^T V): a product for a token and a pair of channels of a head.
                pairs = side * side * part.channels * part.values // part.heads
                found.append(Work(f"{step.name}.KtV", pairs, "attention", part.key))
                found.append(Work(f"{step.name}.QKtV", pairs, "attention", part.query))
                continue
            for layer in part.layers:
                neuron = made_of.get(layer.source, layer.source)
                reads = ("image" if layer.source == "image" else
                         "raw" if layer.source in made_of else "level")
                found.append(Work(layer.name, prod(layer.shape) * side * side, reads, neuron))
                if layer.multi_bit:
                    made_of[layer.name] = neuron
    for layer in spec.dense_layers:
        side = spec.image_size // layer.reduction
        found.append(Work(layer.name, prod(layer.shape) * side * side, "level", layer.source))
    if spec.dense_heads is not None:
        return tuple(found)
    reads, neuron = ("level", spec.head.source) if spec.head_fires else ("raw", "")
    found.append(Work("head", prod(spec.head.shape), reads, neuron))
    return tuple(found)
