"""Data hazards between descriptors, turned into wait counts."""

import numpy as np


__all__ = ["Hazards"]


class Hazards:
    """Remember, word by word, who read and wrote last; say what a new descriptor waits for.

    An interval is (resource, start, end), or (resource, start, end, period, first, count): of every
    ``period`` words from ``start`` on those from ``first`` on, ``count`` of them.

    Units run concurrently, each in program order. A descriptor must wait for every earlier one of
    another unit whose writes it reads or overwrites, or whose reads it overwrites.
    """

    def __init__(self, resources, units, queue_depth):
        self._units = units
        self._slack = queue_depth + 2  # descriptors of a unit that may still be under way
        self._counts = [0] * units
        self._written, self._read = {}, {}
        for name, words in resources.items():
            self.add(name, words)

    def add(self, name, words):
        """Add a resource of ``words`` words."""
        self._written[name] = np.zeros((self._units, words), np.int32)
        self._read[name] = np.zeros((self._units, words), np.int32)

    def issue(self, unit, reads, writes):
        """Waits (absolute completion counts per unit) of the next descriptor of ``unit``."""
        # Counts below this are reached before the descriptor leaves the sequencer: naming them
        # costs nothing and keeps the modular comparison in hardware unambiguous.
        waits = [max(0, count - self._slack) for count in self._counts]

        def need(last):
            for other in range(self._units):
                if other != unit and last.shape[1]:
                    waits[other] = max(waits[other], int(last[other].max()))

        for interval in reads:
            need(_words(self._written, interval))
        for interval in writes:
            need(_words(self._written, interval))
            need(_words(self._read, interval))
        self._counts[unit] += 1
        for interval in reads:
            _words(self._read, interval)[unit] = self._counts[unit]
        for interval in writes:
            _words(self._written, interval)[unit] = self._counts[unit]
        return tuple(waits)


def _words(last, interval):
    """A view of what is known of the words of an interval: (units, words), or (units, positions,
    words)."""
    name, start, end, *part = interval
    words = last[name][:, start:end]
    if not part:
        return words
    period, first, count = part
    return words.reshape(len(words), -1, period)[..., first:first + count]
