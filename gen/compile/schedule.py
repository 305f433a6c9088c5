"""Order of the strips of fused operators, and how many rows of a tensor are alive meanwhile."""

from typing import NamedTuple

import numpy as np

from model.integer.graph import Attention, Conv, Depthwise, Integrate, Pool, RepConv


__all__ = ["FIRE", "SUM", "Step", "alive_rows", "first_strips", "pair_order", "reads",
           "strip_order", "upsampled", "wanted"]


SUM, FIRE = "sum", "fire"
"""Halves of a strip of a depthwise convolution, or of attention, that runs beside others."""


class Step(NamedTuple):
    """Output rows ``low..high`` of operator number ``op`` of the network.

    With ``group`` only of this channel group, and with ``half`` (:data:`SUM` or :data:`FIRE`) only
    this half of it.
    """

    op: int
    low: int
    high: int
    group: int | None = None
    half: str | None = None


def upsampled(op):
    """The membrane that an operator adds twice each way, None if there is none."""
    rule = getattr(op, "epilogue", None)
    return rule.u_in if isinstance(rule, Integrate) and rule.upsample > 1 else None


def _window(op, maps):
    """(stride, before, after): output rows low..high read source rows ``low*stride - before ..
    (high - 1)*stride + after``, cut at the ends of the map."""
    if isinstance(op, (Attention, Pool)) or maps[op.inputs[0]].steps > 1:
        return 1, 0, maps[op.inputs[0]].height
    if isinstance(op, Conv) and op.source != "image":    # an image comes as patches
        return op.stride, op.padding, op.weight.shape[2] - op.padding
    half = 1 if isinstance(op, RepConv) else 0
    if isinstance(op, Depthwise):
        half = op.weight.shape[-1] // 2
    return 1, half, half + 1


def reads(op, low, high, maps):
    """{tensor: (first, last)}: rows that output rows ``low..high`` read; ints or arrays."""
    stride, before, after = _window(op, maps)
    height = maps[op.inputs[0]].height
    first = np.maximum(0, low * stride - before)
    window = first, np.maximum(first, np.minimum(height, (high - 1) * stride + after))
    sources = op.inputs if isinstance(op, (Attention, Pool)) else op.inputs[:1]
    found = {name: window if name in sources else (low, high) for name in op.inputs}
    if (coarse := upsampled(op)) is not None:
        found[coarse] = low // 2, (high + 1) // 2
    return found


def wanted(ops, numbers, maps):
    """By operator, a function of (low, high): makers among ``numbers`` of what output rows
    ``low..high`` read, and how many of their rows must be made."""
    makers = {name: number for number in numbers for name in ops[number].outputs}

    def rows(number):
        op = ops[number]
        stride, _, after = _window(op, maps)
        coarse = upsampled(op)
        sources = [(makers[name], maps[name].height, *((stride, after) if index == 0 else (1, 1)),
                    1 + (name == coarse))
                   for index, name in enumerate(op.inputs) if name in makers]
        return lambda low, high: [(maker, min((high - 1) // part * stride + after, height))
                                  for maker, height, stride, after, part in sources]

    return {number: rows(number) for number in numbers}


def first_strips(ops, numbers, heights, limits, maps):
    """Rows of the first strip of every operator: its strips end where those of its reader need.

    A reader of a window needs some rows more than it makes. Strips that end just there leave no
    rows lying that nobody needs yet. The first one is that much taller, or lower: where it would
    be taller than ``limits[number]``, and where its input is loaded, for which room is needed.
    """
    made = {name for number in numbers for name in ops[number].outputs}
    ends = {}                      # number -> rows after which its strips end, modulo its height
    readers = {name: number for number in reversed(numbers) for name in ops[number].inputs[:1]}
    first = {}
    for number in reversed(numbers):
        height = heights[number]
        reader = next((readers[name] for name in ops[number].outputs if name in readers), None)
        offset = 0
        if reader is not None and reader > number:
            stride, _, after = _window(ops[reader], maps)
            offset = ((ends[reader] - 1) * stride + after) % height
        ends[number] = offset
        total = maps[next(iter(ops[number].outputs))].height
        taller = offset + height <= limits[number] and ops[number].inputs[0] in made
        first[number] = min(total, offset + height if taller else offset or height)
    return first


def strip_order(ops, numbers, heights, maps, *, limits=None, apart=False):
    """Strips of the operators ``numbers``, depth first.

    The last operator whose next strip of ``heights[number]`` rows has its inputs goes next, so
    that rows are used, and can be forgotten, as early as possible. ``limits`` are those of
    :func:`first_strips`, by default the heights.

    With ``apart`` a depthwise convolution runs beside the others: between summing up a channel
    group and firing it come its readers, their share of the operators further on, by channel
    groups, and the inputs of its next strip.

    Returns
    -------
    list of Step
    """
    wants = wanted(ops, numbers, maps)
    total = {number: maps[next(iter(ops[number].outputs))].height for number in numbers}
    first = first_strips(ops, numbers, heights, limits or heights, maps)
    made, ends, needs = {}, {}, {}

    def advance(number, high):
        """Rows below ``high`` are made: where the next strip ends, and what that needs."""
        made[number], needs[number] = high, None
        if high < total[number]:
            ends[number] = end = min(total[number], high + heights[number] if high
                                     else first[number])
            needs[number] = wants[number](high, end)

    def runs(number):
        wanted_rows = needs[number]
        if wanted_rows is None:
            return False
        for maker, row in wanted_rows:    # noqa: SIM110  no line runs as often in a search
            if made[maker] < row:
                return False
        return True

    def last(numbers):
        for number in reversed(numbers):
            if runs(number):
                return number
        return None

    for number in numbers:
        advance(number, 0)
    numbers, steps = list(numbers), []
    beside = next((n for n in numbers if apart and isinstance(ops[n], Depthwise)), None)
    if beside is None:
        while (number := last(numbers)) is not None:
            steps.append(Step(number, made[number], ends[number]))
            advance(number, ends[number])
        return steps

    groups = {number: maps[next(iter(ops[number].outputs))].used for number in numbers}
    # About how many steps there are of an operator, by channel groups.
    parts = {number: -(-total[number] // heights[number]) * len(groups[number])
             for number in numbers}
    before = numbers[:numbers.index(beside)]
    readers = [n for n in numbers if any(maker == beside for maker, _ in wants[n](0, 1))]
    behind = [n for n in numbers[numbers.index(beside) + 1:] if n not in readers]
    share, due = sum(parts[n] for n in behind), 0
    begun = []    # what is left of a strip of an operator behind

    def whole(number):
        steps.append(Step(number, made[number], ends[number]))
        advance(number, ends[number])

    def part():
        """One channel group of the last operator behind that can go on."""
        if not begun:
            number = last(behind)
            if number is None:
                return False
            begun.extend(Step(number, made[number], ends[number], group)
                         for group in groups[number])
        steps.append(begun.pop(0))
        if not begun:
            advance(steps[-1].op, steps[-1].high)
        return True

    while True:
        if not runs(beside):
            number = last(readers + before)
            if part():
                continue
            if number is None:
                return steps
            whole(number)
            continue
        low, high = made[beside], ends[beside]
        for group in groups[beside]:
            steps.append(Step(beside, low, high, group, SUM))
            while (reader := last(readers)) is not None:
                whole(reader)
            due += share
            while due > 0 and part():
                due -= parts[beside]
            due = min(due, 0)
            if group == groups[beside][-1]:
                advance(beside, high)        # not yet fired, but nobody reads it in between
                while not runs(beside) and (maker := last(before)) is not None:
                    whole(maker)
            steps.append(Step(beside, low, high, group, FIRE))


def pair_order(number, height, groups, rows):
    """An operator, and the next one beside it, each a whole map, channel group by channel group.

    Of the next one, a depthwise convolution or attention, a group needs that of the first, and is
    summed up ``rows`` rows at a time. Between its sums and what fires them comes the next group of
    the first. What fires all rows of a group follows each other, and shares constants.

    Parameters
    ----------
    number : int
        Of the first operator.
    height : int
        Rows of both maps.
    groups : list of int
        Channel groups of both maps.
    rows : int

    Returns
    -------
    list of Step
    """
    parts = [(low, min(low + rows, height)) for low in range(0, height, rows)]

    def beside(group, half):
        return [Step(number + 1, low, high, group, half) for low, high in parts]

    steps = []
    for index, group in enumerate(groups):
        steps.append(Step(number, 0, height, group))
        if index:
            steps += beside(groups[index - 1], FIRE)
        steps += beside(group, SUM)
    return steps + beside(groups[-1], FIRE)


def alive_rows(count, touches):
    """Most rows of a ring alive at a time, over ``count`` steps.

    ``touches`` are (steps, low, high), arrays of equal length: rows that these steps use. A row is
    alive from the first to the last step that reaches it.
    """
    lowest, highest = np.full(count, np.iinfo(int).max // 2), np.full(count, -1)
    for steps, low, high in touches:
        used = low < high
        steps, low, high = steps[used], low[used], high[used]
        lowest[steps] = np.minimum(lowest[steps], low)
        highest[steps] = np.maximum(highest[steps], high)
    lowest = np.minimum.accumulate(lowest[::-1])[::-1]
    return int((np.maximum.accumulate(highest) - lowest).max())
