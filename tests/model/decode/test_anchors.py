"""Anchors: sizes, places, and those of the published generator."""

import numpy as np
import pytest

from model.decode.anchors import anchors, inside
from tests.model import detseg_vectors


@pytest.mark.parametrize("level, side", list(enumerate((64, 32, 16, 16, 8))))
def test_anchors_are_the_published_ones(level, side):
    """Detection check (a): on the true map sizes of a 256x256 image, at the strides of the
    published configuration, of which the last two are wrong."""
    vectors = detseg_vectors.arrays("anchors")
    stride = 4 << level
    found = anchors((side, side), stride=stride, size=8 * stride)
    np.testing.assert_allclose(found[:6], vectors[f"anchors{level}"], rtol=2**-23, atol=0)
    assert found.shape == (side * side * 3, 4)
    valid = inside((side, side), stride=stride, image=(256, 256))
    assert valid.shape == (len(found),) and valid.mean() == vectors[f"valid{level}"]


def test_anchors_of_the_true_strides_lie_inside():
    for side, stride in ((16, 16), (8, 32)):
        assert inside((side, side), stride=stride, image=(256, 256)).all()


def test_order_and_centres():
    found = anchors((2, 3), stride=10, size=4, ratios=(1, 4))
    centres = (found[:, :2] + found[:, 2:]) / 2
    assert centres.tolist() == [[x, y] for y in (0, 10) for x in (0, 10, 20) for _ in range(2)]
    sides = found[:, 2:] - found[:, :2]
    assert sides.tolist() == [[4, 4], [2, 8]] * 6


def test_empty_maps_and_long_images():
    assert anchors((0, 5), stride=4, size=32).shape == (0, 4)
    assert inside((4, 4), stride=8, image=(9, 32)).reshape(4, 4, 3)[:, :, 0].sum(0).tolist() == [
        2, 2, 2, 2]
