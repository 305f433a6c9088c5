"""Rings of rows in the pool, for tensors that are not resident: which there are, how many rows."""

from dataclasses import dataclass, field
from math import gcd, lcm

import numpy as np

from gen.compile.pool import turns
from gen.compile.schedule import alive_rows, FIRE, reads, SUM, upsampled
from hw.descriptor import RING_UNIT
from model.integer.graph import Conv, Integrate


__all__ = ["Group", "Order", "Rings", "StripMemo", "TILE"]


TILE = "tile"
"""Role of a membrane that goes through the pool one channel group at a time."""


@dataclass(eq=False)
class Group:
    """Operators ``start..end`` that run strip by strip, in the order of ``steps``.

    ``heights`` are rows of a strip by operator; ``apart`` is as for
    :func:`gen.compile.schedule.strip_order`, or :data:`gen.compile.group.PAIR`. ``spilled`` are
    those of the tensors made and used inside that go through memory all the same. ``rings`` maps
    (tensor, role) of everything not resident to (owner of the ring, its rows), ``buffers`` to its
    words; the role is "in" (loaded) or "out" (to be stored) for tensors in memory, "" for those
    that roll. ``cost`` is in cycles.
    """

    start: int
    end: int
    heights: dict
    steps: list
    spilled: frozenset
    rings: dict
    cost: float
    apart: bool | str
    buffers: dict = field(default_factory=dict)

    def by_tile(self, name):
        """Whether a membrane in memory is moved one channel group at a time."""
        return any(key == name and owner[1] == TILE for (key, _), (owner, _) in self.rings.items())


class Order:
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
class Ring:
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
class RingPlan:
    """Rings of the tensors that are not resident.

    ``owners`` maps (tensor, role) to the ring that the tensor is in: its own, or that of the
    membrane which it replaces in place. ``resident`` are words of the tensors that are.
    """

    owners: dict
    rings: list
    resident: int

    def rows(self, order):
        """{(tensor, role): (owner, rows)} for an :class:`Order`."""
        rows = {ring.owner: order.tallest[ring.number] if ring.number is not None
                else ring.rows(order.alive(ring.uses)) for ring in self.rings}
        return {key: (owner, rows[owner]) for key, owner in self.owners.items()}


def _windows(op):
    """{tensor: stride} of the inputs of which a strip of n rows reads (n - 1) * stride rows,
    rounded down, and one more at least; of the other inputs it reads n, or all."""
    found = {op.source: op.stride} if isinstance(op, Conv) and op.source != "image" else {}
    return found if upsampled(op) is None else {**found, upsampled(op): 0.5}


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


class Rings:
    """Pool words of the tensors of fused operators.

    ``inside`` are tensors made and used in one group, ``spilled`` those that lie in memory.
    """

    def __init__(self, life):
        self._life, self._ops, self._maps = life, life.ops, life.maps
        self._totals = [self._maps[next(iter(op.outputs))].height for op in self._ops]
        self._uses = [[*((name, "in") for name in dict.fromkeys(op.inputs)),
                       *((name, "out") for name in op.outputs if name not in life.dead)]
                      for op in self._ops]
        self._windows = [_windows(op) for op in self._ops]
        self._plans = {}

    def plan(self, numbers, inside, spilled):
        """The :class:`RingPlan` of operators, in the order in which they begin."""
        names = self._life.names(numbers)
        key = numbers, names & inside, names & spilled
        if key not in self._plans:
            self._plans[key] = self._make_plan(numbers, inside, spilled)
        return self._plans[key]

    def least_words(self, numbers, heights, inside, spilled):
        """Pool words that strips of these heights take whatever their order: every row that is
        read or written at a time."""
        plan = self.plan(numbers, inside, spilled)
        strips = {number: self._shortest(number, rows) for number, rows in heights.items()}
        total = plan.resident
        for ring in plan.rings:
            if ring.number is not None:
                rows = strips[ring.number]
            else:
                rows = 0
                for number, name, role in ring.uses:
                    strip, windows = strips[number], self._windows[number]
                    if role == "in" and name in windows:
                        strip = min(self._maps[name].height, int((strip - 1) * windows[name]) + 1)
                    if strip > rows:
                        rows = strip
                rows = ring.rows(rows)
            total += ring.words * rows
        return total

    def words(self, start, end, rings, inside, spilled):
        """{name or (tensor, role): words} to allocate for a group."""
        words = self.resident(range(start, end), inside, spilled)
        for owner, rows in rings.values():
            tensor = self._maps[owner[0]]
            words[owner] = rows * tensor.row_words
            if owner[1] == TILE:
                words[owner] = rows * tensor.width * tensor.planes * turns(tensor)
        return words

    def resident(self, numbers, inside, spilled):
        """{name: words} of the tensors that these operators make and that are resident."""
        words, elsewhere = {}, inside | spilled
        for number in numbers:
            old, new = self._life.in_place(number)
            for name in self._ops[number].outputs:
                if name not in elsewhere and name not in self._life.dead and (
                        name != new or old in elsewhere):
                    words[name] = self._maps[name].words
        return words

    def _make_plan(self, numbers, inside, spilled):
        def ring(name, role):
            if name in spilled:
                return name, role
            return (name, "") if name in inside else None

        owners, touches, unit, tall = {}, {}, {}, {}
        for number in numbers:
            op = self._ops[number]
            old, new = self._life.in_place(number)
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
            rings.append(Ring(owner, words, number=number))
        for owner, used in touches.items():
            tensor = self._maps[owner[0]]
            # Whole units of the descriptors' ring field, and of the strides across the ring.
            whole = lcm(RING_UNIT // gcd(RING_UNIT, tensor.row_words), unit.get(owner, 1))
            rings.append(Ring(owner, tensor.row_words, uses=tuple(used), whole=whole,
                               height=tensor.height))
        resident = sum(self.resident(numbers, inside, spilled).values())
        return RingPlan(owners, rings, resident)

    def _by_tile(self, number, spilled):
        """Keys of the membranes of an operator that can go through the pool one channel group at
        a time: all of them in memory, of several groups."""
        epilogue = getattr(self._ops[number], "epilogue", None)
        if (not isinstance(epilogue, Integrate) or self._maps[epilogue.u_out].groups == 1
                or upsampled(self._ops[number]) or epilogue.u_out in self._life.read_out):
            return ()
        names = [(name, role) for name, role in ((epilogue.u_in, "in"), (epilogue.u_out, "out"))
                 if name is not None and name not in self._life.dead]
        alike = len({self._maps[name].fold for name, _ in names}) == 1
        return tuple(names) if alike and all(name in spilled for name, _ in names) else ()

    def _shortest(self, number, rows):
        """Rows that the tallest strip of an operator has at least, with strips of ``rows``."""
        return min(rows, -(-self._totals[number] // 2))
