"""Who makes and who uses every tensor of a network."""

from itertools import pairwise

from model.integer.graph import Attention, Integrate, Raw


__all__ = ["Lifetimes"]


class Lifetimes:
    """Who makes and who uses every tensor; operators go by their number in ``ops``.

    Attributes
    ----------
    ops : list
        Operators of :mod:`model.integer.graph`, in order of execution.
    maps : dict
        Layouts by tensor.
    users : dict
        Operators that read a tensor.
    dead : set
        Membranes that nobody reads: they are fired, but not written.
    maker, last_use : dict
        The operator that makes a tensor, and the last one that needs it; without the dead.
    outside : set
        Tensors that come from and go to the host. They lie in memory, and so do those with results
        of several images (``FeatureMap.steps``): nothing else is left of an image when the next one
        begins.
    read_out : set
        Others that the host reads as well.
    """

    def __init__(self, ops, maps, read_out=()):
        self.ops, self.maps, self.read_out = ops, maps, frozenset(read_out)
        self.outside = {"image", *(name for op in ops for name in op.outputs
                                   if isinstance(getattr(op, "epilogue", None), Raw))}
        self._names = {}
        self.users = {name: [k for k, op in enumerate(ops) if name in op.inputs] for name in maps}
        self.dead = {op.epilogue.u_out for op in ops
                     if isinstance(getattr(op, "epilogue", None), Integrate)
                     and op.epilogue.level is not None and not self.users[op.epilogue.u_out]
                     and op.epilogue.u_out not in self.read_out}
        self.maker = {name: k for k, op in enumerate(ops) for name in op.outputs
                      if name not in self.dead}
        self._beside = {self.maker[op.key]: (op.query, op.key) for op in ops
                        if isinstance(op, Attention) and self._share(op)}
        self._over = {op.value for number, op in enumerate(ops)
                      if isinstance(op, Attention) and self.in_place(number)[0]}
        self.last_use = {name: max(self.users[name], default=maker)
                         for name, maker in self.maker.items()}

    def _share(self, op):
        """Whether k lies in words of q's positions, which must be there first."""
        query, key = self.maps[op.query], self.maps[op.key]
        return (query.groups == key.groups and not {*query.used} & {*key.used}
                and self.maker[op.query] < self.maker[op.key]
                and self.users[op.query] == self.users[op.key])

    def names(self, numbers):
        """Tensors that these operators read or make."""
        found = self._names.get(numbers)
        if found is None:
            found = self._names[numbers] = frozenset(
                name for number in numbers
                for name in (*self.ops[number].inputs, *self.ops[number].outputs))
        return found

    def inside(self, cuts):
        """Tensors made and used in one group only; without a v that attention writes over."""
        group_of = {k: start for start, end in pairwise(cuts) for k in range(start, end)}
        return {name for name, maker in self.maker.items() if name not in self.outside | self._over
                and all(group_of[user] == group_of[maker] for user in self.users[name])}

    def in_place(self, number):
        """(old, new) maps where the operator can write the new one over the old, else Nones.

        Membranes; what attention makes, word by word over those of v; and k in the words of q's
        positions that q does not use.
        """
        op = self.ops[number]
        if number in self._beside:
            return self._beside[number]
        if isinstance(op, Attention):
            alone = self.users[op.value] == [number] and op.value not in (op.query, op.key)
            return (op.value, op.level) if alone else (None, None)
        epilogue = getattr(op, "epilogue", None)
        if (not isinstance(epilogue, Integrate) or epilogue.u_in is None or epilogue.upsample > 1
                or epilogue.u_out in self.dead or self.users[epilogue.u_in] != [number]):
            return None, None
        return epilogue.u_in, epilogue.u_out
