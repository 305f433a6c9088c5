import random

import pytest

from gen.compile.hazard import Hazards


UNITS, QUEUE = 4, 3
WORDS = {"pool": 40, "psum": 10}


def accesses(rng):
    """Some intervals of some memories, empty ones too, and some words of every few of others."""
    found = []
    for _ in range(rng.randrange(3)):
        name = rng.choice(sorted(WORDS))
        start = rng.randrange(WORDS[name])
        found.append((name, start, rng.randint(start, min(WORDS[name], start + 6))))
        if rng.random() < 0.5:
            period = rng.randint(1, 4)
            start = rng.randrange(WORDS[name] - period)
            end = start + period * rng.randint(0, (WORDS[name] - start) // period)
            first = rng.randrange(period)
            found[-1] = name, start, end, period, first, rng.randint(1, period - first)
    return found


def words_of(intervals):
    return {(name, word) for name, start, end, *part in intervals for word in range(start, end)
            if not part or part[1] <= (word - start) % part[0] < part[1] + part[2]}


@pytest.mark.parametrize("seed", range(4))
def test_waits(seed):
    """A descriptor waits for the last one of each other unit that wrote what it reads or writes,
    or read what it writes; and for no later one. It may name those that left the queue long ago."""
    rng = random.Random(seed)
    hazards = Hazards(WORDS, UNITS, QUEUE)
    issued = [[] for _ in range(UNITS)]         # (words read, words written) of each unit
    needed = 0
    for _ in range(400):
        unit = rng.randrange(UNITS)
        reads, writes = accesses(rng), accesses(rng)
        waits = hazards.issue(unit, reads, writes)
        read, written = words_of(reads), words_of(writes)
        for other, before in enumerate(issued):
            conflict = max((number for number, (their_reads, their_writes)
                            in enumerate(before, 1)
                            if their_writes & (read | written) or their_reads & written),
                           default=0) if other != unit else 0
            # What is certain when a descriptor reaches its queue: all but the queued ones, one
            # that runs and one that is on its way.
            long_ago = max(0, len(before) - (QUEUE + 2))
            assert waits[other] == max(conflict, long_ago)
            needed += conflict > long_ago
        issued[unit].append((read, written))
    assert needed > 300


def test_a_resource_that_comes_later():
    hazards = Hazards({"pool": 4}, 2, QUEUE)
    hazards.add("memory", 8)
    assert hazards.issue(0, [], [("memory", 2, 4)]) == (0, 0)
    assert hazards.issue(1, [("memory", 0, 2)], []) == (0, 0)
    assert hazards.issue(1, [("memory", 3, 8)], []) == (1, 0)
    assert hazards.issue(0, [], [("memory", 7, 8)]) == (0, 2)
