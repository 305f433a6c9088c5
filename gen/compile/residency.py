"""Where tensors live: fused groups, strip heights, pool addresses and spill addresses."""

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


def turns(tensor):
    """Channel groups of a membrane that have room in the pool where one is moved at a time: a
    second one, if that is not all of them, so that it comes while the first is in use."""
    return min(2, tensor.groups - 1)


class _FreeList:
    """First-fit allocation of pool words."""

    def __init__(self, words):
        self._words = words
        self._used = {}

    @property
    def gaps(self):
        """What a later allocation depends on."""
        return tuple(sorted(self._used.values()))

    def allocate(self, name, words):
        start = 0
        for low, high in sorted(self._used.values()):
            if low - start >= words:
                break
            start = max(start, high)
        if start + words > self._words:
            return None
        self._used[name] = (start, start + words)
        return start

    def free(self, name):
        del self._used[name]

    @property
    def names(self):
        return tuple(self._used)

    def rename(self, old, new):
        self._used[new] = self._used.pop(old)

    def copy(self):
        other = _FreeList(self._words)
        other._used = dict(self._used)
        return other


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

    def __init__(self, ops, maps, tiles, config, *, word_cycles, strip_rows, apart):
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
        self._heights = [self._height_costs(op) for op in ops]
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

        def plan(heights, extra):
            if apart and not self._apart(heights):
                return None
            moved = outside + 2 * sum(self._maps[name].memory_words for name in extra)
            cost = self._word_cycles * moved + rough(heights)
            if cost >= best.cost:
                return None
            steps = strip_order(self._ops, numbers, heights, self._maps,
                                limits=self._first_limits(heights, apart), apart=apart)
            return Group(start, end, heights, steps, extra,
                         self._rings(steps, inside, spilled | extra), cost, apart)

        def words(group):
            found = self._words(start, end, group.rings, inside, spilled | group.spilled)
            self._smallest = min(self._smallest, sum(found.values()))
            return found

        best, tried = Group(start, end, {}, [], frozenset(), {}, limit, apart), []
        alike = filter(self._apart, self._alike(numbers)) if apart else ()
        for heights in sorted(alike, key=rough):
            group = plan(heights, frozenset())
            if group is None:
                break
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
                group = plan(best.heights | heights, extra)
                if group is not None and self._fits(free, words(group)):
                    best, better = group, True
        return best if best.steps else None

    def _sides(self, heights):
        """Most partial sums of a strip: (of depthwise convolutions, of others)."""
        words = [0, 0]
        for number, rows in heights.items():
            op = self._ops[number]
            side = int(not isinstance(op, Depthwise))
            words[side] = max(words[side], self.partial_sums(op, rows))
        return words

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
                free -= sides[isinstance(self._ops[number], Depthwise)]
            fit = [h for h in self._heights[number]
                   if self.partial_sums(self._ops[number], h) <= free]
            limits[number] = max(fit, default=rows)
        return limits

    def _busy(self, heights, apart):
        """Cycles for which array or depthwise unit work; where partial sums have no room for two
        strips, the neuron core's come on top."""
        alone, _ = self._sides(heights)
        depthwise = array = 0
        for number, rows in heights.items():
            op = self._ops[number]
            if isinstance(op, Depthwise):
                depthwise += self._through(op)
            elif isinstance(op, Conv):
                out, source = (self._maps[name] for name in (next(iter(op.outputs)), op.source))
                array += self._tiles[op.name] * out.height * out.width * source.planes
                free = self._config.psum_words - (alone if apart else 0)
                if 2 * self.partial_sums(op, rows) > free:
                    array += (out.groups * out.height * out.width * self._neuron_cycles(op))
        return max(depthwise, array) if apart else depthwise + array

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

    def _rings(self, steps, inside, spilled):
        """{(tensor, role): (owner, rows)} of the tensors that are not resident.

        ``owner`` names the ring that the tensor is in: its own, or that of the membrane which it
        replaces in place.
        """
        def ring(name, role):
            if name in spilled:
                return name, role
            return (name, "") if name in inside else None

        owners, touches, unit, rows = {}, {}, {}, {}
        for number in dict.fromkeys(step.op for step in steps):
            op = self._ops[number]
            mine = [(index, step.low, step.high) for index, step in enumerate(steps)
                    if step.op == number]
            # What is summed up is still being read until it is fired.
            reading, writing = (
                np.array([(index, step.low, step.high) for index, step in enumerate(steps)
                          if step.op == number and step.half in halves]).T
                for halves in ((None, SUM, FIRE), (None, FIRE)))
            old, new = self._in_place(number)
            tiles = self._by_tile(number, spilled)
            if tiles:
                height = max(row_end - row for _, row, row_end in mine)
                owner = tiles[0][0], TILE
                owners |= dict.fromkeys(tiles, owner)
                rows[owner] = height
            elif new is not None and ring(old, "in") and ring(new, "out"):
                key = ring(old, "in")
                owners[ring(new, "out")] = owners.get(key, key)
            used = [(ring(name, "in"), reading[0], *span)
                    for name, span in reads(op, *reading[1:], self._maps).items()]
            used += [(ring(name, "out"), *writing) for name in op.outputs
                     if name not in self.dead]
            for key, *touch in used:
                if key is not None and key not in tiles:
                    owner = owners.setdefault(key, key)
                    touches.setdefault(owner, []).append(tuple(touch))
            source = ring(op.inputs[0], "in")
            if source and isinstance(op, Conv) and op.source != "image":
                unit[source] = lcm(unit.get(source, 1), op.stride)
        for owner, used in touches.items():
            tensor = self._maps[owner[0]]
            # Whole units of the descriptors' ring field, and of the strides across the ring.
            whole = lcm(RING_UNIT // gcd(RING_UNIT, tensor.row_words), unit.get(owner, 1))
            alive = alive_rows(len(steps), used)
            rows[owner] = min(-(-alive // whole) * whole, tensor.height)
        return {key: (owner, rows[owner]) for key, owner in owners.items()}

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

    def _words(self, start, end, rings, inside, spilled):
        """{name or (tensor, role): words} to allocate for a group."""
        words = {}
        for number in range(start, end):
            old, new = self._in_place(number)
            for name in self._ops[number].outputs:
                if name in inside | spilled | self.dead:
                    continue
                if name != new or old in inside | spilled:
                    words[name] = self._maps[name].words
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
