"""Order of the strips of a fused group: every row once, nothing before its inputs."""

import pytest

from gen.compile.schedule import FIRE, first_strips, pair_order, strip_order, SUM, wanted
from model.integer.graph import Conv, Depthwise
from tests.gen.random_cases import compile_case, random_case


def _chains():
    """(ops, numbers, maps): a depthwise convolution, its makers and readers, of random cases."""
    found = []
    for seed in range(4):
        _, program = compile_case(seed)
        ops = random_case(seed)[0].network.ops
        for number, op in enumerate(ops):
            near = [n for n in range(max(0, number - 1), min(len(ops), number + 3))
                    if isinstance(ops[n], (Conv, Depthwise))]
            if isinstance(op, Depthwise) and number in near:
                found.append((ops, near, program.maps))
    return found


CHAINS = _chains()


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_every_row_once_and_after_its_inputs(rows, apart):
    assert CHAINS
    for ops, numbers, maps in CHAINS:
        heights = dict.fromkeys(numbers, rows)
        height = {n: maps[next(iter(ops[n].outputs))].height for n in numbers}
        groups = {n: maps[next(iter(ops[n].outputs))].used for n in numbers}
        needs, made = wanted(ops, numbers, maps), dict.fromkeys(numbers, 0)
        seen = {n: [] for n in numbers}
        for step in strip_order(ops, numbers, heights, maps, apart=apart):
            if step.half != FIRE:
                assert all(made[maker] >= row
                           for maker, row in needs[step.op](step.low, step.high))
            seen[step.op].append((step.low, step.group, step.half))
            if step.half != SUM and step.group in (None, groups[step.op][-1]):
                assert made[step.op] == step.low
                made[step.op] = step.high
        assert made == height
        for number in numbers:
            assert len(seen[number]) == len(set(seen[number]))


@pytest.mark.parametrize("rows", [2, 3, 5])
def test_two_operators_beside_each_other(rows):
    """Every group is made, summed up and fired, in this order; and between the last two the next
    one is made."""
    groups = [2, 3, 5]
    steps = pair_order(7, 5, groups, rows)
    made = {step.group: at for at, step in enumerate(steps) if step.op == 7}
    assert list(made) == groups
    for index, group in enumerate(groups):
        halves = [[(at, step.low, step.high) for at, step in enumerate(steps)
                   if step[0] == 8 and step[3:] == (group, half)] for half in (SUM, FIRE)]
        for half in halves:
            covered = [row for _, low, high in half for row in range(low, high)]
            assert covered == [*range(5)] and all(high - low <= rows for _, low, high in half)
        (*_, (summed, *_)), ((fired, *_), *_) = halves
        assert made[group] < halves[0][0][0]
        assert index == 2 or summed < made[groups[index + 1]] < fired
        # What fires a group follows each other.
        assert [at for at, *_ in halves[1]] == [*range(fired, fired + len(halves[1]))]


def test_first_strip_ends_where_its_reader_needs():
    for ops, numbers, maps in CHAINS:
        height = {n: maps[next(iter(ops[n].outputs))].height for n in numbers}
        first = first_strips(ops, numbers, dict.fromkeys(numbers, 2),
                             dict.fromkeys(numbers, 100), maps)
        assert all(1 <= first[n] <= min(3, height[n]) for n in numbers)
