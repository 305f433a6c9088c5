"""Data hazards between descriptors, turned into wait counts."""

import numpy as np


__all__ = ["Hazards"]


class Hazards:
    """Remember, word by word, who read and wrote last; say what a new descriptor waits for.

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

        for name, start, end in reads:
            need(self._written[name][:, start:end])
        for name, start, end in writes:
            need(self._written[name][:, start:end])
            need(self._read[name][:, start:end])
        self._counts[unit] += 1
        for name, start, end in reads:
            self._read[name][unit, start:end] = self._counts[unit]
        for name, start, end in writes:
            self._written[name][unit, start:end] = self._counts[unit]
        return tuple(waits)
