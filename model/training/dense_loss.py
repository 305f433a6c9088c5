"""What heads for boxes and pixels are to say of a picture, and what it costs that they do not.

Boxes as FCOS (Tian et al., 2019): focal loss (Lin et al., "Focal Loss", 2017, alpha 0.25, gamma 2),
generalised IoU (Rezatofighi et al., 2019) and binary cross entropy of being in the middle, each
summed over places and divided by the number of places with an object. Pixels: cross entropy of
logits that are grown to the picture's size, bilinear, without ignored pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor
from torch.nn import functional as F

from model.data.objects import IGNORED, Objects
from model.decode.locations import DISTANCE_MAX
from model.training.parallel import add_up, world


__all__ = ["box_loss", "LocationTargets", "pixel_loss", "targets_of"]


CENTRE, LARGEST = 1.5, 3.0
"""Strides: how far from a box's centre places stand for it, and the root of the area from which on
a box belongs to the next coarser map."""

ALPHA, GAMMA = 0.25, 2.0


@dataclass(frozen=True, kw_only=True, eq=False)
class LocationTargets:
    """Of the L places of all maps, from the finest map on, by rows, in B pictures.

    labels (B, L) int64, the class, or -1 for none; distances (B, L, 4) float32, to the left, top,
    right and bottom side of the box in strides; middle (B, L) float32, 0..1.
    """

    labels: NDArray[np.int64]
    distances: NDArray[np.float32]
    middle: NDArray[np.float32]


def targets_of(
    objects: Sequence[Objects], sizes: Sequence[tuple[int, int]], strides: Sequence[int]
) -> LocationTargets:
    """The targets of maps of `sizes` (H, W) and `strides`, both from fine to coarse.

    A box belongs to the first map of which three strides are more than the root of its area, else
    to the last. A place of that map stands for the smallest box that it lies in and whose centre is
    at most 1.5 strides away both ways. The place nearest to a box's centre stands for it in any
    case, with a middle of 1; of several boxes the smallest takes it.
    """
    points, step, level = [], [], []
    for i, ((height, width), stride) in enumerate(zip(sizes, strides, strict=True)):
        y, x = (np.mgrid[:height, :width].reshape(2, -1) + 0.5) * stride
        points.append(np.stack([x, y], 1))
        step.append(np.full(height * width, float(stride)))
        level.append(np.full(height * width, i))
    at, unit, owner = np.concatenate(points), np.concatenate(step), np.concatenate(level)
    shape = len(objects), len(at)
    labels = np.full(shape, -1, np.int64)
    distances = np.zeros((*shape, 4), np.float32)
    middle = np.zeros(shape, np.float32)
    for picture, one in enumerate(objects):
        if not len(one):
            continue
        sides = one.boxes[:, 2:] - one.boxes[:, :2]
        area, centres = sides.prod(1), (one.boxes[:, :2] + one.boxes[:, 2:]) / 2
        own = (np.sqrt(area)[:, None] >= LARGEST * np.array(strides[:-1], float)).sum(1)
        reach = np.concatenate([at[:, None] - one.boxes[:, :2], one.boxes[:, 2:] - at[:, None]], 2)
        away = np.abs(at[:, None] - centres)
        good = ((reach.min(2) > 0) & (away.max(2) <= CENTRE * unit[:, None])
                & (owner[:, None] == own))
        best = np.where(good, area, np.inf).argmin(1)
        held = good.any(1)
        nearest = np.zeros(len(at), bool)
        for box in np.argsort(-area, kind="stable"):
            far = np.where(owner == own[box], np.square(at - centres[box]).sum(1), np.inf)
            place = far.argmin()
            best[place], held[place], nearest[place] = box, True, True
        places = np.flatnonzero(held)
        chosen = best[places]
        ltrb = reach[places, chosen]
        inner = np.maximum(ltrb, 0)
        low, high = (f(inner[:, :2], inner[:, 2:]) for f in (np.minimum, np.maximum))
        labels[picture, places] = one.classes[chosen]
        distances[picture, places] = ltrb / unit[places, None]
        middle[picture, places] = np.where(
            nearest[places], 1, np.sqrt((low / np.maximum(high, 1e-9)).prod(1)))
    return LocationTargets(labels=labels, distances=distances, middle=middle)


def box_loss(
    outputs: Mapping[str, Tensor], strides: Sequence[int], wanted: LocationTargets
) -> dict[str, Tensor]:
    """The three parts by name, "class", "box" and "middle", of outputs "cls<s>" (B, K, H, W) and
    "reg<s>" (B, 5, H, W). With several processes their mean is that of all pictures."""
    logits, numbers = (torch.cat([outputs[f"{kind}{s}"].flatten(2).transpose(1, 2)
                                  for s in strides], 1) for kind in ("cls", "reg"))
    device, kind = logits.device, logits.dtype
    labels = torch.from_numpy(wanted.labels).to(device)
    held = labels >= 0
    count = max(add_up(float(held.sum()))[0] / world(), 1.0)
    truth = F.one_hot(labels.clamp(min=0), logits.shape[-1]).to(kind) * held[..., None]
    cross = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    chance = torch.sigmoid(logits)
    missed = torch.where(truth > 0, 1 - chance, chance)
    weight = torch.where(truth > 0, ALPHA, 1 - ALPHA)
    focal = (weight * missed**GAMMA * cross).sum() / count
    real = torch.from_numpy(wanted.distances).to(device)[held].to(kind)
    made = torch.exp(numbers[..., :4][held].clamp(-DISTANCE_MAX, DISTANCE_MAX))
    boxes = (1 - _giou(made, real)).sum() / count
    middle = F.binary_cross_entropy_with_logits(
        numbers[..., 4][held], torch.from_numpy(wanted.middle).to(device)[held].to(kind),
        reduction="sum") / count
    return {"class": focal, "box": boxes, "middle": middle}


def _giou(one: Tensor, two: Tensor) -> Tensor:
    """Generalised IoU (N,), -1..1, of boxes around one point, given by its distances (N, 4) to
    their left, top, right and bottom sides."""
    low, high = torch.minimum(one, two), torch.maximum(one, two)
    shared = (low[:, :2] + low[:, 2:]).clamp(min=0).prod(1)
    hull = (high[:, :2] + high[:, 2:]).prod(1)
    both = sum((x[:, :2] + x[:, 2:]).prod(1) for x in (one, two)) - shared
    return shared / both - (hull - both) / hull


def pixel_loss(logits: Tensor, masks: NDArray[np.uint8]) -> Tensor:
    """Mean cross entropy of logits (B, K, h, w) grown to masks (B, H, W), 0 without a pixel."""
    truth = torch.from_numpy(masks.astype(np.int64)).to(logits.device)
    grown = F.interpolate(logits, size=truth.shape[1:], mode="bilinear", align_corners=False)
    total = F.cross_entropy(grown, truth, ignore_index=IGNORED, reduction="sum")
    return total / (truth != IGNORED).sum().clamp(min=1)
