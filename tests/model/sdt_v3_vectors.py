"""Golden vectors of the published SDT-v3 base model, and the network that they belong to.

tests/data/sdt_v3_tiny*.npz: run in float64 by the published class
``Spiking_vit_MetaFormer_Spike_SepConv`` (BICLab/Spike-Driven-Transformer-V3 at 00fcd1f), evaluation
mode, with random weights of 4 bits by channel, random batch norms (some gains and steps negative)
and fewer blocks. Nothing is trained. Two files, so that each stays below 1 MB.
"""

import json
from pathlib import Path

import numpy as np

from model.families.sdt_v3 import SdtV3Spec


DATA = Path(__file__).resolve().parents[1] / "data"


class Vectors:
    """image_q int8 (1, 3, 64, 64); state, of LSQ layers; levels by the neurons' names here, (1, C,
    H, W), the last (1, C); logits float64 (1, 10)."""

    def __init__(self) -> None:
        arrays = {}
        for name in ("sdt_v3_tiny.npz", "sdt_v3_tiny_weights.npz"):
            with np.load(DATA / name) as archive:
                arrays |= {key: archive[key] for key in archive.files}
        config = json.loads(bytes(arrays["config"]).decode())
        embed = config["embed_dim"]
        self.spec = SdtV3Spec(
            name="sdt_v3_tiny", image_size=config["image"], classes=config["classes"],
            dims=(embed[0] // 2, *embed), depths=(1, 1, 2, config["blocks3"], config["blocks4"]),
            heads=config["heads"], mlp_ratio=config["mlp"], levels=config["D"],
        )
        self.image_q, self.logits = arrays["input_int8"], arrays["logits"]
        self.state: dict[str, np.ndarray] = {}
        self.levels: dict[str, np.ndarray] = {}
        for key, value in arrays.items():
            kind, _, name = key.partition("/")
            if kind == "q":
                alpha = arrays[f"alpha/{name}"]
                step = alpha.reshape(-1, *[1] * (value.ndim - 1))
                self.state[f"{name}.weight"] = value.astype(np.float32) * step
                self.state[f"{name}.alpha"] = alpha
                self.state[f"{name}.init_state"] = np.ones(1, np.float32)
            elif kind == "sd":
                self.state[name] = value
            elif kind == "spike":
                *path, neuron = name.split(".")
                self.levels[".".join((*path, neuron.replace("spike", "lif")))] = value
