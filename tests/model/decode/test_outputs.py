"""model.decode.outputs: from maps of the network's square back to the picture's own pixels."""

import random

import numpy as np
import pytest

from model.data.objects import Objects, Sample
from model.data.pipeline import Crop, prepare, steps_for
from model.decode.outputs import seen
from model.decode.pixels import label_map, resize


def placed(height, width, side=32):
    sample = Sample(image=np.zeros((height, width), np.uint8), objects=Objects.none())
    return prepare(sample, steps_for(side, train=False))


def outputs(side, stride=8, classes=2):
    """Nothing, by logits that are far from anything."""
    return {f"cls{stride}": np.full((classes, side // stride, side // stride), -9.0),
            f"reg{stride}": np.full((5, side // stride, side // stride), -9.0)}


def test_boxes_in_own_pixels():
    """A picture 2.5 times as wide and half as high as that: position (1, 0) of stride 8 stands for
    (12, 4) in the square and (30, 10) in the picture; the box over the bar is cut or goes."""
    made = outputs(32)
    made["cls8"][1, 0, 1] = 9
    made["reg8"][:, 0, 1] = [*np.log(np.array([4, 2, 8, 4]) / 8), 9]
    made["cls8"][0, 3, 2] = 9    # in the bar, below row 16 of the square
    made["reg8"][:, 3, 2] = [*np.log(np.array([4, 4, 4, 4]) / 8), 9]
    made["cls8"][0, 2, 0] = 9    # half in it: rows 12 to 22
    made["reg8"][:, 2, 0] = [*np.log(np.array([4, 8, 4, 2]) / 8), 9]
    one = seen(made, placed(40, 80), (8,))
    assert one.mask is None and one.found.classes.tolist() == [1, 0]
    np.testing.assert_allclose(one.found.boxes, [[20, 5, 50, 20], [0, 30, 20, 40]], atol=1e-9)


@pytest.mark.parametrize("height, width", [(32, 32), (64, 64), (40, 80), (700, 300), (7, 5)])
def test_classes_of_own_pixels(height, width):
    """Each pixel has the largest of the logits at its place in the square, between positions."""
    logits = np.random.default_rng(0).normal(size=(3, 8, 8))
    place = placed(height, width)
    mask = seen({"seg": logits}, place, ()).mask
    assert mask.shape == (height, width) and mask.dtype == np.uint8
    y, x = ((np.arange(n) + 0.5) * s / 4 - 0.5 for n, s in
            ((height, place.scale[1]), (width, place.scale[0])))
    rows = np.stack([[np.interp(y, np.arange(8), column) for column in one.T] for one in logits])
    wanted = np.stack([[np.interp(x, np.arange(8), row) for row in one.T] for one in rows])
    assert (mask == wanted.argmax(0)).mean() > 0.999    # the sides in pixels are rounded
    if height == width:
        np.testing.assert_array_equal(mask, label_map(logits, height, width))


def test_bands_of_large_pictures():
    logits = np.random.default_rng(1).normal(size=(2, 4, 4))
    np.testing.assert_array_equal(label_map(logits, 600, 9), resize(logits, 600, 9).argmax(0))


def test_pictures_elsewhere_are_refused():
    whole = placed(64, 64)
    moved = Crop(least=20, most=20)(whole, random.Random(1))
    assert moved.shift.any()
    with pytest.raises(ValueError, match="must lie in the upper left corner"):
        seen({"seg": np.zeros((2, 4, 4))}, moved, ())
    made = outputs(32)
    made["reg8"][0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="values of map 0 must be finite"):
        seen(made, placed(32, 32), (8,))
