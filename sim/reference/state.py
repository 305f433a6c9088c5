"""What the units of a core share, and what running a descriptor gives. NumPy only."""

from dataclasses import dataclass, field

import numpy as np

from hw.config import PLANES_MIN
from hw.descriptor import RING_UNIT
from sim.reference.lanes import leading_repeats, signed
from sim.reference.write_hash import write_hash


__all__ = ["Memories", "Outcome", "Undefined", "row_address", "rows_inside"]


class Undefined(Exception):
    """The program relies on what wraps in the hardware, or on what is not there: a bug of the
    compiler."""


@dataclass
class Outcome:
    """What one descriptor did: its completion record, the pool words that it wrote (STORE: read)
    in order, and lanes that it clipped, by name."""

    events: int
    write_hash: int = 0
    addresses: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint16))
    words: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))
    saturated: dict = field(default_factory=dict)

    @property
    def completion(self):
        """(write hash, events), as a unit's control port gives them."""
        return self.write_hash, self.events


class Memories:
    """Pool, partial sums, K^T V and counts of repeated planes; the arrays are changed in place.

    As in the hardware, everything wraps: an address of the pool at 16 bits and at the size of the
    pool, a position of the partial sums at their number, a sum at ``acc_bits``. The compiler
    needs only the first (offsets of weight tiles may be negative), so a sequencer that runs its
    programs asks for ``strict``: there, the others raise :class:`Undefined`.

    Parameters
    ----------
    pool : uint64 (pool words,)
        A power of two of words, ``rows`` bits each.
    psum : int64 (positions, rows)
        A power of two of positions.
    rows, acc_bits, attention_bits : int
        As in :class:`hw.config.CoreConfig`.
    level_planes : int
        Pool words of a level map's position.
    repeats : int (pool words / 8,) or None
        For cores with ``plane_skip``: planes to leave out, by the address of the most significant
        one, divided by 8.
    strict : bool
    """

    def __init__(self, *, pool, psum, rows, acc_bits, attention_bits=8, level_planes=3,
                 repeats=None, strict=False):
        self.pool, self.psum, self.repeats = pool, psum, repeats
        self.rows, self.acc_bits, self.strict = rows, acc_bits, strict
        self.attention_bits, self.ktv = attention_bits, None
        self.level_planes = level_planes

    def at(self, addresses):
        """Indices into the pool."""
        addresses = np.asarray(addresses, np.int64) & 0xFFFF
        if not self.strict:
            return addresses & len(self.pool) - 1
        if addresses.size and addresses.max() >= len(self.pool):
            raise Undefined(f"pool address {addresses.max()} of {len(self.pool)}")
        return addresses

    def read(self, addresses):
        """Pool words at ``addresses``, of the same shape."""
        return self.pool[self.at(addresses)]

    def write(self, addresses, words, **outcome):
        """Write pool words and return the :class:`Outcome`: position by position, word by word.

        Parameters
        ----------
        addresses, words : (positions, words of one)
        outcome
            ``events`` and ``saturated``.
        """
        indices = self.at(addresses).reshape(-1)
        words = np.asarray(words, np.uint64).reshape(-1)
        self.pool[indices] = words
        outcome.setdefault("events", 0)
        return Outcome(addresses=(np.asarray(addresses).reshape(-1) & 0xFFFF).astype(np.uint16),
                       words=words, write_hash=write_hash(words, rows=self.rows), **outcome)

    def _positions(self, first, count):
        """What to index the partial sums with: a slice where they are in a row."""
        end = first + count
        if first >= 0 and end <= len(self.psum):
            return slice(first, end)
        if self.strict or count > len(self.psum):
            raise Undefined(f"partial sums {first} to {end - 1} of {len(self.psum)}")
        return (first + np.arange(count)) % len(self.psum)

    def sums(self, first, count):
        """Partial sums int64 (count, rows) from a position on."""
        return self.psum[self._positions(first, count)]

    def put_sums(self, first, values, *, add=False):
        """Write partial sums, or add to them."""
        at = self._positions(first, len(values))
        result = values + self.psum[at] if add else values
        limit = 1 << self.acc_bits - 1
        if result.size and (result.min() < -limit or result.max() >= limit):
            if self.strict:
                raise Undefined(f"partial sum beyond {self.acc_bits} bits")
            result = signed(result, self.acc_bits)
        self.psum[at] = result

    def count_repeats(self, addresses, words):
        """Keep how many planes of each position may be left out, if they are enough to be counted.

        Parameters
        ----------
        addresses, words : (positions, planes)
        """
        if self.repeats is not None and np.shape(addresses)[1] >= PLANES_MIN:
            last = self.at(addresses)[:, -1] // PLANES_MIN
            self.repeats[last] = leading_repeats(words)


def rows_inside(fields, iy):
    """Whether the input rows ``iy`` of an ARRAY or DEPTHWISE exist. With a ring, rows before the
    one at its start do, too."""
    return ((iy >= 0) | (fields["ring"] > 0)) & (iy < fields["height"])


def row_address(fields, iy):
    """Pool addresses of the first position of input rows."""
    return (fields["source"] + iy * fields["row_stride"]
            + np.where(iy < 0, fields["ring"] * RING_UNIT, 0))
