"""Multiply-accumulates of every layer of a network, and what each of them multiplies; no torch."""

from dataclasses import dataclass
from math import prod

from model.families.layout import state_shapes, steps
from model.families.spec import QsdtSpec


__all__ = ["Work", "work"]


@dataclass(frozen=True)
class Work:
    """One layer for one image and time step.

    layer, its published name, or "<block>.attn.KtV" and ".QKtV"; macs; reads: "image", "level",
    "raw" (a multi-bit map inside RepConv and SepConv) or "attention"; neuron, the module whose
    levels it sees, for a raw map those that the map was made of, "" for the image.
    """

    layer: str
    macs: int
    reads: str
    neuron: str


def work(spec: QsdtSpec) -> tuple[Work, ...]:
    """The layers in order of execution; biases and batch norms are not counted."""
    shapes, found = state_shapes(spec), []

    def add(layer: str, side: int, reads: str, neuron: str) -> None:
        found.append(Work(layer, prod(shapes[f"{layer}.weight"]) * side * side, reads, neuron))

    def rep_conv(name: str, side: int, neuron: str) -> None:
        add(f"{name}.0.body.0", side, "level", neuron)
        for part in ("2.0", "2.1"):
            add(f"{name}.0.body.{part}", side, "raw", neuron)

    for name, kind, stage in steps(spec):
        side = spec.sizes[stage]
        if kind == "downsample":
            neuron = f"{name}.encode_lif" if stage else ""
            add(f"{name}.encode_conv", side, "level" if stage else "image", neuron)
        elif kind == "sepconv":
            add(f"{name}.pwconv1", side, "level", f"{name}.lif1")
            add(f"{name}.dwconv", side, "level", f"{name}.lif2")
            add(f"{name}.pwconv2", side, "raw", f"{name}.lif2")
        elif kind == "attention":
            for x in "qkv":
                rep_conv(f"{name}.{x}_conv", side, f"{name}.head_lif")
            # K^T V and Q (K^T V): a product for a token and a pair of channels of a head.
            pairs = side * side * spec.dims[stage] ** 2 // spec.heads
            found.append(Work(f"{name}.KtV", pairs, "attention", f"{name}.k_lif"))
            found.append(Work(f"{name}.QKtV", pairs, "attention", f"{name}.q_lif"))
            rep_conv(f"{name}.proj_conv", side, f"{name}.attn_lif")
        else:
            layers = ("conv1", "conv2") if kind == "convs" else ("fc1_conv", "fc2_conv")
            neurons = ("lif1", "lif2") if kind == "convs" else ("fc1_lif", "fc2_lif")
            for layer, neuron in zip(layers, neurons, strict=True):
                add(f"{name}.{layer}", side, "level", f"{name}.{neuron}")
    add("head", 1, "level", "lif")
    return tuple(found)
