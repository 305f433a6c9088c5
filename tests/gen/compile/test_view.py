from dataclasses import replace

import pytest

from gen.compile.layout import FeatureMap
from gen.compile.pool import Buffer
from gen.compile.view import POOL, View
from hw.config import CoreConfig
from hw.descriptor import RING_UNIT


CONFIG = CoreConfig(rows=16, load_rows=4)


def view_of(rows, ring, *, first_row=0, channels=40):
    tensor = FeatureMap.make("x", "level", (channels, 20, 4), CONFIG)
    return View(tensor, Buffer(1000, ring), rows, "rolling", first_row)


@pytest.mark.parametrize("ring", [4, 7, 20])
def test_rows_in_a_ring(ring):
    """Row r lies at ``r % ring``; parts do not run over the ring's end, and are all of the rows."""
    for low in range(20):
        for high in range(low + 1, min(low + ring, 20) + 1):
            view = view_of((low, high), ring)
            words = view.map.row_words
            parts = view.parts()
            assert [row for a, b in parts for row in range(a, b)] == list(range(low, high))
            assert all(a // ring == (b - 1) // ring for a, b in parts)
            assert len(parts) <= 2
            wanted = sorted((1000 + row % ring * words + k) for row in range(low, high)
                            for k in range(words))
            assert [view.address(row) for row in range(low, high)] == [
                1000 + row % ring * words for row in range(low, high)]
            assert sorted(k for name, start, end in view.intervals()
                          for k in range(start, end) if name == POOL) == wanted


def test_groups():
    """Words of some channel groups of every position."""
    view = view_of((5, 9), 7)                     # 3 groups, over the end of the ring
    assert view.map.groups == 3 and len(view.parts()) == 2

    def words(intervals):
        return {start + k for _, start, end, *part in intervals for k in range(end - start)
                if not part or part[1] <= k % part[0] < part[1] + part[2]}

    every = words(view.intervals())
    each = [words(view.intervals(group)) for group in range(3)]
    assert set.union(*each) == every and sum(map(len, each)) == len(every)
    assert view.position(5, 1) in each[1] and view.position(5, 1) + 2 in each[1]
    assert words(view.intervals(1, 2)) == each[1] | each[2]
    assert view.intervals(0, 3) == view.intervals()
    alone = replace(view, map=view.map.only(2))
    assert alone.intervals(2) == alone.intervals()


def test_cuts():
    view = view_of((2, 9), 5)
    assert view.parts() == [(2, 5), (5, 9)]
    assert view.parts(cuts=(2, 4, 7, 9, 12)) == [(2, 4), (4, 5), (5, 7), (7, 9)]


@pytest.mark.parametrize("ring", [4, 8, 20])
def test_origin(ring):
    """By the rule of ``hw.descriptor.Array``: rows count from the one at the start of the buffer,
    and those before it lie a ring higher."""
    for low in range(20):
        for high in range(low + 1, min(low + ring, 20) + 1):
            view = view_of((low, high), ring)
            origin, units = view.origin()
            assert (units == 0) == (low // ring == (high - 1) // ring)
            for row in range(low, high):
                place = 1000 + (row - origin) * view.map.row_words
                if row < origin:
                    assert units
                    place += units * RING_UNIT
                assert place == view.address(row)


def test_position():
    view = view_of((0, 20), 20)
    assert [view.position(3, group) - view.address(3) for group in range(3)] == [0, 3, 6]
    part = View(view.map.only(2), Buffer(0, 20), (0, 20), "rolling")
    assert part.position(3, 2) == part.address(3) == 3 * 4 * 3
    # A buffer that begins with a later row.
    later = view_of((6, 9), 5, first_row=6)
    assert [later.address(row) - 1000 for row in (6, 7, 8)] == [
        0, later.map.row_words, 2 * later.map.row_words]
