"""Small networks with heads for boxes and pixels, of every family, and pictures for them."""

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from model.data.objects import InMemory, ObjectData, Objects
from model.families.make import make_network
from model.families.spec import MODELS, QsdtSpec, SdtV3Spec
from model.training.recipe import Recipe


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


TOY = QsdtSpec(
    name="toy", in_channels=1, image_size=32, dims=(8, 8, 16, 16, 16), strides=(2, 2, 2, 1, 1),
    depths=(1, 1, 1, 1, 1), stem_kernel=3, sep_expansion=1, conv_expansion=(1, 1, 1), mlp_ratio=1,
    heads=2, layer_scale_init=0.1, norm_mean=(0.4,), norm_std=(0.25,), dense_heads={
        "taps": ["1_1", "1_2", "4"], "channels": 16,
        "detector": {"classes": 2, "taps": ["1_2", "4"], "tower": 1}, "segmenter": {"classes": 3}})
"""A network that finds the objects of `squares` after seconds of training."""

TOY_RECIPE = Recipe(epochs=10, batch=16, lr=1e-2, crop="none", label_smoothing=0.0, clip=5.0,
                    ema_decay=0.9, precision="fp32")


def squares(count, seed):
    """Pictures of 32x32, grey noise with one or two rectangles, bright (class 0) or dark (class 1),
    and their masks."""
    rng = np.random.default_rng(seed)
    images = rng.integers(80, 120, (count, 32, 32)).astype(np.uint8)
    masks, objects = np.zeros_like(images), []
    for image, mask in zip(images, masks, strict=True):
        boxes, classes = [], []
        for half in rng.permutation(2)[:rng.integers(1, 3)]:
            width, height = rng.integers(8, 15, 2)
            left, top = rng.integers(0, 16 - width + 1), rng.integers(0, 32 - height + 1)
            left, kind = left + 16 * half, int(rng.integers(2))
            place = slice(top, top + height), slice(left, left + width)
            image[place] = (230, 10)[kind]
            mask[place] = kind + 1
            boxes.append([left, top, left + width, top + height])
            classes.append(kind)
        objects.append(Objects(boxes=np.array(boxes, float), classes=np.array(classes)))
    return InMemory(images=images, objects=objects, masks=masks, classes=("bright", "dark"),
                    mask_classes=("background", "bright", "dark"))


def toy_data(count, held=8):
    """Three parts of `squares`, of which two have `held` pictures."""
    return ObjectData(train=squares(count, 1), val=squares(held, 2), test=squares(held, 3))
