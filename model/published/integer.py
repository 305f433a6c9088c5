"""The published segmenter as a network of this project, whose heads may be quantised.

Neck, head and neurons stay what they are; only the bilinear maps inside the head become nearest
neighbours, since bilinear levels are no levels. Weights are taken as they stand: real ones in the
heads. `model.integer.quantise` makes integers of them.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
import torch

from model.families.base import FLOAT_BITS, NetworkSpec
from model.families.dense import DenseHeads, Segmenter
from model.families.taps import SEGMENTATION, taps
from model.published.checkpoint import Published, SEGMENTER, segmenter_of


__all__ = ["IMAGE_SIZE", "as_network", "logits"]


IMAGE_SIZE = 512
"""Side of the crops that the published segmenter is trained on."""

_LEVEL_BITS, _SUM_BITS = 3, 16
"""Bits that a level and a sum take when they are read out."""

_UNREAD = ".num_batches_tracked"


def as_network(found: Published, *, image_size: int = IMAGE_SIZE
               ) -> tuple[NetworkSpec, dict[str, NDArray]]:
    """Spec and state dict, as of a network of `model.train`, of a published segmenter.

    The levels in front of the last convolution are read out where they take less than the sums of
    all classes; the host then computes it.

    Raises ValueError on a detector, whose box head reads real sums.
    """
    if found.kind != SEGMENTER:
        raise ValueError(
            "is a detector: its box head reads real sums (fc_cls and fc_reg have no neuron) of "
            "regions that a host aligns, so that it has no integer form; segmenters have one. "
            "For boxes in hardware train QSD-Det (qsdt train --task detect)")
    width, classes = found.sizes["width"], found.sizes["classes"]
    heads = DenseHeads(
        taps=SEGMENTATION, channels=width, neuron="published", weight_bits=FLOAT_BITS,
        segmenter=Segmenter(classes=classes, kind="faithful",
                            on_host=_SUM_BITS * classes > _LEVEL_BITS * width))
    spec = replace(found.spec, image_size=image_size, classes=classes, dense_heads=heads)
    names = _names(spec)
    state = {}
    for key, value in found.state.items():
        layer, _, part = key.rpartition(".")
        if not key.endswith(_UNREAD):
            state[f"{names.get(layer, layer.removeprefix('backbone.network.'))}.{part}"] = value
    return spec, state


@torch.inference_mode()
def logits(found: Published, image_q: NDArray[np.int8], *, upsampling: str
           ) -> NDArray[np.float64]:
    """Logits (N, classes, H/2, W/2) of the published segmenter in float64, one image at a time.

    image_q: images (N, C, H, W) in steps of 1/`image_scale`; upsampling: as of `QfpnHead`.
    """
    model = segmenter_of(found, upsampling=upsampling).double()
    return np.concatenate([
        model(torch.from_numpy(x[None] / float(found.spec.image_scale))).numpy()
        for x in image_q])


def _names(spec: NetworkSpec) -> Mapping[str, str]:
    """Names of the modules of `model.published.semantic_fpn.SemanticFpn` -> ours."""
    found = {"head.out.layer": "segmenter.head"}
    for i, tap in enumerate(taps(spec, SEGMENTATION)):
        units = [f"segmenter.branch{tap.stride}_unit{j}" for j in range(i)]
        modules = {f"neck.lateral_convs.{i}": f"neck.lateral{tap.stride}",
                   f"neck.fpn_convs.{i}": f"neck.output{tap.stride}"}
        modules |= {f"head.scale_heads.{i}.{j}": name for j, name in enumerate(
            units or [f"segmenter.branch{tap.stride}"])}
        for theirs, ours in modules.items():
            found |= {f"{theirs}.layer.0": f"{ours}_conv", f"{theirs}.layer.1": f"{ours}_bn"}
    return found
