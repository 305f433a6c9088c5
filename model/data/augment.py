"""Augmentation of training samples: crops, mirroring, RandAugment, and of events. NumPy, Pillow.

What happens to a picture depends on its seed alone, so that processes which share a batch make
what one process would.
"""

from collections.abc import Callable, Sequence
import math
import random
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray


if TYPE_CHECKING:
    from PIL.Image import Image


__all__ = ["Augmentation", "moved", "resized_crop", "shift_and_flip"]

_TRIES = 10


def shift_and_flip(
    images: NDArray[np.uint8], rng: np.random.Generator, *, shift: int = 2, flip: bool = True
) -> NDArray[np.uint8]:
    """Shift each image (N, H, W) or (N, C, H, W) by up to `shift` pixels each way, filling with
    pixel 0, and mirror half of them left to right if `flip`."""
    count, height, width = images.shape[0], *images.shape[-2:]
    beside = ((0, 0),) * (images.ndim - 2)
    padded = np.pad(images, (*beside, (shift, shift), (shift, shift)))
    down, right = rng.integers(0, 2 * shift + 1, (2, count, 1))
    rows, cols = np.arange(height) + down, np.arange(width) + right
    if flip:
        mirrored = rng.random(count) < 0.5
        cols[mirrored] = cols[mirrored, ::-1]
    if images.ndim == 3:
        return padded[np.arange(count)[:, None, None], rows[:, :, None], cols[:, None, :]]
    number, colour = np.ogrid[:count, : images.shape[1]]
    return padded[
        number[:, :, None, None], colour[:, :, None, None],
        rows[:, None, :, None], cols[:, None, None, :],
    ]


def resized_crop(picture: "Image", rng: random.Random) -> "Image":
    """Cut out 8 % to 100 % of the area with sides of 3:4 to 4:3 and resize it to the whole size,
    bicubic; the middle of the picture if ten draws do not fit (Szegedy et al., as in timm)."""
    from PIL import Image

    width, height = picture.size
    for _ in range(_TRIES):
        area = rng.uniform(0.08, 1.0) * width * height
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = rng.randint(0, width - w), rng.randint(0, height - h)
            break
    else:
        w = h = min(width, height)
        left, top = (width - w) // 2, (height - h) // 2
    box = (left, top, left + w, top + h)
    return picture.resize((width, height), Image.Resampling.BICUBIC, box=box)


def moved(image: NDArray[np.uint8], rng: random.Random) -> NDArray[np.uint8]:
    """Of an image (..., H, W) one of three changes, all its channels alike.

    Rolled by up to a third of each side; turned by up to 30 degrees around its middle, to the
    nearest pixel; or without a rectangle of up to a third of each side around a pixel. Li et al.,
    "Neuromorphic Data Augmentation", ECCV 2022, as SpikingResformer does it once for each sample.
    """
    height, width = image.shape[-2:]
    kind = rng.randrange(3)
    if kind == 0:
        reach = height // 3
        down, right = rng.randint(-reach, reach), rng.randint(-reach, reach)
        return np.roll(image, (down, right), (-2, -1))
    if kind == 1:
        angle = math.radians(rng.uniform(-30, 30))
        y, x = (np.arange(size)[:, None] - (size - 1) / 2 for size in (height, width))
        from_y = np.rint(math.cos(angle) * y - math.sin(angle) * x.T + (height - 1) / 2)
        from_x = np.rint(math.sin(angle) * y + math.cos(angle) * x.T + (width - 1) / 2)
        inside = (from_y >= 0) & (from_y < height) & (from_x >= 0) & (from_x < width)
        rows, columns = (np.where(inside, place, 0).astype(np.int64) for place in (from_y, from_x))
        return np.where(inside, image[..., rows, columns], 0)
    row, column = rng.randrange(height), rng.randrange(width)
    down, right = height // 3 // 2, width // 3 // 2
    kept = image.copy()
    kept[..., max(row - down, 0):row + down, max(column - right, 0):column + right] = 0
    return kept


class Augmentation:
    """Changes a batch of training samples.

    Parameters
    ----------
    crop
        none, shift, resized or nda, see `model.training.recipe.Recipe`.
    flip
        Mirror half of the samples.
    transform
        What else is done to every picture, such as timm's RandAugment, or None. It may draw from
        Python's and NumPy's global generators, which are seeded before.
    """

    def __init__(self, *, crop: str = "shift", flip: bool = True,
                 transform: Callable[["Image"], "Image"] | None = None) -> None:
        self.crop, self.flip, self.transform = crop, flip, transform

    def __call__(self, images: NDArray[np.uint8], rng: np.random.Generator,
                 part: slice) -> NDArray[np.uint8]:
        """Those of the pictures (N, H, W) or (N, 3, H, W) that `part` picks, changed; of frames of
        events (N, T, C, H, W) all of a sample in the same way.

        `rng` draws for all N, whatever the part.
        """
        if images.ndim == 5:
            changed = self(images.reshape(len(images), -1, *images.shape[-2:]), rng, part)
            return changed.reshape(-1, *images.shape[1:])
        if self.crop == "shift" and self.transform is None:
            return shift_and_flip(images, rng, flip=self.flip)[part]
        seeds = rng.integers(0, 1 << 31, len(images))[part]
        if self.crop == "shift":
            images = shift_and_flip(images, rng, flip=False)
        made = [self._changed(image, seed) for image, seed in zip(images[part], seeds.tolist(),
                                                                 strict=True)]
        return np.stack(made) if made else images[part]

    def _changed(self, image: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        rng = random.Random(seed)
        if self.crop == "resized" or self.transform is not None:
            image = self._by_pillow(image, rng, seed)
        elif self.flip and rng.random() < 0.5:
            image = image[..., ::-1]
        return moved(image, rng) if self.crop == "nda" else image

    def _by_pillow(
        self, image: NDArray[np.uint8], rng: random.Random, seed: int
    ) -> NDArray[np.uint8]:
        from PIL import Image

        colour = image.ndim == 3
        picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)) if colour
                                  else image)
        if self.crop == "resized":
            picture = resized_crop(picture, rng)
        if self.flip and rng.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.transform is not None:
            random.seed(seed)
            np.random.seed(seed)
            picture = self.transform(picture)
        changed = np.asarray(picture, np.uint8)
        return changed.transpose(2, 0, 1) if colour else changed


def picture_mean(mean: Sequence[float]) -> int | tuple[int, ...]:
    """What fills the corners of a turned picture: the mean pixel, 0..255."""
    values = tuple(min(max(round(255 * x), 0), 255) for x in mean)
    return values[0] if len(values) == 1 else values
