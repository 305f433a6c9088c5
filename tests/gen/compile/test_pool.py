import random

import pytest

from gen.compile.pool import FreeList


@pytest.mark.parametrize("seed", range(5))
def test_first_fit(seed):
    """Random allocations against a list of words: the lowest or the highest place with room, and
    none only where there is none."""
    rng = random.Random(seed)
    size = 60
    free = FreeList(size)
    owner = [None] * size
    refused = 0
    for step in range(600):
        names = sorted({name for name in owner if name is not None})
        if names and rng.random() < 0.45:
            name = rng.choice(names)
            if rng.random() < 0.2:
                free.rename(name, f"{name}'")
                owner = [f"{name}'" if word == name else word for word in owner]
            else:
                free.free(name)
                owner = [None if word == name else word for word in owner]
        else:
            words = rng.randint(1, 20)
            places = [start for start in range(size - words + 1)
                      if not any(owner[start:start + words])]
            # What is tried on a copy leaves no trace.
            copied = free.copy()
            assert copied.allocate("tried", words) == (places[0] if places else None)
            last = rng.random() < 0.3
            found = free.allocate(f"t{step}", words, last=last)
            assert found == (places[-1 if last else 0] if places else None)
            refused += not places
            if places:
                owner[found:found + words] = [f"t{step}"] * words
        assert free.left == owner.count(None)
        assert sorted(free.names) == sorted({name for name in owner if name is not None})
        edges = {k for k in range(size + 1)
                 if (owner[k - 1] if k else None) != (owner[k] if k < size else None)}
        assert {edge for gap in free.gaps for edge in gap} == edges
    assert refused > 10
