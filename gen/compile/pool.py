"""Words of the pool: who has which."""

from bisect import insort
from dataclasses import dataclass


__all__ = ["Buffer", "FreeList", "turns"]


@dataclass(frozen=True)
class Buffer:
    """Pool words of a tensor: row r is at ``address + (r % rows) * row_words``.

    ``rows`` is the height of the tensor, or of the ring that it rolls through.
    """

    address: int
    rows: int


def turns(tensor):
    """Channel groups of a membrane that have room in the pool where one is moved at a time: a
    second one, if that is not all of them, so that it comes while the first is in use."""
    return min(2, tensor.groups - 1)


class FreeList:
    """First-fit allocation of pool words, from either end."""

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

    def allocate(self, name, words, *, last=False):
        """Address of ``words`` words for ``name``, or None; with ``last`` the highest there is."""
        if last:
            end = self._words
            for low, high in reversed(self._taken):
                if end - high >= words:
                    break
                end = low
            start = end - words
        else:
            start = 0
            for low, high in self._taken:
                if low - start >= words:
                    break
                start = high
        if not 0 <= start <= self._words - words:
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
        other = FreeList(self._words)
        other._used = dict(self._used)
        other._taken = list(self._taken)
        return other
