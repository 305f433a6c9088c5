"""Simulated annealing of a placement: exchanges of LUTs, flip-flops, carry chains and RAMs.

An exchange is kept when the cost falls, and with a probability exp(-change / temperature) when it
rises. The cost is that of all nets (:mod:`gen.pnr.congestion`) and the length of critical
connections by their weight (:mod:`gen.pnr.slack`).

The functions are machine code (numba). They are not cached on disk: such a cache does not see that
another file, whose functions they use, has changed.
"""

from typing import NamedTuple

from numba import njit
import numpy as np

from gen.pnr.congestion import net_box, net_cost
from gen.pnr.ecp5 import LCS, ROWS, SLOTS
from gen.pnr.legal import FIXED, is_legal, SINGLE


__all__ = ["Pulls", "anneal"]


JUMPS, LANDING = 0.1, 3
"""Part of the exchanges of a cell with critical connections that go to within so many tiles of a
cell at the other end, however far: tiles with its clock may be rare on the way."""


class Pulls(NamedTuple):
    """Critical connections, from both their ends."""

    first: np.ndarray       # of every cell: where its pulls start in
    other: np.ndarray
    weight: np.ndarray


@njit(nogil=True)
def anneal(layout, nets, pulls, boxes, congestion, movers, moves, temperatures, reaches, seed):
    """Try ``moves`` exchanges; ``layout`` and ``boxes`` change.

    ``movers`` are the units that may move, ``temperatures`` and ``reaches`` (tiles that a cell may
    move) those of the first and the last exchange.
    """
    # Names of their own: numba counts references of a tuple's arrays at every use.
    x, y, slot, unit, control, shared, uses_m, occupant, exists, kind, step, first, members = layout
    net_first, pins, weight, cell_first, cell_nets = nets
    pull_first, pull_other, pull_weight = pulls
    np.random.seed(seed)
    cost = np.empty(boxes.shape[0])
    for net in range(cost.size):
        cost[net] = net_cost(boxes[net, 0], boxes[net, 1], boxes[net, 2], boxes[net, 3],
                             weight[net], congestion)
    most = 4 * np.max(np.diff(first)) + 16
    moved, goal, back = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64)
    seen_lc = np.zeros(exists.size, np.int64)
    seen_unit = np.zeros(kind.size, np.int64)
    seen_net = np.zeros(cost.size, np.int64)
    touched = np.empty(cost.size, np.int64)
    new_boxes, new_cost = np.empty_like(boxes), np.empty_like(cost)
    for move in range(moves):
        ramp = move / moves
        temperature = temperatures[0] * (temperatures[1] / temperatures[0]) ** ramp
        reach = reaches[0] * (reaches[1] / reaches[0]) ** ramp
        mover = movers[_below(movers.size)]
        cell = members[first[mover] + _below(first[mover + 1] - first[mover])]
        right, up = _direction(x, y, cell, boxes, cell_first, cell_nets, pull_first, pull_other,
                               reach)
        column, row = x[cell] + right, y[cell] + up
        tile = column * ROWS + row
        if (column < 0 or row < 0 or row >= ROWS or tile * LCS >= exists.size
                or not exists[tile * LCS]):
            continue
        tick = 2 * move + 2
        if kind[mover] == SINGLE:
            count = _exchange_one(slot, occupant, unit, kind, cell, tile, moved, goal)
        else:
            count = _exchange_group(slot, occupant, unit, kind, step, first, members, exists, mover,
                                    right, up, moved, goal, seen_lc, seen_unit, tick)
        if count == 0:
            continue
        for index in range(count):
            back[index] = slot[moved[index]]
        _occupy(occupant, moved, back, goal, count)
        if not _tiles_legal(occupant, control, shared, uses_m, goal, back, count):
            _occupy(occupant, moved, goal, back, count)
            continue
        change = _add_pulls(0.0, -1, x, y, pull_first, pull_other, pull_weight, moved, count)
        nets_touched = _touched_nets(x, y, moved, goal, count, boxes, cell_first, cell_nets,
                                     seen_net, touched, tick)
        _put(x, y, slot, moved, goal, count)
        for index in range(nets_touched):
            net = touched[index]
            left, right, low, high = net_box(x, y, net_first, pins, net)
            new_boxes[index, 0], new_boxes[index, 1] = left, right
            new_boxes[index, 2], new_boxes[index, 3] = low, high
            new_cost[index] = net_cost(left, right, low, high, weight[net], congestion)
            change += new_cost[index] - cost[net]
        change = _add_pulls(change, 1, x, y, pull_first, pull_other, pull_weight, moved, count)
        if change <= 0 or np.random.random() < np.exp(-change / temperature):
            for index in range(nets_touched):
                net = touched[index]
                for side in range(4):
                    boxes[net, side] = new_boxes[index, side]
                cost[net] = new_cost[index]
        else:
            _occupy(occupant, moved, goal, back, count)
            _put(x, y, slot, moved, back, count)


@njit
def _direction(x, y, cell, boxes, cell_first, cell_nets, pull_first, pull_other, reach):
    """Tiles to the right and up that a cell is tried at: a little aside, into the box of one of its
    nets, or near the other end of a critical connection."""
    count = cell_first[cell + 1] - cell_first[cell]
    pull_count = pull_first[cell + 1] - pull_first[cell]
    if pull_count > 0 and np.random.random() < JUMPS:
        other = pull_other[pull_first[cell] + _below(pull_count)]
        right = x[other] + _below(2 * LANDING + 1) - LANDING - x[cell]
        up = y[other] + _below(2 * LANDING + 1) - LANDING - y[cell]
    elif count > 0 and np.random.random() < 0.5:
        net = cell_nets[cell_first[cell] + _below(count)]
        right = boxes[net, 0] + _below(boxes[net, 1] - boxes[net, 0] + 1) - x[cell]
        up = boxes[net, 2] + _below(boxes[net, 3] - boxes[net, 2] + 1) - y[cell]
        far = max(abs(right), abs(up))
        if far > 3 * reach:
            right, up = int(right * 3 * reach / far), int(up * 3 * reach / far)
    else:
        aside = int(reach + 0.5)
        right, up = _below(2 * aside + 1) - aside, _below(2 * aside + 1) - aside
    return right, up


@njit
def _occupy(occupant, moved, old, new, count):
    """Cells leave their old slots and take the new ones."""
    for index in range(count):
        occupant[old[index]] = -1
    for index in range(count):
        occupant[new[index]] = moved[index]


@njit
def _put(x, y, slot, moved, places, count):
    """Note the places of cells."""
    for index in range(count):
        tile = places[index] // (SLOTS * LCS)
        x[moved[index]], y[moved[index]] = tile // ROWS, tile % ROWS
        slot[moved[index]] = places[index]


@njit
def _tiles_legal(occupant, control, shared, uses_m, goal, back, count):
    """Whether all tiles that cells come to or leave are legal."""
    for index in range(count):
        # Neighbours of a group mostly share their tiles.
        for slots in (goal, back):
            tile = slots[index] // (SLOTS * LCS)
            if ((index == 0 or slots[index - 1] // (SLOTS * LCS) != tile)
                    and not is_legal(occupant, control, shared, uses_m, tile)):
                return False
    return True


@njit
def _touched_nets(x, y, moved, goal, count, boxes, cell_first, cell_nets, seen_net, touched, tick):
    """Number of the nets whose boxes may change, which ``touched`` lists; large ones, in whose
    boxes cells only move, are none of them."""
    found = 0
    for index in range(count):
        cell, tile = moved[index], goal[index] // (SLOTS * LCS)
        column, row, new_column, new_row = x[cell], y[cell], tile // ROWS, tile % ROWS
        if column == new_column and row == new_row:
            continue
        for one in range(cell_first[cell], cell_first[cell + 1]):
            net = cell_nets[one]
            if seen_net[net] != tick and not (
                    boxes[net, 0] < column < boxes[net, 1]
                    and boxes[net, 2] < row < boxes[net, 3]
                    and boxes[net, 0] <= new_column <= boxes[net, 1]
                    and boxes[net, 2] <= new_row <= boxes[net, 3]):
                seen_net[net] = tick
                touched[found] = net
                found += 1
    return found


@njit
def _add_pulls(total, sign, x, y, pull_first, pull_other, pull_weight, moved, count):
    """``total`` and, with a sign, the weighted lengths of the critical connections of cells."""
    for index in range(count):
        cell = moved[index]
        for pull in range(pull_first[cell], pull_first[cell + 1]):
            other = pull_other[pull]
            total += sign * pull_weight[pull] * (abs(x[cell] - x[other]) + abs(y[cell] - y[other]))
    return total


@njit
def _below(most):
    """A random number of 0..most-1."""
    return int(np.random.random() * most)


@njit
def _exchange_one(slot, occupant, unit, kind, cell, tile, moved, goal):
    """A LUT or a flip-flop, and what is on its new place if that is alone, too. Number of cells
    that move, 0 if none can."""
    here = slot[cell]
    there = (tile * LCS + _below(LCS)) * SLOTS + here % SLOTS
    other = occupant[there]
    if there == here or (other >= 0 and kind[unit[other]] != SINGLE):
        return 0
    moved[0], goal[0] = cell, there
    if other < 0:
        return 1
    moved[1], goal[1] = other, here
    return 2


@njit
def _exchange_group(slot, occupant, unit, kind, step, first, members, exists, group, right, up,
                    moved, goal, seen_lc, seen_unit, tick):
    """All that is in the logic cells of a group, with all that is where it goes, if neither side
    tears something apart. Number of cells that move, 0 if none can.

    ``tick`` and ``tick + 1`` must not have been used before; the arrays ``seen`` are theirs.
    """
    shift = (right * ROWS + up) * LCS
    if step[group] < LCS:
        start = slot[members[first[group]]] // SLOTS % LCS // step[group]
        shift += step[group] * (_below(LCS // step[group]) - start)
    if shift == 0:
        return 0
    for index in range(first[group], first[group + 1]):
        seen_lc[slot[members[index]] // SLOTS] = tick
    for index in range(first[group], first[group + 1]):
        lc = slot[members[index]] // SLOTS + shift
        if lc < 0 or lc >= exists.size or not exists[lc] or seen_lc[lc] == tick:
            return 0
    for index in range(first[group], first[group + 1]):
        seen_lc[slot[members[index]] // SLOTS + shift] = tick + 1
    count = 0
    for side in range(2):
        for index in range(first[group], first[group + 1]):
            lc = slot[members[index]] // SLOTS + side * shift
            if seen_lc[lc] != tick + side:
                continue            # done: the group has another cell there
            seen_lc[lc] = -tick - side
            for place in range(lc * SLOTS, (lc + 1) * SLOTS):
                cell = occupant[place]
                if cell < 0:
                    continue
                other = unit[cell]
                if kind[other] == FIXED:
                    return 0
                if seen_unit[other] != tick:
                    seen_unit[other] = tick
                    if step[other] > step[group]:
                        return 0
                    for part in range(first[other], first[other + 1]):
                        if abs(seen_lc[slot[members[part]] // SLOTS]) != tick + side:
                            return 0
                moved[count] = cell
                goal[count] = place + (1 - 2 * side) * shift * SLOTS
                count += 1
    return count
