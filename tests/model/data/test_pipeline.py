"""model.data.pipeline: boxes and masks go where their pixels go."""

import numpy as np
import pytest

from model.data import pipeline
from model.data.dataset import to_image_q
from model.data.objects import IGNORED, InMemory, Objects, Sample
from model.families.spec import spec


def sample(height=60, width=80, *boxes, colour=True):
    """Each box is filled with a grey level and a class of its own, on black."""
    boxes = np.array(boxes or [(10, 20, 30, 40), (50, 5, 70, 25)], float)
    image, mask = (np.zeros((height, width), np.uint8) for _ in range(2))
    for number, (left, top, right, bottom) in enumerate(boxes.astype(int).tolist()):
        image[top:bottom, left:right] = 100 + 50 * number
        mask[top:bottom, left:right] = 1 + number
    return Sample(image=image[None].repeat(3, 0) if colour else image, mask=mask,
                  objects=Objects(boxes=boxes, classes=np.arange(len(boxes))), name="a.png")


def check(placed):
    """Each box is that of its class's pixels in the mask, and the picture is bright just there."""
    one = placed.sample
    assert one.mask.shape == one.size
    for box, kind in zip(one.objects.boxes, one.objects.classes, strict=True):
        rows, columns = np.nonzero(one.mask == kind + 1)
        tight = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        np.testing.assert_allclose(box, tight, atol=2)
        inner = one.image[0, rows, columns]
        assert np.median(inner) == 100 + 50 * kind
    inside = one.mask != IGNORED
    wrong = (one.image[0] > 60) != (one.mask > 0)
    assert wrong[inside].mean() < 0.03


@pytest.mark.parametrize("size, within, want", [
    ((60, 80), (1333, 800), (800, 1067)),     # the shorter side decides
    ((60, 200), (1333, 800), (400, 1333)),    # the longer one
    ((200, 60), (1333, 800), (1333, 400)),
    ((480, 640), (853, 512), (512, 683)),     # 682.67
])
def test_resize(size, within, want):
    placed = pipeline.prepare(sample(*size, (10, 20, 30, 40)), [pipeline.Resize(within=(within,))])
    assert placed.sample.size == want
    check(placed)
    factors = np.array([want[1] / size[1], want[0] / size[0]])
    np.testing.assert_allclose(placed.sample.objects.boxes[0],
                               [10, 20, 30, 40] * np.tile(factors, 2))
    np.testing.assert_allclose(placed.to_picture(placed.sample.objects.boxes), [[10, 20, 30, 40]])
    np.testing.assert_allclose(placed.sample.objects.areas, 400 * factors.prod())


def test_ratio_is_drawn():
    step = pipeline.Resize(within=((2048, 512),), ratio=(0.5, 2.0))
    short = [min(pipeline.prepare(sample(), [step], seed).sample.size) for seed in range(40)]
    assert 256 <= min(short) < 400 and 800 < max(short) <= 1024
    step = pipeline.Resize(within=((400, 200), (400, 100)))
    assert {pipeline.prepare(sample(), [step], seed).sample.size[0] for seed in range(9)} == {
        200, 100}


def test_flip():
    placed = pipeline.prepare(sample(), [pipeline.Flip(share=1.0)])
    assert placed.sample.objects.boxes.tolist() == [[50, 20, 70, 40], [10, 5, 30, 25]]
    check(placed)
    np.testing.assert_array_equal(placed.to_picture(placed.sample.objects.boxes),
                                  sample().objects.boxes)
    assert pipeline.prepare(sample(), [pipeline.Flip(share=0.0)]).sample.image is not None
    flips = [pipeline.prepare(sample(), [pipeline.Flip()], seed).scale[0] for seed in range(100)]
    assert 30 < flips.count(-1) < 70


def test_crop():
    """Boxes are clipped to what is left of them; those outside go, however many."""
    counts = set()
    for seed in range(60):
        placed = pipeline.prepare(sample(), [pipeline.Crop(least=20, most=40)], seed)
        height, width = placed.sample.size
        assert min(height, width) >= 20 and max(height, width) <= 40
        check(placed)
        boxes = placed.sample.objects.boxes
        assert boxes.size == 0 or (boxes.min() >= 0 and (boxes[:, 2:] <= (width, height)).all())
        np.testing.assert_allclose(placed.sample.objects.areas,
                                   (boxes[:, 2:] - boxes[:, :2]).prod(1))
        counts.add(len(boxes))
    assert counts == {0, 1, 2}
    whole = pipeline.prepare(sample(), [pipeline.Crop(least=500, most=500)]).sample
    assert whole.size == (60, 80)  # a smaller picture stays whole


def test_crop_wants_several_classes():
    """Where a tenth shows only background, the share limit finds more often another."""
    step = pipeline.Crop(least=24, most=24, one_class=0.75)
    shares = []
    for seed in range(60):
        mask = pipeline.prepare(sample(), [step], seed).sample.mask
        shares.append(np.unique(mask, return_counts=True)[1].max() / mask.size)
    assert np.mean(np.array(shares) < 0.75) > 0.9
    empty = Sample(image=np.zeros((60, 80), np.uint8), objects=Objects.none(),
                   mask=np.full((60, 80), IGNORED, np.uint8))
    assert pipeline.prepare(empty, [step]).sample.size == (24, 24)


def test_pad():
    one = sample()
    steps = [pipeline.Pad(height=64, width=96)]
    placed = pipeline.prepare(one, steps, fill=(1, 2, 3))
    assert placed.sample.image.shape == (3, 64, 96)
    assert placed.sample.image[:, 60:].reshape(3, -1).T.tolist() == [[1, 2, 3]] * (4 * 96)
    np.testing.assert_array_equal(placed.sample.image[:, :60, :80], one.image)
    assert (placed.sample.mask[60:] == IGNORED).all() and (placed.sample.mask[:, 80:] == 255).all()
    # What is found in the bar is clipped to the picture.
    assert placed.to_picture([[70, 50, 96, 64]]).tolist() == [[70, 50, 80, 60]]
    assert pipeline.prepare(sample(colour=False), steps, fill=7).sample.image[63, 95] == 7
    with pytest.raises(ValueError, match="a.png: has 80x60 pixels after resizing, more than"):
        pipeline.prepare(one, [pipeline.Pad(height=59, width=80)])


def test_distort():
    one = sample()
    image = np.random.default_rng(0).integers(0, 256, (3, 60, 80)).astype(np.uint8)
    noise = Sample(image=image, objects=one.objects, mask=one.mask)
    changed = [pipeline.prepare(noise, [pipeline.Distort()], seed).sample for seed in range(12)]
    assert len({c.image.tobytes() for c in changed}) > 6
    assert all(c.mask is one.mask and c.image.dtype == np.uint8 for c in changed)
    still = pipeline.Distort(brightness=0, contrast=(1, 1), saturation=(1, 1), hue=0)
    np.testing.assert_array_equal(pipeline.prepare(noise, [still]).sample.image, image)
    # Red of 200 turned by 60 of 180: a third of the circle, to green.
    red = Sample(image=np.zeros((3, 4, 4), np.uint8), objects=Objects.none())
    red.image[0] = 200

    class Always:
        def random(self):
            return 0.0

        def uniform(self, low, high):
            return high

    turned = pipeline.Distort(brightness=0, contrast=(1, 1), saturation=(1, 1), hue=60)(
        pipeline.Placed.whole(red), Always())
    np.testing.assert_allclose(turned.sample.image[:, 0, 0], [0, 200, 0], atol=5)


@pytest.mark.parametrize("name", pipeline.PIPELINES)
def test_presets(name):
    """Same seed, same pixels; boxes go with them, and the sizes are the published ones."""
    colour = sample(480, 640, (100, 120, 300, 320), (350, 200, 600, 400))
    for seed in range(4):
        placed = pipeline.prepare(colour, pipeline.PIPELINES[name], seed)
        again = pipeline.prepare(colour, pipeline.PIPELINES[name], seed)
        np.testing.assert_array_equal(placed.sample.image, again.sample.image)
        height, width = placed.sample.size
        if name == "detection_code":
            assert min(height, width) in range(480, 801, 32) or max(height, width) <= 1333
        elif name == "detection_test":
            assert (height, width) == (800, 1067)
        elif name == "segmentation_code":
            assert max(height, width) <= 512
        elif name == "segmentation_test":
            assert (height, width) == (512, 683)
        if name != "segmentation_code":  # whose colours are others
            check(placed)


def test_any_picture_for_a_square():
    placed = pipeline.prepare(sample(), pipeline.steps_for(64, train=False), fill=(9, 9, 9))
    assert placed.sample.image.shape == (3, 64, 64)
    check(placed)
    np.testing.assert_allclose(placed.to_picture(placed.sample.objects.boxes),
                               sample().objects.boxes)


def data(count=5, size=64):
    rng = np.random.default_rng(1)
    return InMemory(
        images=rng.integers(0, 256, (count, size, size)).astype(np.uint8),
        objects=[Objects(boxes=np.array([[1, 2, 5 + n, 9.0]]), classes=[n]) for n in range(count)],
        masks=rng.integers(0, 11, (count, size, size)).astype(np.uint8),
        classes=tuple("abcde"), mask_classes=tuple("abcdefghijk"))


def test_batches():
    grey = spec("qsdt_s")
    samples = data()
    made = list(pipeline.object_batches(samples, grey, (), batch=2))
    assert [one.places.tolist() for one in made] == [[0, 1], [2, 3], [4]]
    np.testing.assert_array_equal(np.concatenate([one.image_q for one in made]),
                                  to_image_q(samples.images, grey))
    np.testing.assert_array_equal(np.concatenate([one.masks for one in made]), samples.masks)
    assert [o.classes.tolist() for one in made for o in one.objects] == [[0], [1], [2], [3], [4]]
    shuffled = [list(pipeline.object_batches(samples, grey, pipeline.PIPELINES["scenes"], batch=2,
                                             rng=np.random.default_rng(3))) for _ in range(2)]
    assert [one.places.tolist() for one in shuffled[0]] == [
        one.places.tolist() for one in shuffled[1]]
    assert len(shuffled[0]) == 2 and len({int(p) for one in shuffled[0] for p in one.places}) == 4
    for one, other in zip(*shuffled, strict=True):
        np.testing.assert_array_equal(one.image_q, other.image_q)


def test_bars_are_nearly_zero_and_sizes_must_fit():
    grey = spec("qsdt_s")
    small = data(2, 40)
    batch = next(pipeline.object_batches(small, grey, [pipeline.Pad(height=64, width=64)], batch=2))
    assert np.abs(batch.image_q[:, :, 40:]).max() <= 1
    with pytest.raises(ValueError, match="has 40x40 pixels, qsdt_s takes 64x64: resize and pad it"):
        next(pipeline.object_batches(small, grey, (), batch=2))
