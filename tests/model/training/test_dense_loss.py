"""Targets and losses of boxes and pixels: against the rules, and against the decoding."""

import numpy as np
import pytest
import torch

from model.data.objects import IGNORED, Objects
from model.decode.locations import location_detections, LocationMap
from model.training.dense_loss import box_loss, pixel_loss, targets_of


SIZES, STRIDES = [(8, 8), (4, 4)], (8, 16)


def boxes(*rows, classes=None):
    return Objects(boxes=np.array(rows, float), classes=np.arange(len(rows)) if classes is None
                   else np.array(classes))


def perfect(wanted, classes):
    """Outputs by name that say what the targets want."""
    outputs, start = {}, 0
    for (height, width), stride in zip(SIZES, STRIDES, strict=True):
        part = slice(start, start + height * width)
        start += height * width
        labels = wanted.labels[:, part]
        logits = np.where(labels[..., None] == np.arange(classes), 12.0, -12.0)
        middle = np.clip(wanted.middle[:, part], 1e-4, 1 - 1e-4)
        numbers = np.concatenate([np.log(np.maximum(wanted.distances[:, part], 1e-3)),
                                  np.log(middle / (1 - middle))[..., None]], 2)
        for name, values in ((f"cls{stride}", logits), (f"reg{stride}", numbers)):
            outputs[name] = torch.from_numpy(
                values.transpose(0, 2, 1).reshape(len(labels), -1, height, width).copy())
    return outputs


def test_places_by_the_rules():
    """DETSEG.md 3.3, place by place: the smallest box around it that is near and of its map."""
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(20):
        corner, size = rng.uniform(0, 40, (3, 2)), rng.uniform(5, 40, (3, 2))
        pictures.append(boxes(*np.hstack([corner, np.minimum(corner + size, 64)])))
    found = targets_of(pictures, SIZES, STRIDES)
    assert found.labels.shape == (20, 80) and found.labels.max() == 2
    for i, one in enumerate(pictures):
        area = (one.boxes[:, 2:] - one.boxes[:, :2]).prod(1)
        place = 0
        for level, ((height, width), s) in enumerate(zip(SIZES, STRIDES, strict=True)):
            own = [b for b in range(3) if (np.sqrt(area[b]) >= 24) == (level == 1)]
            centres = {b: (one.boxes[b, :2] + one.boxes[b, 2:]) / 2 for b in own}
            grid = [np.array([(x + 0.5) * s, (y + 0.5) * s])
                    for y in range(height) for x in range(width)]
            taken = {}
            for b in sorted(own, key=lambda b: -area[b]):
                taken[int(np.argmin([np.square(at - centres[b]).sum() for at in grid]))] = b
            for n, at in enumerate(grid):
                good = [b for b in own if (one.boxes[b, :2] < at).all()
                        and (at < one.boxes[b, 2:]).all()
                        and np.abs(at - centres[b]).max() <= 1.5 * s]
                wanted = taken.get(n, min(good, key=lambda b: area[b]) if good else -1)
                assert found.labels[i, place] == wanted
                if wanted >= 0:
                    sides = np.concatenate([at - one.boxes[wanted, :2], one.boxes[wanted, 2:] - at])
                    np.testing.assert_allclose(found.distances[i, place], sides / s, rtol=1e-6)
                    left, top, right, bottom = sides
                    middle = 1 if n in taken else np.sqrt(
                        min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom))
                    assert found.middle[i, place] == pytest.approx(middle, rel=1e-5)
                place += 1


def test_every_object_has_a_place():
    """Also one so small that no place lies in it."""
    found = targets_of([boxes([9, 9, 11, 11]), boxes([0, 0, 64, 64]), Objects.none()], SIZES,
                       STRIDES)
    assert (found.labels[0] >= 0).sum() == 1 and (found.labels[1, :64] < 0).all()
    assert (found.labels[2] == -1).all()


def test_perfect_outputs_are_decoded_to_the_boxes():
    """Detection check (g), of our heads: what targets say at a place is where the decoding finds
    the object, alone on any map; and such outputs cost next to nothing."""
    for box in ([5, 7, 21, 27], [30, 4, 62, 60], [1, 1, 63, 63], [40, 40, 46, 47]):
        wanted = targets_of([boxes(box, classes=[2])], SIZES, STRIDES)
        outputs = perfect(wanted, 4)
        found = location_detections([LocationMap(np.concatenate(
            [outputs[f"cls{s}"][0], outputs[f"reg{s}"][0]]), s) for s in STRIDES], 64, 64)
        assert found.classes[0] == 2 and found.scores[0] > 0.9
        inside = (wanted.distances[0][wanted.labels[0] >= 0] > 0).all()
        if inside:
            np.testing.assert_allclose(found.boxes, [box], atol=1e-3)
        parts = box_loss(outputs, STRIDES, wanted)
        assert parts["class"] < 1e-3 and (parts["box"] < 1e-3 or not inside)


def test_losses_by_hand():
    wanted = targets_of([boxes([8, 8, 24, 24], classes=[1])], SIZES, STRIDES)
    outputs = {name: torch.zeros_like(value) for name, value in perfect(wanted, 3).items()}
    parts = box_loss(outputs, STRIDES, wanted)
    held = wanted.labels[0] >= 0
    count, total = held.sum(), held.size
    # Every probability is 1/2: alpha or 1 - alpha, a quarter of log 2.
    focal = (0.25 * count + 0.75 * (3 * total - count)) * 0.25 * np.log(2) / count
    assert parts["class"].item() == pytest.approx(focal, rel=1e-6)
    assert parts["middle"].item() == pytest.approx(np.log(2), rel=1e-6)
    ious = []
    for left, top, right, bottom in wanted.distances[0, held]:
        shared = (min(left, 1) + min(right, 1)) * (min(top, 1) + min(bottom, 1))
        both = (left + right) * (top + bottom) + 4 - shared
        hull = (max(left, 1) + max(right, 1)) * (max(top, 1) + max(bottom, 1))
        ious.append(1 - shared / both + (hull - both) / hull)
    assert parts["box"].item() == pytest.approx(np.mean(ious), rel=1e-5)


def test_pictures_without_objects_cost_their_background():
    wanted = targets_of([Objects.none()], SIZES, STRIDES)
    outputs = {name: value.requires_grad_() for name, value in perfect(wanted, 3).items()}
    parts = box_loss(outputs, STRIDES, wanted)
    assert parts["box"] == 0 and parts["middle"] == 0 and parts["class"] > 0
    sum(parts.values()).backward()
    assert all(torch.isfinite(value.grad).all() for value in outputs.values())


def test_pixels_without_the_ignored():
    logits = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    masks = np.random.default_rng(0).integers(0, 3, (2, 16, 16)).astype(np.uint8)
    masks[0, :4] = IGNORED
    grown = torch.nn.functional.interpolate(logits, size=16, mode="bilinear")
    chance = grown.log_softmax(1).numpy()
    costs = [-chance[b, masks[b, y, x], y, x] for b, y, x in np.argwhere(masks != IGNORED)]
    assert pixel_loss(logits, masks).item() == pytest.approx(np.mean(costs), rel=1e-9)
    assert pixel_loss(logits, np.full_like(masks, IGNORED)) == 0
