"""Rows of a tensor in the pool, as descriptors address them."""

from dataclasses import dataclass
from itertools import pairwise

from gen.compile.layout import FeatureMap
from gen.compile.pool import Buffer
from hw.descriptor import RING_UNIT


__all__ = ["MEMORY", "POOL", "PSUM", "ROLLING", "View"]


MEMORY, POOL, ROLLING, PSUM = "memory", "pool", "rolling", "psum"
"""Where tensors live, and names of resources for hazards."""


@dataclass
class View:
    """Rows of a tensor in the pool; ``home`` says "pool", "rolling" or "memory"."""

    map: FeatureMap
    buffer: Buffer
    rows: tuple
    home: str
    first_row: int = 0      # the row at the buffer's start, in the first round of a ring

    def parts(self, cuts=()):
        """The rows as (low, high) that follow each other in the pool; cut at ``cuts``, too."""
        low, high = self.rows
        ring = self.buffer.rows
        ends = sorted({*range(low // ring * ring + ring, high, ring),
                       *(cut for cut in cuts if low < cut < high)})
        return [(a, b) for a, b in pairwise((low, *ends, high)) if a < b]

    def address(self, row):
        """Pool address of a row."""
        row = (row - self.first_row) % self.buffer.rows
        return self.buffer.address + row * self.map.row_words

    def intervals(self, group=None, groups=1):
        """Pool intervals of the rows, for hazards: of all channels, or of so many groups from
        ``group`` on."""
        part = () if group is None or self.map.groups == groups else (
            self.map.position_words, (group - self.map.first_group) * self.map.planes,
            groups * self.map.planes)
        return [(POOL, self.address(low), self.address(low) + (high - low) * self.map.row_words,
                 *part) for low, high in self.parts()]

    def position(self, row, group):
        """Address of the first position of ``row`` in ``group``."""
        return self.address(row) + (group - self.map.first_group) * self.map.planes

    def origin(self):
        """(row, ring) for descriptors that read all of the rows.

        They count rows from the one that lies at the start of the buffer; where the rows run
        over its end, those before that one count as negative and are ``ring`` units higher.
        """
        low, high = self.rows
        row, size = low // self.buffer.rows * self.buffer.rows, self.buffer.rows
        if high <= row + size:
            return row, 0
        return row + size, size * self.map.row_words // RING_UNIT
