"""Resizing, flipping and cropping of pictures with their boxes and masks, step by step, and the
published pipelines as such steps. NumPy, Pillow.

Pictures are resized with a linear filter, which takes all pixels that it covers when they shrink
(the published code takes the nearest four), masks by the nearest pixel. What happens to a picture
depends on its seed alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
import random

import numpy as np
from numpy.typing import NDArray

from model.data.augment import picture_mean
from model.data.dataset import to_image_q
from model.data.objects import IGNORED, Objects, Sample, Samples
from model.families.base import NetworkSpec


__all__ = ["Batch", "Crop", "Distort", "Either", "Flip", "object_batches", "Pad", "PIPELINES",
           "Placed", "prepare", "Resize", "Step", "steps_for"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """A changed picture, and where its pixels come from: a point (x, y) of the first picture, of
    `size` (H, W), lies at ``scale * (x, y) + shift``, both (2,). `fill` is the pixel of what comes
    in from outside, one number or one a channel."""

    sample: Sample
    size: tuple[int, int]
    scale: NDArray[np.float64]
    shift: NDArray[np.float64]
    fill: int | tuple[int, ...] = 0

    @classmethod
    def whole(cls, sample: Sample, fill: int | tuple[int, ...] = 0) -> "Placed":
        """A picture as it is."""
        return cls(sample=sample, size=sample.size, scale=np.ones(2), shift=np.zeros(2), fill=fill)

    def to_picture(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Boxes (n, 4) of the changed picture in the first one, clipped to it."""
        corners = (np.asarray(boxes, np.float64).reshape(-1, 2, 2) - self.shift) / self.scale
        corners = np.sort(corners, axis=1)
        return np.clip(corners, 0, self.size[::-1]).reshape(-1, 4)


@dataclass(frozen=True, kw_only=True)
class Resize:
    """Resize in proportion to the most that fits one of `within`, each a longer and a shorter side,
    drawn evenly and multiplied by a number drawn from `ratio` (mmcv's ``rescale_size``)."""

    within: tuple[tuple[int, int], ...]
    ratio: tuple[float, float] = (1.0, 1.0)

    def __call__(self, placed: Placed, rng: random.Random) -> Placed:
        longer, shorter = self.within[0] if len(self.within) == 1 else rng.choice(self.within)
        if self.ratio != (1.0, 1.0):
            ratio = rng.uniform(*self.ratio)
            longer, shorter = int(longer * ratio), int(shorter * ratio)
        height, width = placed.sample.size
        factor = min(longer / max(height, width), shorter / min(height, width))
        return _resized(placed, max(1, int(height * factor + 0.5)),
                        max(1, int(width * factor + 0.5)))


@dataclass(frozen=True, kw_only=True)
class Flip:
    """Mirror a share of the pictures left to right."""

    share: float = 0.5

    def __call__(self, placed: Placed, rng: random.Random) -> Placed:
        if rng.random() >= self.share:
            return placed
        one, width = placed.sample, placed.sample.size[1]
        boxes = one.objects.boxes[:, [2, 1, 0, 3]] * (-1, 1, -1, 1) + (width, 0, width, 0)
        flipped = replace(one, image=one.image[..., ::-1],
                          objects=replace(one.objects, boxes=boxes),
                          mask=None if one.mask is None else one.mask[:, ::-1])
        turn = np.array([-1.0, 1.0])
        return replace(placed, sample=flipped, scale=placed.scale * turn,
                       shift=placed.shift * turn + (width, 0))


@dataclass(frozen=True, kw_only=True)
class Crop:
    """Cut out a place whose height and width are drawn evenly from `least` to `most`, at most the
    picture's (mmdetection's RandomCrop, ``absolute_range``).

    Boxes are clipped, those outside go, and a picture may be left without any. With `one_class`
    below 1 up to ten places are tried until more than one class has pixels and none more than that
    share of them, ignored ones aside (mmsegmentation's ``cat_max_ratio``).
    """

    least: int
    most: int
    one_class: float = 1.0

    def __call__(self, placed: Placed, rng: random.Random) -> Placed:
        sides = [rng.randint(min(side, self.least), min(side, self.most))
                 for side in placed.sample.size]
        for _ in range(10):
            places = [rng.randint(0, whole - side)
                      for whole, side in zip(placed.sample.size, sides, strict=True)]
            rows, columns = (slice(place, place + side)
                             for place, side in zip(places, sides, strict=True))
            if placed.sample.mask is None or self.one_class >= 1:
                break
            _, counts = np.unique(
                (seen := placed.sample.mask[rows, columns])[seen != IGNORED], return_counts=True)
            if len(counts) > 1 and counts.max() < self.one_class * counts.sum():
                break
        return _cut(placed, rows, columns)


@dataclass(frozen=True, kw_only=True)
class Pad:
    """Add pixels right and below until the picture has these sides; masks get `IGNORED` there.

    Raises ValueError if it is larger.
    """

    height: int
    width: int

    def __call__(self, placed: Placed, rng: random.Random) -> Placed:
        one = placed.sample
        height, width = one.size
        if height > self.height or width > self.width:
            raise ValueError(f"{one.name or 'a picture'}: has {width}x{height} pixels after "
                             f"resizing, more than the network's {self.width}x{self.height}: "
                             "resize it to less")
        if (height, width) == (self.height, self.width):
            return placed
        image = np.empty((*one.image.shape[:-2], self.height, self.width), np.uint8)
        image[...] = np.reshape(placed.fill, (-1, 1, 1) if image.ndim == 3 else (1, 1))
        image[..., :height, :width] = one.image
        mask = None
        if one.mask is not None:
            mask = np.full((self.height, self.width), IGNORED, np.uint8)
            mask[:height, :width] = one.mask
        return replace(placed, sample=replace(one, image=image, mask=mask))


@dataclass(frozen=True, kw_only=True)
class Distort:
    """Change brightness, contrast, saturation and hue of a picture in colour, each of one in two,
    as mmsegmentation's PhotoMetricDistortion: by up to `brightness` of 255, by factors from
    `contrast` and `saturation`, by up to `hue` of 180. Contrast comes before or after the colours.
    """

    brightness: float = 32
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.5, 1.5)
    hue: float = 18

    def __call__(self, placed: Placed, rng: random.Random) -> Placed:
        from PIL import Image

        image = placed.sample.image
        if image.ndim == 2:
            return placed
        add = rng.uniform(-self.brightness, self.brightness) if rng.random() < 0.5 else 0.0
        late = rng.random() < 0.5
        contrast = rng.uniform(*self.contrast) if rng.random() < 0.5 else 1.0
        saturation = rng.uniform(*self.saturation) if rng.random() < 0.5 else 1.0
        turn = rng.uniform(-self.hue, self.hue) if rng.random() < 0.5 else 0.0
        image = _linear(_linear(image, 1.0, add), 1.0 if late else contrast, 0.0)
        if saturation != 1 or turn:
            colours = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
            hues, saturations, values = colours.convert("HSV").split()
            turned = (np.asarray(hues).astype(np.int64) + round(turn * 256 / 180)) % 256
            colours = Image.merge("HSV", [
                Image.fromarray(turned.astype(np.uint8)),
                Image.fromarray(_linear(np.asarray(saturations), saturation, 0.0)), values])
            image = np.asarray(colours.convert("RGB")).transpose(2, 0, 1)
        image = _linear(image, contrast if late else 1.0, 0.0)
        return replace(placed, sample=replace(placed.sample, image=image))


@dataclass(frozen=True, kw_only=True)
class Either:
    """One of several ways, drawn evenly."""

    ways: tuple[tuple["Step", ...], ...]

    def __call__(self, placed: Placed, rng: random.Random) -> Placed:
        for step in rng.choice(self.ways):
            placed = step(placed, rng)
        return placed


Step = Resize | Flip | Crop | Pad | Distort | Either


_MANY = Resize(within=tuple((1333, short) for short in range(480, 801, 32)))

PIPELINES: dict[str, tuple[Step, ...]] = {
    # det/ of bollossom/QSD-Transformer at cd73383: as DETR's, behind a resize.
    "detection_code": (
        Resize(within=((853, 512),)), Flip(),
        Either(ways=((_MANY,), (Resize(within=((4200, 400), (4200, 500), (4200, 600))),
                                Crop(least=384, most=600), _MANY)))),
    # Its evaluation, and the paper's size (appendix G.2).
    "detection_test": (Resize(within=((1333, 800),)),),
    # seg/ there: ADE20K at 512 x 512.
    "segmentation_code": (
        Resize(within=((2048, 512),), ratio=(0.5, 2.0)), Crop(least=512, most=512, one_class=0.75),
        Flip(), Distort()),
    "segmentation_test": (Resize(within=((2048, 512),)),),
    # The fashion scenes fill the network's image.
    "scenes": (Flip(),),
    "as_they_are": (),
}
"""Steps by name. Pictures of COCO get up to 1333 pixels wide and of ADE20K's test up to 2048: a
network of a fixed size takes `steps_for` its size."""


def steps_for(size: int, *, train: bool) -> tuple[Step, ...]:
    """Pictures of any size for a network of `size` x `size`: the whole picture in its proportions,
    flipped in training, with bars right and below."""
    return (Resize(within=((size, size),)), *((Flip(),) if train else ()),
            Pad(height=size, width=size))


def prepare(sample: Sample, steps: Sequence[Step], seed: int = 0,
            fill: int | tuple[int, ...] = 0) -> Placed:
    """A picture after `steps`, drawn with `seed`."""
    placed, rng = Placed.whole(sample, fill), random.Random(seed)
    for step in steps:
        placed = step(placed, rng)
    return placed


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """B pictures as the network receives them.

    places, which of the data they are (B,); image_q (B, C, H, W) int8; objects, of each picture
    those in it; masks (B, H, W) uint8, or None; placed, where each picture's pixels come from.
    """

    places: NDArray[np.int64]
    image_q: NDArray[np.int8]
    objects: tuple[Objects, ...]
    masks: NDArray[np.uint8] | None
    placed: tuple[Placed, ...]


def object_batches(samples: Samples, spec: NetworkSpec, steps: Sequence[Step], *, batch: int,
                   rng: np.random.Generator | None = None, part: slice = slice(None)
                   ) -> Iterator[Batch]:
    """Batches of all pictures for the network of `spec`: with `rng` shuffled and the incomplete
    last batch dropped, else in order; of every batch only what `part` picks.

    Bars have the mean pixel, whose image_q is 0 within a step. Raises ValueError if a picture does
    not have the network's size after `steps`, and what reading it raises.
    """
    count = len(samples)
    order = np.arange(count) if rng is None else rng.permutation(count)
    seeds = np.zeros(count, np.int64) if rng is None else rng.integers(0, 1 << 31, count)
    fill = picture_mean(spec.norm_mean)
    for start in range(0, count if rng is None else count - count % batch, batch):
        places = order[start : start + batch][part]
        placed = tuple(prepare(samples.sample(int(place)), steps, int(seeds[place]), fill)
                       for place in places)
        for one in placed:
            if one.sample.size != (spec.image_size, spec.image_size):
                height, width = one.sample.size
                raise ValueError(f"{one.sample.name or 'a picture'}: has {width}x{height} pixels, "
                                 f"{spec.name} takes {spec.image_size}x{spec.image_size}: resize "
                                 "and pad it")
        masks = [one.sample.mask for one in placed if one.sample.mask is not None]
        yield Batch(
            places=places, placed=placed, objects=tuple(one.sample.objects for one in placed),
            image_q=to_image_q(np.stack([one.sample.image for one in placed]), spec),
            masks=np.stack(masks) if masks else None,
        )


def _resized(placed: Placed, height: int, width: int) -> Placed:
    from PIL import Image

    one = placed.sample
    if one.size == (height, width):
        return placed
    factors = np.array([width / one.size[1], height / one.size[0]])
    channels = one.image[None] if one.image.ndim == 2 else one.image
    image = np.stack([np.asarray(Image.fromarray(np.ascontiguousarray(channel)).resize(
        (width, height), Image.Resampling.BILINEAR)) for channel in channels])
    mask = None if one.mask is None else np.asarray(
        Image.fromarray(np.ascontiguousarray(one.mask)).resize((width, height),
                                                               Image.Resampling.NEAREST))
    objects = replace(one.objects, boxes=one.objects.boxes * np.tile(factors, 2),
                      areas=one.objects.areas * factors.prod())
    return replace(placed, scale=placed.scale * factors, shift=placed.shift * factors,
                   sample=replace(one, image=image[0] if one.image.ndim == 2 else image, mask=mask,
                                  objects=objects))


def _cut(placed: Placed, rows: slice, columns: slice) -> Placed:
    one = placed.sample
    corner = np.array([columns.start, rows.start])
    boxes = np.clip(one.objects.boxes - np.tile(corner, 2), 0,
                    np.tile([columns.stop - columns.start, rows.stop - rows.start], 2))
    left = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)
    kept, boxes = one.objects[left], boxes[left]
    share = (boxes[:, 2:] - boxes[:, :2]).prod(1) / (
        kept.boxes[:, 2:] - kept.boxes[:, :2]).prod(1)
    return replace(placed, shift=placed.shift - corner, sample=replace(
        one, image=one.image[..., rows, columns],
        mask=None if one.mask is None else one.mask[rows, columns],
        objects=replace(kept, boxes=boxes, areas=kept.areas * share)))


def _linear(image: NDArray[np.uint8], factor: float, add: float) -> NDArray[np.uint8]:
    """``factor * image + add`` as pixels again, cut to 0..255."""
    if factor == 1 and add == 0:
        return image
    return np.clip(factor * image + add, 0, 255).astype(np.uint8)
