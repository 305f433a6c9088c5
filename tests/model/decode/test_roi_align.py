"""What heads see of regions, against a loop over points; where a wrong stride makes them look."""

import math

import numpy as np
import pytest

from model.decode.roi_align import region_maps, roi_align


def naive(image, box, stride, side):
    """mmcv's loop: bins, points in them, four neighbours of each."""
    x0, y0, x1, y1 = (v / stride - 0.5 for v in box)
    height, width = image.shape
    wide, high = (x1 - x0) / side, (y1 - y0) / side
    columns, rows = math.ceil(wide), math.ceil(high)
    out = np.zeros((side, side))
    for by in range(side):
        for bx in range(side):
            for iy in range(rows):
                for ix in range(columns):
                    y = y0 + by * high + (iy + 0.5) * high / rows
                    x = x0 + bx * wide + (ix + 0.5) * wide / columns
                    if not (-1 <= y <= height and -1 <= x <= width):
                        continue
                    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
                    ly, lx = int(y), int(x)
                    hy, hx = min(ly + 1, height - 1), min(lx + 1, width - 1)
                    fy, fx = y - ly, x - lx
                    out[by, bx] += (image[ly, lx] * (1 - fy) * (1 - fx) + image[ly, hx] * (1 - fy)
                                    * fx + image[hy, lx] * fy * (1 - fx) + image[hy, hx] * fy * fx)
            out[by, bx] /= max(rows * columns, 1)
    return out


def test_it_equals_the_loop():
    rng = np.random.default_rng(0)
    maps = [rng.normal(size=(2, 12, 10)), rng.normal(size=(2, 6, 5))]
    boxes = [[3, 5, 30, 44], [-9, -9, 60, 60], [20, 20, 21, 20.5], [0, 0, 40, 150], [7, 7, 7, 7]]
    for side in (1, 3, 7):
        found = roi_align(maps, (4, 8), boxes, side)
        for i, level in enumerate(region_maps(boxes, 2)):
            for c in range(2):
                np.testing.assert_allclose(
                    found[i, c], naive(maps[level][c], boxes[i], (4, 8)[level], side),
                    rtol=0, atol=1e-12)


def test_no_regions():
    assert roi_align([np.zeros((3, 4, 4))], (4,), [], 7).shape == (0, 3, 7, 7)


@pytest.mark.parametrize("side, level", [(0, 0), (1, 0), (111, 0), (112, 1), (223, 1), (224, 2),
                                         (448, 3), (5000, 3)])
def test_large_regions_are_read_off_coarse_maps(side, level):
    assert region_maps([[10, 20, 10 + side, 20 + side]], 4).tolist() == [level]


def test_a_region_is_read_where_it_lies():
    """A map of its own pixel columns: bins see their own middle. With twice the stride they see
    that of a region half as far away."""
    columns = np.broadcast_to((np.arange(64) + 0.5) * 16, (1, 64, 64))
    box = [[128, 128, 576, 576]]
    middle = 128 + 64 * (np.arange(7) + 0.5)
    np.testing.assert_allclose(roi_align([columns] * 4, (4, 8, 16, 16), box, 7)[0, 0, 0], middle)
    np.testing.assert_allclose(roi_align([columns] * 4, (4, 8, 16, 32), box, 7)[0, 0, 0],
                               middle / 2)
