"""Synaptic operations and energy by the paper's constants (Eq. 28 to 30): a comparison of networks
on paper, not of hardware.

SOPs of a layer = T * mean level of what it reads * MACs, where the paper writes firing rate times
time steps: the mean level is D times the firing rate over D binary steps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from model.data.dataset import batches, Split
from model.families.base import NetworkSpec
from model.families.network import capture_levels, SpikingTransformer
from model.families.work import work
from model.training.measures import to_input


__all__ = ["attention_energy", "AttentionEnergy", "E_AC", "E_MAC", "E_MULTIPLY", "energy",
           "LayerEnergy", "mean_levels"]


E_MAC, E_AC = 4.6e-12, 0.9e-12
"""Joules of a 32-bit floating-point multiply-accumulate and of an accumulate at 45 nm (Horowitz,
ISSCC 2014), as the paper takes them."""

E_MULTIPLY = E_MAC - E_AC
"""Joules of a 32-bit floating-point multiplication: the accumulate is an addition."""

FACTORS = {2: 1 / 32, 3: 1 / 16, 4: 1 / 8, 8: 1 / 4, 32: 1.0}
"""What a term with weights of so many bits is multiplied with (Eq. 30; 8 bits are not in the paper
and are counted by their number)."""


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
def mean_levels(model: SpikingTransformer, split: Split, *, batch: int = 100) -> dict[str, float]:
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


def energy(spec: NetworkSpec, levels: Mapping[str, float]) -> list[LayerEnergy]:
    """Every layer with these mean levels of its neurons.

    The first layer multiplies (E_MAC), all others accumulate (E_AC): also those inside RepConv and
    SepConv that see multi-bit maps, which the paper counts with the levels that the maps are made
    of. The attention's products have no weights and so no factor of Eq. 30.

    Raises ValueError if the network does not spike.
    """
    if not spec.spikes:
        raise ValueError(f"{spec.name} does not spike")
    rows = []
    bits = {layer.name: spec.bits_of(layer) for layer in spec.layers}
    for item in work(spec):
        mean = levels[item.neuron] if item.neuron else None
        sops = spec.time_steps * item.macs * (1.0 if mean is None else mean)
        joules = sops * (E_MAC if mean is None else E_AC)
        factor = 1.0 if item.reads == "attention" else FACTORS[
            bits.get(item.layer, spec.weight_bits)]
        rows.append(LayerEnergy(item.layer, item.reads, item.macs, mean,
                                0.0 if mean is None else sops, joules, factor * joules))
    return rows


@dataclass(frozen=True)
class AttentionEnergy:
    """One block's attention for one image, in joules (Eq. 29 and Table 7 of the paper).

    block; tokens N and channels D; of the softmax attention of an ANN (MHSA) the projections of
    q, k and v, the two products of attention, scale and softmax, and the last projection; of SDSA
    the RepConvs of q, k and v, both products, and the last RepConv, by their spikes.
    """

    block: str
    tokens: int
    channels: int
    mhsa_qkv: float
    mhsa_products: float
    mhsa_softmax: float
    mhsa_projection: float
    sdsa_qkv: float
    sdsa_products: float
    sdsa_projection: float

    @property
    def mhsa(self) -> float:
        """Joules of MHSA."""
        return (self.mhsa_qkv + self.mhsa_products + self.mhsa_softmax + self.mhsa_projection)

    @property
    def sdsa(self) -> float:
        """Joules of SDSA."""
        return self.sdsa_qkv + self.sdsa_products + self.sdsa_projection


def attention_energy(spec: NetworkSpec, rows: Sequence[LayerEnergy]) -> list[AttentionEnergy]:
    """MHSA against SDSA in every block, of the `rows` of `energy`.

    MHSA by the formulas: E_MAC * 3 N D^2, E_MAC * 2 N^2 D, E_multiply * N^2 + E_MAC * 2 N^2 and
    E_MAC * N D^2. SDSA as it is counted in `rows`, without the factor of quantised weights; its
    products are N D^2 / heads each, for heads do not mix, where Table 7 writes N D^2.
    """
    found = []
    for step in spec.steps:
        if step.kind != "attention":
            continue
        name, n, d = step.name, spec.sizes[step.stage] ** 2, spec.dims[step.stage]
        own = {part: sum(row.joules for row in rows if row.layer.startswith(f"{name}.{part}"))
               for part in ("q_conv", "k_conv", "v_conv", "proj_conv", "KtV", "QKtV")}
        found.append(AttentionEnergy(
            name, n, d, E_MAC * 3 * n * d * d, E_MAC * 2 * n * n * d,
            E_MULTIPLY * n * n + E_MAC * 2 * n * n, E_MAC * n * d * d,
            own["q_conv"] + own["k_conv"] + own["v_conv"], own["KtV"] + own["QKtV"],
            own["proj_conv"]))
    return found
