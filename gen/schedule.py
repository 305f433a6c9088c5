"""Order of the strips of fused operators, and how many rows of a tensor are alive meanwhile."""

from dataclasses import dataclass

import numpy as np

from model.graph import Attention, Conv, Depthwise, Pool, RepConv


__all__ = ["Step", "alive_rows", "reads", "strip_order"]


@dataclass(frozen=True)
class Step:
    """Output rows ``low..high`` of operator number ``op`` of the network."""

    op: int
    low: int
    high: int


def _window(op, maps):
    """(stride, before, after): output rows low..high read source rows ``low*stride - before ..
    (high - 1)*stride + after``, cut at the ends of the map."""
    if isinstance(op, (Attention, Pool)):
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
    return {name: window if name in sources else (low, high) for name in op.inputs}


def strip_order(ops, numbers, heights, maps, *, ahead=0):
    """Strips of the operators ``numbers``, depth first.

    The last operator whose next strip of ``heights[number]`` rows has its inputs goes next, so
    that rows are used, and can be forgotten, as early as possible. With ``ahead`` they are inputs
    only when their maker is that many strips further (or through), so that units find work while
    the strips just begun are under way.

    Returns
    -------
    list of Step
    """
    makers = {name: number for number in numbers for name in ops[number].outputs}
    total = {number: maps[next(iter(ops[number].outputs))].height for number in numbers}
    ends = {number: [0] for number in numbers}    # rows done after each strip so far
    wants = {}
    for number in numbers:
        op = ops[number]
        stride, _, after = _window(op, maps)
        wants[number] = [
            (makers[name], *((stride, after) if position == 0 else (1, 1)))
            for position, name in enumerate(op.inputs) if name in makers]

    def usable(maker):
        done = ends[maker]
        return done[-1] if done[-1] == total[maker] else done[max(0, len(done) - 1 - ahead)]

    def runs(number):
        low = ends[number][-1]
        high = min(low + heights[number], total[number])
        return low < high and all(
            usable(maker) >= min((high - 1) * stride + after, total[maker])
            for maker, stride, after in wants[number])

    steps, backwards = [], list(reversed(numbers))
    while (number := next(filter(runs, backwards), None)) is not None:
        low = ends[number][-1]
        high = min(low + heights[number], total[number])
        steps.append(Step(number, low, high))
        ends[number].append(high)
    return steps


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
