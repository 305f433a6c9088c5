"""Where tensors live: fused groups, strip heights, pool addresses and spill addresses."""

from bisect import insort
from dataclasses import dataclass, field
from itertools import combinations, pairwise, product
from math import gcd, inf, lcm

import numpy as np

from gen.compile.schedule import alive_rows, FIRE, reads, strip_order, SUM
from hw.config import LEVEL_PLANES, MEMBRANE_BITS
from hw.descriptor import RING_UNIT
from model.error import DoesNotFit
from model.graph import Attention, Conv, Depthwise, Fire, Integrate, Pool, RepConv, Requantise


__all__ = ["Buffer", "Group", "OUTSIDE", "Residency", "turns"]


PRICES = (0, *(2.0 ** k for k in range(-4, 14)), 1e9)
"""Cycles that a pool word may be worth, to find strip heights that fit."""

TILE = "tile"

OUTSIDE = frozenset(("image", "logits_acc"))
"""Tensors that come from and go to the host."""

@dataclass(frozen=True)
class Buffer:
    """Pool words of a tensor: row r is at ``address + (r % rows) * row_words``.

    ``rows`` is the height of the tensor, or of the ring that it rolls through.
    """

    address: int
    rows: int


@dataclass(eq=False)
class Group:
    """Operators ``start..end`` that run strip by strip, in the order of ``steps``.

    ``heights`` are rows of a strip by operator; ``apart`` is as for
    :func:`gen.compile.schedule.strip_order`. ``spilled`` are those of the tensors made and used
    inside that go through memory all the same. ``rings`` maps (tensor, role) of everything not
    resident to (owner of the ring, its rows), ``buffers`` to its words; the role is "in" (loaded)
    or "out" (to be stored) for tensors in memory, "" for those that roll. ``cost`` is in cycles.
    """

    start: int
    end: int
    heights: dict
    steps: list
    spilled: frozenset
    rings: dict
    cost: float
    apart: bool
    buffers: dict = field(default_factory=dict)

    def by_tile(self, name):
        """Whether a membrane in memory is moved one channel group at a time."""
        return any(key == name and owner[1] == TILE for (key, _), (owner, _) in self.rings.items())


@dataclass(frozen=True, kw_only=True)
class _Work:
    """Cycles of an operator by unit; ``alone`` if it is a depthwise convolution, ``neuron`` those
    that come on top where partial sums have no room for two strips."""

    alone: bool = False
    depthwise: int = 0
    array: int = 0
    neuron: int = 0


def turns(tensor):
    """Channel groups of a membrane that have room in the pool where one is moved at a time: a
    second one, if that is not all of them, so that it comes while the first is in use."""
    return min(2, tensor.groups - 1)


class _FreeList:
    """First-fit allocation of pool words."""

    def __init__(self, words):
        self._words = words
        self._used = {}
        self._taken = []          # (start, end), in order

    @property
    def gaps(self):
        """What a later allocation depends on."""
        return tuple(self._taken)

    @property
    def left(self):
        """Words that are free, in one piece or not."""
        return self._words - sum(end - start for start, end in self._taken)

    def allocate(self, name, words):
        start = 0
        for low, high in self._taken:
            if low - start >= words:
                break
            start = max(start, high)
        if start + words > self._words:
            return None
        self._used[name] = (start, start + words)
        insort(self._taken, self._used[name])
        return start

    def free(self, name):
        self._taken.remove(self._used.pop(name))

    @property
    def names(self):
        return tuple(self._used)

    def rename(self, old, new):
        self._used[new] = self._used.pop(old)

    def copy(self):
        other = _FreeList(self._words)
        other._used = dict(self._used)
        other._taken = list(self._taken)
        return other


class _Order:
    """An order of strips, and what rings of rows need to know of it.

    ``steps`` are those of :func:`gen.compile.schedule.strip_order`, ``tallest`` the rows of the
    tallest strip by operator, in the order in which they begin; ``dead`` tensors are not written.
    """

    def __init__(self, steps, ops, maps, dead):
        self.steps = steps
        self.tallest, self._spans, self._alive = {}, {}, {}
        mine = {}
        for index, step in enumerate(steps):
            mine.setdefault(step.op, []).append((index, step))
        for number, own in mine.items():
            op = ops[number]
            self.tallest[number] = max(step.high - step.low for _, step in own)
            # What is summed up is still being read until it is fired.
            reading, writing = (
                np.array([(index, step.low, step.high) for index, step in own
                          if step.half in halves]).T
                for halves in ((None, SUM, FIRE), (None, FIRE)))
            spans = {(name, "in"): (reading[0], *span)
                     for name, span in reads(op, *reading[1:], maps).items()}
            spans |= {(name, "out"): writing for name in op.outputs if name not in dead}
            self._spans |= {(number, *use): span for use, span in spans.items()}

    def alive(self, uses):
        """Most rows alive at a time of a ring with these (operator, tensor, role)."""
        key = tuple(uses)
        if key not in self._alive:
            self._alive[key] = alive_rows(len(self.steps), [self._spans[use] for use in uses])
        return self._alive[key]


@dataclass(frozen=True)
class _Ring:
    """A ring of rows in the pool: ``words`` a row, for (operator, tensor, role) ``uses``, in whole
    multiples of ``whole`` rows up to ``height``; or, with ``number``, as high as a strip of it."""

    owner: tuple
    words: int
    uses: tuple = ()
    whole: int = 1
    height: int = 0
    number: int | None = None

    def rows(self, alive):
        """Rows for ``alive`` of them at a time."""
        return min(-(-alive // self.whole) * self.whole, self.height)


@dataclass(frozen=True)
class _RingPlan:
    """Rings of the tensors that are not resident.

    ``owners`` maps (tensor, role) to the ring that the tensor is in: its own, or that of the
    membrane which it replaces in place. ``resident`` are words of the tensors that are.
    """

    owners: dict
    rings: list
    resident: int

    def rows(self, order):
        """{(tensor, role): (owner, rows)} for an :class:`_Order`."""
        rows = {ring.owner: order.tallest[ring.number] if ring.number is not None
                else ring.rows(order.alive(ring.uses)) for ring in self.rings}
        return {key: (owner, rows[owner]) for key, owner in self.owners.items()}


def _windows(op):
    """{tensor: stride} of the inputs of which a strip of n rows reads (n - 1) * stride rows and
    one more at least; of the other inputs it reads n, or all."""
    if isinstance(op, Conv) and op.source != "image":
        return {op.source: op.stride}
    return {}


class StripMemo:
    """Orders of strips that were worked out before.

    They depend on the network, on the core but for the size of its pool, and on how the program is
    compiled: searches for a pool of the right size meet the same ones again and again.
    """

    def __init__(self):
        self._known = {}

    def of(self, config, **options):
        """The part for a core (:class:`hw.config.CoreConfig`) and options, a dictionary."""
        core = tuple(sorted((name, value) for name, value in config.to_dict().items()
                            if name != "pool_bank_words"))
        return self._known.setdefault((core, *sorted(options.items())), {})


class Residency:
    """Decide which operators are fused and where every tensor lives.

    ``tiles`` counts the array tiles of every operator that has them.

    A tensor is *resident* (its own pool words for as long as it is needed), *rolls* through a ring
    of rows in the pool while the group of operators that makes and uses it runs, or lies in
    *memory*, with a ring for the rows just loaded or to be stored. Groups are merged and tensors
    spilled where that lowers the estimated cost: memory words moved, weighed by ``word_cycles``,
    and the cycles that short strips and full partial sums cost the units. With ``apart``
    a depthwise convolution runs beside the other operators of its group wherever there is room.

    Attributes
    ----------
    groups : list of Group
    pool : dict
        Pool address of every resident tensor.
    memory : dict
        Address of every spilled tensor, in memory words from the start of the spill area.
    memory_words : int
        Size of the spill area.
    dead : set
        Membranes that nobody reads: they are fired, but not written.
    """

    def __init__(self, ops, maps, tiles, config, *, word_cycles, strip_rows, apart, memo=None):
        self._ops, self._maps, self._tiles, self._config = ops, maps, tiles, config
        self._apart_allowed = apart
        self._word_cycles = word_cycles
        self._strip_rows = strip_rows
        self._users = {name: [k for k, op in enumerate(ops) if name in op.inputs]
                       for name in maps}
        self.dead = {op.epilogue.u_out for op in ops
                     if isinstance(getattr(op, "epilogue", None), Integrate)
                     and op.epilogue.level is not None and not self._users[op.epilogue.u_out]}
        self._maker = {name: k for k, op in enumerate(ops) for name in op.outputs
                       if name not in self.dead}
        self._last_use = {name: max(self._users[name], default=maker)
                          for name, maker in self._maker.items()}
        self._psums = [self._partial_sums_of(op) for op in ops]
        self._heights = [self._height_costs(op) for op in ops]
        self._work = [self._work_of(op) for op in ops]
        self._totals = [maps[next(iter(op.outputs))].height for op in ops]
        self._uses = [[*((name, "in") for name in dict.fromkeys(op.inputs)),
                       *((name, "out") for name in op.outputs if name not in self.dead)]
                      for op in ops]
        self._windows = [_windows(op) for op in ops]
        self._ring_plans = {}
        self._orders_known = {} if memo is None else memo
        self._plans = {}
        self._smallest = inf
        spilled, self.groups, self.pool = self._search()
        self.memory, self.memory_words = {}, 0
        for name in sorted(spilled.union(*(group.spilled for group in self.groups))):
            if name not in OUTSIDE:
                self.memory[name] = self.memory_words
                self.memory_words += maps[name].memory_words

    # -- partition --------------------------------------------------------------------------

    def _search(self):
        """Merge runs of groups, and move the cuts between neighbours, as long as that helps."""
        cuts = tuple(range(len(self._ops) + 1))
        best = self._place(cuts, OUTSIDE)
        improved = True
        while improved:
            improved = False
            _, cuts, spilled, groups, _ = best
            for first in range(len(cuts) - 2):
                for last in range(first + 2, len(cuts)):
                    if not self._joined(cuts[first:last + 1], spilled):
                        break
                    start, end = cuts[first], cuts[last]
                    limit = sum(group.cost for group in groups[first:last])
                    splits = [()]
                    if last == first + 2:
                        splits += [(cut,) for cut in range(start + 1, end) if cut not in cuts]
                    for split in splits:
                        changed = cuts[:first + 1] + split + cuts[last:]
                        for more in self._crossing(start, end):
                            found = self._place(changed, (spilled | more) - self._inside(changed),
                                                best[0], (start, end, limit))
                            if found is not None:
                                best, improved = found, True
        return best[2:]

    def _crossing(self, start, end):
        """Sets of tensors to spill for a group, beside those that are: none, what it makes for
        others, and what is alive meanwhile as well."""
        made = {name for name, maker in self._maker.items() if start <= maker < end}
        alive = {name for name, maker in self._maker.items()
                 if maker < start <= self._last_use[name]}
        return frozenset(), made, made | alive

    def _joined(self, cuts, spilled):
        """Whether every two neighbouring groups between the cuts share a spilled tensor."""
        if any(isinstance(op, (Attention, Pool)) for op in self._ops[cuts[0]:cuts[-1]]):
            return False
        return all(any(start <= self._maker.get(name, -1) < middle
                       and any(middle <= user < end for user in self._users[name])
                       for name in spilled)
                   for start, middle, end in zip(cuts, cuts[1:], cuts[2:], strict=False))

    def _inside(self, cuts):
        """Tensors made and used in one group only."""
        group_of = {k: start for start, end in pairwise(cuts) for k in range(start, end)}
        return {name for name, maker in self._maker.items() if name not in OUTSIDE
                and all(group_of[user] == group_of[maker] for user in self._users[name])}

    def _place(self, cuts, spilled, limit=inf, part=(0, 0, inf)):
        """(cost, cuts, spilled, groups, pool) of a partition; None if it costs ``limit`` or more.

        ``part`` is (start, end, limit) of operators that may not cost more by themselves.

        Where an operator alone does not fit, the largest resident tensor alive there is spilled
        and the whole placement starts again.
        """
        inside = self._inside(cuts)
        while True:
            free = _FreeList(self._config.pool_words)
            groups, pool, cost = [], {}, 0
            for start, end in pairwise(cuts):
                inner = part[0] <= start and end <= part[1]
                bound = min(limit - cost, part[2] if inner else inf) if end - start > 1 else inf
                group = self._group(start, end, free, inside, spilled, bound)
                if group is None:
                    break
                cost += group.cost
                if cost >= limit:
                    return None
                groups.append(group)
                self._settle(group, free, inside, spilled, pool)
            else:
                return cost, cuts, spilled, groups, pool
            if end - start > 1:
                return None
            alive = [name for name, maker in self._maker.items()
                     if name not in inside | spilled and maker < end
                     and self._last_use[name] >= start]
            if alive:
                spilled = spilled | {max(sorted(alive), key=lambda name: self._maps[name].words)}
            else:
                raise DoesNotFit(f"pool words for the smallest strip of {self._ops[start].name}",
                                 needed=self._smallest, available=self._config.pool_words)

    # -- one group --------------------------------------------------------------------------

    def _group(self, start, end, free, inside, spilled, limit):
        """Cheap heights and spills that fit, or None if there are none below ``limit``."""
        names = {name for op in self._ops[start:end] for name in (*op.inputs, *op.outputs)}
        key = start, end, free.gaps, frozenset(names & spilled), frozenset(names & inside)
        known, group = self._plans.get(key, (-1, None))
        if group is None and known < limit:
            for apart in self._orders(range(start, end)):
                group = self._best_group(start, end, free, inside & names, spilled, limit, apart)
                if group is not None:
                    break
            self._plans[key] = limit, group
        return group

    def _best_group(self, start, end, free, inside, spilled, limit, apart):
        """Cheapest strip heights and spills found that fit.

        With ``apart`` a depthwise convolution runs beside the others, and the cheapest heights of
        :meth:`_alike` that fit are the first. Otherwise a price on every pool word makes the
        operators choose lower strips; what then does not fit is spilled, the most words freed for
        a word moved first, and the cheapest of a range of prices is the first. It is improved by
        changing heights of two operators at a time.
        """
        numbers = range(start, end)
        loaded = {name for op in self._ops[start:end] for name in op.inputs
                  if name in spilled and self._maker.get(name, -1) < start}
        stored = {name for op in self._ops[start:end] for name in op.outputs if name in spilled}
        outside = sum(self._maps[name].memory_words for name in (*loaded, *stored))

        def rough(heights):
            return self._busy(heights, apart) + sum(
                self._heights[number][rows] for number, rows in heights.items())

        def cost_of(heights, extra):
            if apart and not self._apart(heights):
                return inf
            moved = outside + 2 * sum(self._maps[name].memory_words for name in extra)
            return self._word_cycles * moved + rough(heights)

        def fits(heights, extra):
            """Whether it may; most do not, and cost more time than any others."""
            return self._least_words(tuple(numbers), heights, inside, spilled | extra) <= free.left

        def plan(heights, extra):
            cost = cost_of(heights, extra)
            if cost >= best.cost:
                return None
            order = self._order(numbers, heights, apart)
            rings = self._ring_plan(tuple(order.tallest), inside, spilled | extra).rows(order)
            return Group(start, end, heights, order.steps, extra, rings, cost, apart)

        def words(group):
            found = self._words(start, end, group.rings, inside, spilled | group.spilled)
            self._smallest = min(self._smallest, sum(found.values()))
            return found

        best, tried = Group(start, end, {}, [], frozenset(), {}, limit, apart), []
        alike = filter(self._apart, self._alike(numbers)) if apart else ()
        for heights in sorted(alike, key=rough):
            if cost_of(heights, frozenset()) >= best.cost:
                break
            if not fits(heights, frozenset()):
                continue
            group = plan(heights, frozenset())
            if self._fits(free, words(group)):
                best = group
                break
        for price in () if apart else PRICES:
            heights = {number: self._priced_height(number, price) for number in numbers}
            if heights in tried:
                continue
            tried.append(heights)
            group = plan(heights, frozenset())
            while group is not None and not self._fits(free, words(group)):
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
            single = [{number: rows} for number in numbers for rows in self._heights[number]]
            changes = [(a | b, best.spilled) for a, b in combinations(single, 2)]
            changes += [(change, best.spilled - {name}) for name in best.spilled
                        for change in ({}, *single)]
            for heights, extra in changes:
                changed = best.heights | heights
                if cost_of(changed, extra) >= best.cost or not fits(changed, extra):
                    continue
                group = plan(changed, extra)
                if group is not None and self._fits(free, words(group)):
                    best, better = group, True
        return best if best.steps else None

    def _order(self, numbers, heights, apart):
        """The :class:`_Order` of strips for these heights."""
        limits = self._first_limits(heights, apart)
        key = numbers, apart, *((heights[n], limits[n]) for n in numbers)
        order = self._orders_known.get(key)
        if order is None:
            order = self._orders_known[key] = _Order(
                strip_order(self._ops, numbers, heights, self._maps, limits=limits, apart=apart),
                self._ops, self._maps, self.dead)
        return order

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

    def _apart(self, heights):
        """Whether the partial sums of a depthwise convolution and of the other operators' strips
        have room side by side, so that it can run beside them."""
        alone, others = self._sides(heights)
        return bool(alone and others) and alone + others <= self._config.psum_words

    def _first_limits(self, heights, apart):
        """Most rows of first strips: those that leave room for others' partial sums."""
        limits, sides = {}, self._sides(heights)
        for number, rows in heights.items():
            free = self._config.psum_words
            if apart:
                free -= sides[self._work[number].alone]
            psums = self._psums[number]
            limits[number] = max((h for h in self._heights[number] if psums[h] <= free),
                                 default=rows)
        return limits

    def _busy(self, heights, apart):
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

    def _work_of(self, op):
        """Cycles of an operator that its strips do not change."""
        if isinstance(op, Depthwise):
            return _Work(alone=True, depthwise=self._through(op))
        if isinstance(op, Conv):
            out, source = (self._maps[name] for name in (next(iter(op.outputs)), op.source))
            area = out.height * out.width
            return _Work(array=self._tiles[op.name] * area * source.planes,
                         neuron=out.groups * area * self._neuron_cycles(op))
        return _Work()

    def _partial_sums_of(self, op):
        """{rows of a strip: partial sums of one channel group}."""
        height = self._maps[next(iter(op.outputs))].height
        return {rows: self.partial_sums(op, rows) for rows in range(1, height + 1)}

    def _through(self, op):
        """Cycles of the depthwise unit for a map."""
        out = self._maps[next(iter(op.outputs))]
        passes = op.weight.shape[-1] * self._config.rows // self._config.depthwise_lanes
        return 3 * passes * out.groups * out.height * out.width

    def _orders(self, numbers):
        """Orders of the steps to try, with a depthwise convolution apart or not; the first that
        has room is taken."""
        alone = [isinstance(self._ops[number], Depthwise) for number in numbers]
        possible = self._apart_allowed and sum(alone) == 1 < len(alone)
        return (True, False) if possible else (False,)

    def _alike(self, numbers):
        """Heights to begin with where a depthwise convolution runs apart: alike for all operators
        before, and for all behind its reader."""
        alone = next(n for n in numbers if isinstance(self._ops[n], Depthwise))
        parts = [[n for n in numbers if n < alone], [alone], [n for n in numbers if n == alone + 1],
                 [n for n in numbers if n > alone + 1]]
        choices = [[dict.fromkeys(part, rows) for rows in sorted(set.intersection(
            *(set(self._heights[n]) for n in part)), reverse=True)] if part else [{}]
            for part in parts]
        for before, beside, reader, behind in product(*choices):
            yield before | beside | reader | behind

    def _priced_height(self, number, price):
        """Cheapest strip height where a pool word costs ``price`` cycles."""
        op = self._ops[number]
        per_row = sum(self._maps[name].row_words for name in {*op.inputs, *op.outputs} - self.dead)
        costs = self._heights[number]
        return min(costs, key=lambda rows: costs[rows] + price * rows * per_row)

    def _make_ring_plan(self, numbers, inside, spilled):
        def ring(name, role):
            if name in spilled:
                return name, role
            return (name, "") if name in inside else None

        owners, touches, unit, tall = {}, {}, {}, {}
        for number in numbers:
            op = self._ops[number]
            old, new = self._in_place(number)
            tiles = self._by_tile(number, spilled)
            if tiles:
                owner = tiles[0][0], TILE
                owners |= dict.fromkeys(tiles, owner)
                tall[owner] = number
            elif new is not None and ring(old, "in") and ring(new, "out"):
                key = ring(old, "in")
                owners[ring(new, "out")] = owners.get(key, key)
            for use in self._uses[number]:
                key = ring(*use)
                if key is not None and key not in tiles:
                    owner = owners.setdefault(key, key)
                    touches.setdefault(owner, []).append((number, *use))
            source = ring(op.inputs[0], "in")
            if source and isinstance(op, Conv) and op.source != "image":
                unit[source] = lcm(unit.get(source, 1), op.stride)
        rings = []
        for owner, number in tall.items():
            tensor = self._maps[owner[0]]
            words = tensor.width * tensor.planes * turns(tensor)
            rings.append(_Ring(owner, words, number=number))
        for owner, used in touches.items():
            tensor = self._maps[owner[0]]
            # Whole units of the descriptors' ring field, and of the strides across the ring.
            whole = lcm(RING_UNIT // gcd(RING_UNIT, tensor.row_words), unit.get(owner, 1))
            rings.append(_Ring(owner, tensor.row_words, uses=tuple(used), whole=whole,
                               height=tensor.height))
        resident = sum(self._resident(numbers, inside, spilled).values())
        return _RingPlan(owners, rings, resident)

    def _ring_plan(self, numbers, inside, spilled):
        """The :class:`_RingPlan` of operators, in the order in which they begin."""
        names = self._names(numbers)
        key = numbers, frozenset(inside & names), frozenset(spilled & names)
        if key not in self._ring_plans:
            self._ring_plans[key] = self._make_ring_plan(numbers, inside, spilled)
        return self._ring_plans[key]

    def _names(self, numbers):
        return {name for number in numbers
                for name in (*self._ops[number].inputs, *self._ops[number].outputs)}

    def _least_words(self, numbers, heights, inside, spilled):
        """Pool words that strips of these heights take whatever their order: every row that is
        read or written at a time."""
        def rows_of(number, name, role):
            strip = self._shortest(number, heights[number])
            if role == "out" or name not in self._windows[number]:
                return strip
            return min(self._maps[name].height,
                       (strip - 1) * self._windows[number][name] + 1)

        plan = self._ring_plan(numbers, inside, spilled)
        return plan.resident + sum(
            ring.words * (self._shortest(ring.number, heights[ring.number])
                          if ring.number is not None else
                          ring.rows(max(rows_of(*use) for use in ring.uses)))
            for ring in plan.rings)

    def _shortest(self, number, rows):
        """Rows that the tallest strip of an operator has at least, with strips of ``rows``."""
        return min(rows, -(-self._totals[number] // 2))

    def _by_tile(self, number, spilled):
        """Keys of the membranes of an operator that can go through the pool one channel group at
        a time: all of them in memory, of several groups."""
        epilogue = getattr(self._ops[number], "epilogue", None)
        if not isinstance(epilogue, Integrate) or self._maps[epilogue.u_out].groups == 1:
            return ()
        names = [(name, role) for name, role in ((epilogue.u_in, "in"), (epilogue.u_out, "out"))
                 if name is not None and name not in self.dead]
        return tuple(names) if names and all(name in spilled for name, _ in names) else ()

    def _in_place(self, number):
        """(old, new) membranes where the operator can write the new one over the old, else Nones.
        """
        epilogue = getattr(self._ops[number], "epilogue", None)
        if (not isinstance(epilogue, Integrate) or epilogue.u_in is None
                or epilogue.u_out in self.dead or self._users[epilogue.u_in] != [number]):
            return None, None
        return epilogue.u_in, epilogue.u_out

    def _resident(self, numbers, inside, spilled):
        """{name: words} of the tensors that these operators make and that are resident."""
        words, elsewhere = {}, inside | spilled
        for number in numbers:
            old, new = self._in_place(number)
            for name in self._ops[number].outputs:
                if name not in elsewhere and name not in self.dead and (
                        name != new or old in elsewhere):
                    words[name] = self._maps[name].words
        return words

    def _words(self, start, end, rings, inside, spilled):
        """{name or (tensor, role): words} to allocate for a group."""
        words = self._resident(range(start, end), inside, spilled)
        for owner, rows in rings.values():
            tensor = self._maps[owner[0]]
            words[owner] = rows * tensor.row_words
            if owner[1] == TILE:
                words[owner] = rows * tensor.width * tensor.planes * turns(tensor)
        return words

    @staticmethod
    def _fits(free, words):
        trial = free.copy()
        return all(trial.allocate(name, size) is not None for name, size in words.items())

    def _settle(self, group, free, inside, spilled, pool):
        """Allocate a group that fits: addresses into ``pool`` and ``group.buffers``."""
        memory = spilled | group.spilled
        words = self._words(group.start, group.end, group.rings, inside, memory)
        at = {name: free.allocate(name, size) for name, size in words.items()}
        group.buffers = {key: Buffer(at[owner], rows)
                         for key, (owner, rows) in group.rings.items()}
        for number in range(group.start, group.end):
            old, new = self._in_place(number)
            for name in self._ops[number].outputs:
                if name in inside | memory | self.dead:
                    continue
                if name == new and old not in inside | memory:
                    free.rename(old, new)
                    pool[name] = pool[old]
                else:
                    pool[name] = at[name]
        for name in list(free.names):
            if isinstance(name, tuple) or self._last_use[name] < group.end:
                free.free(name)

    # -- strip heights and costs ------------------------------------------------------------

    def _height_costs(self, op):
        """{rows of a strip: cost}; heights are balanced, so that strips are about equal."""
        out = self._maps[next(iter(op.outputs))]
        if isinstance(op, (Attention, Pool)):
            return {out.height: 0}
        config = self._config
        words, tiles = self._weights(op)
        start = 17 * config.rows // config.load_rows * tiles   # cycles of a strip
        if not isinstance(op, Conv):
            kernel = op.weight.shape[-1] if isinstance(op, Depthwise) else 3
            passes = kernel * config.rows // config.depthwise_lanes
            start += out.groups * (kernel * config.rows // 2 + 16 * passes)
        costs = {}
        for strips in range(1, out.height + 1):
            rows = -(-out.height // strips)
            if (rows not in costs and rows <= self._strip_rows
                    and self.partial_sums(op, rows) <= config.psum_words):
                # What follows can begin when the first strip is through.
                costs[rows] = (-(-out.height // rows) * (self._word_cycles * words + start)
                               + rows * out.width * self._neuron_cycles(op))
        if not costs:
            raise DoesNotFit(f"partial sums for one row of {op.name}",
                             needed=self.partial_sums(op, 1), available=config.psum_words)
        return costs

    def partial_sums(self, op, rows):
        """Partial sums of one channel group of a strip."""
        out = self._maps[next(iter(op.outputs))]
        inner = min(rows + 2, out.height) if isinstance(op, RepConv) else 0
        return (rows + inner) * out.width

    def _weights(self, op):
        """(memory words of weights and constants, array tiles) that one strip takes."""
        config, tiles = self._config, self._tiles.get(op.name, 0)
        words = config.tile_const_words
        if isinstance(op, Depthwise):
            words += op.weight.shape[-1] * config.rows // 2
        elif isinstance(op, RepConv):
            words += 3 * config.rows // 4
        groups = self._maps[next(iter(op.outputs))].groups
        return groups * words + tiles * config.tile_words, tiles

    def _neuron_cycles(self, op):
        """Cycles of the neuron core for a position of one tile."""
        words = MEMBRANE_BITS
        if isinstance(op.epilogue, Fire):
            words = LEVEL_PLANES
        elif isinstance(op.epilogue, Requantise):
            words = self._config.z_bits
        elif isinstance(op.epilogue, Integrate):
            words = (0 if op.epilogue.u_out in self.dead else MEMBRANE_BITS) + LEVEL_PLANES
        return max(words, self._config.rows // self._config.neuron_lanes)
