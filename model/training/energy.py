"""Synaptic operations and energy by the paper's constants (Eq. 28 to 30): a comparison of networks
on paper, not of hardware.

SOPs of a layer = T * mean level of what it reads * MACs, where the paper writes firing rate times
time steps: the mean level is D times the firing rate over D binary steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from model.data.dataset import batches, Split
from model.families.network import capture_levels, QsdTransformer
from model.families.spec import QsdtSpec
from model.families.work import work
from model.training.measures import to_input


__all__ = ["E_AC", "E_MAC", "energy", "LayerEnergy", "mean_levels"]


E_MAC, E_AC = 4.6e-12, 0.9e-12
"""Joules of a 32-bit floating-point multiply-accumulate and of an accumulate at 45 nm (Horowitz,
ISSCC 2014), as the paper takes them."""

FACTORS = {2: 1 / 32, 3: 1 / 16, 4: 1 / 8, 32: 1.0}
"""What a term with weights of so many bits is multiplied with (Eq. 30)."""


@dataclass(frozen=True)
class LayerEnergy:
    """One layer: macs, mean level of its input (None for the image), sops, and joules by Eq. 29
    and, quantised, by Eq. 30; for one image."""

    layer: str
    reads: str
    macs: int
    mean_level: float | None
    sops: float
    joules: float
    joules_quantised: float


@torch.inference_mode()
def mean_levels(model: QsdTransformer, split: Split, *, batch: int = 100) -> dict[str, float]:
    """Mean level of every neuron on all images of `split`."""
    sums: dict[str, int] = {}
    counts: dict[str, int] = {}
    model.eval()
    for image_q, _ in batches(split, model.spec, batch=batch):
        with capture_levels(model) as levels:
            model(to_input(image_q, model.spec))
        for name, level in levels.items():
            sums[name] = sums.get(name, 0) + int(level.sum())
            counts[name] = counts.get(name, 0) + level.numel()
    return {name: total / counts[name] for name, total in sums.items()}


def energy(spec: QsdtSpec, levels: Mapping[str, float]) -> list[LayerEnergy]:
    """Every layer with these mean levels of its neurons.

    The first layer multiplies (E_MAC), all others accumulate (E_AC): also those inside RepConv and
    SepConv that see multi-bit maps, which the paper counts with the levels that the maps are made
    of. The attention's products have no weights and so no factor of Eq. 30.

    Raises ValueError if the network does not spike.
    """
    if spec.neuron == "relu":
        raise ValueError(f"{spec.name} does not spike")
    rows = []
    for item in work(spec):
        mean = levels[item.neuron] if item.neuron else None
        sops = spec.time_steps * item.macs * (1.0 if mean is None else mean)
        joules = sops * (E_MAC if mean is None else E_AC)
        factor = 1.0 if item.reads == "attention" else FACTORS[spec.weight_bits]
        rows.append(LayerEnergy(item.layer, item.reads, item.macs, mean,
                                0.0 if mean is None else sops, joules, factor * joules))
    return rows
