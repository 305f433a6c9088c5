"""The smallest network with every part, and pictures that it learns in seconds."""

import numpy as np

from model.data.dataset import Dataset, Split
from model.families.spec import QsdtSpec
from model.training.recipe import Recipe


TINY = QsdtSpec(
    name="tiny",
    in_channels=1,
    image_size=16,
    classes=2,
    dims=(4, 4, 4, 6, 6),
    strides=(2, 1, 2, 1, 1),
    depths=(1, 1, 1, 1, 1),
    conv_expansion=(1, 1, 1),
    mlp_ratio=1,
    heads=2,
    layer_scale_init=0.1,
    norm_mean=(0.3,),
    norm_std=(0.3,),
)

RECIPE = Recipe(epochs=2, batch=8, lr=1e-2, ema_decay=0.9, precision="fp32")


def halves(count: int, seed: int) -> Split:
    """Noise over a bright upper (label 0) or lower (label 1) half: easily told apart."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 120, (count, 16, 16)).astype(np.uint8)
    labels = np.arange(count) % 2
    images[labels == 0, :8] += 120
    images[labels == 1, 8:] += 120
    return Split(images=images, labels=labels)


DATA = Dataset(train=halves(64, 1), val=halves(32, 2), test=halves(32, 3))
