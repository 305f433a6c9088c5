"""Published networks of small widths, and files of them."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from model.families.qsdt import QsdtSpec
from model.integer.export import export
from model.integer.quantise import quantise
from model.published.checkpoint import published_key, read
from model.published.integer import as_network
from model.published.semantic_fpn import SemanticFpn
from tests.model import detseg_vectors


GOLDEN = QsdtSpec(name="golden", classes=1, image_size=64, dims=(8, 16, 32, 16, 64),
                  depths=(1, 1, 1, 1, 1), sep_expansion=1, conv_expansion=(1, 1, 1), mlp_ratio=1,
                  layer_scale_init=0.3)
"""A backbone whose taps have the channels of the golden neck."""


def published(model):
    """Its state dict with published names, and what the published layers keep and never read."""
    state = {published_key(key): value for key, value in model.state_dict().items()}
    unused = {"backbone.downsample1_1.encode_conv.act.alpha": torch.full((1,), float("nan"))}
    return state | unused


def written(path, state, **others):
    """The file that mmsegmentation would write."""
    torch.save({"meta": {"epoch": 3, "dataset_meta": {"classes": ("a", "b")}},
                "state_dict": state, **others}, path)
    return path


def golden_segmenter(seed=0):
    """The golden neck and head, in float32 as files have it, on a random backbone whose batch norms
    have the statistics of noise."""
    torch.manual_seed(seed)
    weights = detseg_vectors.weights("seg_qfpn")
    model = SemanticFpn(GOLDEN, width=16, classes=7).train()
    with torch.no_grad():
        for module in model.backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0.5, 0.5)
        for _ in range(10):
            model.backbone(torch.randn(2, 3, 64, 64))
    state = {key: torch.from_numpy(weights[published_key(key)]) for key in model.state_dict()
             if not key.startswith("backbone.") and not key.endswith("num_batches_tracked")}
    model.load_state_dict(state, strict=False)
    return model.float().eval()


def integer_segmenter():
    """That one in integers, its heads with weights of 8 bits, for images of 32x32."""
    with TemporaryDirectory() as folder:
        found = read(written(Path(folder) / "seg.pth", published(golden_segmenter())))
    spec, state = as_network(found, image_size=32)
    made = quantise(state, replace(spec, name="segmenter"), 8)
    return export(made.state, made.spec)
