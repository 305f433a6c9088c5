"""Wire length and congestion of a placement: what a net costs.

Wire length is half the perimeter of the box around a net's pins (HPWL). A net costs more where more
wire must be expected than tiles have: the wire of every net is spread evenly over its box (RUDY:
Spindler and Johannes, DATE 2007).

The functions are machine code (numba). They are not cached on disk: such a cache does not see that
another file, whose constants or functions they use, has changed.
"""

from typing import NamedTuple

from numba import njit
import numpy as np
from scipy import ndimage

from gen.pnr.ecp5 import CLOCK_PORTS, ROWS


__all__ = ["SHARED_BY_ALL", "Nets", "bounding_boxes", "congestion_sums", "net_box", "net_cost",
           "ranges", "read_nets"]


CONGESTED, EXTRA_COST = 70.0, 4.0
"""Wire of a tile, in tiles, from which on it is congested, and by how much a net over a tile costs
more that has twice of it."""

SHARED_BY_ALL = 2500
"""Nets with more pins are everywhere on the chip."""


class Nets(NamedTuple):
    """Nets that a placement can make shorter."""

    first: np.ndarray       # of every net: where its cells start in
    pins: np.ndarray
    weight: np.ndarray      # of its wire length
    cell_first: np.ndarray  # of every cell: where its nets start in
    cell_nets: np.ndarray


def ranges(lists):
    """First index of each list, and one beyond the last; their elements."""
    first = np.concatenate([[0], np.cumsum([len(one) for one in lists], dtype=np.int64)])
    return first, np.array([element for one in lists for element in one], np.int64)


def read_nets(layout, driver, sinks) -> Nets:
    """Nets between cells that can move apart; clocks, carries and large nets are none."""
    nets = []
    for bit, (source, port) in driver.items():
        ends = {source, *(sink for sink, _ in sinks[bit])}
        if (port != "FCO" and 1 < len(ends) <= SHARED_BY_ALL
                and len({layout.unit[pin] for pin in ends}) > 1
                and not any(port in CLOCK_PORTS for _, port in sinks[bit])):
            nets.append(sorted(ends))
    of_cell: list[list[int]] = [[] for _ in range(layout.x.size)]
    for number, pins in enumerate(nets):
        for pin in pins:
            of_cell[pin].append(number)
    first, pins = ranges(nets)
    # The tree of many pins is longer than half of its box, which does not see the pins inside.
    weight = np.sqrt([_tree_length(size) for size in np.diff(first)])
    return Nets(first, pins, weight, *ranges(of_cell))


def congestion_sums(boxes: np.ndarray, nets: Nets) -> np.ndarray:
    """What a tile adds to the cost of a net over it, summed over columns and rows before."""
    expected = ndimage.gaussian_filter(_expected_wire(boxes, nets.first), 3)
    extra = EXTRA_COST * np.maximum(0, expected / CONGESTED - 1)
    return np.pad(extra.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))


@njit
def _tree_length(pins):
    """Length of a net's tree, in halves of the perimeter of its box."""
    if pins <= 3:
        return 1.0
    return 0.8 + 0.06 * pins if pins < 40 else 3.2 + 0.02 * (pins - 40)


@njit
def net_box(x, y, first, pins, net):
    """Left, right, low and high of a net."""
    left, right, low, high = ROWS * ROWS, -1, ROWS, -1
    for index in range(first[net], first[net + 1]):
        column, row = x[pins[index]], y[pins[index]]
        left, right = min(left, column), max(right, column)
        low, high = min(low, row), max(high, row)
    return left, right, low, high


@njit
def bounding_boxes(layout, nets):
    """Left, right, low and high of every net."""
    boxes = np.empty((nets.weight.size, 4), np.int64)
    for net in range(nets.weight.size):
        boxes[net] = net_box(layout.x, layout.y, nets.first, nets.pins, net)
    return boxes


@njit
def _expected_wire(boxes, first):
    """Wire of every tile, in tiles, if that of each net were spread evenly over its box."""
    wire = np.zeros((boxes[:, 1].max() + 2, ROWS + 1))
    for net in range(boxes.shape[0]):
        left, right, low, high = boxes[net]
        width, height = right - left + 1, high - low + 1
        density = (_tree_length(first[net + 1] - first[net]) * (width + height - 1.5)
                   / (width * height))
        wire[left, low] += density
        wire[right + 1, low] -= density
        wire[left, high + 1] -= density
        wire[right + 1, high + 1] += density
    for column in range(1, wire.shape[0]):
        wire[column] += wire[column - 1]
    for row in range(1, wire.shape[1]):
        wire[:, row] += wire[:, row - 1]
    return wire


@njit
def net_cost(left, right, low, high, weight, congestion):
    """Wire length of a net by its weight, more where its box is congested."""
    over = (congestion[right + 1, high + 1] - congestion[left, high + 1]
            - congestion[right + 1, low] + congestion[left, low])
    mean = over / ((right - left + 1) * (high - low + 1))
    return weight * (right - left + high - low) * (1 + mean)
