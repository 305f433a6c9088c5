"""Golden vectors of the published detection and segmentation modules.

tests/data/detseg/*.npz: run in float64 by the published code (bollossom/QSD-Transformer at cd73383,
``det`` and ``seg``) with small widths and random weights; see `arrays` for how they are named. The
weights of the backbone are kept as codes and steps, of which the published layers make the same
values; maps that two taps share are kept once.
"""

from functools import cache
from pathlib import Path

import numpy as np

from model.families.infer import infer_spec
from model.families.qsdt import QsdtSpec


ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests/data/detseg"
SHARED = ROOT.parent / "shared/vectors/detseg"
"""Where the arrays come from; not in the repository."""


@cache
def arrays(name):
    """The arrays of a file: ``w/<published key>`` weights, ``lv/<published path>`` the uint8 levels
    of a neuron, others maps (T = 1, B, C, H, W) or (B, C, H, W) in float64."""
    with np.load(DATA / f"{name}.npz") as archive:
        return {key: archive[key] for key in archive.files}


def weights(name):
    """Published key -> array."""
    return {key.removeprefix("w/"): value for key, value in arrays(name).items()
            if key.startswith("w/")}


@cache
def backbone_state():
    """Published key -> array of the backbone, with LSQ layers as in a checkpoint."""
    state = {}
    for key, value in arrays("backbone_taps").items():
        if key.startswith("w/"):
            state[key.removeprefix("w/")] = value
    for key, codes in arrays("backbone_taps").items():
        if key.startswith("q/"):
            name = key.removeprefix("q/")
            step = state[f"{name}.alpha"].reshape(-1, *[1] * (codes.ndim - 1))
            state[f"{name}.weight"] = codes.astype(np.float32) * step
            state[f"{name}.init_state"] = np.ones(1, np.float32)
    return state


def backbone_spec() -> QsdtSpec:
    """The network of `backbone_state`."""
    spec = infer_spec(backbone_state() | {"head.weight": np.zeros((1, 24))}, heads=8,
                      name="taps", image_size=64)
    assert isinstance(spec, QsdtSpec)
    return spec
