"""Where tensors live: fused groups, pool addresses and spill addresses."""

from itertools import pairwise
from math import inf

from gen.compile.group import GroupSearch, PAIR
from gen.compile.heights import Heights
from gen.compile.lifetime import Lifetimes
from gen.compile.pool import Buffer, FreeList
from gen.compile.rings import Rings
from model.error import DoesNotFit
from model.integer.graph import Attention, Conv, Depthwise, Pool


__all__ = ["Residency"]


def _plan_of(group):
    """What a search decided of a group, as plain data."""
    return {"start": group.start, "end": group.end, "heights": sorted(group.heights.items()),
            "spilled": sorted(group.spilled), "apart": group.apart}


class Residency:
    """Decide which operators are fused and where every tensor lives.

    A tensor is *resident* (its own pool words for as long as it is needed), *rolls* through a ring
    of rows in the pool while the group of operators that makes and uses it runs, or lies in
    *memory*, with a ring for the rows just loaded or to be stored. Groups are merged and tensors
    spilled where that lowers the estimated cost: memory words moved, weighed by ``word_cycles``,
    and the cycles that short strips and full partial sums cost the units. With ``apart``
    a depthwise convolution runs beside the other operators of its group wherever there is room,
    with ``beside`` other operators whose maps are resident do, too (:meth:`_run_beside`), and as
    many are as have room with membranes at the other end of the pool (:meth:`_take_back`).

    Attributes
    ----------
    groups : list of Group
    pool : dict
        Pool address of every resident tensor.
    memory : dict
        Address of every spilled tensor, in memory words from the start of the spill area.
    memory_words : int
        Size of the spill area.
    plan : dict
        What the search decided, as plain data; given as ``plan`` it saves the search.
    dead : set
        Membranes that nobody reads: they are fired, but not written.
    outside : set
        Tensors that come from and go to the host.
    """

    def __init__(self, ops, maps, tiles, config, *, word_cycles, strip_rows, apart, memo,
                 plan=None, beside=False, read_out=()):
        self._ops, self._maps, self._config = ops, maps, config
        self._life = Lifetimes(ops, maps, read_out)
        self.dead, self.outside = self._life.dead, self._life.outside
        # in memory, always
        self._held = self.outside | {name for name in maps if maps[name].steps > 1}
        self._heights = Heights(self._life, tiles, config, word_cycles=word_cycles,
                                strip_rows=strip_rows, apart=apart)
        self._rings = Rings(self._life)
        self._groups = GroupSearch(self._life, self._heights, self._rings,
                                   word_cycles=word_cycles, memo=memo)
        spilled, self.groups, self.pool = (
            self._search() if plan is None else self._replay(plan))
        self.plan = {"spilled": sorted(spilled), "groups": [*map(_plan_of, self.groups)],
                     "ends": plan is not None and plan["ends"]}
        if beside:
            self._take_back()
            self._run_beside()
            spilled, self.groups, self.pool = self._replay(self.plan)
        self.memory, self.memory_words = {}, 0
        for name in sorted(spilled.union(*(group.spilled for group in self.groups))):
            if name not in self.outside:
                self.memory[name] = self.memory_words
                self.memory_words += maps[name].memory_words

    def partial_sums_beside(self, group):
        """Partial sums for what a group sums up beside other operators."""
        if group.apart == PAIR:
            return self._heights.pair(group.start)[0]
        return max((self._heights.partial_sums(self._ops[step.op], step.high - step.low)
                    for step in group.steps if step.half), default=0)

    def _take_back(self):
        """Change :attr:`plan` to have tensors in the pool that lie in memory, where they have room
        and no strip gets lower: each by itself, or with what is written over it; if need be with
        membranes at the other end of the pool, so that they leave no gaps where they end."""
        for some in self._movable(frozenset(self.plan["spilled"])):
            if some <= frozenset(self.plan["spilled"]) - self._held:
                any(self._resident(some, ends) for ends in sorted({self.plan["ends"], True}))

    def _movable(self, spilled):
        """Sets of tensors that may leave memory together: a map and what is written over it, and
        each spilled one by itself."""
        pairs = map(self._life.in_place, range(len(self._ops)))
        return [*(frozenset(pair) for pair in pairs if pair[0] is not None),
                *(frozenset((name,)) for name in sorted(spilled - self._held))]

    def _resident(self, some, ends):
        """Whether :attr:`plan` was changed to have these tensors in the pool."""
        groups = [group if not some & self._life.names(range(group["start"], group["end"]))
                  else {"start": group["start"], "end": group["end"]}
                  for group in self.plan["groups"]]
        spilled = [name for name in self.plan["spilled"] if name not in some]
        try:
            _, found, _ = self._replay({"spilled": spilled, "groups": groups, "ends": ends})
        except DoesNotFit:
            return False
        if any(group.heights[number] < rows for group, old in zip(found, self.plan["groups"],
                                                                  strict=True)
               for number, rows in old["heights"]):
            return False
        self.plan = {"spilled": spilled, "groups": [*map(_plan_of, found)], "ends": ends}
        return True

    def _run_beside(self):
        """Join operators of :attr:`plan` that have a group of their own, and whose maps are
        resident: attention and what makes v; a depthwise convolution and what makes its source;
        or where that takes more than one strip, and is cheaper, with what reads it, too."""
        for number, op in enumerate(self._ops):
            if not isinstance(op, (Attention, Depthwise)):
                continue
            joined = self._join(number - 1, number + 1, self._pair_group)
            if not joined and isinstance(op, Depthwise):
                self._join(number - 1, number + 2, self._depthwise_group)

    def _join(self, start, end, find):
        """Change :attr:`plan` to have a group of these operators, if ``find(start, end, ...)``
        finds one and all that follows has room as well; whether it does."""
        spilled, plan = frozenset(self.plan["spilled"]), self.plan["groups"]
        at = next((k for k, group in enumerate(plan) if group["start"] == start), None)
        alone = plan[at:at + end - start] if at is not None else ()
        if ([group["end"] for group in alone] != [*range(start + 1, end + 1)]
                or spilled & self._life.names(range(start, end))):
            return False
        free = self._replay(self.plan, start)
        inside = self._life.inside((*(group["start"] for group in plan[:at + 1]),
                                    *(group["start"] for group in plan[at + len(alone):]),
                                    len(self._ops)))
        found = find(start, end, free, inside, spilled)
        if found is None:
            return False
        changed = self.plan | {"groups": [*plan[:at], _plan_of(found), *plan[at + len(alone):]]}
        try:
            self._replay(changed)
        except DoesNotFit:
            return False
        self.plan = changed
        return True

    def _pair_group(self, start, end, _, inside, spilled):
        op, beside = self._ops[start:end]
        needed = beside.value if isinstance(beside, Attention) else beside.source
        if not isinstance(op, Conv) or needed not in op.outputs:
            return None
        return self._groups.pair(start, inside, spilled)

    def _depthwise_group(self, start, end, free, inside, spilled):
        source, beside, reader = self._ops[start:end]
        if not (isinstance(source, Conv) and isinstance(reader, Conv)
                and beside.source in source.outputs and reader.source in beside.outputs):
            return None
        return self._groups.beside(start, end, free, inside, spilled)

    def _replay(self, plan, until=None):
        """What :meth:`_search` returned when it led to this :attr:`plan`; or what is free when
        the group begins that begins with operator ``until``. A group without heights gets the
        best."""
        groups, pool, free = [], {}, FreeList(self._config.pool_words)
        spilled = frozenset(plan["spilled"])
        inside = self._life.inside((*(group["start"] for group in plan["groups"]), len(self._ops)))
        for chosen in plan["groups"]:
            start, end = chosen["start"], chosen["end"]
            if start == until:
                return free
            if "heights" in chosen:
                group = self._groups.made(
                    start, end, dict(chosen["heights"]), frozenset(chosen["spilled"]),
                    chosen["apart"], inside & self._life.names(range(start, end)), spilled)
            else:
                group = self._groups.best(start, end, free, inside, spilled, inf)
                if group is None:
                    raise DoesNotFit(f"pool words for {self._ops[start].name}",
                                     needed=self._groups.smallest, available=free.left)
            groups.append(group)
            self._settle(group, free, inside, spilled, pool, plan["ends"])
        return spilled, groups, pool

    def _search(self):
        """Merge runs of groups, and move the cuts between neighbours, as long as that helps."""
        cuts = tuple(range(len(self._ops) + 1))
        best = self._place(cuts, self._held)
        improved = True
        while improved:
            improved = False
            _, cuts, spilled, groups, _ = best
            for first in range(len(cuts) - 2):
                for last in range(first + 2, len(cuts)):
                    start, end = cuts[first], cuts[last]
                    if not self._joined(cuts[first:last], spilled, len(self._ops)):
                        break
                    if not self._joined(cuts[first:last], spilled, end):
                        continue
                    limit = sum(group.cost for group in groups[first:last])
                    splits = [()]
                    if last == first + 2:
                        splits += [(cut,) for cut in range(start + 1, end) if cut not in cuts]
                    for split in splits:
                        changed = cuts[:first + 1] + split + cuts[last:]
                        for more in self._crossing(start, end):
                            wanted = (spilled | more) - self._life.inside(changed)
                            found = self._place(changed, wanted, best[0], (start, end, limit))
                            if found is not None:
                                best, improved = found, True
        return self._resident_again(best)[2:]

    def _resident_again(self, best):
        """Take tensors out of memory that have room in the pool after all: each by itself, or with
        what is written over it."""
        improved = True
        while improved:
            improved = False
            _, cuts, spilled, *_ = best
            for some in self._movable(spilled):
                if some & spilled - self._held:
                    found = self._place(cuts, spilled - (some - self._held), best[0])
                    if found is not None:
                        best, improved = found, True
                        break
        return best

    def _crossing(self, start, end):
        """Sets of tensors to spill for a group, beside those that are: none, what it makes for
        others, and what is alive meanwhile as well."""
        made = {name for name, maker in self._life.maker.items() if start <= maker < end}
        alive = {name for name, maker in self._life.maker.items()
                 if maker < start <= self._life.last_use[name]}
        return frozenset(), made, made | alive

    def _joined(self, starts, spilled, end):
        """Whether groups that begin at ``starts`` may be merged: a spilled tensor that one of them
        makes is used, below ``end``, on the other side of every cut between them."""
        if any(isinstance(op, (Attention, Pool)) for op in self._ops[starts[0]:starts[-1] + 1]):
            return False
        return all(any(starts[0] <= self._life.maker.get(name, -1) < cut
                       and any(cut <= user < end for user in self._life.users[name])
                       for name in spilled)
                   for cut in starts[1:])

    def _place(self, cuts, spilled, limit=inf, part=(0, 0, inf)):
        """(cost, cuts, spilled, groups, pool) of a partition; None if it costs ``limit`` or more.

        ``part`` is (start, end, limit) of operators that may not cost more by themselves.

        Where an operator alone does not fit, the largest resident tensor alive there is spilled
        and the whole placement starts again.
        """
        inside = self._life.inside(cuts)
        while True:
            free = FreeList(self._config.pool_words)
            groups, pool, cost = [], {}, 0
            for start, end in pairwise(cuts):
                inner = part[0] <= start and end <= part[1]
                bound = min(limit - cost, part[2] if inner else inf) if end - start > 1 else inf
                group = self._groups.best(start, end, free, inside, spilled, bound)
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
            alive = [name for name, maker in self._life.maker.items()
                     if name not in inside | spilled and maker < end
                     and self._life.last_use[name] >= start]
            if alive:
                spilled = spilled | {max(sorted(alive), key=lambda name: self._maps[name].words)}
            else:
                raise DoesNotFit(f"pool words for the smallest strip of {self._ops[start].name}",
                                 needed=self._groups.smallest, available=self._config.pool_words)

    def _settle(self, group, free, inside, spilled, pool, ends=False):
        """Allocate a group that fits: addresses into ``pool`` and ``group.buffers``; with ``ends``
        membranes that are resident lie at the end of the pool."""
        memory = spilled | group.spilled
        words = self._rings.words(group.start, group.end, group.rings, inside, memory)
        at = {name: free.allocate(name, size, last=ends and name in self._maps
                                  and self._maps[name].kind == "u")
              for name, size in words.items()}
        if None in at.values():
            raise DoesNotFit(f"pool words for {self._ops[group.start].name}",
                             needed=sum(words.values()), available=free.left)
        group.buffers = {key: Buffer(at[owner], rows)
                         for key, (owner, rows) in group.rings.items()}
        for number in range(group.start, group.end):
            old, new = self._life.in_place(number)
            for name in self._ops[number].outputs:
                if name in inside | memory | self._life.dead:
                    continue
                if name == new and old not in inside | memory:
                    free.rename(old, new)
                    pool[name] = pool[old]
                else:
                    pool[name] = at[name]
        for name in list(free.names):
            if isinstance(name, tuple) or self._life.last_use[name] < group.end:
                free.free(name)
