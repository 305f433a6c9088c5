"""Golden vectors of the published large SDT-v3, and the network that they belong to.

tests/data/sdt_v3_large_tiny.npz: run in float64 by the published class ``Spikformer`` of
``Model_Large`` (BICLab/Spike-Driven-Transformer-V3 at 00fcd1f), evaluation mode, with random
weights, random batch norms (some gains negative) and two blocks. Nothing is trained. The weights
are codes of 4 bits times a step of each channel, their product in float64.
"""

import json
from pathlib import Path

import numpy as np

from model.families.merge import merge_chains
from model.families.sdt_v3_large import SdtV3LargeSpec


DATA = Path(__file__).resolve().parents[1] / "data" / "sdt_v3_large_tiny.npz"


class Vectors:
    """image_q int8 (1, 3, 64, 64); published, the state dict with real weights as it is there;
    state, with merged chains, whose network `spec` is; mixed, the same with codes of 4 bits where
    nothing was merged; levels by the neurons' names here, (1, C, H, W), "lif" (1, C); logits
    float64 (1, 10)."""

    def __init__(self) -> None:
        with np.load(DATA) as archive:
            arrays = {key: archive[key] for key in archive.files}
        config = json.loads(bytes(arrays["config"]).decode())
        embed = config["embed_dim"]
        self.spec = SdtV3LargeSpec(
            name="sdt_v3_large_tiny", image_size=config["image"], classes=config["classes"],
            dims=(embed[0] // 2, *embed), depths=(1, 1, 2, config["depth"]), weight_bits=32,
            heads=config["heads"], mlp_ratio=config["mlp"], levels=config["D"],
        )
        self.image_q, self.logits = arrays["input_int8"], arrays["logits"]
        self.published: dict[str, np.ndarray] = {}
        self.levels: dict[str, np.ndarray] = {}
        steps: dict[str, dict[str, np.ndarray]] = {}
        sizes = dict(zip(("1_1", "1_2", "2", "3"), self.spec.sizes, strict=True))
        for key, value in arrays.items():
            kind, _, name = key.partition("/")
            if kind == "q":
                step = arrays[f"alpha/{name}"].astype(np.float64)
                self.published[f"{name}.weight"] = value * step.reshape(-1, *[1] * (value.ndim - 1))
                steps[name] = {f"{name}.weight.q": value,
                               f"{name}.alpha": arrays[f"alpha/{name}"]}
            elif kind == "sd":
                self.published[name] = value
            elif kind == "spike":
                channels = value.shape[2]
                side = sizes["3"] if name.startswith("block3") else value.shape[-1]
                shape = (1, channels) if name == "lif" else (1, channels, side, side)
                self.levels[name.replace("neuron", "lif")] = value.reshape(shape)
        self.state = merge_chains(self.published)
        self.mixed = self.state | {
            key: value for name, codes in steps.items() if f"{name}.weight" in self.state
            for key, value in codes.items()}
