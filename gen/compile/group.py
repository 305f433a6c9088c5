"""Search for the strip heights of one group of fused operators, and for what it spills."""

from itertools import combinations
from math import inf

from gen.compile.rings import Group, Order
from gen.compile.schedule import pair_order, strip_order


__all__ = ["PAIR", "GroupSearch"]


PAIR = "pair"
"""In the place of whether a depthwise convolution is apart: two operators of whole maps run beside
each other (:func:`gen.compile.schedule.pair_order`)."""


PRICES = (0, *(2.0 ** k for k in range(-4, 14)), 1e9)
"""Cycles that a pool word may be worth, to find strip heights that fit."""


class GroupSearch:
    """Find the cheapest :class:`gen.compile.rings.Group` of operators that fits.

    Parameters
    ----------
    life : gen.compile.lifetime.Lifetimes
    heights : gen.compile.heights.Heights
    rings : gen.compile.rings.Rings
    word_cycles : float
        As for :func:`gen.compile.compiler.compile_network`.
    memo : dict
        Orders that are known, of :class:`gen.compile.rings.StripMemo`.

    Attributes
    ----------
    smallest : float
        Fewest pool words of all that was tried.
    """

    def __init__(self, life, heights, rings, *, word_cycles, memo):
        self._life, self._ops, self._maps = life, life.ops, life.maps
        self._heights, self._rings, self._word_cycles = heights, rings, word_cycles
        self._orders_known, self._plans = memo, {}
        self._rough, self._least, self._alike = {}, {}, {}
        self.smallest = inf

    def best(self, start, end, free, inside, spilled, limit):
        """Cheap heights and spills that fit, or None if there are none below ``limit``."""
        names = self._life.names(range(start, end))
        key = start, end, free.gaps, names & spilled, names & inside
        known, group = self._plans.get(key, (-1, None))
        if group is None and known < limit:
            for apart in self._heights.orders(range(start, end)):
                group = self._best_group(start, end, free, names & inside, spilled, limit, apart)
                if group is not None:
                    break
            self._plans[key] = limit, group
        return group

    def made(self, start, end, heights, extra, apart, inside, spilled, cost=0):
        """The group with these heights, that spills ``extra`` beside what is spilled already."""
        order = self._order(range(start, end), heights, apart)
        rings = self._rings.plan(tuple(order.tallest), inside, spilled | extra).rows(order)
        return Group(start, end, heights, order.steps, extra, rings, cost, apart)

    def pair(self, number, inside, spilled):
        """The group of an operator and the next one beside it, or None without room for it."""
        names = self._life.names(range(number, number + 2))
        made = [self._maps[next(iter(op.outputs))] for op in self._ops[number:number + 2]]
        heights = {number + k: tensor.height for k, tensor in enumerate(made)}
        if (made[0].fold > 1 or made[0].used != made[1].used or self._heights.pair(number) is None
                or any(rows not in self._heights.heights[n] for n, rows in heights.items())):
            return None
        return self.made(number, number + 2, heights, frozenset(), PAIR, inside & names, spilled)

    def beside(self, start, end, free, inside, spilled):
        """A group with a depthwise convolution beside the other operators, cheaper than each by
        itself in one strip after the other; or None."""
        alone = 0
        for number in range(start, end):
            group = self.best(number, number + 1, free, frozenset(), spilled, inf)
            if group is None:
                return None
            alone += group.cost
        return self._best_group(start, end, free, self._life.names(range(start, end)) & inside,
                                spilled, alone, True)

    def _best_group(self, start, end, free, inside, spilled, limit, apart):
        """Cheapest strip heights and spills found that fit.

        With ``apart`` a depthwise convolution runs beside the others, and the cheapest heights of
        :meth:`gen.compile.heights.Heights.alike` that fit are the first. Otherwise a price on
        every pool word makes the operators choose lower strips; what then does not fit is spilled,
        the most words freed for a word moved first, and the cheapest of a range of prices is the
        first. It is improved by changing heights of two operators at a time.
        """
        numbers = range(start, end)
        held = self._life.names(numbers) & spilled
        loaded = {name for op in self._ops[start:end] for name in op.inputs
                  if name in spilled and self._life.maker.get(name, -1) < start}
        stored = {name for op in self._ops[start:end] for name in op.outputs if name in spilled}
        outside = sum(self._maps[name].memory_words for name in (*loaded, *stored))

        def cost_of(heights, extra):
            moved = outside + 2 * sum(self._maps[name].memory_words for name in extra)
            return self._word_cycles * moved + self._rough_cost(heights, apart)

        def fits(heights, extra):
            """Whether it may; most do not, and cost more time than any others."""
            key = *heights.items(), inside, held, extra
            least = self._least.get(key)
            if least is None:
                least = self._least[key] = self._rings.least_words(
                    tuple(numbers), heights, inside, spilled | extra)
            return least <= free.left

        def plan(heights, extra):
            cost = cost_of(heights, extra)
            if cost >= best.cost:
                return None
            return self.made(start, end, heights, extra, apart, inside, spilled, cost)

        def words(group):
            found = self._rings.words(start, end, group.rings, inside, spilled | group.spilled)
            self.smallest = min(self.smallest, sum(found.values()))
            return found

        best, tried = Group(start, end, {}, [], frozenset(), {}, limit, apart), []
        for heights in self._sorted_alike(numbers) if apart else ():
            if cost_of(heights, frozenset()) >= best.cost:
                break
            if not fits(heights, frozenset()):
                continue
            group = plan(heights, frozenset())
            if _fits(free, words(group)):
                best = group
                break
        for price in () if apart else PRICES:
            heights = {number: self._heights.priced(number, price) for number in numbers}
            if heights in tried:
                continue
            tried.append(heights)
            group = plan(heights, frozenset())
            while group is not None and not _fits(free, words(group)):
                size = sum(words(group).values())
                gains = {}
                for name in sorted(inside - spilled - group.spilled):
                    less = plan(heights, group.spilled | {name})
                    if less is not None:
                        gains[less] = (size - sum(words(less).values())) / (less.cost - group.cost)
                group = max(gains, key=gains.get, default=None)
            best = group or best
        better = bool(best.steps)
        while better:
            better = False
            single = [{number: rows} for number in numbers
                      for rows in self._heights.heights[number]]
            changes = [(a | b, best.spilled) for a, b in combinations(single, 2)]
            changes += [(change, best.spilled - {name}) for name in best.spilled
                        for change in ({}, *single)]
            for heights, extra in changes:
                changed = best.heights | heights
                if cost_of(changed, extra) >= best.cost or not fits(changed, extra):
                    continue
                group = plan(changed, extra)
                if group is not None and _fits(free, words(group)):
                    best, better = group, True
        return best if best.steps else None

    def _rough_cost(self, heights, apart):
        """Cycles of these heights without the tensors that are moved; infinite without room for
        a depthwise convolution apart."""
        key = apart, *heights.items()
        cost = self._rough.get(key)
        if cost is None:
            cost = inf
            if not apart or self._heights.has_room_apart(heights):
                cost = self._heights.busy(heights, apart) + sum(
                    self._heights.heights[number][rows] for number, rows in heights.items())
            self._rough[key] = cost
        return cost

    def _sorted_alike(self, numbers):
        """Heights to begin with where a depthwise convolution runs apart, the cheapest first."""
        if numbers not in self._alike:
            self._alike[numbers] = sorted(self._heights.alike(numbers),
                                          key=lambda heights: self._rough_cost(heights, True))
        return self._alike[numbers]

    def _order(self, numbers, heights, apart):
        """The :class:`Order` of strips for these heights."""
        limits = self._heights.first_limits(heights, apart)
        key = numbers, apart, *((heights[n], limits[n]) for n in numbers)
        order = self._orders_known.get(key)
        if order is None:
            if apart == PAIR:
                out = self._maps[next(iter(self._ops[numbers[0]].outputs))]
                _, rows = self._heights.pair(numbers[0])
                steps = pair_order(numbers[0], out.height, out.used, rows)
            else:
                steps = strip_order(self._ops, numbers, heights, self._maps, limits=limits,
                                    apart=apart)
            order = self._orders_known[key] = Order(steps, self._ops, self._maps, self._life.dead)
        return order


def _fits(free, words):
    """Whether all of these find room at once."""
    trial = free.copy()
    return all(trial.allocate(name, size) is not None for name, size in words.items())
