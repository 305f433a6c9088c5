"""Small networks with heads for boxes and pixels, of every family."""

from dataclasses import replace

import torch
from torch import nn

from model.families.make import make_network
from model.families.spec import MODELS, QsdtSpec, SdtV3Spec


HEADS = {
    "taps": ["1_1", "1_2", "2", "4"],
    "channels": 8,
    "detector": {"classes": 3, "taps": ["2", "4"], "channels": 12},
    "segmenter": {"classes": 4},
}

QSDT = QsdtSpec(
    name="dense", in_channels=1, image_size=32, dims=(4, 6, 8, 8, 12), depths=(1, 1, 1, 1, 1),
    sep_expansion=1, conv_expansion=(1, 1, 1), mlp_ratio=1, heads=2, layer_scale_init=0.3,
    norm_mean=(0.3,), norm_std=(0.3,), dense_heads=HEADS)

SDT_V3 = SdtV3Spec(**{name: getattr(QSDT, name) for name in (
    "name", "in_channels", "image_size", "dims", "depths", "sep_expansion", "conv_expansion",
    "mlp_ratio", "heads", "norm_mean", "norm_std", "dense_heads")})

LARGE = replace(
    MODELS["sdt_v3_83m"], name="dense", in_channels=1, image_size=32, dims=(4, 6, 8, 8),
    depths=(1, 1, 1, 1), conv_expansion=(1, 1, 1), mlp_ratio=1, heads=2, norm_mean=(0.3,),
    norm_std=(0.3,), layer_scale_init=0.3, dense_heads=HEADS | {
        "taps": ["1_1", "1_2", "2", "3"], "detector": {"classes": 3, "taps": ["2", "3"]}})

FAMILIES = {"qsdt": QSDT, "sdt_v3": SDT_V3, "sdt_v3_large": LARGE}


def with_heads(spec, **changes):
    """The spec with other entries of its heads; None takes one away."""
    given = {**spec.dense_heads.to_dict(), **changes}
    return replace(spec, dense_heads={k: v for k, v in given.items() if v is not None})


def used(spec, seed=0):
    """A network in evaluation mode, float64, whose batch norms have the statistics of noise and
    whose levels are spread; and its state dict as arrays."""
    torch.manual_seed(seed)
    model = make_network(spec).train()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.2, 0.8).mul_(spec.highest)
                module.bias.normal_(0.2, 0.2).mul_(spec.highest)
                module.momentum = 0.5
        side = spec.image_size
        for _ in range(8):
            model(torch.randn(4, spec.in_channels, side, side))
    model = model.double().eval()
    return model, {key: value.float().numpy() if value.is_floating_point() else value.numpy()
                   for key, value in model.state_dict().items()}
