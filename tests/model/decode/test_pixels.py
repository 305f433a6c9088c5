"""Maps grown to an image, classes of pixels, and masks pasted into it."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from model.decode.pixels import label_map, paste, resize
from tests.model import detseg_vectors


torch.set_num_threads(1)


@pytest.mark.parametrize("size", [(10, 14), (5, 7), (13, 21), (3, 4), (1, 1)])
def test_resize_equals_torch(size):
    maps = np.random.default_rng(0).normal(size=(3, 5, 7))
    want = F.interpolate(torch.from_numpy(maps)[None], size, mode="bilinear")[0]
    np.testing.assert_allclose(resize(maps, *size), want, rtol=0, atol=1e-14)


def test_twice_the_size_in_sixteenths():
    """Whole numbers times 16: 9, 3, 3 and 1 of the four around a pixel, exactly."""
    maps = np.random.default_rng(0).integers(-99, 99, (2, 4, 5))
    edge = np.pad(maps, ((0, 0), (1, 1), (1, 1)), mode="edge")
    want = np.zeros((2, 8, 10))
    for i in (0, 1):
        for j in (0, 1):
            y, x = slice(2 * i, 4 + 2 * i), slice(2 * j, 5 + 2 * j)
            want[:, i::2, j::2] = (9 * maps + 3 * edge[:, y, 1:-1] + 3 * edge[:, 1:-1, x]
                                   + edge[:, y, x])
    assert np.array_equal(resize(maps, 8, 10) * 16, want)


def test_label_map_is_the_published_one():
    """Detection check (a)."""
    vectors = detseg_vectors.arrays("seg_qfpn")
    found = label_map(vectors["logits"][0], 64, 64)
    assert np.array_equal(found, vectors["label_map_64"][0])


def test_the_lowest_of_equal_classes_wins():
    assert label_map(np.zeros((5, 2, 2)), 4, 4).tolist() == [[0] * 4] * 4
    assert label_map(np.array([0.0, 1.0, 1.0]).reshape(3, 1, 1), 1, 2).tolist() == [[1, 1]]


def test_paste_equals_torch():
    rng = np.random.default_rng(2)
    masks, boxes = rng.uniform(size=(4, 28, 28)), np.array(
        [[3, 4, 20, 25], [-5, 10, 33, 50], [7.5, 2.25, 8, 9], [30, 20, 90, 80]], np.float64)
    y, x = np.mgrid[:40, :48] + 0.5
    grid = np.stack([
        np.stack([(x - b[0]) / (b[2] - b[0]), (y - b[1]) / (b[3] - b[1])], -1) * 2 - 1
        for b in boxes])
    want = F.grid_sample(torch.from_numpy(masks)[:, None], torch.from_numpy(grid),
                         align_corners=False)[:, 0].numpy()
    found = paste(masks, boxes, 40, 48)
    assert np.array_equal(found, want >= 0.5) and found.any((1, 2))[[0, 1, 3]].all()


def test_boxes_without_area_have_no_mask():
    ones = np.ones((3, 28, 28))
    found = paste(ones, [[3, 3, 3, 9], [5, 5, 2, 2], [0, 0, 4, 2]], 5, 6)
    assert found.sum((1, 2)).tolist() == [0, 0, 8]
    assert paste(np.zeros((0, 28, 28)), [], 5, 6).shape == (0, 5, 6)


def test_bad_shapes_are_named():
    with pytest.raises(ValueError, match=r"maps must be of shape \(C, H, W\), not \(3, 4\)"):
        resize(np.zeros((3, 4)), 5, 5)
    with pytest.raises(ValueError, match=r"masks of 1 boxes must be of shape \(1, S, S\)"):
        paste(np.zeros((2, 3, 3)), [[0, 0, 1, 1]], 5, 5)


def test_numbers_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="maps must be finite, but"):
        label_map([[[np.nan]], [[1]]], 2, 2)
    with pytest.raises(ValueError, match="masks must be finite, but"):
        paste([[[np.inf]]], [[0, 0, 1, 1]], 2, 2)
