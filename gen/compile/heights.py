"""Heights of strips: which an operator may have, and what they cost the units."""

from dataclasses import dataclass
from itertools import product

from gen.compile.maps import upper_half_unused
from gen.compile.wide import has_wide
from gen.isa.cycles import load_cycles, z_cycles
from hw.config import MEMBRANE_BITS
from hw.descriptor import HIGH_PLANES
from model.error import DoesNotFit
from model.integer.graph import (
    Attention,
    Conv,
    Depthwise,
    Fire,
    Integrate,
    Pool,
    RepConv,
    Requantise,
)


__all__ = ["Heights"]


PASS_CYCLES = 16
"""Cycles that the search counts for a pass of the depthwise unit to begin, at the least."""


@dataclass(frozen=True, kw_only=True)
class _Work:
    """Cycles of an operator by unit; ``alone`` if it is a depthwise convolution, ``neuron`` those
    that come on top where partial sums have no room for two strips."""

    alone: bool = False
    depthwise: int = 0
    array: int = 0
    neuron: int = 0


class Heights:
    """Heights of strips by operator, and their costs.

    Parameters
    ----------
    life : gen.compile.lifetime.Lifetimes
    tiles : dict
        Number of array tiles of every operator that has them.
    config : CoreConfig
    word_cycles, strip_rows, apart
        As for :func:`gen.compile.compiler.compile_network`.

    Attributes
    ----------
    heights : list of dict
        {rows of a strip: cost in cycles} of every operator.
    """

    def __init__(self, life, tiles, config, *, word_cycles, strip_rows, apart):
        self._life, self._ops, self._maps = life, life.ops, life.maps
        self._tiles, self._config = tiles, config
        self._word_cycles, self._strip_rows, self._apart = word_cycles, strip_rows, apart
        self._psums = [self._partial_sums_of(op) for op in self._ops]
        self.heights = [self._height_costs(op) for op in self._ops]
        self._work = [self._work_of(op) for op in self._ops]

    def orders(self, numbers):
        """Orders of the steps to try, with a depthwise convolution apart or not; the first that
        has room is taken."""
        alone = [isinstance(self._ops[number], Depthwise) for number in numbers]
        possible = self._apart and sum(alone) == 1 < len(alone)
        return (True, False) if possible else (False,)

    def alike(self, numbers):
        """Heights to begin with where a depthwise convolution runs apart: alike for all operators
        before, and for all behind its reader."""
        alone = next(n for n in numbers if isinstance(self._ops[n], Depthwise))
        parts = [[n for n in numbers if n < alone], [alone], [n for n in numbers if n == alone + 1],
                 [n for n in numbers if n > alone + 1]]
        choices = [[dict.fromkeys(part, rows) for rows in sorted(set.intersection(
            *(set(self.heights[n]) for n in part)), reverse=True)] if part else [{}]
            for part in parts]
        for before, beside, reader, behind in product(*choices):
            yield before | beside | reader | behind

    def priced(self, number, price):
        """Cheapest strip height where a pool word costs ``price`` cycles."""
        op = self._ops[number]
        per_row = sum(self._maps[name].row_words
                      for name in {*op.inputs, *op.outputs} - self._life.dead)
        costs = self.heights[number]
        return min(costs, key=lambda rows: costs[rows] + price * rows * per_row)

    def busy(self, heights, apart):
        """Cycles for which array or depthwise unit work; where partial sums have no room for two
        strips, the neuron core's come on top."""
        alone, _ = self._sides(heights)
        depthwise = array = 0
        free = self._config.psum_words - (alone if apart else 0)
        for number, rows in heights.items():
            work = self._work[number]
            depthwise += work.depthwise
            array += work.array
            if work.neuron and 2 * self._psums[number][rows] > free:
                array += work.neuron
        return max(depthwise, array) if apart else depthwise + array

    def first_limits(self, heights, apart):
        """Most rows of first strips: those that leave room for others' partial sums."""
        limits, sides = {}, self._sides(heights)
        for number, rows in heights.items():
            free = self._config.psum_words
            if apart:
                free -= sides[self._work[number].alone]
            psums = self._psums[number]
            limits[number] = max((h for h in self.heights[number] if psums[h] <= free),
                                 default=rows)
        return limits

    def has_room_apart(self, heights):
        """Whether the partial sums of a depthwise convolution and of the other operators' strips
        have room side by side, so that it can run beside them."""
        alone, others = self._sides(heights)
        return bool(alone and others) and alone + others <= self._config.psum_words

    def partial_sums(self, op, rows):
        """Partial sums of one channel group of a strip."""
        out = self._maps[next(iter(op.outputs))]
        inner = min(rows + 2, out.height) if isinstance(op, RepConv) else 0
        return (rows + inner) * out.width

    def pair(self, number):
        """(partial sums, rows that are summed up at a time) of what runs beside an operator, both
        with a whole map; None without room for a channel group of it and more."""
        out = self._maps[next(iter(self._ops[number].outputs))]
        free, words = self._config.psum_words, out.height * out.width
        # Two strips of the other operator, if that leaves as much.
        beside = free - (2 if 4 * words <= free else 1) * words
        rows = out.height if 2 * words <= beside else -(-out.height // 2)
        if words > beside or rows * out.width * 2 > beside:
            return None
        return beside, rows

    def _sides(self, heights):
        """Most partial sums of a strip: (of depthwise convolutions, of others)."""
        alone = others = 0
        for number, rows in heights.items():
            words = self._psums[number][rows]
            if self._work[number].alone:
                alone = max(alone, words)
            else:
                others = max(others, words)
        return alone, others

    def _work_of(self, op):
        """Cycles of an operator that its strips do not change."""
        if isinstance(op, Depthwise):
            return _Work(alone=True, depthwise=self._through(op))
        if isinstance(op, Conv):
            out, source = (self._maps[name] for name in (next(iter(op.outputs)), op.source))
            area = out.height * out.width
            # Every other tile of wide weights is an upper half.
            planes = source.planes + (HIGH_PLANES // 2 if has_wide(op) else 0)
            return _Work(array=self._tiles[op.name] * area * planes,
                         neuron=len(out.used) * area * self._neuron_cycles(op))
        return _Work()

    def _partial_sums_of(self, op):
        """{rows of a strip: partial sums of one channel group}."""
        height = self._maps[next(iter(op.outputs))].height
        return {rows: self.partial_sums(op, rows) for rows in range(1, height + 1)}

    def _through(self, op):
        """Cycles of the depthwise unit for a map."""
        out = self._maps[next(iter(op.outputs))]
        halves = 2 * out.groups
        if self._config.depthwise_half:
            halves -= sum(upper_half_unused(out, group) for group in range(out.groups))
        return self._config.level_planes * op.weight.shape[-1] * halves * out.height * out.width

    def _height_costs(self, op):
        """{rows of a strip: cost}; heights are balanced, so that strips are about equal."""
        out, config = self._maps[next(iter(op.outputs))], self._config
        if self.partial_sums(op, 1) > config.psum_words:
            raise DoesNotFit(f"partial sums for one row of {op.name}",
                             needed=self.partial_sums(op, 1), available=config.psum_words)
        if isinstance(op, (Attention, Pool)):
            return {out.height: 0}
        words, tiles = self._weights(op)
        start = load_cycles(config) * tiles   # cycles of a strip
        if not isinstance(op, Conv):
            kernel = op.weight.shape[-1] if isinstance(op, Depthwise) else 3
            passes = kernel * config.rows // config.depthwise_lanes
            start += out.groups * (kernel * config.rows // 2 + PASS_CYCLES * passes)
        costs = {}
        for strips in range(1, out.height + 1):
            rows = -(-out.height // strips)
            if (rows not in costs and rows <= self._strip_rows
                    and self.partial_sums(op, rows) <= config.psum_words):
                # What follows can begin when the first strip is through.
                costs[rows] = (-(-out.height // rows) * (self._word_cycles * words + start)
                               + rows * out.width * self._neuron_cycles(op))
        return costs

    def _weights(self, op):
        """(memory words of weights and constants, array tiles) that one strip takes."""
        config, tiles = self._config, self._tiles.get(op.name, 0)
        words = config.tile_const_words
        if isinstance(op, Depthwise):
            words += op.weight.shape[-1] * config.rows // 2
        elif isinstance(op, RepConv):
            words += 3 * config.rows // 4
        groups = len(self._maps[next(iter(op.outputs))].used)
        return groups * words + tiles * config.tile_words, tiles

    def _neuron_cycles(self, op):
        """Cycles of the neuron core for a position of one tile."""
        words, planes = MEMBRANE_BITS, self._config.level_planes
        if isinstance(op.epilogue, Fire):
            words = planes
        elif isinstance(op.epilogue, Requantise):
            return z_cycles(self._maps[op.epilogue.z].planes, self._config)
        elif isinstance(op.epilogue, Integrate):
            words = (0 if op.epilogue.u_out in self._life.dead else MEMBRANE_BITS) + planes
        return max(words, self._config.rows // self._config.neuron_lanes)
